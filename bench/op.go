package bench

import (
	"bytes"
	"strconv"
	"time"
)

// opcode is what a command does; which Redis command that is depends on the kind
// of its key.
type opcode uint8

const (
	opPut     opcode = iota // SET, INCRBY, HSET, RPUSH, SADD, ZADD, XADD of one element
	opFill                  // the same of several elements at once; no strings, no streams
	opDrop                  // HDEL, LPOP, SREM, ZREM, XDEL of one element
	opDel                   // DEL or UNLINK
	opPurge                 // UNLINK whatever an earlier run has left
	opExpire                // PEXPIRE
	opPersist               // PERSIST
	opReadOne               // HGET, LINDEX, SISMEMBER, ZSCORE, XRANGE of one element
	opReadAll               // GET, HGETALL, LRANGE, SMEMBERS, ZRANGE, XRANGE
	opPTTL                  // PTTL
)

func (c opcode) writes() bool { return c < opReadOne }

// op is one command on one key. MSET and MGET are several: the first one's group
// is their number, and the others follow it.
type op struct {
	code  opcode
	key   *key
	seq   uint32        // of the first element written; of the stream entry read or dropped
	slot  int           // first slot written, or read, or dropped; index in a list
	n     int           // elements of a fill; a counter's increment
	ttl   time.Duration // of SET and PEXPIRE; 0 is none
	group int           // 1, or the number of keys of an MSET or MGET; 0 inside a group
}

// effect changes s as the command does when it is executed during at.
func (o *op) effect(s *state, at span) {
	switch o.code {
	case opPut:
		o.effectPut(s, at)
	case opFill:
		for i := range o.n {
			o.putElem(s, o.slot+i, o.seq+uint32(i))
		}
	case opDrop:
		o.effectDrop(s)
	case opDel, opPurge:
		s.clear()
	case opExpire:
		if s.alive {
			s.lo, s.hi = at.send+int64(o.ttl), at.reply+int64(o.ttl)
		}
	case opPersist:
		s.lo, s.hi = 0, 0
	}
}

func (o *op) effectPut(s *state, at span) {
	switch o.key.kind {
	case kindString, kindTTL:
		s.num, s.lo, s.hi = int64(o.seq), 0, 0
		if o.ttl > 0 {
			s.lo, s.hi = at.send+int64(o.ttl), at.reply+int64(o.ttl)
		}
	case kindCounter:
		s.num += int64(o.n)
	default:
		o.putElem(s, o.slot, o.seq)
		return
	}
	s.alive, s.expired = true, false
}

func (o *op) putElem(s *state, slot int, seq uint32) {
	s.alive, s.expired = true, false
	if o.key.kind.ordered() {
		s.elems = append(s.elems, seq)
		s.count++
		return
	}
	if s.elems == nil {
		s.elems = make([]uint32, o.key.size)
	}
	if s.elems[slot] == 0 {
		s.count++
	}
	s.elems[slot] = seq
}

func (o *op) effectDrop(s *state) {
	switch k := o.key.kind; {
	case k == kindList && s.count > 0:
		s.elems = s.elems[1:]
		s.count--
	case k == kindStream:
		if i := s.entry(o.seq); i >= 0 {
			s.elems = append(s.elems[:i], s.elems[i+1:]...)
			s.count--
		}
		return // a stream without entries is still a key
	case k.slotted() && s.elem(o.slot) != 0:
		s.elems[o.slot] = 0
		s.count--
	}
	if s.alive && s.count == 0 {
		s.clear()
	}
}

// elem returns what is in a slot, or at an index of a list; 0 is nothing.
func (s *state) elem(i int) uint32 {
	if i >= len(s.elems) {
		return 0
	}
	return s.elems[i]
}

// entry returns the index of the stream entry with this sequence number, or -1.
func (s *state) entry(seq uint32) int {
	lo, hi := 0, len(s.elems)
	for lo < hi {
		if mid := (lo + hi) / 2; s.elems[mid] < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(s.elems) && s.elems[lo] == seq {
		return lo
	}
	return -1
}

// Every value written is "key|client|seq|" and filler up to the wanted length, so
// that a value says where it belongs and how old it is. Members of sets have no
// sequence number, since that would make each a new member.

func appendValue(dst []byte, k *key, seq uint32, valueBytes int) []byte {
	begin := len(dst)
	dst = append(dst, k.name...)
	dst = append(dst, '|')
	dst = strconv.AppendInt(dst, int64(k.client), 10)
	dst = append(dst, '|')
	dst = strconv.AppendUint(dst, uint64(seq), 10)
	dst = append(dst, '|')
	filler := byte('a' + seq%26)
	for len(dst)-begin < valueBytes {
		dst = append(dst, filler)
	}
	return dst
}

// parseValue returns the sequence number of a value of k; ok is false when b is
// no whole value of k.
func parseValue(b []byte, k *key) (seq uint32, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(k.name))
	if !ok {
		return 0, false
	}
	fields := bytes.SplitN(rest, []byte("|"), 4)
	if len(fields) != 4 || len(fields[0]) != 0 || string(fields[1]) != strconv.Itoa(k.client) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(fields[2]), 10, 32)
	if err != nil {
		return 0, false
	}
	filler := byte('a' + n%26)
	for _, b := range fields[3] {
		if b != filler {
			return 0, false
		}
	}
	return uint32(n), true
}

// appendName appends the name of a hash's field or the member of a set; a member
// carries the key, since it is all the value there is.
func appendName(dst []byte, k *key, slot int) []byte {
	if k.kind != kindHash {
		dst = append(dst, k.name...)
		dst = append(dst, '|')
	}
	dst = append(dst, 'e')
	return strconv.AppendInt(dst, int64(slot), 10)
}

// parseName is the reverse; it returns -1 when b is no name that k can have.
func parseName(b []byte, k *key) int {
	if k.kind != kindHash {
		rest, ok := bytes.CutPrefix(b, []byte(k.name))
		if !ok || len(rest) == 0 || rest[0] != '|' {
			return -1
		}
		b = rest[1:]
	}
	if len(b) < 2 || b[0] != 'e' {
		return -1
	}
	slot, err := strconv.Atoi(string(b[1:]))
	if err != nil || slot < 0 || slot >= k.size {
		return -1
	}
	return slot
}
