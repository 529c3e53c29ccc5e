package flow

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
//	clients' p99 above MAXP99 ─► work a second × ¾, at the least floorPerS
//	well below it ─────────────► × 1.05 (× 1.25 until it was above for the first time), and
//	                             free again when that holds nothing back
//
// Without a MAXP99 the bound is boundFactor of what clients wait without the mover, so that
// by and large they wait at most half as much again. How long they wait without it, is looked
// at for a second when the job begins or the first clients come, with the mover held at the
// floor; for a moment every half a minute; and whenever clients wait longer than the bound:
// if they go on to do so while hardly anything moves, it is not the mover that they wait for,
// and it goes on as before with another bound, which one lull raises by a tenth at most. If
// they wait less, by a quarter and by more than they do from one moment to the next anyway,
// it is, and the mover does less: by a quarter to a half, as far as they were above the bound.
// What they wait more from one moment to the next anyway is never above the bound.
//
// Work is counted in keys, and in units of unitBytes. It has no clock.
type pace struct {
	most  time.Duration // MAXP99; 0: by what is looked at; < 0: clients don't count
	base  time.Duration // p99 without the mover, when it was looked at last; 0: it was not
	p99   time.Duration // smoothed
	dev   time.Duration // from one window to the next, smoothed: the clients' own ups and downs
	last  time.Duration // of the window before; 0: it was part of a lull
	perS  float64       // work a second; 0: no bound
	next  time.Time     // when the next work is due
	found bool          // the bound has been met: from here on it is felt for slowly
	lull  lull

	done    float64 // work begun since the last window
	since   time.Time
	rate    float64 // … per second, in the last window
	limited bool    // somebody had to wait for its turn in it
}

// lull is a time for which the mover is at the floor, so that it is seen how long clients wait
// without it.
type lull struct {
	left    int           // windows that it goes on for; 0: there is none
	sum     time.Duration // of the p99 of n windows
	n       int
	from    float64       // work a second before; 0: the job begins
	suspect time.Duration // p99 before, if that was why; else 0
	at      time.Time     // when the last one ended
}

const (
	floorPerS   = 500
	startPerS   = 5_000
	paceBack    = 0.75 // at most; and
	paceLeast   = 0.5
	paceForth   = 1.05
	paceStart   = 1.25
	firstLull   = 5 // windows
	laterLull   = 3 // the first of which still has the mover in it
	lullEvery   = 30 * time.Second
	boundFactor = 1.3                   // of base: what is met now and then is half as much again
	boundSlack  = 50 * time.Microsecond // at least
	baseRise    = 1.1                   // at most, in one lull: one may have been at a bad moment
	paceBatch   = time.Millisecond      // of work at once: a server answers nobody else meanwhile
	leastBatch  = 16                    // … or so many keys: each batch costs some thirty switches of threads
)

// bound is the p99 above which the mover makes way; 0: none.
func (p *pace) bound() time.Duration {
	switch {
	case p.most > 0:
		return p.most
	case p.most < 0 || p.base == 0:
		return 0
	}
	return max(time.Duration(boundFactor*float64(p.base)), p.base+boundSlack, p.base+p.dev)
}

// begins is told MAXP99 when the job begins and when it changes. Without one the mover is
// held back from its start, until it is known whether there are clients.
func (p *pace) begins(most time.Duration) {
	p.most = most
	switch {
	case most < 0: // nothing will be heard of clients from here on
		p.free()
	case most == 0 && p.base == 0 && p.since.IsZero():
		p.perS = floorPerS
	}
}

// free lets the mover do as much as it can.
func (p *pace) free() {
	p.perS, p.p99, p.dev, p.last, p.base, p.found, p.lull = 0, 0, 0, 0, 0, false, lull{}
}

