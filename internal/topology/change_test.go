package topology

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refused checks that a change says no, in these words, and leaves the State as it was.
func refused(t *testing.T, st State, want string, change func(*State) error) {
	t.Helper()
	before := st.Clone()
	err := change(&st)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if d := cmp.Diff(before, st); d != "" {
		t.Errorf("refused (%v) and yet changed:\n%s", err, d)
	}
}

func addJob(t fataler, st *State, source, target string, rs ...Range) string {
	t.Helper()
	id, err := st.AddJob(Job{JobRequest: JobRequest{Slots: rs, Source: source, Target: target}, JobProgress: JobProgress{Phase: Queued}})
	must(t, err)
	return id
}

// put replaces a job's phase, as a stored step of the migrator would.
func put(t fataler, st *State, id string, phase Phase, published bool) {
	t.Helper()
	j := st.Job(id).Clone()
	j.Phase, j.Published = phase, published
	must(t, st.PutJob(j))
}

func TestNewState(t *testing.T) {
	a, b := NewState("redis", 16384, 16), NewState("redis", 16384, 16)
	must(t, a.Validate())
	if a.ClusterID == b.ClusterID || len(a.ClusterID) != 16 || a.Epoch != 0 {
		t.Errorf("cluster ids %q, %q, epoch %d", a.ClusterID, b.ClusterID, a.Epoch)
	}
	if free := a.Unassigned(); len(free) != 1 || free[0] != (Range{0, 16383}) {
		t.Errorf("unassigned: %v", free)
	}
}

func TestAddGroup(t *testing.T) {
	st := sample(t)
	for _, g := range []Group{
		{ID: "Z_9.-", Endpoint: Endpoint{Addr: "redis.example.com:6379"}}, {ID: strings.Repeat("x", 64), Endpoint: Endpoint{Addr: "[::1]:1"}}, {ID: "0", Endpoint: Endpoint{Addr: "10.0.0.1:65535"}},
	} {
		must(t, st.AddGroup(g))
		must(t, st.Validate())
	}
	for want, g := range map[string]Group{
		`invalid group id "": want 1 to 64`:                     {Endpoint: Endpoint{Addr: "h:1"}},
		`invalid group id "a b"`:                                {ID: "a b", Endpoint: Endpoint{Addr: "h:1"}},
		`invalid group id "ä"`:                                  {ID: "ä", Endpoint: Endpoint{Addr: "h:1"}},
		`invalid group id "x\n"`:                                {ID: "x\n", Endpoint: Endpoint{Addr: "h:1"}},
		`invalid group id "` + strings.Repeat("x", 65):          {ID: strings.Repeat("x", 65), Endpoint: Endpoint{Addr: "h:1"}},
		`invalid address "": want host:port`:                    {ID: "x"},
		`invalid address "h": want host:port`:                   {ID: "x", Endpoint: Endpoint{Addr: "h"}},
		`invalid address ":1": want host:port`:                  {ID: "x", Endpoint: Endpoint{Addr: ":1"}},
		`invalid address "h:": want host:port`:                  {ID: "x", Endpoint: Endpoint{Addr: "h:"}},
		`invalid address "h:0": want host:port`:                 {ID: "x", Endpoint: Endpoint{Addr: "h:0"}},
		`invalid address "h:65536": want host:port`:             {ID: "x", Endpoint: Endpoint{Addr: "h:65536"}},
		`invalid address "h:redis": want host:port`:             {ID: "x", Endpoint: Endpoint{Addr: "h:redis"}},
		`invalid address "h:+1": want host:port`:                {ID: "x", Endpoint: Endpoint{Addr: "h:+1"}},
		`invalid address "127.0.0.1:07001": want host:port`:     {ID: "x", Endpoint: Endpoint{Addr: "127.0.0.1:07001"}},
		`invalid address "[127.0.0.1]:7001": want host:port`:    {ID: "x", Endpoint: Endpoint{Addr: "[127.0.0.1]:7001"}},
		`invalid address "::1:1": want host:port`:               {ID: "x", Endpoint: Endpoint{Addr: "::1:1"}},
		`invalid address "h h:1": a space or`:                   {ID: "x", Endpoint: Endpoint{Addr: "h h:1"}},
		`group a exists already (127.0.0.1:7001)`:               {ID: "a", Endpoint: Endpoint{Addr: "h:1"}},
		`address 127.0.0.1:7001 is that of group a`:             {ID: "x", Endpoint: Endpoint{Addr: "127.0.0.1:7001"}},
		`address REDIS.example.com:6379 is that of group Z_9.-`: {ID: "x", Endpoint: Endpoint{Addr: "REDIS.example.com:6379"}},
	} {
		refused(t, st, want, func(s *State) error { return s.AddGroup(g) })
	}
}

