package topology

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// change makes one change of st as Update does.
func change(t fataler, st *State, f func(*State) error) {
	t.Helper()
	old := st.Clone()
	must(t, f(st))
	st.follow(&old)
	if _, err := Diff(&old, st); err != nil {
		t.Fatal(err)
	}
}

// step stores a phase of a job.
func step(t fataler, st *State, id string, do func(*Job)) {
	t.Helper()
	change(t, st, func(s *State) error {
		j := s.Job(id).Clone()
		do(&j)
		if err := s.PutJob(j); err != nil {
			return err
		}
		if j.Phase == Done {
			return s.FlipJob(id)
		}
		return nil
	})
}

// TestMoveOfAJob: which epochs a move goes through, and which steps of its job make none.
func TestMoveOfAJob(t *testing.T) {
	st := sample(t)
	change(t, &st, func(s *State) error { s.Admit(Gateway{Name: "gw"}); return nil })
	var id string
	change(t, &st, func(s *State) (err error) {
		id, err = s.AddJob(Job{JobRequest: JobRequest{Source: "a", Target: "b", Slots: []Range{{0, 9}}}, JobProgress: JobProgress{Phase: Queued}})
		return err
	})
	want := Move{Job: id, Slots: []Range{{0, 9}}, Source: "a", Target: "b", From: 1}
	for _, c := range []struct {
		epoch uint64
		do    func(*Job)
		want  func()
	}{
		{1, func(j *Job) { j.Phase = Preflight }, nil},
		{2, func(j *Job) { j.Phase, j.Published = Preparing, true }, func() {}},
		{2, func(j *Job) { j.Phase = Bulk }, func() {}},
		{2, func(j *Job) { j.Phase, j.ResumeTo, j.Attempt = Backoff, Bulk, 1 }, func() {}},
		{2, func(j *Job) { j.Phase, j.ResumeTo = Reverting, "" }, func() {}},
		{3, func(j *Job) { j.Back = true }, func() { want.Back, want.TurnedAt = true, 3 }},
		{3, func(j *Job) { j.Phase, j.ResumeTo = Paused, Reverting }, func() {}},
		{4, func(j *Job) { j.Phase, j.Published = Reverted, false }, func() { want.To = 4 }},
	} {
		step(t, &st, id, c.do)
		if st.Epoch != c.epoch {
			t.Errorf("%s: epoch %d, want %d", st.Job(id).Phase, st.Epoch, c.epoch)
		}
		var moves []Move
		if c.want != nil {
			c.want()
			moves = []Move{want}
		}
		if d := cmp.Diff(moves, st.Moves); d != "" {
			t.Errorf("%s: moves:\n%s", st.Job(id).Phase, d)
		}
	}
}

// moved begins and ends one move of the slots, and gives its id.
func moved(t fataler, st *State, source, target string, rs ...Range) string {
	t.Helper()
	var id string
	change(t, st, func(s *State) (err error) {
		id, err = s.AddJob(Job{JobRequest: JobRequest{Source: source, Target: target, Slots: rs}, JobProgress: JobProgress{Phase: Queued}})
		return err
	})
	step(t, st, id, func(j *Job) { j.Phase, j.Published = Preparing, true })
	step(t, st, id, func(j *Job) { j.Phase, j.Published = Done, false })
	return id
}

// TestForgottenMoves: of ended moves the newest are kept, by number and by size, and up to
// when some are not known is told; but a SCAN that begins now must know all that it meets.
func TestForgottenMoves(t *testing.T) {
	st := sample(t)
	from, to := "a", "b"
	for range MaxEndedMoves + 5 {
		moved(t, &st, from, to, Range{0, 9})
		from, to = to, from
	}
	if n := len(st.Moves); n != MaxEndedMoves+1 { // those before, and the one that has ended just now
		t.Errorf("%d moves", n)
	}
	if st.ForgottenTo != 8 || st.Moves[0].To != 10 { // each took two epochs: 1 and 2, 3 and 4, …
		t.Errorf("forgotten up to %d, the oldest ended at %d", st.ForgottenTo, st.Moves[0].To)
	}

	st = NewState("redis", 16384, 1)
	must(t, st.AddGroup(Group{ID: "a", Endpoint: Endpoint{Addr: "h:1"}}))
	must(t, st.AddGroup(Group{ID: "b", Endpoint: Endpoint{Addr: "h:2"}}))
	must(t, st.AssignSlots(Range{0, 16383}, "a"))
	var many []Range
	for i := range MaxEndedRanges + 1 {
		many = append(many, Range{2 * i, 2 * i})
	}
	moved(t, &st, "a", "b", many...)
	if len(st.Moves) != 1 || st.ForgottenTo >= st.Epoch {
		t.Errorf("%d moves, forgotten up to %d of %d", len(st.Moves), st.ForgottenTo, st.Epoch)
	}
	moved(t, &st, "a", "b", Range{16383, 16383})
	if len(st.Moves) != 1 || st.ForgottenTo == 0 || st.ForgottenTo >= st.Epoch {
		t.Errorf("%d moves, forgotten up to %d of %d", len(st.Moves), st.ForgottenTo, st.Epoch)
	}
}

