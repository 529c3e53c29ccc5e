package topology

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what a State should be, in the plainest form: one entry a slot.
type model struct {
	st    State
	owner [1024]string // "" for none
	job   [1024]string // the open job that a slot is part of
}

// try makes a change and checks that it is refused if and only if the model says so, and
// that a refused one has no effect.
func (m *model) try(t *rapid.T, what string, allowed bool, change func(*State) error) bool {
	before := m.st.Clone()
	err := change(&m.st)
	if (err == nil) != allowed {
		t.Fatalf("%s: error %v, allowed %v", what, err, allowed)
	}
	if err != nil {
		if d := cmp.Diff(before, m.st); d != "" {
			t.Fatalf("%s: refused (%v) and yet changed:\n%s", what, err, d)
		}
	}
	return err == nil
}

var propertyGroups = []string{"a", "b", "c", "d"}

// drawRange keeps to a few slots, where ranges meet often, and to both ends.
func drawRange(t *rapid.T) Range {
	edge := rapid.SampledFrom([]int{0, 1008}).Draw(t, "edge")
	first := rapid.IntRange(0, 15).Draw(t, "first")
	return Range{edge + first, edge + rapid.IntRange(first, 15).Draw(t, "last")}
}

// each reports whether all slots of r are as wanted.
func each(r Range, ok func(slot int) bool) bool {
	for slot := r.First; slot <= r.Last; slot++ {
		if !ok(slot) {
			return false
		}
	}
	return true
}

func (m *model) known(id string) bool { _, ok := m.st.Group(id); return ok }

func (m *model) addGroup(t *rapid.T) {
	id := rapid.SampledFrom(propertyGroups).Draw(t, "group")
	m.try(t, "add "+id, !m.known(id), func(s *State) error { return s.AddGroup(Group{ID: id, Endpoint: Endpoint{Addr: id + ":6379"}}) })
}

func (m *model) delGroup(t *rapid.T) {
	id := rapid.SampledFrom(propertyGroups).Draw(t, "group")
	free := !slices.Contains(m.owner[:], id)
	for _, j := range m.st.Jobs {
		free = free && (j.Phase.Ended() || j.Source != id && j.Target != id)
	}
	m.try(t, "del "+id, m.known(id) && free, func(s *State) error { return s.DelGroup(id) })
}

func (m *model) assign(t *rapid.T) {
	id, r := rapid.SampledFrom(propertyGroups).Draw(t, "group"), drawRange(t)
	free := each(r, func(slot int) bool {
		return (m.owner[slot] == "" || m.owner[slot] == id) && m.job[slot] == ""
	})
	if m.try(t, fmt.Sprintf("assign %v to %s", r, id), m.known(id) && free, func(s *State) error { return s.AssignSlots(r, id) }) {
		each(r, func(slot int) bool { m.owner[slot] = id; return true })
	}
}

func (m *model) submit(t *rapid.T) {
	from, to := rapid.SampledFrom(propertyGroups).Draw(t, "source"), rapid.SampledFrom(propertyGroups).Draw(t, "target")
	r := drawRange(t)
	free := each(r, func(slot int) bool { return m.owner[slot] == from && m.job[slot] == "" })
	var id string
	if m.try(t, fmt.Sprintf("move %v from %s to %s", r, from, to), m.known(to) && from != to && free, func(s *State) (err error) {
		id, err = s.AddJob(Job{JobRequest: JobRequest{Slots: []Range{r}, Source: from, Target: to}, JobProgress: JobProgress{Phase: Queued}})
		return err
	}) {
		each(r, func(slot int) bool { m.job[slot] = id; return true })
	}
}

// open draws a job that has not ended.
func (m *model) open(t *rapid.T) Job {
	var open []Job
	for _, j := range m.st.Jobs {
		if !j.Phase.Ended() {
			open = append(open, j)
		}
	}
	if len(open) == 0 {
		t.Skip("no open job")
	}
	return rapid.SampledFrom(open).Draw(t, "job").Clone()
}

// step puts a job into any phase that fits its being published or publishes it, or holds
// it up there.
func (m *model) step(t *rapid.T) {
	j := m.open(t)
	j.Phase = rapid.SampledFrom([]Phase{Queued, Preflight, Preparing, Bulk, Tail, Verifying}).Draw(t, "phase")
	j.Published = j.Phase != Queued && j.Phase != Preflight
	if hold := rapid.SampledFrom([]Phase{"", Backoff, Paused, Failed}).Draw(t, "hold"); hold != "" {
		j.Phase, j.ResumeTo = hold, j.Phase
	}
	m.try(t, "step", true, func(s *State) error { return s.PutJob(j) })
}

