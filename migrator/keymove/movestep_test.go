package keymove

import (
	"fmt"
	"testing"
)

// TestMoveTable writes the whole protocol of one key down once more, as a table.
func TestMoveTable(t *testing.T) {
	want := map[MoveStep]map[Outcome]MoveStep{
		Read:        {OK: Restore, Absent: Committed, Refused: Released, Unknown: Released, Stale: Unlink},
		Restore:     {OK: Persist, Busy: Persist, Refused: Probe, Unknown: FenceTarget},
		FenceTarget: {OK: Probe, Refused: FenceTarget, Unknown: FenceTarget},
		Probe:       {OK: Persist, Absent: Stays, Refused: Probe, Unknown: Probe},
		Persist:     {OK: Unlink, Refused: Persist, Unknown: Probe, Absent: Stays},
		Unlink:      {OK: Committed, Refused: Unlink, Unknown: FenceSource},
		FenceSource: {OK: Unlink, Refused: FenceSource, Unknown: FenceSource},
		Committed:   {}, Stays: {}, Released: {},
	}
	for s := Read; s <= Released; s++ {
		for o := OK; o <= Stale; o++ {
			next, legal := want[s][o]
			got, panicked := tryNext(s, o)
			if panicked == legal {
				t.Errorf("%s × %s: panicked %v, want legal %v", s, o, panicked, legal)
			}
			if legal && got != next {
				t.Errorf("%s × %s → %s, want %s", s, o, got, next)
			}
		}
	}
}

func tryNext(s MoveStep, o Outcome) (next MoveStep, panicked bool) {
	defer func() { panicked = recover() != nil }()
	return s.Next(o), false
}

// TestNoWayBackToTheSource: once RESTORE may have run, the only way to let the key go to
// the source again is to have seen that the target does not hold it.
func TestNoWayBackToTheSource(t *testing.T) {
	var walk func(s MoveStep, seen map[MoveStep]bool, path string)
	walk = func(s MoveStep, seen map[MoveStep]bool, path string) {
		if s == Released {
			t.Errorf("a way back without a look at the target: %s", path)
		}
		if seen[s] || s.Final() {
			return
		}
		seen[s] = true
		for o := OK; o <= Stale; o++ {
			if next, panicked := tryNext(s, o); !panicked {
				walk(next, seen, fmt.Sprintf("%s -%s→ %s", path, o, next))
			}
		}
	}
	for _, first := range []Outcome{OK, Busy, Unknown} {
		walk(Restore.Next(first), map[MoveStep]bool{}, "restore")
	}
}
