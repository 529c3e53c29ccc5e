package topology

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// NewState is a new cluster without groups. Its revision and epoch are 0, which says that it
// is not stored yet; see Create.
func NewState(scheme string, slotCount, databases int) State {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return State{NextJob: 1, Topology: Topology{ClusterID: hex.EncodeToString(id), Scheme: scheme, SlotCount: slotCount, Databases: databases}}
}

// AddGroup adds a group without slots.
func (t *Topology) AddGroup(g Group) error {
	if err := checkGroup(g); err != nil {
		return err
	}
	for _, have := range t.Groups {
		if have.ID == g.ID {
			return fmt.Errorf("group %s exists already (%s)", g.ID, have.Addr)
		}
		if addrKey(have.Addr) == addrKey(g.Addr) {
			return fmt.Errorf("address %s is that of group %s", g.Addr, have.ID)
		}
	}
	if len(t.Groups) > MaxGroupNumber {
		return fmt.Errorf("a cluster has at most %d groups", MaxGroupNumber+1)
	}
	g.Number = t.freeNumber()
	t.NextGroup = (g.Number + 1) % (MaxGroupNumber + 1)
	t.Groups = append(t.Groups, g)
	slices.SortFunc(t.Groups, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

// SetGroup changes the address or the password of a group's server; nil leaves it as it is. A job of
// the group prevents it: what is still under way at the one address must not count
// for the other. Cursors of SCAN do not outlive an address, as they do not a server.
func (s *State) SetGroup(id string, addr, password *string) error {
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return g.ID == id })
	if i < 0 {
		return fmt.Errorf("no such group %q", id)
	}
	if err := s.unusedByJobs(id); err != nil {
		return err
	}
	g := s.Groups[i]
	if password != nil {
		g.Secret = NewSecret(*password)
	}
	if addr == nil || *addr == g.Addr {
		s.Groups[i] = g
		return nil
	}
	g.Addr = *addr
	before := s.Groups
	s.Groups = slices.Delete(slices.Clone(before), i, i+1)
	err := s.AddGroup(g)
	if err != nil {
		s.Groups = before
	}
	return err
}

// unusedByJobs refuses a group that a job is about, until the job has ended.
func (s *State) unusedByJobs(id string) error {
	for _, j := range s.Jobs {
		if !j.Phase.Ended() && (j.Source == id || j.Target == id) {
			return fmt.Errorf("group %s is part of job %s (%s): let the job end, or PROXY MIGRATION CANCEL it, first", id, j.ID, j.Phase)
		}
	}
	return nil
}

// freeNumber is a number that no group has, and that none has had for long.
func (t *Topology) freeNumber() int {
	for n := t.NextGroup; ; n = (n + 1) % (MaxGroupNumber + 1) {
		if !slices.ContainsFunc(t.Groups, func(g Group) bool { return g.Number == n }) {
			return n
		}
	}
}

// DelGroup removes a group that has no slots and no job.
func (s *State) DelGroup(id string) error {
	if _, ok := s.Group(id); !ok {
		return fmt.Errorf("no such group %q", id)
	}
	if rs := s.SlotsOf(id); len(rs) > 0 {
		return fmt.Errorf("group %s owns %d slots (%s): move them first (PROXY MIGRATE), or if they were assigned by mistake, PROXY SLOT UNASSIGN", id, CountSlots(rs), firstRanges(rs))
	}
	if err := s.unusedByJobs(id); err != nil {
		return err
	}
	s.Groups = slices.DeleteFunc(s.Groups, func(g Group) bool { return g.ID == id })
	return nil
}

// firstRanges is FormatRanges, short enough for one line of an error.
func firstRanges(rs []Range) string {
	const most = 8
	if len(rs) > most {
		return FormatRanges(rs[:most]) + ",…"
	}
	return FormatRanges(rs)
}

// OwnerOf is the group that owns a slot; "" and false if none does.
func (t *Topology) OwnerOf(slot int) (string, bool) {
	for _, a := range t.Slots {
		if slot >= a.First && slot <= a.Last {
			return a.Group, true
		}
	}
	return "", false
}

// SlotsOf are the slots that a group owns.
func (t *Topology) SlotsOf(group string) []Range {
	var out []Range
	for _, a := range t.Slots {
		if a.Group == group {
			out = append(out, a.Range)
		}
	}
	return out
}

// Unassigned are the slots that nobody owns.
func (t *Topology) Unassigned() []Range {
	var out []Range
	next := 0
	for _, a := range t.Slots {
		if a.First > next {
			out = append(out, Range{next, a.First - 1})
		}
		next = a.Last + 1
	}
	if next < t.SlotCount {
		out = append(out, Range{next, t.SlotCount - 1})
	}
	return out
}

// AssignSlots gives slots that nobody owns to a group; to own some of them already is
// fine. Slots of another group are refused, because the keys there would be lost from
// sight; so are slots of a job that has not ended.
func (s *State) AssignSlots(r Range, group string) error {
	if _, ok := s.Group(group); !ok {
		return fmt.Errorf("no such group %q", group)
	}
	if err := checkRange(r, s.SlotCount); err != nil {
		return err
	}
	if err := s.unmoving(r); err != nil {
		return err
	}
	for _, a := range s.Slots {
		if a.Group != group && a.First <= r.Last && r.First <= a.Last {
			return fmt.Errorf("slot %d is owned by group %s: use PROXY MIGRATE to move it with its keys", max(a.First, r.First), a.Group)
		}
	}
	s.setOwner([]Range{r}, group)
	return nil
}

