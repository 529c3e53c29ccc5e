package parking

import (
	"slices"
	"time"

	"keyferry/slotlock"
)

// Request is what a Command is to the driver. A Lot calls it from within its own methods,
// when it has itself in order: Request may call the Lot back, as when a client that is told of
// an error is closed, and its other commands with it.
type Request interface {
	// Run executes the command: at its source (the keys are held, and the driver releases
	// the command when it has been answered), at its target, or, if it is slotlock.Full, not
	// at all, since the lock table has no room for more waiters. It is called at most once,
	// and never after Expired. frame is valid during the call only.
	Run(at slotlock.Verdict, frame []byte)
	// Patient reports that the command may wait on at its deadline: waiting is what it came
	// for.
	Patient(now time.Time) bool
	// Expired ends a command that has waited too long. It was not executed.
	Expired()
}

// Route is where a slot in motion moves. Groups go by their ids and not by their indexes,
// since the table may change while a command is parked.
type Route struct {
	Locks  *slotlock.Table
	Whole  *slotlock.Whole // decides instead of Locks, where the slot is moved in one piece
	Slot   int
	Source string
	Target string
}

// Command is one command on a slot in motion, from Enter until it has been answered. The
// loop that it came to owns it.
type Command struct {
	Route
	Request Request
	Keys    []slotlock.Key
	Unnamed bool // it may use keys that it does not name
	Pull    bool // to the target, whatever would do for a plain command

	moved  []bool                    // of several keys: Keys[i] is known to live at the target; nil: none
	held   []slotlock.Key            // shared holds at the source
	one    [1]slotlock.Key           // where held begins: most commands have one key
	inside bool                      // it holds its slot at the source, and none of its keys
	waits  map[slotlock.Key]struct{} // of several keys, those of which the lock table will say more

	frame    []byte // own copy, while parked
	parked   bool   // stands in the queue of each of its keys
	deadline time.Time
	late     int // times that the deadline was put off
}

// Parked reports that the command waits.
func (c *Command) Parked() bool { return c.parked }

// Inside reports that the command holds its slot, and not its keys.
func (c *Command) Inside() bool { return c.inside }

// Holds reports that the command holds anything at the source.
func (c *Command) Holds() bool { return c.inside || len(c.held) > 0 }

// hold notes a shared hold of a key that the lock table has given.
func (c *Command) hold(k slotlock.Key) {
	if c.held == nil {
		c.held = c.one[:0]
	}
	c.held = append(c.held, k)
}

// hasMoved reports that a key is known to live at the target. A key never goes back, unless
// the job is reversed: so this need not be asked twice.
func (c *Command) hasMoved(i int) bool { return c.moved != nil && c.moved[i] }

// noteMoved is needed where a command is asked about more than once.
func (c *Command) noteMoved(i int) {
	if len(c.Keys) == 1 {
		return
	}
	if c.moved == nil {
		c.moved = make([]bool, len(c.Keys))
	}
	c.moved[i] = true
}

// Release gives back what the command holds: it has been answered, or has not been sent. To
// release twice is no harm.
func (c *Command) Release() {
	for _, k := range c.held {
		c.Locks.Release(k)
	}
	c.held = c.held[:0]
	if c.inside {
		c.inside = false
		c.Whole.Leave(c.Slot)
	}
}

// Holds are shared holds that have outlived their command: its connection has died, and the
// server may still execute it until the connection is fenced.
type Holds struct {
	route  Route
	keys   []slotlock.Key
	inside bool
}

// HandOver takes the holds from the command; whoever gets them must Release them.
func (c *Command) HandOver() Holds {
	h := Holds{c.Route, slices.Clone(c.held), c.inside}
	c.held, c.inside = nil, false
	return h
}

// Release gives the holds back.
func (h Holds) Release() {
	for _, k := range h.keys {
		h.route.Locks.Release(k)
	}
	if h.inside {
		h.route.Whole.Leave(h.route.Slot)
	}
}

// await notes that the lock table will say more of one of several keys. Nothing is asked again
// before it has done so for all of them: that would cost the square of their number.
func (c *Command) await(k slotlock.Key) {
	if len(c.Keys) == 1 {
		return
	}
	if c.waits == nil {
		c.waits = make(map[slotlock.Key]struct{})
	}
	c.waits[k] = struct{}{}
}

// lateMax bounds how often the deadline of a command is put off while its slot is moved in
// one piece. That takes as long as all keys of the slot do and, for a script, as long as
// these are looked for at the source.
const lateMax = 10

func (c *Command) patient(now time.Time) bool {
	if c.Request.Patient(now) {
		return true
	}
	st, _ := c.Whole.State(c.Slot)
	if st != slotlock.Closed && (st != slotlock.Wanted || !c.Unnamed) {
		return false
	}
	c.late++
	return c.late < lateMax
}
