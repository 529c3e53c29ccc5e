package migrator

import (
	"context"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// TestCeilingIsRaisedForThoseWhoWait: who began to wait under a low ceiling goes on when it
// is raised, and does not wait for what it would have had to before.
func TestCeilingIsRaisedForThoseWhoWait(t *testing.T) {
	l := rate.NewLimiter(rate.Every(time.Hour), 100)
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	if err := within(ctx, l, 100); err != nil {
		t.Fatal("the burst has to wait:", err)
	}
	passed := make(chan error, 1)
	go func() { passed <- within(ctx, l, 100) }()
	select {
	case err := <-passed:
		t.Fatal("not held back:", err)
	case <-time.After(300 * time.Millisecond):
	}
	l.SetLimit(rate.Inf)
	if err := <-passed; err != nil {
		t.Error("held back after there is no ceiling:", err)
	}
}
