package topology

import (
	"errors"
	"fmt"
	"slices"
)

// Move is a job as routing sees it: slots whose keys change place. It begins when the job is
// published and ends with the flip, the cancel or the return; then it is kept for a while,
// since a SCAN that was under way must know which slots changed place meanwhile.
//
//	            From            TurnedAt           To
//	epochs ──────┼──────────────────┼───────────────┼──────►
//	keys go      Source to Target   back to Source  nowhere
//
// A job that turns round a second time, to move on, ends its move and begins another.
//
// Invariant: no slot is in two moves that go on, and the Source of those owns their slots.
type Move struct {
	Job    string  `json:"job"`
	Slots  []Range `json:"slots"` // sorted, disjoint
	Source string  `json:"source"`
	Target string  `json:"target"`

	// Owner is the gateway that moves the slots, which has their lock table, and to which the others
	// send commands on them; "": the only one, of whatever name.
	Owner     string `json:"owner,omitempty"`
	OwnedFrom uint64 `json:"owned_from,omitempty"` // the first epoch in which it is the owner
	Former    string `json:"former,omitempty"`     // the owner before; "": none

	From     uint64 `json:"from"`                // the last epoch before it, at least 1
	Back     bool   `json:"back,omitempty"`      // it has turned round: keys go from Target to Source
	TurnedAt uint64 `json:"turned_at,omitempty"` // the first epoch in which they do
	To       uint64 `json:"to,omitempty"`        // the first epoch after it; 0: it goes on
}

// MaxEndedMoves and MaxEndedRanges bound the ended moves that a Topology remembers, and the
// runs of slots that these have together: it has to stay a value of moderate size.
const (
	MaxEndedMoves  = 200
	MaxEndedRanges = 4096
)

// MoveOf is the newest move of a job; the zero Move if none is remembered. Its Slots are shared.
func (t *Topology) MoveOf(job string) Move {
	for i := len(t.Moves) - 1; i >= 0; i-- {
		if t.Moves[i].Job == job {
			return t.Moves[i]
		}
	}
	return Move{}
}

// moving finds the move of a job that goes on; nil if there is none.
func (t *Topology) moving(job string) *Move {
	for i := range t.Moves {
		if t.Moves[i].Job == job && t.Moves[i].To == 0 {
			return &t.Moves[i]
		}
	}
	return nil
}

// beginMove, turnMove, moveOn and endMove are all that happens to a Move. Each is called on the
// Topology that is being changed, whose Epoch is still the one before.
func (t *Topology) beginMove(j Job) {
	m := Move{Job: j.ID, Slots: slices.Clone(j.Slots), Source: j.Source, Target: j.Target, Owner: j.Owner, From: max(t.Epoch, 1)}
	if m.Owner != "" {
		m.OwnedFrom = t.Epoch + 1
	}
	t.Moves = append(t.Moves, m)
}

func (t *Topology) turnMove(job string) {
	if m := t.moving(job); m != nil {
		m.Back, m.TurnedAt = true, t.Epoch+1
	}
}

// moveOn turns a move that goes back. SCAN has to see each direction apart, and a Move has two.
func (t *Topology) moveOn(j Job) {
	t.endMove(j.ID)
	t.beginMove(j)
}

func (t *Topology) endMove(job string) {
	if m := t.moving(job); m != nil {
		m.To = t.Epoch + 1
		t.forgetMoves()
	}
}

// forgetMoves drops the ended moves that ended first, beyond the bounds. One that ends just
// now stays: if ForgottenTo were the newest epoch, a SCAN could not begin in it.
func (t *Topology) forgetMoves() {
	for {
		ended, ranges, oldest := 0, 0, -1
		for i, m := range t.Moves {
			if m.To == 0 || m.To > t.Epoch {
				continue
			}
			ended++
			ranges += len(m.Slots)
			if oldest < 0 || m.To < t.Moves[oldest].To {
				oldest = i
			}
		}
		if ended <= MaxEndedMoves && ranges <= MaxEndedRanges {
			return
		}
		t.ForgottenTo = max(t.ForgottenTo, t.Moves[oldest].To)
		t.Moves = slices.Delete(t.Moves, oldest, oldest+1)
	}
}

func (t *Topology) validateMoves() error {
	if len(t.Moves) == 0 {
		return nil // the tables below are half a megabyte, and most gateways move nothing most of the time
	}
	owner := t.owners()
	taken := make([]string, t.SlotCount) // slot → the job that moves it
	going := make(map[string]bool)
	for _, m := range t.Moves {
		if m.Job == "" {
			return errors.New("a move has no job")
		}
		if going[m.Job] {
			return fmt.Errorf("move of job %q goes on and is there once more", m.Job)
		}
		going[m.Job] = m.To == 0
		if m.From == 0 || m.Back != (m.TurnedAt > 0) {
			return fmt.Errorf("move of job %s: from epoch %d, turned %v at %d", m.Job, m.From, m.Back, m.TurnedAt)
		}
		if m.To > 0 {
			continue // its groups may be gone
		}
		if err := t.validateMoving(m, owner, taken); err != nil {
			return fmt.Errorf("move of job %s: %w", m.Job, err)
		}
	}
	return nil
}

// validateMoving checks a move that goes on, and takes its slots.
func (t *Topology) validateMoving(m Move, owner, taken []string) error {
	if m.Source == m.Target {
		return fmt.Errorf("moves from group %q to itself", m.Source)
	}
	for _, id := range []string{m.Source, m.Target} {
		if _, ok := t.Group(id); !ok {
			return fmt.Errorf("no such group %q", id)
		}
	}
	return takeSlots(m.Job, m.Slots, m.Source, owner, taken)
}

// takeSlots checks that slots are sorted, owned by their source and not taken by another
// job, and notes that this one has them.
func takeSlots(job string, rs []Range, source string, owner, taken []string) error {
	if len(rs) == 0 {
		return fmt.Errorf("has no slots")
	}
	before := -1
	for _, r := range rs {
		if err := checkRange(r, len(owner)); err != nil {
			return err
		}
		if r.First <= before {
			return fmt.Errorf("slots %d-%d overlap or are not sorted", r.First, r.Last)
		}
		before = r.Last
		for slot := r.First; slot <= r.Last; slot++ {
			if taken[slot] != "" {
				return fmt.Errorf("slot %d is part of job %s already", slot, taken[slot])
			}
			taken[slot] = job
			if owner[slot] != source {
				return fmt.Errorf("slot %d is owned by %q and not by its source %s", slot, owner[slot], source)
			}
		}
	}
	return nil
}
