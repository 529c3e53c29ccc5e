package flow

import "testing"

// TestBurst: a ceiling lets no more pass at once than a hundredth of a second's keys.
func TestBurst(t *testing.T) {
	for _, x := range []struct {
		perSecond float64
		want      int
	}{{0, 512}, {0.5, 1}, {20, 1}, {200, 2}, {5000, 50}, {60_000, 512}} {
		if got := Burst(x.perSecond, 512); got != x.want {
			t.Errorf("%g a second: %d at once, want %d", x.perSecond, got, x.want)
		}
	}
}
