package topology

import (
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
		if first < 0 || last >= slots || first > last {
			return nil, fmt.Errorf("slot range %q is outside 0-%d or reversed", part, slots-1)
		}
		out = append(out, Range{first, last})
	}
	slices.SortFunc(out, func(a, b Range) int { return a.First - b.First })
	for i := 1; i < len(out); i++ {
		if out[i].First <= out[i-1].Last {
			return nil, fmt.Errorf("slot %d is named twice", out[i].First)
		}
	}
	return mergeRanges(out), nil
}

func mergeRanges(in []Range) []Range {
	var out []Range
	for _, r := range in {
		if n := len(out); n > 0 && out[n-1].Last+1 == r.First {
			out[n-1].Last = r.Last
			continue
		}
		out = append(out, r)
	}
	return out
}

// FormatRanges is the inverse of ParseRanges.
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

// SlotSet is a set of slots that is cheap to ask.
type SlotSet [16384 / 64]uint64

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
