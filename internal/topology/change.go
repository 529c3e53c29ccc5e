package topology

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NewState is a cluster without groups.
func NewState(scheme string, slotCount, databases int) State {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return State{ClusterID: hex.EncodeToString(id), Scheme: scheme, SlotCount: slotCount, Databases: databases, NextJob: 1}
}

var groupID = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// AddGroup adds a group without slots.
func (s *State) AddGroup(g Group) error {
	if !groupID.MatchString(g.ID) {
		return fmt.Errorf("invalid group id %q: want 1 to 64 of a-z A-Z 0-9 _ . -", g.ID)
	}
	if host, port, err := net.SplitHostPort(g.Addr); err != nil || host == "" || !validPort(port) {
		return fmt.Errorf("invalid address %q: want host:port", g.Addr)
	}
	for _, have := range s.Groups {
		if have.ID == g.ID {
			return fmt.Errorf("group %s exists already (%s)", g.ID, have.Addr)
		}
		if have.Addr == g.Addr {
			return fmt.Errorf("address %s is that of group %s", g.Addr, have.ID)
		}
	}
	s.Groups = append(s.Groups, g)
	slices.SortFunc(s.Groups, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

func validPort(p string) bool {
	n, err := strconv.Atoi(p)
	return err == nil && n > 0 && n < 65536
}

// DelGroup removes a group that has no slots and no job.
func (s *State) DelGroup(id string) error {
	if _, ok := s.Group(id); !ok {
		return fmt.Errorf("no such group %q", id)
	}
	if n := CountSlots(s.SlotsOf(id)); n > 0 {
		return fmt.Errorf("group %s owns %d slots: migrate them first", id, n)
	}
	for _, j := range s.Jobs {
		if !j.Phase.Ended() && (j.Source == id || j.Target == id) {
			return fmt.Errorf("group %s is part of job %s (%s)", id, j.ID, j.Phase)
		}
	}
	s.Groups = slices.DeleteFunc(s.Groups, func(g Group) bool { return g.ID == id })
	return nil
}

// OwnerOf is the group that owns a slot; "" and false if none does.
func (s *State) OwnerOf(slot int) (string, bool) {
	for _, a := range s.Slots {
		if slot >= a.First && slot <= a.Last {
			return a.Group, true
		}
	}
	return "", false
}

// SlotsOf are the slots that a group owns.
func (s *State) SlotsOf(group string) []Range {
	var out []Range
	for _, a := range s.Slots {
		if a.Group == group {
			out = append(out, a.Range)
		}
	}
	return out
}

// Unassigned are the slots that nobody owns.
func (s *State) Unassigned() []Range {
	var out []Range
	next := 0
	for _, a := range s.Slots {
		if a.First > next {
			out = append(out, Range{next, a.First - 1})
		}
		next = a.Last + 1
	}
	if next < s.SlotCount {
		out = append(out, Range{next, s.SlotCount - 1})
	}
	return out
}

// AssignSlots gives slots that nobody owns to a group. Slots of another group are
// refused, because the keys there would be lost from sight.
func (s *State) AssignSlots(r Range, group string) error {
	if _, ok := s.Group(group); !ok {
		return fmt.Errorf("no such group %q", group)
	}
	if r.First < 0 || r.Last >= s.SlotCount || r.First > r.Last {
		return fmt.Errorf("slot range %d-%d is outside 0-%d or reversed", r.First, r.Last, s.SlotCount-1)
	}
	for _, a := range s.Slots {
		if a.Group != group && a.First <= r.Last && r.First <= a.Last {
			return fmt.Errorf("slot %d is owned by group %s: use PROXY MIGRATE to move it with its keys", max(a.First, r.First), a.Group)
		}
	}
	s.setOwner([]Range{r}, group)
	return nil
}

// setOwner rewrites the assignments.
func (s *State) setOwner(rs []Range, group string) {
	owner := make([]string, s.SlotCount)
	for _, a := range s.Slots {
		for i := a.First; i <= a.Last; i++ {
			owner[i] = a.Group
		}
	}
	for _, r := range rs {
		for i := r.First; i <= r.Last; i++ {
			owner[i] = group
		}
	}
	s.Slots = nil
	for i, g := range owner {
		if g == "" {
			continue
		}
		if n := len(s.Slots); n > 0 && s.Slots[n-1].Group == g && s.Slots[n-1].Last == i-1 {
			s.Slots[n-1].Last = i
			continue
		}
		s.Slots = append(s.Slots, Assignment{Range{i, i}, g})
	}
}

// AddJob adds a job and gives it its id.
func (s *State) AddJob(j Job) (string, error) {
	if _, ok := s.Group(j.Target); !ok {
		return "", fmt.Errorf("no such group %q", j.Target)
	}
	j.ID = "m" + strconv.FormatUint(s.NextJob, 10)
	s.Jobs = append(s.Jobs, j)
	s.NextJob++
	if err := s.validateJobs(); err != nil {
		s.Jobs = s.Jobs[:len(s.Jobs)-1]
		s.NextJob--
		return "", err
	}
	s.dropOldJobs()
	return j.ID, nil
}

// PutJob replaces a job by one of the same id.
func (s *State) PutJob(j Job) error {
	p := s.Job(j.ID)
	if p == nil {
		return fmt.Errorf("no such job %q", j.ID)
	}
	*p = j
	return nil
}

// FlipJob makes the job's slots the target's: the end of a move.
func (s *State) FlipJob(id string) error {
	j := s.Job(id)
	if j == nil {
		return fmt.Errorf("no such job %q", id)
	}
	s.setOwner(j.Slots, j.Target)
	j.Published = false
	return nil
}

func (s *State) dropOldJobs() {
	ended := 0
	for _, j := range s.Jobs {
		if j.Phase.Ended() {
			ended++
		}
	}
	s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool {
		if ended > MaxEndedJobs && j.Phase.Ended() {
			ended--
			return true
		}
		return false
	})
}

// SetGateway gives a gateway that starts its new incarnation.
func (s *State) SetGateway(name string) uint64 {
	for i := range s.Gateways {
		if s.Gateways[i].Name == name {
			s.Gateways[i].Incarnation++
			return s.Gateways[i].Incarnation
		}
	}
	s.Gateways = append(s.Gateways, Gateway{Name: name, Incarnation: 1})
	return 1
}

// Validate checks every invariant of a State.
func (s *State) Validate() error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return nil
}