func (m *model) finish(t *rapid.T) {
	j := m.open(t)
	j.Phase, j.Published = Done, false
	m.try(t, "finish", true, func(s *State) error {
		if err := s.PutJob(j); err != nil {
			return err
		}
		return s.FlipJob(j.ID)
	})
	m.release(j, j.Target)
	m.try(t, "flip twice", false, func(s *State) error { return s.FlipJob(j.ID) })
}

func (m *model) cancel(t *rapid.T) {
	j := m.open(t)
	j.Phase, j.Published = Cancelled, false
	m.try(t, "cancel", true, func(s *State) error { return s.PutJob(j) })
	m.release(j, j.Source)
	m.try(t, "flip cancelled", false, func(s *State) error { return s.FlipJob(j.ID) })
}

func (m *model) release(j Job, owner string) {
	for slot, id := range m.job {
		if id == j.ID {
			m.owner[slot], m.job[slot] = owner, ""
		}
	}
}

var propertyGateways = []string{"x", "y", "z"}

func (m *model) admit(t *rapid.T) {
	name := rapid.SampledFrom(propertyGateways).Draw(t, "gateway")
	before, _ := m.st.Gateway(name)
	if n := m.st.Admit(Gateway{Name: name}); n != before.Incarnation+1 || !m.st.Admitted(name, n) || m.st.Admitted(name, before.Incarnation) {
		t.Fatalf("%s: incarnation %d after %d; %+v", name, n, before.Incarnation, m.st.Gateways)
	}
}

func (m *model) fence(t *rapid.T) {
	name := rapid.SampledFrom(propertyGateways).Draw(t, "gateway")
	before, _ := m.st.Gateway(name)
	n := rapid.SampledFrom([]uint64{before.Incarnation, before.Incarnation - 1}).Draw(t, "incarnation")
	m.st.Fence(name, n)
	if now, _ := m.st.Gateway(name); m.st.Admitted(name, n) || now.Out != (before.Out || n == before.Incarnation && n > 0) {
		t.Fatalf("%s: fenced %d of %+v: %+v", name, n, before, now)
	}
}

// own gives a job to a gateway, and checks that its move goes with it.
func (m *model) own(t *rapid.T) {
	j := m.open(t)
	name := rapid.SampledFrom(propertyGateways).Draw(t, "gateway")
	g, known := m.st.Gateway(name)
	m.try(t, "own", known && !g.Out, func(s *State) error { return s.SetJobOwner(j.ID, name) })
}

// check compares the State with the model, slot by slot.
func (m *model) check(t *rapid.T) {
	must(t, m.st.Validate())
	free, owned := NewSlotSet(m.st.Unassigned()), make(map[string]*SlotSet)
	for _, g := range propertyGroups {
		owned[g] = NewSlotSet(m.st.SlotsOf(g))
	}
	total := CountSlots(m.st.Unassigned())
	for slot, want := range m.owner {
		if got, ok := m.st.OwnerOf(slot); got != want || ok != (want != "") {
			t.Fatalf("slot %d: owner %q, want %q", slot, got, want)
		}
		if free.Has(slot) != (want == "") {
			t.Fatalf("slot %d of %q: unassigned %v", slot, want, free.Has(slot))
		}
		for g, set := range owned {
			if set.Has(slot) != (g == want) {
				t.Fatalf("slot %d of %q is among those of %s: %v", slot, want, g, set.Has(slot))
			}
		}
	}
	for _, g := range propertyGroups {
		total += CountSlots(m.st.SlotsOf(g))
	}
	if total != m.st.SlotCount {
		t.Fatalf("%d slots in all", total)
	}
	text, err := json.Marshal(m.st)
	must(t, err)
	var back State
	must(t, json.Unmarshal(text, &back))
	if again, err := json.Marshal(back); err != nil || string(again) != string(text) {
		t.Fatalf("stored as %s, read as %s (%v)", text, again, err)
	}
}

func TestChangesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{st: NewState("codis", 1024, 16)}
		t.Repeat(map[string]func(*rapid.T){
			"add group": m.addGroup,
			"del group": m.delGroup,
			"assign":    m.assign,
			"submit":    m.submit,
			"step":      m.step,
			"finish":    m.finish,
			"cancel":    m.cancel,
			"admit":     m.admit,
			"fence":     m.fence,
			"own":       m.own,
			"":          m.check,
		})
	})
}
