package preflight

import (
	"context"
	"fmt"
	"time"

	"keyferry/migrator/joberr"
	"keyferry/migrator/keymove"
	"keyferry/router"
)

const (
	clocksAgree  = 10 * time.Millisecond // what no operator needs to know of
	clocksDiffer = time.Second           // from here on keys may be missed
)

// clocks compares the clocks of both ends. A key keeps the time at which it expires, and each
// server goes by its own clock.
func (c *Check) clocks(ctx context.Context) error {
	e, err := keymove.AskExpiry(ctx, c.src.Conn, router.ReservedPrefix+c.Job.ID)
	if err != nil {
		return joberr.At(joberr.Source, err)
	}
	if !e.Absolute() {
		c.add(Info, "expiry", c.src, "", "it has no %s (or the group's user may not use it): a key expires later by the milliseconds that its move takes", keymove.AskTime)
		return nil
	}
	src, err := readClock(func() (time.Time, error) { return c.src.Conn.Time(ctx).Result() })
	if err != nil {
		return clockUnread(joberr.Source, err)
	}
	dst, err := readClock(func() (time.Time, error) { return c.dst.Conn.Time(ctx).Result() })
	if err != nil {
		return clockUnread(joberr.Target, err)
	}
	if s, text := clockFinding(dst.ahead-src.ahead, dst.unsure+src.unsure); text != "" {
		c.add(s, "clocks", c.dst, "let both servers' hosts keep the time by NTP", "%s", text)
	}
	return nil
}

// clockUnread forgives a server that does not tell the time.
func clockUnread(origin string, err error) error {
	if joberr.Refused(err) {
		return nil
	}
	return joberr.At(origin, err)
}

// clock is how far a server's is ahead of the gateway's.
type clock struct{ ahead, unsure time.Duration }

const clockReadings = 3

// readClock takes the surest of some readings: the one with the quickest answer.
func readClock(now func() (time.Time, error)) (best clock, err error) {
	for i := range clockReadings {
		asked := time.Now()
		t, err := now()
		if err != nil {
			return clock{}, err
		}
		half := time.Since(asked) / 2
		if i == 0 || half < best.unsure {
			best = clock{t.Sub(asked.Add(half)), half}
		}
	}
	return best, nil
}

// clockFinding says by how much the target's clock is ahead of the source's and what follows;
// "": by nothing that can be told, or that matters.
func clockFinding(ahead, unsure time.Duration) (Severity, string) {
	by := ahead.Abs()
	if by <= max(clocksAgree, unsure) {
		return "", ""
	}
	s := Info
	if by >= clocksDiffer {
		s = Warning
	}
	by, unsure = by.Round(time.Millisecond), max(unsure, time.Millisecond).Round(time.Millisecond)
	if ahead > 0 {
		return s, fmt.Sprintf("its clock is %v (±%v) ahead of the source's: keys keep the time at which they expire, so they live that much shorter, and those that have less left are gone when they are moved", by, unsure)
	}
	return s, fmt.Sprintf("its clock is %v (±%v) behind the source's: keys keep the time at which they expire, so they live that much longer", by, unsure)
}