func (s *State) validate() error {
	if s.SlotCount < 1 || s.SlotCount > len(SlotSet{})*64 {
		return fmt.Errorf("slot count %d", s.SlotCount)
	}
	if s.Databases < 1 {
		return fmt.Errorf("%d databases", s.Databases)
	}
	for i, g := range s.Groups {
		if i > 0 && s.Groups[i-1].ID >= g.ID {
			return fmt.Errorf("groups not sorted at %s", g.ID)
		}
	}
	for i, a := range s.Slots {
		if _, ok := s.Group(a.Group); !ok {
			return fmt.Errorf("slots %d-%d belong to unknown group %s", a.First, a.Last, a.Group)
		}
		if a.First < 0 || a.Last < a.First || a.Last >= s.SlotCount {
			return fmt.Errorf("slots %d-%d out of range", a.First, a.Last)
		}
		if i > 0 && s.Slots[i-1].Last >= a.First {
			return fmt.Errorf("slots %d-%d overlap", a.First, a.Last)
		}
	}
	return s.validateJobs()
}

func (s *State) validateJobs() error {
	taken := make(map[int]string)
	for _, j := range s.Jobs {
		if j.Phase.Ended() {
			if j.Published {
				return fmt.Errorf("job %s is %s and yet published", j.ID, j.Phase)
			}
			continue
		}
		if j.Source == j.Target {
			return fmt.Errorf("job %s moves from group %s to itself", j.ID, j.Source)
		}
		for _, id := range []string{j.Source, j.Target} {
			if _, ok := s.Group(id); !ok {
				return fmt.Errorf("job %s names unknown group %s", j.ID, id)
			}
		}
		for _, r := range j.Slots {
			for slot := r.First; slot <= r.Last; slot++ {
				if other := taken[slot]; other != "" {
					return fmt.Errorf("slot %d is part of job %s already", slot, other)
				}
				taken[slot] = j.ID
			}
		}
	}
	for slot, id := range taken {
		j := s.Job(id)
		if owner, _ := s.OwnerOf(slot); owner != j.Source {
			return fmt.Errorf("slot %d of job %s is owned by %q and not by its source %s", slot, id, owner, j.Source)
		}
	}
	return nil
}
