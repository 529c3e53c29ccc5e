package topology

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseRanges(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Range
	}{
		{"0", []Range{{0, 0}}},
		{"1023", []Range{{1023, 1023}}},
		{"0-1023", []Range{{0, 1023}}},
		{"0-100,200,300-400", []Range{{0, 100}, {200, 200}, {300, 400}}},
		{"300-400,200,0-100", []Range{{0, 100}, {200, 200}, {300, 400}}},
		{"5,3,4", []Range{{3, 5}}},
		{"10-19,0-9", []Range{{0, 19}}},
	} {
		got, err := ParseRanges(c.text, 1024)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%q: %v\n%s", c.text, err, d)
		}
	}
}

func TestParseRangesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                     `invalid slot range "": want <first>-<last>`,
		"a":                    `invalid slot range "a": want <first>-<last>`,
		"1-":                   `invalid slot range "1-": want <first>-<last>`,
		"-1":                   `invalid slot range "-1": want <first>-<last>`,
		"1--2":                 `slot range 1--2 is outside 0-1023 or reversed`,
		"1-2-3":                `invalid slot range "1-2-3": want <first>-<last>`,
		"1,,2":                 `invalid slot range "": want <first>-<last>`,
		"1 ,2":                 `invalid slot range "1 ": want <first>-<last>`,
		"9-8":                  `slot range 9-8 is outside 0-1023 or reversed`,
		"1024":                 `slot range 1024-1024 is outside 0-1023 or reversed`,
		"0-1024":               `slot range 0-1024 is outside 0-1023 or reversed`,
		"1,1":                  `slot 1 is named twice`,
		"0-10,5":               `slot 5 is named twice`,
		"10-20,0-10":           `slot 10 is named twice`,
		"99999999999999999999": `invalid slot range "99999999999999999999": want <first>-<last>`,
	} {
		got, err := ParseRanges(text, 1024)
		if err == nil || err.Error() != want || got != nil {
			t.Errorf("%q: got %v, %v; want %q", text, got, err, want)
		}
	}
}

// drawRanges draws sorted, merged ranges.
func drawRanges(t *rapid.T, slots int) []Range {
	set := rapid.SliceOfNDistinct(rapid.IntRange(0, slots-1), 1, 40, rapid.ID[int]).Draw(t, "slots")
	var out []Range
	for _, slot := range set {
		out = append(out, Range{slot, slot})
	}
	out, err := normalRanges(out, slots)
	must(t, err)
	return out
}

func TestRangesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := drawRanges(t, 64)
		back, err := ParseRanges(FormatRanges(rs), 64)
		if d := cmp.Diff(rs, back); d != "" || err != nil {
			t.Fatalf("%s: %v\n%s", FormatRanges(rs), err, d)
		}
		set, n := NewSlotSet(rs), 0
		for slot := range 64 {
			in := false
			for _, r := range rs {
				in = in || r.First <= slot && slot <= r.Last
			}
			if set.Has(slot) != in {
				t.Fatalf("slot %d of %s: %v", slot, FormatRanges(rs), set.Has(slot))
			}
			if in {
				n++
			}
		}
		if n != CountSlots(rs) {
			t.Fatalf("%s: counted %d of %d", FormatRanges(rs), CountSlots(rs), n)
		}
	})
}

func TestSlotSetBounds(t *testing.T) {
	s := NewSlotSet([]Range{{0, 0}, {maxSlots - 1, maxSlots - 1}})
	if !s.Has(0) || s.Has(1) || s.Has(maxSlots-2) || !s.Has(maxSlots-1) || NewSlotSet(nil).Has(0) {
		t.Error("wrong at the ends")
	}
	if FormatRanges(nil) != "" || CountSlots(nil) != 0 {
		t.Error("no ranges")
	}
}
