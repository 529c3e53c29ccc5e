package migrator

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"keyferry/internal/topology"
	"keyferry/migrator/joberr"
)

// weighedMover is a mover without servers whose target is looked at as often as it is asked for,
// and has room each time.
func weighedMover(t *testing.T, room func() int64) *mover {
	cfg := &Config{CallTimeout: time.Minute, BatchMaxKeys: 512, MemoryLimit: 64 << 20, LockHoldTarget: 5 * time.Millisecond}
	m := &mover{cfg: cfg, admission: newAdmission(cfg)}
	m.room.seen.Store(&joberr.FullError{})
	m.gov.Blind()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if m.room.asked.Swap(false) {
				m.gov.Weighing()
				m.gov.Weighed(room())
			}
			sleep(ctx, time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return m
}

// TestAdmitLooksAgain: a budget that others have used up is a reason for another look, and
// not the end of the target's memory.
func TestAdmitLooksAgain(t *testing.T) {
	m := weighedMover(t, func() int64 { return 4 << 20 })
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 12 {
				release, err := m.admit(context.Background(), 60)
				if err != nil {
					t.Errorf("a target with room: %v", err)
					return
				}
				release()
			}
		})
	}
	wg.Wait()
}

// TestAdmitFull: a target without room is said to be full, when it has been looked at.
func TestAdmitFull(t *testing.T) {
	m := weighedMover(t, func() int64 { return 100 })
	if _, err := m.admit(context.Background(), 1); err == nil {
		t.Error("a key for which there is no room is let through")
	}
}

// TestTryAdmitCostsNothing: what is refused has used up nothing of the target's room, of what
// a paced job may move, nor of a ceiling.
func TestTryAdmitCostsNothing(t *testing.T) {
	m := weighedMover(t, func() int64 { return 64 << 20 })
	if release, err := m.admit(context.Background(), 1); err != nil {
		t.Fatal(err)
	} else {
		release()
	}
	m.limit = rate.NewLimiter(rate.Every(time.Hour), 1)
	m.limit.Allow()
	before := m.gov.Status()
	for range 10_000 { // far more than may be taken before the target is looked at again
		if _, ok := m.tryAdmit(1); ok {
			t.Fatal("above the ceiling")
		}
	}
	if short, _, _ := m.gov.Room(1); short || m.gov.Status() != before {
		t.Errorf("short of memory: %v; %+v, before %+v", short, m.gov.Status(), before)
	}
	m.limit = rate.NewLimiter(rate.Every(time.Hour), 10)
	m.gov.Blind()
	if _, ok := m.tryAdmit(1); ok {
		t.Error("without a look at the target")
	}
	if left := m.limit.Tokens(); left < 9.9 {
		t.Errorf("what the governor refuses has used up %g tokens", 10-left)
	}
}

// TestNobodyToAsk: where nobody can tell how long clients wait, nothing is held back for them.
func TestNobodyToAsk(t *testing.T) {
	m := weighedMover(t, func() int64 { return -1 })
	m.cfg.MaxP99Auto, m.cfg.Parallel = true, 2
	m.bound(topology.Job{})
	if m.wantClients.Load() || m.gov.Status().WorkPerS != 0 {
		t.Errorf("held back for clients that nobody tells of: %+v", m.gov.Status())
	}
}