// unmoving refuses slots of a job, until it has ended and no loop routes by it.
func (s *State) unmoving(r Range) error {
	for _, j := range s.Jobs {
		if j.Phase.Ended() && !j.Published {
			continue
		}
		for _, m := range j.Slots {
			if m.First <= r.Last && r.First <= m.Last {
				return fmt.Errorf("slot %d is part of job %s (%s)", max(m.First, r.First), j.ID, j.Phase)
			}
		}
	}
	return nil
}

// UnassignSlots takes slots from whoever owns them: nobody serves them then. Slots that nobody
// owns, and those of a job, are refused.
func (s *State) UnassignSlots(rs []Range) error {
	owner := s.owners()
	for _, r := range rs {
		if err := checkRange(r, s.SlotCount); err != nil {
			return err
		}
		if err := s.unmoving(r); err != nil {
			return err
		}
		for i := r.First; i <= r.Last; i++ {
			if owner[i] == "" {
				return fmt.Errorf("slot %d is owned by nobody", i)
			}
		}
	}
	s.setOwner(rs, "")
	return nil
}

// owners is the owner of each slot, "" for none. Assignments must be in bounds.
func (t *Topology) owners() []string {
	owner := make([]string, t.SlotCount)
	for _, a := range t.Slots {
		for i := a.First; i <= a.Last; i++ {
			owner[i] = a.Group
		}
	}
	return owner
}

// taken is the open job that each slot is part of, "" for none.
func (s *State) taken() []string {
	by := make([]string, s.SlotCount)
	for _, j := range s.Jobs {
		if j.Phase.Ended() {
			continue
		}
		for _, r := range j.Slots {
			for i := r.First; i <= r.Last; i++ {
				by[i] = j.ID
			}
		}
	}
	return by
}

// setOwner gives slots to a group and keeps the assignments sorted and merged.
func (t *Topology) setOwner(rs []Range, group string) {
	owner := t.owners()
	for _, r := range rs {
		for i := r.First; i <= r.Last; i++ {
			owner[i] = group
		}
	}
	t.Slots = nil
	for i, g := range owner {
		if g == "" {
			continue
		}
		if n := len(t.Slots); n > 0 && t.Slots[n-1].Group == g && t.Slots[n-1].Last == i-1 {
			t.Slots[n-1].Last = i
			continue
		}
		t.Slots = append(t.Slots, Assignment{Range{i, i}, g})
	}
}

// AddJob adds a job, which must be Queued, and gives it its id. Its slots must be owned
// by its source and be in no other job that has not ended.
func (s *State) AddJob(j Job) (id string, err error) {
	j = j.Clone()
	if j.Phase != Queued {
		return "", fmt.Errorf("a job begins as %s, not %q", Queued, j.Phase)
	}
	if j.Slots, err = normalRanges(j.Slots, s.SlotCount); err != nil {
		return "", err
	}
	j.ID = "m" + strconv.FormatUint(s.NextJob, 10)
	if err := s.validateOpenJob(j, s.owners(), s.taken()); err != nil {
		return "", err
	}
	s.Jobs = append(s.Jobs, j)
	s.NextJob++
	s.dropOldJobs(j.ID)
	return j.ID, nil
}

// PutJob replaces a job by one of the same id, and begins, turns or ends its Move as the job
// says. If that ended the job, the oldest ended jobs may be forgotten, but never j: FlipJob
// may have to follow.
func (s *State) PutJob(j Job) error {
	p := s.Job(j.ID)
	if p == nil {
		return fmt.Errorf("no such job %q", j.ID)
	}
	j = j.Clone()
	if j.Published && !p.Published {
		s.beginMove(j)
	}
	switch {
	case j.Back && !p.Back:
		s.turnMove(j.ID)
	case !j.Back && p.Back:
		s.moveOn(j)
	}
	if !j.Published {
		s.endMove(j.ID)
	}
	*p = j
	s.dropOldJobs(j.ID)
	return nil
}

// FlipJob makes the job's slots the target's: the end of a move. It belongs into the same
// change as the PutJob that makes the job Done, since a State between the two would send
// clients to a source that has no keys any more.
func (s *State) FlipJob(id string) error {
	j := s.Job(id)
	if j == nil {
		return fmt.Errorf("no such job %q", id)
	}
	if j.Phase == Cancelled {
		return fmt.Errorf("job %s is %s", id, j.Phase)
	}
	owner := s.owners()
	for _, r := range j.Slots {
		for slot := r.First; slot <= r.Last; slot++ {
			if owner[slot] != j.Source {
				return fmt.Errorf("slot %d of job %s is owned by %q and not by its source %s", slot, id, owner[slot], j.Source)
			}
		}
	}
	s.endMove(id)
	s.setOwner(j.Slots, j.Target)
	j.Published = false
	return nil
}

// dropOldJobs forgets the oldest ended jobs beyond MaxEndedJobs, except keep.
func (s *State) dropOldJobs(keep string) {
	ended := 0
	for _, j := range s.Jobs {
		if j.Phase.Ended() {
			ended++
		}
	}
	s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool {
		if ended > MaxEndedJobs && j.Phase.Ended() && j.ID != keep {
			ended--
			return true
		}
		return false
	})
}