// TestTopologySize: a store may bound its values by 1.5 MB, as etcd does, and even slots in
// the worst disorder, half of them moving, are less.
func TestTopologySize(t *testing.T) {
	st := NewState("redis", 16384, 1)
	must(t, st.AddGroup(Group{ID: "group-one", Endpoint: Endpoint{Addr: "h:1"}}))
	must(t, st.AddGroup(Group{ID: "group-two", Endpoint: Endpoint{Addr: "h:2"}}))
	for i := range 16384 {
		g := "group-one"
		if i%2 == 1 {
			g = "group-two"
		}
		st.Slots = append(st.Slots, Assignment{Range{i, i}, g})
	}
	for i := range MaxEndedMoves {
		st.Moves = append(st.Moves, Move{Job: fmt.Sprint("m", i+1), Source: "group-one", Target: "group-two", From: 100000, To: 100001,
			Slots: st.SlotsOf("group-one")[:MaxEndedRanges/MaxEndedMoves]})
	}
	st.NextJob = MaxEndedMoves + 1
	id := addJob(t, &st, "group-one", "group-two", st.SlotsOf("group-one")...)
	put(t, &st, id, Bulk, true)
	must(t, st.Validate())
	for name, v := range map[string]any{"topology": st.Topology, "job": st.Job(id)} {
		text, err := json.Marshal(v)
		must(t, err)
		if len(text) > 1<<20+1<<18 {
			t.Errorf("%s: %d bytes", name, len(text))
		}
	}
}

// TestMoveOn: a job that turns round twice has two moves, since SCAN has to see each direction
// apart, and the newer is the one that counts.
func TestMoveOn(t *testing.T) {
	st := sample(t)
	id := addJob(t, &st, "a", "b", Range{0, 9})
	step(t, &st, id, func(j *Job) { j.Phase, j.Published = Preparing, true })
	began := st.Epoch
	step(t, &st, id, func(j *Job) { j.Phase, j.Back = Reverting, true })
	step(t, &st, id, func(j *Job) { j.Onward = true })
	if st.Epoch != began+1 {
		t.Errorf("epoch %d, want %d: nothing has turned yet", st.Epoch, began+1)
	}
	step(t, &st, id, func(j *Job) { j.Phase, j.Back, j.Onward = Bulk, false, false })
	must(t, st.Validate())
	slots := []Range{{0, 9}}
	want := []Move{
		{Job: id, Slots: slots, Source: "a", Target: "b", From: max(began-1, 1), Back: true, TurnedAt: began + 1, To: began + 2},
		{Job: id, Slots: slots, Source: "a", Target: "b", From: began + 1},
	}
	if d := cmp.Diff(want, st.Moves); d != "" {
		t.Errorf("moves:\n%s", d)
	}
	if m := st.MoveOf(id); m.Back || m.From != began+1 {
		t.Errorf("the move of the job is %+v", m)
	}
	for _, v := range st.SlotViews() {
		if v.First == 0 && (v.State != Moving || v.From != "a" || v.To != "b") {
			t.Errorf("slot 0 is %+v", v)
		}
	}
	step(t, &st, id, func(j *Job) { j.Phase, j.Published = Done, false })
	must(t, st.Validate())
	if owner, _ := st.OwnerOf(0); owner != "b" || st.MoveOf(id).To != began+3 {
		t.Errorf("slot 0 is owned by %s, the move %+v", owner, st.MoveOf(id))
	}
}

func TestValidateMoves(t *testing.T) {
	good := sample(t)
	one := addJob(t, &good, "a", "b", Range{0, 9})
	addJob(t, &good, "a", "b", Range{20, 29})
	put(t, &good, one, Bulk, true)
	must(t, good.Validate())
	other := Move{Job: "m2", Slots: []Range{{20, 29}}, Source: "a", Target: "b", From: 1}
	for want, spoil := range map[string]func(*State){
		`job m1: is published: true; its slots move: false`:         func(s *State) { s.Moves = nil },
		`job m2: is published: false; its slots move: true`:         func(s *State) { s.Moves = append(s.Moves, other) },
		`job m1: its slots, its groups, its owner or its direction`: func(s *State) { s.Moves[0].Slots = []Range{{0, 8}} },
		`move of job m1: from epoch 0, turned false at 0`:           func(s *State) { s.Moves[0].From = 0 },
		`move of job m1: from epoch 1, turned true at 0`:            func(s *State) { s.Moves[0].Back = true },
		`move of job "m1" goes on and is there once more`:           func(s *State) { s.Moves = append(s.Moves, s.Moves[0]) },
		`a move has no job`: func(s *State) { s.Moves[0].Job = "" },
		`move of job m1: moves from group "a" to itself`:    func(s *State) { s.Moves[0].Target = "a" },
		`move of job m1: no such group "x"`:                 func(s *State) { s.Moves[0].Target = "x" },
		`move of job m1: has no slots`:                      func(s *State) { s.Moves[0].Slots = nil },
		`move of job m1: slot 600 is owned by "b"`:          func(s *State) { s.Moves[0].Slots = []Range{{600, 600}} },
		`move of job m3: slot 0 is part of job m1 already`:  func(s *State) { m := s.Moves[0]; m.Job = "m3"; s.Moves = append(s.Moves, m) },
		`slots 100 move for job m3, which there is not`:     func(s *State) { m := other; m.Job, m.Slots = "m3", []Range{{100, 100}}; s.Moves = append(s.Moves, m) },
		`job m1 is behind job m2: not in order of creation`: func(s *State) { s.Jobs[0], s.Jobs[1] = s.Jobs[1], s.Jobs[0] },
	} {
		st := good.Clone()
		spoil(&st)
		err := st.Validate()
		wantErr(t, want, err, ErrInvalid)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