func TestDelGroup(t *testing.T) {
	st := sample(t)
	must(t, st.AddGroup(Group{ID: "c", Endpoint: Endpoint{Addr: "h:1"}}))
	refused(t, st, `no such group "x"`, func(s *State) error { return s.DelGroup("x") })
	refused(t, st, `group a owns 512 slots (0-511): move them first (PROXY MIGRATE), or if they were assigned by mistake, PROXY SLOT UNASSIGN`, func(s *State) error { return s.DelGroup("a") })
	id := addJob(t, &st, "a", "c", Range{0, 511})
	refused(t, st, `group c is part of job m1 (queued): let the job end, or PROXY MIGRATION CANCEL it, first`, func(s *State) error { return s.DelGroup("c") })

	put(t, &st, id, Done, false)
	must(t, st.FlipJob(id))
	must(t, st.DelGroup("a")) // a job that has ended may name a group that is gone
	must(t, st.Validate())

	free := NewState("codis", 1024, 1)
	must(t, free.AddGroup(Group{ID: "a", Endpoint: Endpoint{Addr: "h:1"}}))
	for i := range 20 {
		must(t, free.AssignSlots(Range{2 * i, 2 * i}, "a"))
	}
	refused(t, free, `owns 20 slots (0,2,4,6,8,10,12,14,…)`, func(s *State) error { return s.DelGroup("a") })
}

func TestAssignSlots(t *testing.T) {
	st := NewState("codis", 1024, 1)
	must(t, st.AddGroup(Group{ID: "a", Endpoint: Endpoint{Addr: "h:1"}}))
	must(t, st.AddGroup(Group{ID: "b", Endpoint: Endpoint{Addr: "h:2"}}))
	must(t, st.AssignSlots(Range{10, 20}, "a"))
	must(t, st.AssignSlots(Range{15, 30}, "a")) // partly its own already
	must(t, st.AssignSlots(Range{31, 40}, "b"))
	must(t, st.AssignSlots(Range{5, 9}, "a")) // merges
	if d := cmp.Diff([]Assignment{{Range{5, 30}, "a"}, {Range{31, 40}, "b"}}, st.Slots); d != "" {
		t.Errorf("assignments:\n%s", d)
	}
	if d := cmp.Diff([]Range{{0, 4}, {41, 1023}}, st.Unassigned()); d != "" {
		t.Errorf("unassigned:\n%s", d)
	}
	refused(t, st, `no such group "x"`, func(s *State) error { return s.AssignSlots(Range{0, 0}, "x") })
	for _, r := range []Range{{-1, 3}, {3, 1024}, {4, 3}} {
		refused(t, st, "is outside 0-1023 or reversed", func(s *State) error { return s.AssignSlots(r, "a") })
	}
	refused(t, st, `slot 5 is owned by group a: use PROXY MIGRATE`, func(s *State) error { return s.AssignSlots(Range{0, 100}, "b") })

	id := addJob(t, &st, "a", "b", Range{10, 12}, Range{20, 20})
	refused(t, st, `slot 20 is part of job m1 (queued)`, func(s *State) error { return s.AssignSlots(Range{15, 25}, "a") })
	refused(t, st, `slot 11 is part of job m1 (queued)`, func(s *State) error { return s.AssignSlots(Range{11, 11}, "b") })
	must(t, st.AssignSlots(Range{13, 19}, "a"))
	put(t, &st, id, Cancelled, false)
	must(t, st.AssignSlots(Range{0, 30}, "a"))
	must(t, st.Validate())
}

