package migrator

import (
	"fmt"
	"math"
	"time"
)

// pace holds the mover back for the clients' sake: how much it may move in a second, where
// the governor's share is about how much may be under way at once. A mover that is given
// less at once makes smaller batches and keeps servers and processors as busy as before;
// one that makes pauses does not.
//
//	clients' p99 above the bound ─► work a second × ¾, at the least floorPerS
//	well below it ────────────────► × 1.05 (× 1.5 until it was above for the first time),
//	                                and free again when that holds nothing back
//
// The bound is the operator's MAXP99 or, if there is none, half as much again as clients
// waited before the job. That is learned in the first second in which there are clients,
// during which the mover is held at the floor. When clients wait longer than that although
// hardly anything moves, it is not the mover that they wait for: then what they wait now is
// what the bound is reckoned from, less and less, until they are found to wait as long again.
//
// Work is counted in keys, and in units of unitBytes. It has no clock.
type pace struct {
	most    time.Duration // MAXP99; 0: by what is learned; < 0: clients don't count
	learned time.Duration // p99 without the mover; 0: not known
	base    time.Duration // … as it is taken to be now
	p99     time.Duration // smoothed
	perS    float64       // work a second; 0: no bound
	next    time.Time     // when the next work is due
	windows int           // heard since there were clients
	late    int           // windows at the floor and above the bound, in a row
	found   bool          // the bound has been met: from here on it is felt for slowly

	done    float64 // work begun since the last window
	since   time.Time
	rate    float64 // … per second, in the last window
	limited bool    // somebody had to wait for its turn in it
}

const (
	floorPerS    = 500
	paceBack     = 0.75
	paceForth    = 1.05
	paceStart    = 1.5
	learnWindows = 4
	lateWindows  = 12                     // at the floor: it is not the mover
	baseFades    = 512                    // a raised base by 1 % a second: to look again whether it is still so
	boundFactor  = 1.5                    // of base
	boundSlack   = 250 * time.Microsecond // at least
	paceBatch    = 5 * time.Millisecond   // of work at once
)

// bound is the p99 above which the mover makes way; 0: none.
func (p *pace) bound() time.Duration {
	switch {
	case p.most > 0:
		return p.most
	case p.most < 0 || p.base == 0:
		return 0
	}
	return max(time.Duration(boundFactor*float64(p.base)), p.base+boundSlack)
}

// heard is told the p99 of the clients' commands of one window; 0: of next to nothing.
func (p *pace) heard(now time.Time, p99 time.Duration) {
	if d := now.Sub(p.since).Seconds(); !p.since.IsZero() && d > 0 {
		p.rate = p.done / d
	}
	limited := p.limited
	p.done, p.since, p.limited = 0, now, false
	if p99 == 0 || p.most < 0 {
		p.perS, p.p99, p.late = 0, 0, 0
		return
	}
	if p.p99 == 0 {
		p.p99 = p99
	}
	p.p99 += (p99 - p.p99) / 3
	if p.most == 0 && p.learned == 0 {
		p.learn(p99)
		return
	}
	switch bound := p.bound(); {
	case p.p99 > bound && p.perS == floorPerS:
		p.found = true
		if p.late++; p.late >= lateWindows && p.most == 0 {
			p.base, p.late, p.found = p.p99, 0, false
		}
	case p.p99 > bound:
		from := p.perS
		if from == 0 || !limited {
			from = p.rate
		}
		p.perS, p.found = math.Max(from*paceBack, floorPerS), true
	case p.perS > 0 && p.p99 < bound*9/10:
		p.late = 0
		forth := paceForth
		if !p.found {
			forth = paceStart
		}
		if p.perS *= forth; !limited {
			p.perS = 0
		}
	}
	p.base = max(p.learned, p.base-p.base/baseFades)
}

// begins holds the mover back from its start, until it is known whether there are clients.
func (p *pace) begins(most time.Duration) {
	if p.most = most; most == 0 && p.learned == 0 && p.since.IsZero() {
		p.perS = floorPerS
	}
}

// learn takes what clients wait while hardly anything moves for what they waited before.
func (p *pace) learn(p99 time.Duration) {
	if p.windows++; p.windows == 1 && p.perS == 0 {
		p.windows, p.p99 = 0, 0 // the mover was in it
	}
	p.perS = floorPerS
	if p.windows > learnWindows {
		p.learned, p.base = p.p99, p.p99
		p.perS = math.Max(p.rate, 20*floorPerS)
	}
}

// batch is how much work may be begun at once; 0: as much as anybody likes.
func (p *pace) batch() float64 {
	return p.perS * paceBatch.Seconds()
}

// due reports that work can be begun without a pause.
func (p *pace) due(now time.Time) bool {
	if p.perS == 0 || !now.Before(p.next) {
		return true
	}
	p.limited = true
	return false
}

// begin counts work that is begun, after the pause that it says.
func (p *pace) begin(now time.Time, work float64) (pause time.Duration) {
	p.done += work
	if p.perS == 0 {
		return 0
	}
	if p.next.Before(now) {
		p.next = now
	}
	if pause = p.next.Sub(now); pause > 0 {
		p.limited = true
	}
	p.next = p.next.Add(time.Duration(work / p.perS * float64(time.Second)))
	return pause
}

// reason says why the mover is held back; "": it is not.
func (p *pace) reason() string {
	switch {
	case p.perS == 0:
		return ""
	case p.most > 0:
		return fmt.Sprintf("p99 of clients is %v, MAXP99 is %v", p.p99.Round(10*time.Microsecond), p.most)
	case p.learned == 0:
		return "looking for a second how long clients wait without the job"
	}
	return fmt.Sprintf("p99 of clients is %v; it shall not be above %v, since it is %v without the job (MAXP99 auto)",
		p.p99.Round(10*time.Microsecond), p.bound().Round(10*time.Microsecond), p.base.Round(10*time.Microsecond))
}
