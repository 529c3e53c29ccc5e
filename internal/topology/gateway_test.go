package topology

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAdmit(t *testing.T) {
	st := sample(t)
	for _, c := range []struct {
		name string
		want uint64
	}{{"x", 1}, {"x", 2}, {"y", 1}, {"x", 3}} {
		if got := st.Admit(Gateway{Name: c.name, GatewayAddrs: GatewayAddrs{Peers: "127.0.0.1:1"}, Version: "1"}); got != c.want {
			t.Errorf("%s: incarnation %d, want %d", c.name, got, c.want)
		}
	}
	must(t, st.Validate())
	if g, ok := st.Gateway("x"); !ok || g.Peers != "127.0.0.1:1" || g.Version != "1" {
		t.Errorf("x: %+v", g)
	}
	st.Fence("x", 2) // has been followed by another
	st.Fence("y", 1)
	st.Fence("nobody", 1)
	var in []string
	for _, g := range st.AdmittedGateways() {
		in = append(in, fmt.Sprint(g.Name, g.Incarnation))
	}
	if d := cmp.Diff([]string{"x3"}, in); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		name string
		n    uint64
		want bool
	}{{"x", 3, true}, {"x", 2, false}, {"x", 4, false}, {"y", 1, false}, {"z", 1, false}} {
		if got := st.Admitted(c.name, c.n); got != c.want {
			t.Errorf("%s %d is admitted: %v", c.name, c.n, got)
		}
	}
	if n := st.Admit(Gateway{Name: "y"}); n != 2 || !st.Admitted("y", 2) {
		t.Errorf("y begins anew as incarnation %d", n)
	}
}

// TestOwners: a job's move belongs to whom the job does, from the epoch on in which that was said.
func TestOwners(t *testing.T) {
	st := sample(t)
	change(t, &st, func(s *State) error { s.Admit(Gateway{Name: "x"}); s.Admit(Gateway{Name: "y"}); return nil })
	var id string
	change(t, &st, func(s *State) (err error) {
		id, err = s.AddJob(Job{Owner: "x", JobRequest: JobRequest{Source: "a", Target: "b", Slots: []Range{{0, 9}}}, JobProgress: JobProgress{Phase: Queued}})
		return err
	})
	change(t, &st, func(s *State) error { return s.SetJobOwner(id, "y") })
	if st.Epoch != 1 {
		t.Errorf("a job that moves nothing yet made epoch %d", st.Epoch)
	}
	step(t, &st, id, func(j *Job) { j.Phase, j.Published = Preparing, true })
	if m := st.MoveOf(id); m.Owner != "y" || m.OwnedFrom != 2 || st.Epoch != 2 {
		t.Errorf("epoch %d: %+v", st.Epoch, m)
	}
	step(t, &st, id, func(j *Job) { j.Phase = Bulk })
	refused(t, st, `gateway "z" is no part of the cluster`, func(s *State) error { return s.SetJobOwner(id, "z") })
	refused(t, st, "is part of the cluster: stop it first", func(s *State) error { return s.RemoveGateway("y") })
	change(t, &st, func(s *State) error { s.Fence("y", 1); return nil })
	refused(t, st, "owns job m1 (bulk)", func(s *State) error { return s.RemoveGateway("y") })
	refused(t, st, `gateway "y" is no part of the cluster`, func(s *State) error { return s.SetJobOwner(id, "y") })
	change(t, &st, func(s *State) error { return s.SetJobOwner(id, "x") })
	if m, j := st.MoveOf(id), st.Job(id); m.Owner != "x" || m.Former != "y" || m.OwnedFrom != 4 || j.Owner != "x" {
		t.Errorf("epoch %d: %+v, job of %s", st.Epoch, m, j.Owner)
	}
	change(t, &st, func(s *State) error { return s.RemoveGateway("y") })
	refused(t, st, `no such gateway "y"`, func(s *State) error { return s.RemoveGateway("y") })
	step(t, &st, id, func(j *Job) { j.Phase, j.Published = Done, false })
	refused(t, st, "is done", func(s *State) error { return s.SetJobOwner(id, "x") })
}

