package slotlock

import (
	"math/bits"
	"unsafe"

	"github.com/dchest/siphash"
)

// digest stands for a key: SipHash-128 of its name under secrets of the table, so that no
// client can choose names whose digests collide.
type digest struct{ hi, lo uint64 }

// secrets key the digests of one table.
type secrets struct{ k0, k1 uint64 }

func (s secrets) of(db int, name []byte) digest {
	hi, lo := siphash.Hash128(s.k0, s.k1+uint64(db)*0x9e3779b97f4a7c15, name)
	return digest{hi, lo}
}

func (s secrets) ofKey(k Key) digest {
	return s.of(k.DB, unsafe.Slice(unsafe.StringData(k.Name), len(k.Name)))
}

// homes remembers the keys whose home is the target, as a set of their digests.
//
// What is not in it has certainly never been added. What is in it has been, but for two
// digests that agree in all of the 102 bits that count (the shard has 6 of them): in a job
// of a billion keys that happens with a probability of 1e-13. It takes 16 to 20 bytes a
// key, without a pointer in them, and grows a few slots at a time, since commands wait for
// the shard's lock meanwhile.
type homes struct {
	now    homeTable
	old    homeTable // being copied into now; empty at other times
	copied int       // slots of old that have been
	odd    map[digest]struct{}
}

// homeTable is a hash table with linear probing in which the digests stand in the order of
// their homes (Robin Hood hashing): so a miss ends early, and copying it is a walk.
//
//	head  8 bits distance from home + 1 (0: a free slot), low 56 bits of digest.hi
//	tail  high 32 bits of digest.lo; the low 6 bits of that choose the shard
//
// A home is digest.hi × size / 2^64. The digest.hi of one home span 2^64/size ≤ 2^56, so
// its low bits and its home are all of it.
type homeTable struct {
	head  []uint64
	tail  []uint32
	size  uint64 // homes; there are some more slots, so that nothing wraps round
	count int
}

const (
	homesMin     = 256 // of size, see above
	distanceMax  = 255 // distance + 1
	headBits     = 56
	headMask     = 1<<headBits - 1
	copiedPerAdd = 32 // slots: done soon, since both tables take memory
)

func newHomeTable(size uint64) homeTable {
	size = max(size, homesMin)
	return homeTable{head: make([]uint64, size+distanceMax), tail: make([]uint32, size+distanceMax), size: size}
}

// init makes room for so many keys. Tables of different shards begin with different sizes,
// so that they do not all grow at once.
func (h *homes) init(expect, shard int) {
	size := expect + expect/3
	h.now = newHomeTable(uint64(max(size, homesMin) * (4*shardCount + shard) / (4 * shardCount)))
}

// add reports whether the digest is new.
func (h *homes) add(d digest) bool {
	if h.has(d) {
		return false
	}
	if h.old.size == 0 && uint64(h.now.count) >= h.now.size*3/4 {
		h.old, h.now, h.copied = h.now, newHomeTable(h.now.size*5/4), 0
	}
	if h.old.size > 0 {
		h.copySome()
	}
	h.insert(d.hi, uint32(d.lo>>32))
	return true
}

// insert puts a digest that does not fit where it belongs aside: by chance that never
// happens.
func (h *homes) insert(hi uint64, tail uint32) {
	if h.now.insert(hi, tail) {
		return
	}
	if h.odd == nil {
		h.odd = make(map[digest]struct{})
	}
	h.odd[digest{hi, uint64(tail)}] = struct{}{}
}

func (h *homes) copySome() {
	t := &h.old
	for range copiedPerAdd {
		if h.copied == len(t.head) {
			h.old = homeTable{}
			return
		}
		if t.head[h.copied] != 0 {
			h.insert(t.hi(h.copied), t.tail[h.copied])
		}
		h.copied++
	}
}

// has is false only for digests that were never added.
func (h *homes) has(d digest) bool {
	tail := uint32(d.lo >> 32)
	if h.now.has(d.hi, tail) || h.old.size > 0 && h.old.has(d.hi, tail) {
		return true
	}
	if h.odd == nil {
		return false
	}
	_, ok := h.odd[digest{d.hi, uint64(tail)}]
	return ok
}

// find gives the slot of a digest, or where it belongs, with its distance + 1 there.
func (t *homeTable) find(hi uint64, tail uint32) (at int, distance uint64, found bool) {
	home, _ := bits.Mul64(hi, t.size)
	at, distance = int(home), 1
	for ; at < len(t.head); at++ {
		slot := t.head[at]
		switch have := slot >> headBits; {
		case have < distance: // free, or of a home that comes later
			return at, distance, false
		case have == distance && slot&headMask == hi&headMask && t.tail[at] == tail:
			return at, distance, true
		}
		distance++
	}
	return at, distance, false
}

func (t *homeTable) has(hi uint64, tail uint32) bool {
	_, _, found := t.find(hi, tail)
	return found
}

// insert adds a digest that is not there; false if there is no room near its home.
func (t *homeTable) insert(hi uint64, tail uint32) bool {
	at, distance, found := t.find(hi, tail)
	if found {
		return true
	}
	end := at // of those that have to make room
	for ; end < len(t.head) && t.head[end] != 0; end++ {
		if t.head[end]>>headBits == distanceMax {
			return false
		}
	}
	if end == len(t.head) || distance > distanceMax {
		return false
	}
	for i := end; i > at; i-- {
		t.head[i] = t.head[i-1] + 1<<headBits
		t.tail[i] = t.tail[i-1]
	}
	t.head[at] = distance<<headBits | hi&headMask
	t.tail[at] = tail
	t.count++
	return true
}

// hi is the first word of the digest in a slot: the number in its home's span that has the
// slot's low bits.
func (t *homeTable) hi(slot int) uint64 {
	home := uint64(slot) - (t.head[slot]>>headBits - 1)
	first, rest := bits.Div64(home, 0, t.size)
	if rest > 0 {
		first++
	}
	return first + (t.head[slot]-first)&headMask
}
