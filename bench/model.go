package bench

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// kind is the type of one of the oracle's keys.
type kind uint8

const (
	plainString kind = iota
	ttlString        // expires after the run
	shortString      // expires within seconds, again and again
	counter
	hash
	list
	set
	zset
	stream
	kinds
)

// state is what one key may hold. A key has one state, and more after a command whose
// outcome is not known.
type state struct {
	seq   uint64         // strings: of the value; 0: no key
	expLo time.Time      // strings with TTL: expires no sooner
	expHi time.Time      // … and no later
	n     int64          // counter; stream: entries
	elems map[int]uint64 // hash field, set member, zset member → seq or score
	items []uint64       // list: seq of each element
}

func (s *state) clone() *state {
	c := *s
	c.elems = maps.Clone(s.elems)
	c.items = slices.Clone(s.items)
	return &c
}

// op is one command on one key, with how it acts on the model.
type op struct {
	key  *key
	args []string
	// want changes s as the command does and gives the reply that Redis would give.
	// sent and now bound when it was executed.
	want func(s *state, sent, now time.Time) reply
	sent time.Time
}

type key struct {
	name   string
	db     int
	kind   kind
	states []*state
	seq    uint64 // of the newest value that was ever sent
	parked bool   // a command on it is in doubt: no more are sent
	broken bool   // a violation was counted already
}

const elemRange = 6 // fields and members that a hash, set or zset may have

func (k *key) value(seq uint64) string {
	return fmt.Sprintf("%s#%d#%s", k.name, seq, "................................"[:8+seq%24])
}

var (
	okReply  = reply{kind: '+', text: "OK"}
	nilReply = reply{kind: '_'}
)

func intReply(n int64) reply     { return reply{kind: ':', n: n} }
func bulkReply(v string) reply   { return reply{kind: '$', text: v} }
func boolReply(b bool) reply     { return intReply(map[bool]int64{true: 1}[b]) }
func uintText(n uint64) string   { return strconv.FormatUint(n, 10) }
func elemName(e int) string      { return "e" + strconv.Itoa(e) }
func streamID(seq uint64) string { return uintText(seq) + "-1" }

// write is a random write, read a random read, of the key's type. create makes sure that
// the write leaves the key in being.
func (k *key) write(rng *rand.Rand, create bool) op {
	k.seq++
	seq := k.seq
	o := op{key: k}
	switch k.kind {
	case plainString, ttlString, shortString:
		if !create && rng.IntN(10) == 0 {
			o.args = []string{"DEL", k.name}
			o.want = func(s *state, sent, now time.Time) reply {
				there := s.seq > 0 && !expired(s, sent, now)
				s.seq, s.expLo, s.expHi = 0, time.Time{}, time.Time{}
				return boolReply(there)
			}
			return o
		}
		o.args = []string{"SET", k.name, k.value(seq)}
		ttl := time.Duration(0)
		if k.kind == ttlString {
			ttl = time.Hour + time.Duration(rng.IntN(3600))*time.Second
		} else if k.kind == shortString {
			ttl = time.Duration(500+rng.IntN(4000)) * time.Millisecond
		}
		if ttl > 0 {
			o.args = append(o.args, "PX", strconv.FormatInt(ttl.Milliseconds(), 10))
		}
		o.want = func(s *state, sent, now time.Time) reply {
			s.seq, s.expLo, s.expHi = seq, time.Time{}, time.Time{}
			if ttl > 0 {
				s.expLo, s.expHi = sent.Add(ttl), now.Add(ttl)
			}
			return okReply
		}
	case counter:
		d := 1 + rng.Int64N(9)
		o.args = []string{"INCRBY", k.name, strconv.FormatInt(d, 10)}
		o.want = func(s *state, _, _ time.Time) reply { s.n += d; return intReply(s.n) }
	case hash:
		e := rng.IntN(elemRange)
		if !create && rng.IntN(4) == 0 {
			o.args = []string{"HDEL", k.name, elemName(e)}
			o.want = func(s *state, _, _ time.Time) reply { return dropElem(s, e) }
			return o
		}
		o.args = []string{"HSET", k.name, elemName(e), k.value(seq)}
		o.want = func(s *state, _, _ time.Time) reply { return putElem(s, e, seq) }
	case set, zset:
		e := rng.IntN(elemRange)
		add, rem := "SADD", "SREM"
		if k.kind == zset {
			add, rem = "ZADD", "ZREM"
		}
		if !create && rng.IntN(3) == 0 {
			o.args = []string{rem, k.name, elemName(e)}
			o.want = func(s *state, _, _ time.Time) reply { return dropElem(s, e) }
			return o
		}
		o.args = []string{add, k.name, elemName(e)}
		if k.kind == zset {
			o.args = []string{add, k.name, uintText(seq), elemName(e)}
		}
		o.want = func(s *state, _, _ time.Time) reply { return putElem(s, e, seq) }
	case list:
		if !create && rng.IntN(2) == 0 {
			k.seq-- // pops send no value
			o.args = []string{"LPOP", k.name}
			o.want = func(s *state, _, _ time.Time) reply {
				if len(s.items) == 0 {
					return nilReply
				}
				first := s.items[0]
				s.items = s.items[1:]
				return bulkReply(k.value(first))
			}
			return o
		}
		o.args = []string{"RPUSH", k.name, k.value(seq)}
		o.want = func(s *state, _, _ time.Time) reply {
			s.items = append(s.items, seq)
			return intReply(int64(len(s.items)))
		}
	case stream:
		o.args = []string{"XADD", k.name, streamID(seq), "v", k.value(seq)}
		o.want = func(s *state, _, _ time.Time) reply { s.n++; return bulkReply(streamID(seq)) }
	}
	return o
}

