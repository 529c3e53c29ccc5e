package topology

import (
	"encoding/json"
	"testing"
	"time"
)

// TestSliceText: what is read is what is written, and what makes no sense is refused.
func TestSliceText(t *testing.T) {
	for text, want := range map[string]Slice{
		"1s/4s":      {time.Second, 4 * time.Second},
		"1S/4S":      {time.Second, 4 * time.Second},
		"500ms":      {500 * time.Millisecond, 0},
		"500ms/0":    {500 * time.Millisecond, 0},
		"1m30s/0.5s": {90 * time.Second, 500 * time.Millisecond},
		"24h/24h":    {24 * time.Hour, 24 * time.Hour},
		"100ms":      {100 * time.Millisecond, 0},
		"off":        {}, "OFF": {}, "0": {}, "0/0": {}, "0s": {},
	} {
		got, err := ParseSlice(text)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		again, err := ParseSlice(got.String())
		if err != nil || again != got {
			t.Errorf("%v written as %q is %v, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", "/", "1", "1/4", "5s/", "/5s", "1s/4", "-1s", "1s/-1s", "99ms", "25h", "1s/25h", "0/4s", "off/4s",
		"1s/4s/9s", "1s 4s", "on", "1e3s", "NaN", "9223372036854775808ns"} {
		if got, err := ParseSlice(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// TestSliceInJSON: a job without slices does not speak of them, and one of an older version
// has none.
func TestSliceInJSON(t *testing.T) {
	b, err := json.Marshal(Job{ID: "m1", JobLimits: JobLimits{Slice: Slice{time.Second, 4 * time.Second}}})
	var j Job
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil || j.Slice != (Slice{time.Second, 4 * time.Second}) {
		t.Errorf("%s became %v, %v", b, j.Slice, err)
	}
	b, _ = json.Marshal(Job{ID: "m1"})
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil || all["slice"] != nil {
		t.Errorf("%s, %v", b, err)
	}
}