func TestAddJob(t *testing.T) {
	st := sample(t)
	want := Job{JobRequest: JobRequest{Slots: []Range{{30, 35}, {0, 4}, {5, 9}}, Source: "a", Target: "b"}, JobLimits: JobLimits{Parallel: 3}, JobProgress: JobProgress{Phase: Queued}}
	id, err := st.AddJob(want)
	must(t, err)
	want.ID, want.Slots = "m1", []Range{{0, 9}, {30, 35}}
	if d := cmp.Diff(want, *st.Job(id)); d != "" || id != "m1" || st.NextJob != 2 {
		t.Errorf("%s, next %d:\n%s", id, st.NextJob, d)
	}
	ok := Job{JobRequest: JobRequest{Slots: []Range{{100, 109}}, Source: "a", Target: "b"}, JobProgress: JobProgress{Phase: Queued}}
	for want, change := range map[string]func(*Job){
		`moves from group "a" to itself`:                            func(j *Job) { j.Target = "a" },
		`no such group "x"`:                                         func(j *Job) { j.Target = "x" },
		`no such group ""`:                                          func(j *Job) { j.Source = "" },
		`has no slots`:                                              func(j *Job) { j.Slots = nil },
		`slot range 9-8 is outside`:                                 func(j *Job) { j.Slots = []Range{{9, 8}} },
		`slot range 1000-1024 is outside 0-1023`:                    func(j *Job) { j.Slots = []Range{{1000, 1024}} },
		`slot 101 is named twice`:                                   func(j *Job) { j.Slots = []Range{{101, 105}, {100, 101}} },
		`slot 512 is owned by "b" and not by its source a`:          func(j *Job) { j.Slots = []Range{{500, 520}} },
		`slot 30 is part of job m1 already`:                         func(j *Job) { j.Slots = []Range{{20, 40}} },
		`a job begins as queued, not "bulk"`:                        func(j *Job) { j.Phase = Bulk },
		`rate -1: want 0 or more`:                                   func(j *Job) { j.RateKeysPerS = -1 },
		`parallel -2, max attempts 0, max p99 0 ms: want 0 or more`: func(j *Job) { j.Parallel = -2 },
		`parallel 0, max attempts -3, max p99 0 ms: want 0 or more`: func(j *Job) { j.MaxAttempts = -3 },
	} {
		refused(t, st, want, func(s *State) error {
			j := ok.Clone()
			change(&j)
			_, err := s.AddJob(j)
			return err
		})
	}
	free := NewState("codis", 1024, 1)
	free.Groups = st.Groups
	refused(t, free, `slot 100 is owned by "" and not by its source a`, func(s *State) error { _, err := s.AddJob(ok); return err })
}

func TestFlipJob(t *testing.T) {
	st := sample(t)
	id := addJob(t, &st, "a", "b", Range{500, 511}, Range{0, 9})
	refused(t, st, `no such job "m9"`, func(s *State) error { return s.FlipJob("m9") })
	put(t, &st, id, Verifying, true)
	must(t, st.Validate())
	put(t, &st, id, Done, false)
	must(t, st.FlipJob(id))
	must(t, st.Validate())
	if d := cmp.Diff([]Assignment{{Range{0, 9}, "b"}, {Range{10, 499}, "a"}, {Range{500, 1023}, "b"}}, st.Slots); d != "" {
		t.Errorf("assignments:\n%s", d)
	}
	for slot, want := range map[int]string{0: "b", 10: "a", 499: "a", 500: "b"} {
		if got, ok := st.OwnerOf(slot); got != want || !ok {
			t.Errorf("slot %d is owned by %q", slot, got)
		}
	}
	refused(t, st, `slot 0 of job m1 is owned by "b" and not by its source a`, func(s *State) error { return s.FlipJob(id) })
	id = addJob(t, &st, "b", "a", Range{0, 9})
	put(t, &st, id, Cancelled, false)
	refused(t, st, `job m2 is cancelled`, func(s *State) error { return s.FlipJob(id) })
}