func putElem(s *state, e int, seq uint64) reply {
	_, had := s.elems[e]
	if s.elems == nil {
		s.elems = make(map[int]uint64)
	}
	s.elems[e] = seq
	return boolReply(!had)
}

func dropElem(s *state, e int) reply {
	_, had := s.elems[e]
	delete(s.elems, e)
	return boolReply(had)
}

// expired says whether a value is surely gone when a command was executed between sent
// and now. In the window where it may or may not be, ask canBeGone.
func expired(s *state, sent, _ time.Time) bool {
	return !s.expHi.IsZero() && sent.After(s.expHi.Add(expirySlack))
}

func canBeGone(s *state, now time.Time) bool {
	return !s.expLo.IsZero() && now.After(s.expLo.Add(-expirySlack))
}

// expirySlack is by how much an expiry may be early or late: what a move may add (a round
// trip), and how coarse the server's cached clock is on a busy machine.
const expirySlack = 100 * time.Millisecond

func (k *key) read(rng *rand.Rand) op {
	o := op{key: k}
	e := rng.IntN(elemRange)
	count := func(s *state, _, _ time.Time) reply { return intReply(int64(len(s.elems))) }
	switch k.kind {
	case plainString, ttlString, shortString:
		o.args = []string{"GET", k.name}
		o.want = func(s *state, sent, now time.Time) reply {
			if s.seq == 0 || expired(s, sent, now) {
				return nilReply
			}
			return bulkReply(k.value(s.seq))
		}
	case counter:
		o.args = []string{"GET", k.name}
		o.want = func(s *state, _, _ time.Time) reply { return bulkReply(strconv.FormatInt(s.n, 10)) }
	case hash:
		o.args = []string{"HGET", k.name, elemName(e)}
		o.want = func(s *state, _, _ time.Time) reply {
			if seq, ok := s.elems[e]; ok {
				return bulkReply(k.value(seq))
			}
			return nilReply
		}
		if rng.IntN(4) == 0 {
			o.args, o.want = []string{"HLEN", k.name}, count
		}
	case set:
		o.args, o.want = []string{"SCARD", k.name}, count
	case zset:
		o.args = []string{"ZSCORE", k.name, elemName(e)}
		o.want = func(s *state, _, _ time.Time) reply {
			if seq, ok := s.elems[e]; ok {
				return bulkReply(uintText(seq))
			}
			return nilReply
		}
	case list:
		o.args = []string{"LLEN", k.name}
		o.want = func(s *state, _, _ time.Time) reply { return intReply(int64(len(s.items))) }
	case stream:
		o.args = []string{"XLEN", k.name}
		o.want = func(s *state, _, _ time.Time) reply { return intReply(s.n) }
	}
	return o
}

// verdict is what is wrong with a reply; fine if nothing is.
type verdict uint8

const (
	fine verdict = iota
	lost
	stale
	resurrected
)

func (v verdict) String() string { return [...]string{"fine", "lost", "stale", "resurrected"}[v] }

// settle applies an answered command: states that it contradicts are struck out.
func (o *op) settle(got reply, now time.Time) verdict {
	k := o.key
	var keep []*state
	var want reply
	for _, s := range k.states {
		before := *s
		want = o.want(s, o.sent, now)
		if same(want, got) {
			keep = append(keep, s)
			continue
		}
		// A value in the window of its expiry may be there or not.
		if before.seq > 0 && canBeGone(&before, now) && !expired(&before, o.sent, now) {
			if got.kind == '_' || o.args[0] == "DEL" && got.n == 0 {
				s.seq = 0
				keep = append(keep, s)
			}
		}
	}
	if len(keep) > 0 {
		k.states = keep
		return fine
	}
	return o.judge(want, got)
}

// doubt notes that the command may or may not have been executed.
func (o *op) doubt(now time.Time) {
	k := o.key
	k.parked = true
	n := len(k.states)
	for _, s := range k.states[:n] {
		c := s.clone()
		o.want(c, o.sent, now)
		k.states = append(k.states, c)
	}
	if len(k.states) > 64 { // a pipeline holds few commands on one key
		k.states = k.states[:64]
	}
}

func same(a, b reply) bool { return a.kind == b.kind && a.text == b.text && a.n == b.n }

// judge names a contradiction.
func (o *op) judge(want, got reply) verdict {
	switch {
	case want.kind == '_' && got.kind == '$':
		return resurrected
	case want.kind == '$' && got.kind == '_':
		return lost
	case want.kind == ':' && got.kind == ':' && got.n < want.n:
		return lost
	case want.kind == ':' && got.kind == ':':
		return resurrected
	case want.kind == '$' && got.kind == '$':
		return stale
	}
	return lost
}
