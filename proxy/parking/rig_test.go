package parking

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"keyferry/slotlock"
)

// rig is a Lot on a loop whose messages are delivered when the test says so, with one job:
// slot 0 moves from A to B.
type rig struct {
	lot   *Lot
	locks *slotlock.Table
	whole *slotlock.Whole
	table *routes
	now   time.Time
	mail  []func() // what lock tables have told the loop
	armed bool
	say   func(format string, args ...any)

	commands map[string]*command
	done     map[string]bool // marks that have been answered
}

// routes is a Table of that one job, or of none.
type routes struct {
	job  bool
	back bool // the job has been reversed
	rig  *rig
}

func (t *routes) Route(slot int) (Route, bool) {
	r := Route{Locks: t.rig.locks, Whole: t.rig.whole, Slot: slot, Source: "A", Target: "B"}
	if t.back {
		r.Source, r.Target = "B", "A"
	}
	return r, t.job
}

func (t *routes) Has(locks *slotlock.Table) bool { return t.job && locks == t.rig.locks }

// command is a Request that says what becomes of it.
type command struct {
	Command
	name    string
	rig     *rig
	patient bool
	at      slotlock.Verdict // where it runs
	ended   int              // times that it ran or expired
	onRun   func()
}

func newRig(open bool) *rig {
	r := &rig{now: time.Unix(0, 0), commands: make(map[string]*command), done: make(map[string]bool)}
	r.locks = slotlock.New(slotlock.Options{MaxWaiting: 4})
	r.whole = slotlock.NewWhole([]int{0}, func(int) bool { return open })
	r.table = &routes{job: true, rig: r}
	r.lot = New(r, Limits{Commands: 8, Deadline: 10 * time.Second})
	r.say = func(string, ...any) {}
	return r
}

func (r *rig) Wake(t *slotlock.Table, k slotlock.Key, v slotlock.Verdict) {
	r.mail = append(r.mail, func() { r.lot.Woken(t, k, v) })
}

func (r *rig) WholeChanged(w *slotlock.Whole, slot int) {
	r.mail = append(r.mail, func() { r.lot.SlotChanged(w, slot) })
}

func (r *rig) Arm() { r.armed = true }

// deliver gives the loop its oldest message.
func (r *rig) deliver() {
	f := r.mail[0]
	r.mail = r.mail[1:]
	f()
}

func key(name string) slotlock.Key { return slotlock.Key{Name: name} }

func keysOf(names []string) (keys []slotlock.Key) {
	for _, n := range names {
		keys = append(keys, key(n))
	}
	return keys
}

func (r *rig) enter(name string, keys []slotlock.Key, unnamed, pull, patient bool) *command {
	route, _ := r.table.Route(0)
	c := &command{name: name, rig: r, patient: patient}
	c.Command = Command{Route: route, Request: c, Keys: keys, Unnamed: unnamed, Pull: pull}
	r.commands[name] = c
	if r.lot.Enter(&c.Command, []byte(name), r.now) {
		r.say("%s waits", name)
	}
	return c
}

func (c *command) Run(at slotlock.Verdict, frame []byte) {
	c.at = at
	c.ended++
	if c.rig.say == nil {
		return
	}
	switch {
	case at == slotlock.Full:
		c.rig.say("%s is refused", c.name)
	case string(frame) != c.name:
		c.rig.say("%s runs with the frame %q", c.name, frame)
	default:
		c.rig.say("%s runs at the %s, %s", c.name, at, map[slotlock.Verdict]string{slotlock.Source: c.Source, slotlock.Target: c.Target}[at])
	}
	if c.onRun != nil {
		c.onRun()
	}
}

func (c *command) Patient(time.Time) bool { return c.patient }

func (c *command) Expired() {
	c.ended++
	c.rig.say("%s expires", c.name)
}

// mark is a Mark that the test answers by its name.
type mark struct {
	rig  *rig
	name string
}

func (m mark) Answered() bool { return m.rig.done[m.name] }

// state is what the Lot and the lock table have.
func (r *rig) state() string {
	var queues []string
	for k, n := range r.lot.Queues() {
		queues = append(queues, fmt.Sprintf("%s:%d", k.Name, n))
	}
	slices.Sort(queues)
	st := r.locks.Stats()
	_, inside := r.whole.State(0)
	return fmt.Sprintf("parked %d, queues [%s], holds %d, inside %d, wanted %d", r.lot.Len(), strings.Join(queues, " "), st.Holds, inside, st.Waiting)
}
