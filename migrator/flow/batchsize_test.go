package flow

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBatchesAdapt: what each key takes decides how many go together, and not what it takes
// to be heard.
func TestBatchesAdapt(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name        string
		fixed, each time.Duration
		least, most int64 // mean size of batches
	}{
		{"quiet", 300 * time.Microsecond, 50 * time.Microsecond, 50, 110},
		{"very busy machine", 8 * ms, 50 * time.Microsecond, 12, 150},
		{"busy machine", 5 * ms, 10 * time.Microsecond, 40, 512},
		{"slow keys", 300 * time.Microsecond, 2 * ms, 1, 5},
		{"very slow keys", 0, 40 * ms, 1, 1},
		{"nothing works", 100 * ms, 50 * time.Microsecond, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewBatchSize(5*ms, 512)
			rng := rand.New(rand.NewPCG(1, 1))
			sum, rounds := int64(0), 4000
			for i := range 2 * rounds {
				n := s.Keys()
				took := float64(c.fixed) * rng.ExpFloat64() // of which many are short and some are long
				s.Held(time.Duration(took)+time.Duration(n)*c.each, int(n))
				if i >= rounds {
					sum += n
				}
			}
			if mean := sum / int64(rounds); mean < c.least || mean > c.most {
				t.Errorf("%d keys a batch, want %d to %d", mean, c.least, c.most)
			} else {
				t.Logf("%d keys a batch", mean)
			}
		})
	}
}
