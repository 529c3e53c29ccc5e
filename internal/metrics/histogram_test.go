package metrics

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	for _, ns := range []uint64{0, 1, 1023, 1024, 1279, 1280, 1535, 1536, 2047, 2048, 3000, 1e6, 1e9, 1e12} {
		i := bucketOf(ns)
		if ns > BucketEndNs(i) || i > 0 && ns <= BucketEndNs(i-1) {
			t.Errorf("%d ns in bucket %d, which is (%d, %d]", ns, i, BucketEndNs(i-1), BucketEndNs(i))
		}
	}
	var h, sum Histogram
	for i := 1; i <= 1000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	sum.Add(&h)
	sum.Add(&h)
	for _, q := range []float64{0.01, 0.5, 0.99, 0.999} {
		got, want := sum.Quantile(q), time.Duration(q*1000)*time.Microsecond
		if got < want || got > want*5/4+time.Microsecond {
			t.Errorf("quantile %v is %v, want %v to a quarter more", q, got, want)
		}
	}
	if sum.Count != 2000 || sum.Quantile(1) != time.Millisecond || (&Histogram{}).Quantile(0.5) != 0 {
		t.Errorf("count %d, max %v", sum.Count, sum.Quantile(1))
	}
}
