package parking

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keyferry/slotlock"
)

// model is what a Lot is measured against: a list of commands in the order in which they came.
type model struct {
	rng     *rand.Rand
	r       *rig
	waiting []*command // in the order of arrival
	sent    []*command // without an answer
	lost    []Holds
	locked  map[slotlock.Key]bool // by the mover
	moved   map[slotlock.Key]bool
	names   int
	most    int  // that waited at a time
	wasOpen bool // the slot, before it was closed
	inside  int  // commands that held the slot when they ran
	scripts int  // that ran
	log     []string
	failed  []string
}

// TestLotAgainstModel runs a Lot with random commands, a random mover and messages that come
// late. Of each command that runs it checks that none with a key of it that came before still
// waits, and that its keys are where it runs, of a script that all keys of the slot are there
// together; at the end, that nobody has been forgotten and nothing is held.
func TestLotAgainstModel(t *testing.T) {
	most, inside, scripts := 0, 0, 0
	for seed := uint64(1); seed <= 3000; seed++ {
		m := newModel(seed, func(*Lot) {})
		if m.run(); len(m.failed) > 0 {
			t.Fatalf("seed %d: %q\n%q", seed, m.failed, m.log)
		}
		most = max(most, m.most)
		inside += m.inside
		scripts += m.scripts
	}
	if most < 5 || inside < 1000 || scripts < 1000 {
		t.Errorf("never more than %d commands waited, %d held the slot, %d scripts ran", most, inside, scripts)
	}
}

func newModel(seed uint64, plant func(*Lot)) *model {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := &model{rng: rng, r: newRig(rng.IntN(3) == 0), locked: map[slotlock.Key]bool{}, moved: map[slotlock.Key]bool{}}
	m.r.lot.Limits.Commands = 1 + m.rng.IntN(12)
	m.r.say = func(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }
	plant(m.r.lot)
	return m
}

func (m *model) run() {
	for range 150 {
		m.step()
	}
	m.end()
}

func (m *model) fail(format string, args ...any) {
	m.failed = append(m.failed, fmt.Sprintf(format, args...))
}

var names = []string{"x", "y", "z"}

func (m *model) step() {
	k := key(names[m.rng.IntN(len(names))])
	switch m.rng.IntN(15) {
	case 0, 1, 2:
		m.enter()
	case 3:
		m.answer()
	case 4, 5:
		m.deliver()
	case 6:
		if st, _ := m.r.whole.State(0); st != slotlock.Open && m.r.locks.TryLock(k) {
			m.locked[k] = true
			m.say("mover locks %s", k.Name)
		}
	case 7, 8:
		m.take()
	case 9, 10:
		m.decide(k)
	case 11:
		m.withdraw()
	case 12:
		m.r.now = m.r.now.Add(time.Duration(m.rng.IntN(8)) * time.Second)
		m.say("it is %v", m.r.now.Unix())
		m.r.lot.Expire(m.r.now)
	case 13:
		m.moveSlot(false)
	case 14:
		mode := []slotlock.Mode{slotlock.Filtered, slotlock.Resolve}[m.rng.IntN(2)]
		m.r.locks.SetMode(mode)
	}
	m.check()
}

func (m *model) say(format string, args ...any) { m.r.say(format, args...) }

func (m *model) enter() {
	var keys []slotlock.Key
	for range 1 + m.rng.IntN(3) { // perhaps the same twice
		keys = append(keys, key(names[m.rng.IntN(len(names))]))
	}
	m.names++
	c := &command{name: fmt.Sprint(m.names), rig: m.r, patient: m.rng.IntN(4) == 0}
	route, _ := m.r.table.Route(0)
	c.Command = Command{Route: route, Request: c, Keys: keys, Pull: m.rng.IntN(6) == 0, Unnamed: m.rng.IntN(12) == 0}
	c.onRun = func() { m.ran(c) }
	m.say("enter %s %v, pull %v, unnamed %v", c.name, keys, c.Pull, c.Unnamed)
	m.waiting = append(m.waiting, c) // if it does not run at once
	m.r.lot.Enter(&c.Command, []byte(c.name), m.r.now)
	m.most = max(m.most, len(m.waiting))
}

// ran is told that the Lot has a command run.
func (m *model) ran(c *command) {
	i := slices.Index(m.waiting, c)
	if i < 0 {
		m.fail("%s, which does not wait, runs", c.name)
		return
	}
	if c.at == slotlock.Full {
		m.waiting = slices.Delete(m.waiting, i, i+1)
		return
	}
	for _, earlier := range m.waiting[:i] {
		for _, k := range c.Keys {
			if earlier.Parked() && slices.Contains(earlier.Keys, k) { // else it is about to expire
				m.fail("%s passes %s, which came before and waits for %s too", c.name, earlier.name, k.Name)
			}
		}
	}
	for _, k := range c.Keys {
		if m.locked[k] && !m.moved[k] { // the mover may look at a key again that it has moved
			m.fail("%s runs while the mover has %s", c.name, k.Name)
		}
		if m.moved[k] != (c.at == slotlock.Target) {
			m.fail("%s runs at the %s; that %s has moved is %v", c.name, c.at, k.Name, m.moved[k])
		}
	}
	m.ranInPiece(c)
	m.waiting = slices.Delete(m.waiting, i, i+1)
	m.sent = append(m.sent, c)
}