// heard is told the p99 of the clients' commands of one window; 0: of next to nothing.
func (p *pace) heard(now time.Time, p99 time.Duration) {
	if d := now.Sub(p.since).Seconds(); !p.since.IsZero() && d > 0 {
		p.rate = p.done / d
	}
	limited := p.limited
	p.done, p.since, p.limited = 0, now, false
	if p99 == 0 || p.most < 0 {
		p.free()
		return
	}
	if p.p99 == 0 {
		p.p99 = p99
	}
	p.varies(p99)
	p.p99 += (p99 - p.p99) / 3
	if p.most > 0 {
		p.base, p.lull = 0, lull{}
		if p.p99 > p.most {
			p.slower(p.now(limited), paceBack)
		} else if p.p99 < p.most*9/10 {
			p.faster(limited)
		}
		return
	}
	switch bound := p.bound(); {
	case p.lull.left > 0:
		p.seen(now, p99)
	case p.base == 0:
		p.lull = lull{left: firstLull}
		if p.perS == floorPerS { // it has been there from the start
			p.seen(now, p99)
		}
		p.perS = floorPerS
	case p.p99 > bound:
		p.lull = lull{left: laterLull, from: p.now(limited), suspect: p.p99}
		p.perS = floorPerS
	case now.Sub(p.lull.at) > lullEvery:
		p.lull = lull{left: laterLull, from: p.now(limited)}
		p.perS = floorPerS
	case p.p99 < bound*9/10:
		p.faster(limited)
	}
}

// varies follows the clients' own ups and downs.
func (p *pace) varies(p99 time.Duration) {
	if p.lull.left > 0 {
		p.last = 0
		return
	}
	if p.last > 0 {
		p.dev += ((p99 - p.last).Abs() - p.dev) / 8
	}
	p.last = p99
}

// now is how much is moved in a second.
func (p *pace) now(limited bool) float64 {
	if p.perS == 0 || !limited {
		return math.Max(p.rate, floorPerS)
	}
	return p.perS
}

// slower has the mover do less, by a factor within bounds.
func (p *pace) slower(from, factor float64) {
	p.perS, p.found = math.Max(from*min(max(factor, paceLeast), paceBack), floorPerS), true
}

func (p *pace) faster(limited bool) {
	switch {
	case p.perS == 0:
	case !limited:
		p.perS = 0
	case p.found:
		p.perS *= paceForth
	default:
		p.perS *= paceStart
	}
}

// seen is one window of a lull. What follows from it is told above.
func (p *pace) seen(now time.Time, p99 time.Duration) {
	k := &p.lull
	k.left--
	if k.from == 0 || k.left < laterLull-1 {
		k.sum, k.n = k.sum+p99, k.n+1
	}
	if k.left > 0 {
		return
	}
	seen := max(k.sum/time.Duration(k.n), time.Microsecond)
	if p.base > 0 && k.from > 0 {
		p.base = min(seen, time.Duration(baseRise*float64(p.base)))
	} else {
		p.base = seen
	}
	p.p99 = p.base
	switch {
	case k.from == 0:
		p.perS, p.found = startPerS, false
	case k.suspect > 0 && seen < k.suspect*3/4 && seen < k.suspect-p.dev:
		// What clients wait more grows with what the mover does.
		over := float64(p.bound()-p.base) / float64(k.suspect-p.base)
		p.slower(k.from, over)
	default:
		p.perS = k.from
	}
	p.lull = lull{at: now}
}

// batch is how much work may be begun at once; 0: as much as anybody likes.
func (p *pace) batch() float64 {
	if p.perS == 0 {
		return 0
	}
	return max(p.perS*paceBatch.Seconds(), leastBatch)
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

// paceOwed is what one value may add to the time at which the next work is due. A larger one would hold
// up all that come behind it for the sake of clients who have waited for it already.
const paceOwed = time.Second

// owe counts work that turned out to be more than was begun.
func (p *pace) owe(work float64) {
	p.done += work
	if p.perS > 0 {
		p.next = p.next.Add(min(time.Duration(work/p.perS*float64(time.Second)), paceOwed))
	}
}

// reason says why the mover is held back; "": it is not.
func (p *pace) reason() string {
	switch {
	case p.perS == 0:
		return ""
	case p.most > 0:
		return fmt.Sprintf("p99 of clients is %v, MAXP99 is %v", p.p99.Round(10*time.Microsecond), p.most)
	case p.lull.left > 0 || p.base == 0:
		return "looking for a moment how long clients wait without the job"
	}
	return fmt.Sprintf("p99 of clients is %v; it shall not be above %v, since it is %v without the job (MAXP99 auto)",
		p.p99.Round(10*time.Microsecond), p.bound().Round(10*time.Microsecond), p.base.Round(10*time.Microsecond))
}
