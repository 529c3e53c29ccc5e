package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParseRanges reads "0-100,200,300-400", sorted and merged. Errors name what is wrong:
// not a number, out of 0…slots-1, or the same slot twice.
func ParseRanges(text string, slots int) ([]Range, error) {
	var out []Range
	for _, part := range strings.Split(text, ",") {
		lo, hi, dash := strings.Cut(part, "-")
		first, err := strconv.Atoi(lo)
		if err != nil {
			return nil, fmt.Errorf("invalid slot range %q: want <first>-<last>", part)
		}
		last := first
		if dash {
			if last, err = strconv.Atoi(hi); err != nil {
				return nil, fmt.Errorf("invalid slot range %q: want <first>-<last>", part)
			}
		}
		out = append(out, Range{first, last})
	}
	return normalRanges(out, slots)
}

// normalRanges sorts and merges ranges. The errors are those of ParseRanges.
func normalRanges(in []Range, slots int) ([]Range, error) {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var out []Range
	for _, r := range in {
		if err := checkRange(r, slots); err != nil {
			return nil, err
		}
		n := len(out)
		if n > 0 && r.First <= out[n-1].Last {
			return nil, fmt.Errorf("slot %d is named twice", r.First)
		}
		if n > 0 && r.First == out[n-1].Last+1 {
			out[n-1].Last = r.Last
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

func checkRange(r Range, slots int) error {
	if r.First < 0 || r.Last >= slots || r.First > r.Last {
		return fmt.Errorf("slot range %d-%d is outside 0-%d or reversed", r.First, r.Last, slots-1)
	}
	return nil
}

// FormatRanges is the inverse of ParseRanges; "" for no ranges.
func FormatRanges(rs []Range) string {
	var b strings.Builder
	for i, r := range rs {
		if i > 0 {
			b.WriteByte(',')
		}
		if r.First == r.Last {
			fmt.Fprintf(&b, "%d", r.First)
		} else {
			fmt.Fprintf(&b, "%d-%d", r.First, r.Last)
		}
	}
	return b.String()
}

// CountSlots is how many slots the ranges have.
func CountSlots(rs []Range) int {
	n := 0
	for _, r := range rs {
		n += r.Last - r.First + 1
	}
	return n
}

// maxSlots is the largest slot count of any scheme.
const maxSlots = 16384

// SlotSet is a set of slots that is cheap to ask: one bit a slot, 2 kB, no allocation and
// no search. Slots are those of a valid State; others panic.
type SlotSet [maxSlots / 64]uint64

// NewSlotSet is the set of the slots in rs.
func NewSlotSet(rs []Range) *SlotSet {
	s := &SlotSet{}
	for _, r := range rs {
		for i := r.First; i <= r.Last; i++ {
			s[i>>6] |= 1 << (i & 63)
		}
	}
	return s
}

// Has reports whether the slot is in the set.
func (s *SlotSet) Has(slot int) bool { return s[slot>>6]&(1<<(slot&63)) != 0 }