// ranInPiece looks at what the slot as a whole has to do with a command that runs.
func (m *model) ranInPiece(c *command) {
	st, _ := m.r.whole.State(0)
	if c.Inside() {
		m.inside++
		if st != slotlock.Open {
			m.fail("%s is let in, and the slot is %d", c.name, st)
		}
	}
	if c.Unnamed {
		m.scripts++
		if !c.Inside() && st != slotlock.Moved {
			m.fail("%s, a script, runs key by key in a slot that is %d", c.name, st)
		}
	}
}

// moveSlot takes the move of the slot in one piece a step further. sure: to its end.
func (m *model) moveSlot(sure bool) {
	st, inside := m.r.whole.State(0)
	switch st {
	case slotlock.Open:
		m.setSlot(slotlock.Closed, true)
	case slotlock.Wanted:
		m.r.whole.TakeWanted()
		m.setSlot(slotlock.Closed, false)
	case slotlock.Closed:
		if !sure && m.rng.IntN(3) == 0 { // it breaks off
			if m.wasOpen && len(m.moved)+len(m.locked) == 0 && m.r.locks.Still() {
				m.setSlot(slotlock.Open, true)
			} else { // its keys may be on both sides
				m.setSlot(slotlock.PerKey, false)
			}
			return
		}
		if inside > 0 || m.r.locks.Stats().Holds > 0 || len(m.locked) > 0 || !m.r.locks.Still() {
			return // somebody uses a key, or moves it
		}
		for _, n := range names {
			if !m.r.locks.TryLock(key(n)) {
				m.fail("%s is in use, though nobody holds it", n)
			}
			m.moved[key(n)] = true
			m.r.locks.Commit(key(n))
		}
		m.setSlot(slotlock.Moved, false)
	}
}

func (m *model) setSlot(st slotlock.SlotState, open bool) {
	m.say("slot %d", st)
	m.wasOpen = open
	m.r.whole.Set(0, st)
}

// answer answers a command, or loses its connection, which is fenced later.
func (m *model) answer() {
	if len(m.sent) == 0 {
		return
	}
	i := m.rng.IntN(len(m.sent))
	c := m.sent[i]
	m.sent = slices.Delete(m.sent, i, i+1)
	if m.rng.IntN(4) == 0 {
		m.lost = append(m.lost, c.HandOver())
	} else {
		c.Release()
	}
	if m.rng.IntN(2) == 0 {
		for _, h := range m.lost {
			h.Release()
		}
		m.lost = nil
	}
}

func (m *model) deliver() {
	if len(m.r.mail) > 0 {
		m.r.deliver()
	}
}

func (m *model) take() {
	for _, k := range m.r.locks.Take(1) {
		m.say("mover takes %s", k.Name)
		m.locked[k] = true
	}
}

// decide ends the mover's work on a key that it has.
func (m *model) decide(k slotlock.Key) {
	if !m.locked[k] {
		return
	}
	delete(m.locked, k)
	switch {
	case m.moved[k] || m.rng.IntN(2) == 0:
		m.say("commit %s", k.Name)
		m.moved[k] = true
		m.r.locks.Commit(k)
	default:
		atSource := m.rng.IntN(2) == 0
		m.say("abort %s, %v", k.Name, atSource)
		m.r.locks.Abort(k, atSource)
	}
}

// withdraw is a client that leaves with some of its commands.
func (m *model) withdraw() {
	var behind []slotlock.Key
	for range m.rng.IntN(3) {
		if len(m.waiting) == 0 {
			break
		}
		i := m.rng.IntN(len(m.waiting))
		c := m.waiting[i]
		m.say("withdraw %s", c.name)
		m.waiting = slices.Delete(m.waiting, i, i+1)
		behind = append(behind, m.r.lot.Withdraw(&c.Command)...)
		c.ended++
	}
	m.r.lot.Resume(behind)
}

// check compares the Lot with the model.
func (m *model) check() {
	m.waiting = slices.DeleteFunc(m.waiting, func(c *command) bool { return c.ended > 0 && !c.Parked() }) // expired
	if m.r.lot.Len() != len(m.waiting) {
		m.fail("the lot has %d commands, and %d wait", m.r.lot.Len(), len(m.waiting))
	}
	queues := map[slotlock.Key]int{}
	for _, c := range m.waiting {
		if c.ended > 0 || !c.Parked() || c.Holds() {
			m.fail("%s waits: ended %d times, parked %v, holds anything %v", c.name, c.ended, c.Parked(), c.Holds())
		}
		for i, k := range c.Keys {
			if !slices.Contains(c.Keys[:i], k) {
				queues[k]++
			}
		}
	}
	for k, n := range m.r.lot.Queues() {
		if queues[k] != n {
			m.fail("%d wait for %s, the lot has %d", queues[k], k.Name, n)
		}
		delete(queues, k)
	}
	if len(queues) > 0 {
		m.fail("the lot has no queues of %v", queues)
	}
}

// end lets everything end that has begun: then nobody waits any more.
func (m *model) end() {
	for range 1000 {
		for len(m.sent) > 0 {
			m.answer()
		}
		for _, h := range m.lost {
			h.Release()
		}
		m.lost = nil
		m.take()
		for _, n := range names {
			m.decide(key(n))
		}
		m.moveSlot(true)
		m.deliver()
		m.check()
	}
	for _, c := range m.waiting {
		m.fail("%s has been forgotten: %v", c.name, c.Keys)
	}
	if _, holds := m.r.whole.State(0); holds > 0 {
		m.fail("all has ended, and the slot is held %d times", holds)
	}
	if !m.r.locks.Idle() {
		m.fail("all has ended, and the lock table has %+v", m.r.locks.Held(10))
	}
}