// TestAdmitAlone: the only gateway of a store takes over what former ones have left.
func TestAdmitAlone(t *testing.T) {
	st := sample(t)
	id := addJob(t, &st, "a", "b", Range{0, 9})
	must(t, st.PutJob(published(*st.Job(id))))
	queued := addJob(t, &st, "a", "b", Range{10, 19})
	st.Admit(Gateway{Name: "old"})
	st.AdmitAlone(Gateway{Name: "new"})
	if st.Admitted("old", 1) || !st.Admitted("new", 1) {
		t.Errorf("%+v", st.Gateways)
	}
	if st.Job(id).Owner != "new" || st.Job(queued).Owner != "new" || st.MoveOf(id).Owner != "new" {
		t.Errorf("%+v\n%+v", st.Jobs, st.Moves)
	}
	must(t, st.Validate())
}

func published(j Job) Job {
	j = j.Clone()
	j.Phase, j.Published = Preparing, true
	return j
}

// TestGatewaysOutAreBounded: those that went first are forgotten, and never one that is part of the cluster.
func TestGatewaysOutAreBounded(t *testing.T) {
	st := sample(t)
	st.Admit(Gateway{Name: "stays"})
	for i := range 2 * MaxGatewaysOut {
		name := fmt.Sprint("pod-", i)
		st.Admit(Gateway{Name: name})
		st.Fence(name, 1)
	}
	must(t, st.Validate())
	if n := len(st.Gateways); n != MaxGatewaysOut+1 {
		t.Errorf("%d gateways are remembered", n)
	}
	for _, name := range []string{"stays", fmt.Sprint("pod-", 2*MaxGatewaysOut-1)} {
		if _, ok := st.Gateway(name); !ok {
			t.Errorf("%s is forgotten", name)
		}
	}
}

// TestDrain: jobs that move go to others, those that have not begun stay, and no more come.
func TestDrain(t *testing.T) {
	st := sample(t)
	st.Admit(Gateway{Name: "x"})
	refused(t, st, "no other gateway is there", func(s *State) error { return s.Drain("x") })
	refused(t, st, `gateway "z" is no part of the cluster`, func(s *State) error { return s.Drain("z") })
	st.Admit(Gateway{Name: "y"})
	moving, queued := addJob(t, &st, "a", "b", Range{0, 9}), addJob(t, &st, "a", "b", Range{20, 29})
	for _, id := range []string{moving, queued} {
		must(t, st.SetJobOwner(id, "x"))
	}
	must(t, st.PutJob(published(*st.Job(moving))))
	must(t, st.Drain("x"))
	if a, b := st.Job(moving).Owner, st.Job(queued).Owner; a != "y" || b != "x" {
		t.Errorf("the job that moves is %s's, the queued one %s's", a, b)
	}
	if to := st.LeastBusy(""); to != "y" {
		t.Errorf("the next job would be %q's", to)
	}
	st.Fence("x", 1)
	st.GiveAway("x")
	if o := st.Job(queued).Owner; o != "y" {
		t.Errorf("when it has gone, the queued job is %s's", o)
	}
	if st.Admit(Gateway{Name: "x"}); st.Gateways[1].Draining || st.Gateways[1].Out {
		t.Errorf("started again it is %+v", st.Gateways)
	}
	must(t, st.Validate())
}

// TestJobsOfNobody: whoever joins gets the jobs that no gateway of the cluster runs.
func TestJobsOfNobody(t *testing.T) {
	st := sample(t)
	st.Admit(Gateway{Name: "x"})
	ids := []string{addJob(t, &st, "a", "b", Range{0, 9}), addJob(t, &st, "a", "b", Range{20, 29})}
	must(t, st.SetJobOwner(ids[1], "x"))
	st.Fence("x", 1)
	st.GiveAway("x") // to nobody
	st.Admit(Gateway{Name: "y"})
	for _, id := range ids {
		if o := st.Job(id).Owner; o != "y" {
			t.Errorf("job %s is %q's", id, o)
		}
	}
}
