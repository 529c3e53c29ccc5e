package bench

import (
	"context"
	"time"
)

// pacer tells one client when to send its next batch. With no rate: at once.
type pacer struct {
	interval time.Duration // between batches; 0 is no limit
	next     time.Time     // intended time of the next batch
	timer    *time.Timer
}

// newPacer paces client i of n, which together send perSecond requests in
// batches of batch. The clients' schedules are offset against each other.
func newPacer(start time.Time, perSecond float64, batch, i, n int) *pacer {
	p := &pacer{next: start}
	if perSecond > 0 {
		p.interval = time.Duration(float64(n) * float64(batch) / perSecond * float64(time.Second))
		p.next = start.Add(p.interval * time.Duration(i) / time.Duration(n))
	}
	return p
}

// wait returns when it is time to send, or ctx is done, with the time from which
// latency counts. That is the intended time when the client was kept from it by
// a slow reply (the coordinated omission correction: the request's user would
// have waited since then), and now when the client was free: our own timer
// waking late is not the endpoint's latency.
func (p *pacer) wait(ctx context.Context) time.Time {
	now := time.Now()
	if p.interval == 0 {
		return now
	}
	intended := p.next
	p.next = p.next.Add(p.interval)
	ahead := intended.Sub(now)
	if ahead <= 0 {
		return intended
	}
	sleep(ctx, &p.timer, ahead)
	return time.Now()
}

// reset forgets the batches that were due while the endpoint could not be
// reached: they are counted as an outage, not sent all at once afterwards.
func (p *pacer) reset() {
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
}

// sleep waits for d or until ctx is done, with a timer that is kept for reuse.
func sleep(ctx context.Context, timer **time.Timer, d time.Duration) {
	if *timer == nil {
		*timer = time.NewTimer(d)
	} else {
		(*timer).Reset(d)
	}
	select {
	case <-(*timer).C:
	case <-ctx.Done():
		(*timer).Stop()
	}
}
