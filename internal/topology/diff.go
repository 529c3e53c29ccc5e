package topology

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Difference is what a store writes to get from one State to the next, in one transaction:
// the topology and each job are values of their own there, so that none grows with the
// number of jobs and a step of a job writes little.
type Difference struct {
	Topology bool     // it has another epoch
	Put      []Job    // that are new or have changed
	Drop     []string // ids of jobs that are forgotten
}

// Diff says how next differs from old, the State that it was made of; the zero State stands
// for nothing stored. The error wraps ErrInvalid when next can't follow old, or breaks an
// invariant.
func Diff(old, next *State) (Difference, error) {
	if next.Revision != old.Revision+1 {
		return Difference{}, fmt.Errorf("%w: revision %d does not follow %d", ErrInvalid, next.Revision, old.Revision)
	}
	changed := !next.sameRouting(&old.Topology)
	want := old.Epoch
	if changed {
		want = next.epochAfter(&old.Topology)
	}
	if next.Epoch != want {
		return Difference{}, fmt.Errorf("%w: epoch %d where it should be %d", ErrInvalid, next.Epoch, want)
	}
	if old.Revision > 0 {
		if err := next.sameCluster(old); err != nil {
			return Difference{}, err
		}
	}
	if err := next.Validate(); err != nil {
		return Difference{}, err
	}
	d := Difference{Topology: changed}
	had := make(map[string]*Job, len(old.Jobs))
	for i := range old.Jobs {
		had[old.Jobs[i].ID] = &old.Jobs[i]
	}
	for _, j := range next.Jobs {
		if before := had[j.ID]; before == nil || !reflect.DeepEqual(*before, j) {
			d.Put = append(d.Put, j)
		}
		delete(had, j.ID)
	}
	for id := range had {
		d.Drop = append(d.Drop, id)
	}
	return d, nil
}

// sameRouting reports that two topologies differ in nothing but their epoch, and what is said of it.
func (t *Topology) sameRouting(old *Topology) bool {
	a, b := *t, *old
	a.Epoch, b.Epoch, a.Past, b.Past = 0, 0, nil, nil
	return reflect.DeepEqual(a, b)
}

// sameCluster refuses a change of what is fixed at creation: with another scheme every
// key would be looked for in another slot than the one that it was put into.
func (s *State) sameCluster(old *State) error {
	if s.ClusterID != old.ClusterID || s.Scheme != old.Scheme || s.SlotCount != old.SlotCount {
		return fmt.Errorf("%w: cluster id, scheme and slot count are fixed at creation", ErrInvalid)
	}
	return nil
}

// follow gives s, which was made of old, its revision and its epoch.
func (s *State) follow(old *State) {
	s.Revision, s.Epoch, s.Past = old.Revision+1, old.Epoch, old.Past
	if !s.sameRouting(&old.Topology) {
		s.Epoch = s.epochAfter(&old.Topology)
		s.bear(&old.Topology)
	}
}

// SortJobs puts jobs into the order of their creation, for a store that has them by id.
func SortJobs(jobs []Job) {
	slices.SortFunc(jobs, func(a, b Job) int { return compareIDs(a.ID, b.ID) })
}

// compareIDs orders ids by their numbers, which all have one prefix and no leading zeros.
func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
