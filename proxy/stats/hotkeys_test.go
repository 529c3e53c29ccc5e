package stats

import (
	"fmt"
	"testing"
	"time"
)

// TestHotKeys: what two loops have met adds up, and rates come near the truth.
func TestHotKeys(t *testing.T) {
	const every, loops, seconds, perSecond = 4, 2, 10, 2000
	shared := NewShared()
	var parts []HotPart
	now := int64(0)
	for range loops {
		var r Recorder
		r.Init(&Config{SampleEvery: every}, shared, 16, 0)
		h := &r.Hot
		for i := range seconds * perSecond {
			now = int64(i) * int64(time.Second) / perSecond
			if !h.Due() || !h.Pick() {
				continue
			}
			if i%2 == 0 {
				h.Add(3, []byte("hot"), 7, i%4 == 0)
			} else {
				h.Add(0, fmt.Append(nil, "cold", i), 1, false)
			}
		}
		parts = append(parts, h.Part(now))
		if s := r.Part().slots; s[7] < seconds*perSecond/every/3 || s[7] > seconds*perSecond/every*2/3 {
			t.Errorf("slot 7 was sampled %d times", s[7])
		}
	}
	parts = append(parts, HotPart{}) // a loop that takes no samples
	hot := Hottest(parts, 3, func([]byte) int { return 7 })
	if len(hot) == 0 || hot[0].Key != "hot" || hot[0].DB != 3 || hot[0].Slot != 7 {
		t.Fatalf("%+v", hot)
	}
	// Half of two loops' commands; 2,500 were sampled of each, with a deviation of 2 %.
	if got := hot[0].PerSecond; got < 1400 || got > 2600 {
		t.Errorf("%v commands a second, want about 2000", got)
	}
	if w := hot[0].Writes; w < 0.35 || w > 0.65 {
		t.Errorf("writes are %v of them, want about half", w)
	}
}

// TestHotKeysCool: what is no longer used is forgotten.
func TestHotKeysCool(t *testing.T) {
	var r Recorder
	r.Init(&Config{SampleEvery: 1}, NewShared(), 16, 0)
	for range 100 {
		r.Hot.Add(0, []byte("k"), 0, false)
	}
	met := func(now int64) int {
		return len(Hottest([]HotPart{r.Hot.Part(now)}, 10, func([]byte) int { return 0 }))
	}
	now := int64(halveEvery) - 1
	if r.Hot.Cool(now); met(now) != 1 {
		t.Error("cooled too early")
	}
	for range 6 {
		now += int64(halveEvery)
		r.Hot.Cool(now)
	}
	if met(now) != 0 {
		t.Error("100 uses weigh on after six halvings")
	}
}

// TestNoSamples: with sampling off no command is looked at, ever.
func TestNoSamples(t *testing.T) {
	var r Recorder
	r.Init(&Config{}, NewShared(), 16, 0)
	for range 1000 {
		if r.Hot.Due() && r.Hot.Pick() {
			t.Fatal("a command was picked")
		}
	}
	if r.Hot.Cool(int64(time.Hour)); len(Hottest([]HotPart{r.Hot.Part(int64(time.Hour))}, 10, nil)) > 0 {
		t.Error("hot keys of nothing")
	}
}
