package migrator

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyferry/migrator/flow"
)

// TestPlacesOfCrossingJobs: jobs in all directions between three groups never have more
// batches at one of them than they may, and all come through.
func TestPlacesOfCrossingJobs(t *testing.T) {
	const each = 3
	p := flow.NewPlaces(each)
	var at [3]atomic.Int64
	names := []string{"a", "b", "c"}
	var all sync.WaitGroup
	for job := range 24 {
		from, to := job%3, (job+1+job/3%2)%3
		all.Go(func() {
			for i := range 200 {
				leave, ok := p.Try(names[from], names[to])
				if !ok || i%2 == 0 {
					if ok {
						leave()
					}
					leave, _ = takePlaces(context.Background(), p, names[from], names[to])
				}
				for _, g := range []int{from, to} {
					if n := at[g].Add(1); n > each {
						t.Errorf("%d batches at %s", n, names[g])
					}
				}
				at[from].Add(-1)
				at[to].Add(-1)
				leave()
			}
		})
	}
	all.Wait()
	for range each { // all has been given back
		if _, ok := p.Try("a", "b"); !ok {
			t.Fatal("a place is missing")
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if _, err := takePlaces(ctx, p, "c", "a"); err == nil {
		t.Error("a place that was not there")
	}
	if _, ok := p.Try("c", "d"); !ok {
		t.Error("who gave up left without the place that he had")
	}
}

// TestPassWaitsForPlaces: while other jobs have all places at the target, a pass moves
// nothing, locks nothing and says why.
func TestPassWaitsForPlaces(t *testing.T) {
	f := newFerry(t, nil)
	want := f.fill(1000)
	f.places = flow.NewPlaces(1)
	others, err := takePlaces(context.Background(), f.places, "b", "c")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.pass(context.Background(), position{}, func(position) {})
		done <- err
	}()
	for f.crowded.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if f.stats.keys.Load() != 0 || !f.locks.Idle() {
		t.Errorf("%d keys moved without a place, nothing locked: %v", f.stats.keys.Load(), f.locks.Idle())
	}
	calm := f.gov.Status()
	calm.Reason = "" // of a machine that stands still, which is told first
	if text := f.throttle(calm); text != crowdedText {
		t.Errorf("throttle: %q", text)
	}
	others()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.compare(want)
}
