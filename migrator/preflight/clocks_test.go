package preflight

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestClocks: preflight says by how much the clocks differ, which of them is ahead, and what
// follows for keys that expire.
func TestClocks(t *testing.T) {
	read := func(ahead time.Duration) clock {
		c, err := readClock(func() (time.Time, error) { return time.Now().Add(ahead), nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct {
		src, dst time.Duration
		severity Severity
		says     string
	}{
		{0, 0, "", ""},
		{time.Hour, time.Hour, "", ""},
		{-10 * time.Second, 50 * time.Second, Warning, "1m0s (±1ms) ahead of the source's: keys keep the time at which they expire, so they live that much shorter"},
		{0, -time.Hour, Warning, "1h0m0s (±1ms) behind the source's: keys keep the time at which they expire, so they live that much longer"},
		{0, 500 * time.Millisecond, Info, "500ms (±1ms) ahead"},
	} {
		src, dst := read(c.src), read(c.dst)
		s, text := clockFinding((dst.ahead - src.ahead).Round(10*time.Millisecond), min(dst.unsure+src.unsure, time.Millisecond))
		if s != c.severity || !strings.Contains(text, c.says) || c.says == "" && text != "" {
			t.Errorf("source %v, target %v ahead: %s %q", c.src, c.dst, s, text)
		}
	}
	if s, text := clockFinding(time.Second, 2*time.Second); text != "" {
		t.Errorf("what can't be told is told: %s %q", s, text)
	}
	if _, err := readClock(func() (time.Time, error) { return time.Time{}, errors.New("no") }); err == nil {
		t.Error("no clock, no error")
	}
}
