package topology

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schemeSlots are the schemes that there are, with their slot counts.
var schemeSlots = map[string]int{"redis": maxSlots, "codis": 1024}

// Validate checks every invariant of a State, those of each list in turn; the error wraps
// ErrInvalid. What it does not check are revision and epoch, which are about two States (see
// Diff), and how many ended jobs and moves there are.
func (s *State) Validate() error {
	for _, check := range []func() error{s.validateCluster, s.validateGroups, s.validateSlots, s.validateMoves, s.validateGateways, s.validateJobs} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

func (t *Topology) validateCluster() error {
	if want, ok := schemeSlots[t.Scheme]; !ok || t.SlotCount != want {
		return fmt.Errorf("scheme %q with %d slots", t.Scheme, t.SlotCount)
	}
	if t.Databases < 1 {
		return fmt.Errorf("%d databases", t.Databases)
	}
	return nil
}

func (t *Topology) validateGroups() error {
	addrs := make(map[string]string)
	for i, g := range t.Groups {
		if err := checkGroup(g); err != nil {
			return err
		}
		if i > 0 && t.Groups[i-1].ID >= g.ID {
			return fmt.Errorf("groups not sorted at %s", g.ID)
		}
		if other, ok := addrs[addrKey(g.Addr)]; ok {
			return fmt.Errorf("groups %s and %s have the same address %s", other, g.ID, g.Addr)
		}
		addrs[addrKey(g.Addr)] = g.ID
	}
	return nil
}

var groupID = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

func checkGroup(g Group) error {
	if !groupID.MatchString(g.ID) {
		return fmt.Errorf("invalid group id %q: want 1 to 64 of a-z A-Z 0-9 _ . -", g.ID)
	}
	if err := g.Endpoint.check(); err != nil {
		return err
	}
	if g.Role != Primary {
		return fmt.Errorf("%s is a %s: a group's address must be its primary", g.Addr, g.Role)
	}
	return nil
}

// addrKey is the same for addresses that differ in case only, as host names may.
func addrKey(addr string) string { return strings.ToLower(addr) }

func (t *Topology) validateSlots() error {
	for i, a := range t.Slots {
		if _, ok := t.Group(a.Group); !ok {
			return fmt.Errorf("slots %d-%d belong to unknown group %q", a.First, a.Last, a.Group)
		}
		if err := checkRange(a.Range, t.SlotCount); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		switch before := t.Slots[i-1]; {
		case before.Last >= a.First:
			return fmt.Errorf("slots %d-%d overlap or are not sorted", a.First, a.Last)
		case before.Last+1 == a.First && before.Group == a.Group:
			return fmt.Errorf("slots %d-%d are not merged with those before", a.First, a.Last)
		}
	}
	return nil
}

func (s *State) validateJobs() error {
	if len(s.Jobs)+len(s.Moves) == 0 {
		return nil // as in validateMoves
	}
	owner := s.owners()
	taken := make([]string, s.SlotCount) // slot → the open job that it is part of
	seen := make(map[string]bool)
	for i, j := range s.Jobs {
		if seen[j.ID] || j.ID == "" {
			return fmt.Errorf("job id %q is empty or used twice", j.ID)
		}
		seen[j.ID] = true
		if i > 0 && compareIDs(s.Jobs[i-1].ID, j.ID) > 0 {
			return fmt.Errorf("job %s is behind job %s: not in order of creation", j.ID, s.Jobs[i-1].ID)
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(j.ID, "m"), 10, 64); err == nil && n >= s.NextJob {
			return fmt.Errorf("job %s is not older than the next job %d", j.ID, s.NextJob)
		}
		err := checkPhase(j)
		if err == nil && !j.Phase.Ended() {
			err = s.validateOpenJob(j, owner, taken)
		}
		if err == nil {
			err = s.validateMoveOf(j)
		}
		if err != nil {
			return fmt.Errorf("job %s: %w", j.ID, err)
		}
	}
	for _, m := range s.Moves {
		if m.To == 0 && !seen[m.Job] {
			return fmt.Errorf("slots %s move for job %s, which there is not", firstRanges(m.Slots), m.Job)
		}
	}
	return nil
}

// validateOpenJob checks a job that can still act, and takes its slots.
func (s *State) validateOpenJob(j Job, owner, taken []string) error {
	if j.Source == j.Target {
		return fmt.Errorf("moves from group %q to itself", j.Source)
	}
	for _, id := range []string{j.Source, j.Target} {
		if _, ok := s.Group(id); !ok {
			return fmt.Errorf("no such group %q", id)
		}
	}
	for _, rate := range []float64{j.RateKeysPerS, j.RateBytesPerS} {
		if !(rate >= 0) || math.IsInf(rate, 1) {
			return fmt.Errorf("rate %v: want 0 or more", rate)
		}
	}
	if !(j.VerifyShare >= 0 && j.VerifyShare <= 1) {
		return fmt.Errorf("verify share %v: want 0 to 1", j.VerifyShare)
	}
	if j.Parallel < 0 || j.MaxAttempts < 0 || j.MaxP99Ms < -2 {
		return fmt.Errorf("parallel %d, max attempts %d, max p99 %d ms: want 0 or more, or -1 or -2 ms", j.Parallel, j.MaxAttempts, j.MaxP99Ms)
	}
	if err := j.Slice.check(); err != nil {
		return err
	}
	return takeSlots(j.ID, j.Slots, j.Source, owner, taken)
}

// validateMoveOf checks that a job and what routing knows of it agree. (That no move goes on
// without its job is checked by validateJobs.)
func (s *State) validateMoveOf(j Job) error {
	m := s.moving(j.ID)
	if (m != nil) != j.Published {
		return fmt.Errorf("is published: %v; its slots move: %v", j.Published, m != nil)
	}
	if m != nil && (!slices.Equal(m.Slots, j.Slots) || m.Source != j.Source || m.Target != j.Target || m.Back != j.Back || m.Owner != j.Owner) {
		return errors.New("its slots, its groups, its owner or its direction are not those of its move")
	}
	return nil
}

// checkPhase checks that a job's phase and its being published agree. A job that is
// published and should not be would route clients to a target that may hold anything;
// one that should be and isn't, to a source whose keys have gone.
func checkPhase(j Job) error {
	at := j.Phase
	switch at {
	case Backoff, Paused, Failed:
		at = j.ResumeTo
		switch at {
		case Queued, Preflight, Preparing, Bulk, Tail, Verifying, Reverting:
		default:
			return fmt.Errorf("is %s and would go on as %q", j.Phase, at)
		}
	}
	if j.Back && at != Reverting && at != Reverted {
		return fmt.Errorf("is %s and yet on its way back", at)
	}
	if j.Onward && (!j.Back || at != Reverting) {
		return fmt.Errorf("is %s and about to move on, and is not on its way back", at)
	}
	switch at {
	case Queued, Preflight, Done, Cancelled, Reverted:
		if j.Published {
			return fmt.Errorf("is %s and yet published", at)
		}
	case Preparing, Bulk, Tail, Verifying, Reverting:
		if !j.Published {
			return fmt.Errorf("is %s and not published", at)
		}
	default:
		return fmt.Errorf("unknown phase %q", at)
	}
	return nil
}