// TestOldJobs: a job that outlived MaxEndedJobs younger ones is itself the oldest ended
// when it ends, and must still be there to be flipped.
func TestOldJobs(t *testing.T) {
	st := sample(t)
	long := addJob(t, &st, "a", "b", Range{0, 9})
	for range MaxEndedJobs {
		put(t, &st, addJob(t, &st, "b", "a", Range{600, 600}), Cancelled, false)
	}
	if len(st.Jobs) != MaxEndedJobs+1 || st.Job("m2") == nil {
		t.Fatalf("%d jobs", len(st.Jobs))
	}
	put(t, &st, long, Done, false)
	must(t, st.FlipJob(long))
	must(t, st.Validate())
	if len(st.Jobs) != MaxEndedJobs || st.Job("m2") != nil || st.Job("m3") == nil {
		t.Errorf("%d jobs, m2 %v, m3 %v", len(st.Jobs), st.Job("m2"), st.Job("m3"))
	}
	next := addJob(t, &st, "b", "a", Range{600, 600})
	if want := fmt.Sprintf("m%d", MaxEndedJobs+2); next != want || st.Job(long) == nil {
		t.Errorf("next job %s, want %s", next, want)
	}
	put(t, &st, next, Done, false)
	if len(st.Jobs) != MaxEndedJobs || st.Job(long) != nil {
		t.Errorf("%d jobs; the oldest is kept: %v", len(st.Jobs), st.Job(long))
	}
}

func TestPutJobKeepsItsOwn(t *testing.T) {
	st := sample(t)
	id := addJob(t, &st, "a", "b", Range{0, 9})
	j := st.Job(id).Clone()
	j.FirstError = &JobError{Text: "first"}
	must(t, st.PutJob(j))
	j.Slots[0].Last, j.FirstError.Text = 99, "changed"
	if got := st.Job(id); got.Slots[0].Last != 9 || got.FirstError.Text != "first" {
		t.Errorf("changed from outside: %+v", got)
	}
	refused(t, st, `no such job "m9"`, func(s *State) error { return s.PutJob(Job{ID: "m9"}) })
}

