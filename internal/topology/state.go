// Package topology holds what a cluster is: its groups, which group serves which slot and
// which slots move, the gateways, and the records of the migration jobs; and the Store that
// keeps all that.
//
// The whole of it is one State. A change is a new State with the next revision,
// compared-and-set into the Store before anybody acts on it; all else (routing tables,
// running movers) is derived from the State that is stored. What requests are routed by is
// the Topology within it, whose epoch rises only when that changes: a phase of a job, an
// attempt or a slice is a new revision and no new routing table.
package topology

import "slices"

// State is everything that is stored about one cluster. It is a value: whoever changes it
// works on a Clone, in Update.
//
// Invariant: a job is Published if and only if Moves has one of its that goes on, with the
// same slots, source, target and Back. AddJob, PutJob and FlipJob keep that.
type State struct {
	Revision uint64 `json:"revision"` // grows by one with every stored change
	Topology
	Jobs    []Job  `json:"jobs"`     // in order of creation; ended ones are kept, the newest MaxEndedJobs of them
	NextJob uint64 `json:"next_job"` // the number of the next job's id
}

// MaxEndedJobs bounds how many ended jobs a State remembers.
const MaxEndedJobs = 200

// Clone is a deep copy.
func (s State) Clone() State {
	s.Topology = s.Topology.Clone()
	s.Jobs = slices.Clone(s.Jobs)
	for i := range s.Jobs {
		s.Jobs[i] = s.Jobs[i].Clone()
	}
	return s
}

// Job finds a job by id; the pointer is into s. nil if there is none.
func (s *State) Job(id string) *Job {
	for i := range s.Jobs {
		if s.Jobs[i].ID == id {
			return &s.Jobs[i]
		}
	}
	return nil
}
