package stats

import (
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	var q Rates
	if q.Now() != (Rate{}) {
		t.Error("a rate of nothing")
	}
	at := time.Now()
	for i := range 50 {
		q.Sample(at.Add(time.Duration(i)*100*time.Millisecond), &Counts{Commands: uint64(i * 10), BytesIn: uint64(i * 20), BytesOut: uint64(i * 30)})
		if r := q.Now(); i > 0 && (int(r.Ops+.5) != 100 || int(r.In+.5) != 200 || int(r.Out+.5) != 300) {
			t.Fatalf("after %d samples: %+v", i+1, r)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1536: "1.50K", 1 << 20: "1.00M", 5 << 30: "5.00G"} {
		if got := Human(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
