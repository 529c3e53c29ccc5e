package bench

import (
	"math/bits"
	"slices"
	"time"
)

// kind is what a key of the oracle holds. Every key keeps its kind.
type kind uint8

const (
	kindString  kind = iota // never has a TTL
	kindTTL                 // a string that is always written with a TTL
	kindCounter             // INCRBY
	kindHash
	kindList
	kindSet
	kindZSet
	kindStream
	kindCount
)

var kindNames = [kindCount]string{"string", "ttl", "counter", "hash", "list", "set", "zset", "stream"}

// slotted kinds name their elements, and the model keeps one slot per name; the
// others keep elements in order.
func (k kind) slotted() bool { return k == kindHash || k == kindSet || k == kindZSet }

func (k kind) ordered() bool { return k == kindList || k == kindStream }

// lifespan says what time to live a key is given. A short one ends during a
// normal run; a long one is there to be compared at the end.
type lifespan uint8

const (
	lifespanNone lifespan = iota
	lifespanShort
	lifespanLong
)

// span is the time from before a command was sent until its reply was there, in
// nanoseconds since the oracle was made. It was executed somewhere in between.
type span struct{ send, reply int64 }

// state is one possible content of a key.
type state struct {
	alive   bool
	expired bool // it is absent because its time to live is over
	// num is the sequence number of a string's value, or a counter's sum.
	num int64
	// elems are sequence numbers: by slot, 0 for absent, or in order of a list
	// or stream. count is the number that are there.
	elems []uint32
	count int
	// The key expires within [lo, hi], on the clock of span; hi 0 is no TTL.
	lo, hi int64
	// done has a bit for each of the key's late commands that this state includes.
	done uint64
}

func (s *state) clone() state {
	c := *s
	c.elems = slices.Clone(s.elems)
	return c
}

func (s *state) equal(t *state) bool {
	return s.alive == t.alive && s.expired == t.expired && s.num == t.num && s.lo == t.lo && s.hi == t.hi &&
		s.done == t.done && slices.Equal(s.elems, t.elems)
}

// clear makes the key absent.
func (s *state) clear() { *s = state{done: s.done} }

// key is the model of one key, owned by one client. cands holds every content
// that the replies so far allow; usually that is one. There are more
//   - while a TTL may or may not have ended, and
//   - after a write without a reply. Such a write can still be waiting somewhere
//     and be executed later, between or after others; so it stays in late, and
//     each candidate says which of them it includes.
//
// A reply keeps the candidates that agree with it. If none does, the endpoint is
// wrong.
type key struct {
	name   string
	kind   kind
	life   lifespan
	client int
	size   int // elements, at most about
	pos    int // in the client's active keys; -1 once retired

	cands   []state
	late    []op
	broken  bool // found wrong while running: counted, and not looked at again
	unknown bool // too many candidates to follow: no longer checked
}

const (
	candsMax = 128
	lateMax  = 64 // bits in state.done
	// lateAllowance is how long after its connection was lost a command may
	// still be executed; it widens the bounds of a TTL that such a command sets.
	lateAllowance = 10 * time.Second
)

func newKey(name string, k kind, client, size int) *key {
	return &key{name: name, kind: k, client: client, size: size, cands: make([]state, 1)}
}

// guess is the likely state, by which a client chooses what to do next.
func (k *key) guess() *state { return &k.cands[0] }

// inDoubt tells whether a write has no known outcome.
func (k *key) inDoubt() bool { return k.unknown || len(k.late) > 0 }

// observe brings a reply to o into the model. If it agrees with no candidate, the
// model stays as it was and the finding says how the nearest one differs.
func (k *key) observe(o *op, v *reply, at span, tolerance time.Duration) finding {
	if k.unknown {
		return finding{}
	}
	k.expire(at, tolerance)
	var nearest finding
	agree := 0
	for i := range k.cands {
		f := o.judge(&k.cands[i], v, at, tolerance)
		switch {
		case f.ok():
			k.cands[i], k.cands[agree] = k.cands[agree], k.cands[i]
			agree++
		case nearest.ok() || bits.OnesCount8(uint8(f.classes)) < bits.OnesCount8(uint8(nearest.classes)):
			nearest = f
		}
	}
	if agree == 0 {
		return nearest
	}
	k.cands = k.cands[:agree]
	for i := range k.cands {
		o.effect(&k.cands[i], at)
	}
	k.includeLate(at)
	return finding{}
}

// lose notes that o was sent and that nobody knows whether it was, or will be,
// executed.
func (k *key) lose(o *op, at span, tolerance time.Duration) {
	if k.unknown || !o.code.writes() {
		return
	}
	k.expire(at, tolerance)
	if len(k.late) == lateMax {
		k.giveUp()
		return
	}
	k.late = append(k.late, *o)
	k.includeLate(at)
}

// includeLate adds the candidates in which late commands have been executed by
// now, in any order.
func (k *key) includeLate(at span) {
	if len(k.cands) == 1 && len(k.late) == 0 {
		return
	}
	at.reply += int64(lateAllowance)
	for i := 0; i < len(k.cands); i++ { // the list grows meanwhile
		for j := range k.late {
			if k.cands[i].done&(1<<j) != 0 {
				continue
			}
			next := k.cands[i].clone()
			k.late[j].effect(&next, at)
			next.done |= 1 << j
			k.add(next)
		}
		if len(k.cands) > candsMax {
			k.giveUp()
			return
		}
	}
}

// expire brings the candidates up to date with the clock: a TTL that is certainly
// over makes the key absent, and one that may be over adds that possibility.
func (k *key) expire(at span, tolerance time.Duration) {
	for i := range k.cands {
		c := &k.cands[i]
		if c.hi == 0 || at.reply < c.lo-int64(tolerance) {
			continue
		}
		gone := state{expired: true, done: c.done}
		if at.send > c.hi+int64(tolerance) {
			*c = gone
		} else {
			k.add(gone)
		}
	}
	k.merge()
}

// add appends a candidate if it is not there yet.
func (k *key) add(s state) {
	for i := range k.cands {
		if k.cands[i].equal(&s) {
			return
		}
	}
	k.cands = append(k.cands, s)
}

// merge drops candidates that have become equal.
func (k *key) merge() {
	if len(k.cands) == 1 {
		return
	}
	all := k.cands
	k.cands = k.cands[:0]
	for _, s := range all {
		k.add(s)
	}
}

func (k *key) giveUp() {
	k.unknown = true
	k.cands = k.cands[:1]
}