func TestValidate(t *testing.T) {
	good := sample(t)
	addJob(t, &good, "a", "b", Range{0, 9})
	addJob(t, &good, "a", "b", Range{20, 29})
	good.Admit(Gateway{Name: "x"})
	must(t, good.Validate())
	for want, change := range map[string]func(*State){
		`scheme "x" with 1024 slots`:                    func(s *State) { s.Scheme = "x" },
		`scheme "redis" with 1024 slots`:                func(s *State) { s.Scheme = "redis" },
		`0 databases`:                                   func(s *State) { s.Databases = 0 },
		`groups not sorted at a`:                        func(s *State) { s.Groups[0], s.Groups[1] = s.Groups[1], s.Groups[0] },
		`invalid group id ""`:                           func(s *State) { s.Groups[0].ID = "" },
		`groups a and b have the same address`:          func(s *State) { s.Groups[1].Addr = s.Groups[0].Addr },
		`slots 0-511 belong to unknown group "x"`:       func(s *State) { s.Slots[0].Group = "x" },
		`slot range 512-1024 is outside`:                func(s *State) { s.Slots[1].Last = 1024 },
		`slot range -1-511 is outside`:                  func(s *State) { s.Slots[0].First = -1 },
		`slots 511-1023 overlap or are not sorted`:      func(s *State) { s.Slots[1].First = 511 },
		`slots 512-1023 are not merged`:                 func(s *State) { s.Slots[1].Group = "a" },
		`job id "m1" is empty or used twice`:            func(s *State) { s.Jobs[1].ID = "m1" },
		`job id "" is empty or used twice`:              func(s *State) { s.Jobs[0].ID = "" },
		`job m2 is not older than the next job 2`:       func(s *State) { s.NextJob = 2 },
		`job m1: unknown phase ""`:                      func(s *State) { s.Jobs[0].Phase = "" },
		`job m1: is queued and yet published`:           func(s *State) { s.Jobs[0].Published = true },
		`job m1: is bulk and not published`:             func(s *State) { s.Jobs[0].Phase = Bulk },
		`job m1: is done and yet published`:             func(s *State) { s.Jobs[0].Phase, s.Jobs[0].Published = Done, true },
		`job m1: is backoff and would go on as ""`:      func(s *State) { s.Jobs[0].Phase = Backoff },
		`job m1: is paused and would go on as "failed"`: func(s *State) { s.Jobs[0].Phase, s.Jobs[0].ResumeTo = Paused, Failed },
		`job m1: is tail and not published`:             func(s *State) { s.Jobs[0].Phase, s.Jobs[0].ResumeTo = Failed, Tail },
		`job m2: slot 9 is part of job m1 already`:      func(s *State) { s.Jobs[1].Slots = []Range{{9, 29}} },
		`job m1: slots 3-5 overlap or are not sorted`:   func(s *State) { s.Jobs[0].Slots = []Range{{0, 3}, {3, 5}} },
		`job m1: slot 600 is owned by "b"`:              func(s *State) { s.Jobs[0].Slots = []Range{{600, 600}} },
		`job m2: no such group "x"`:                     func(s *State) { s.Jobs[1].Target = "x" },
		`gateway name "" is empty or used twice`:        func(s *State) { s.Gateways[0].Name = "" },
		`gateway name "x" is empty or used twice`:       func(s *State) { s.Gateways = append(s.Gateways, Gateway{Name: "x"}) },
	} {
		st := good.Clone()
		change(&st)
		err := st.Validate()
		wantErr(t, want, err, ErrInvalid)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestSetGroup: address and password change; what a job is about, or what two groups would
// share, does not. A cursor of SCAN names a group by its number, which goes with the address.
func TestSetGroup(t *testing.T) {
	st := NewState("redis", 16384, 16)
	for _, id := range []string{"a", "b"} {
		if err := st.AddGroup(Group{ID: id, Endpoint: Endpoint{Addr: id + ":1", Secret: NewSecret("old")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.AssignSlots(Range{0, 16383}, "a"); err != nil {
		t.Fatal(err)
	}
	was, _ := st.Group("a")
	addr, taken, password := "a:2", "b:1", "new"
	refused(t, st, "address b:1 is that of group b", func(s *State) error { return s.SetGroup("a", &taken, nil) })
	refused(t, st, `no such group "c"`, func(s *State) error { return s.SetGroup("c", nil, &password) })
	for _, x := range []struct {
		addr, password *string
		want           Group
	}{
		{nil, &password, Group{ID: "a", Endpoint: Endpoint{Addr: "a:1", Secret: NewSecret("new")}, Number: was.Number}},
		{&was.Addr, nil, Group{ID: "a", Endpoint: Endpoint{Addr: "a:1", Secret: NewSecret("new")}, Number: was.Number}},
		{&addr, nil, Group{ID: "a", Endpoint: Endpoint{Addr: "a:2", Secret: NewSecret("new")}, Number: 2}},
	} {
		if err := st.SetGroup("a", x.addr, x.password); err != nil {
			t.Error(err)
		}
		if got, _ := st.Group("a"); got != x.want {
			t.Errorf("%+v, want %+v", got, x.want)
		}
		if err := st.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, phase := range []Phase{Bulk, Failed} {
		st.Jobs = []Job{{ID: "m1", JobRequest: JobRequest{Source: "a", Target: "b"}, JobProgress: JobProgress{Phase: phase}}}
		for _, id := range []string{"a", "b"} {
			refused(t, st, "group "+id+" is part of job m1 ("+string(phase)+"): let the job end, or PROXY MIGRATION CANCEL it, first", func(s *State) error { return s.SetGroup(id, nil, &password) })
		}
	}
	st.Jobs[0].Phase = Done
	if err := st.SetGroup("b", nil, &password); err != nil {
		t.Error(err)
	}
}
