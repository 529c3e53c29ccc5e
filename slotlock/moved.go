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

// movedSet remembers the keys that live at the target, as a set of their digests. It belongs
// to a shard, whose lock protects it, and only grows until the job is reversed.
//
// A key that is not in it has certainly not moved. One that is in it has, except for two
// digests that agree in all of the 102 bits that count (the shard has 6 of them): in a job
// of a billion keys that happens with a probability of 1e-13. It takes 16 to 20 bytes a
// key, without a pointer in them, and grows a few slots at a time, since commands wait for
// the shard's lock meanwhile.
type movedSet struct {
	now    digestTable
	old    digestTable // being copied into now; empty at other times
	copied int         // slots of old that have been
	odd    map[digest]struct{}
}

// digestTable is a hash table with linear probing in which the digests stand in the order of
// their buckets (Robin Hood hashing): so a miss ends early, and copying it is a walk.
//
//	head  8 bits distance from the bucket + 1 (0: a free slot), low 56 bits of digest.hi
//	tail  high 32 bits of digest.lo; the low 6 bits of that choose the shard
//
// The bucket of a digest is digest.hi × size / 2^64. The digest.hi of one bucket span
// 2^64/size ≤ 2^56, so its low bits and its bucket are all of it.
type digestTable struct {
	head  []uint64
	tail  []uint32
	size  uint64 // buckets; there are some more slots, so that nothing wraps round
	count int
}

const (
	bucketsMin   = 256 // of size, see above
	distanceMax  = 255 // distance + 1
	headBits     = 56
	headMask     = 1<<headBits - 1
	copiedPerAdd = 32 // slots: done soon, since both tables take memory
)

func newDigestTable(size uint64) digestTable {
	size = max(size, bucketsMin)
	return digestTable{head: make([]uint64, size+distanceMax), tail: make([]uint32, size+distanceMax), size: size}
}

// init makes room for so many keys. Tables of different shards begin with different sizes,
// so that they do not all grow at once.
func (m *movedSet) init(expect, shard int) {
	size := expect + expect/3
	m.now = newDigestTable(uint64(max(size, bucketsMin) * (4*shardCount + shard) / (4 * shardCount)))
}

// add reports whether the digest is new.
func (m *movedSet) add(d digest) bool {
	if m.has(d) {
		return false
	}
	if m.old.size == 0 && uint64(m.now.count) >= m.now.size*3/4 {
		m.old, m.now, m.copied = m.now, newDigestTable(m.now.size*5/4), 0
	}
	if m.old.size > 0 {
		m.copySome()
	}
	m.insert(d.hi, uint32(d.lo>>32))
	return true
}

// insert puts a digest that does not fit near its bucket aside: by chance that never happens.
func (m *movedSet) insert(hi uint64, tail uint32) {
	if m.now.insert(hi, tail) {
		return
	}
	if m.odd == nil {
		m.odd = make(map[digest]struct{})
	}
	m.odd[digest{hi, uint64(tail)}] = struct{}{}
}

// copySome copies a few slots of the old table, which is dropped after the last. What has been
// copied stays in the old one too until then, so that has may look into both.
func (m *movedSet) copySome() {
	t := &m.old
	for range copiedPerAdd {
		if m.copied == len(t.head) {
			m.old = digestTable{}
			return
		}
		if t.head[m.copied] != 0 {
			m.insert(t.hi(m.copied), t.tail[m.copied])
		}
		m.copied++
	}
}

// has is false only for digests that were never added.
func (m *movedSet) has(d digest) bool {
	tail := uint32(d.lo >> 32)
	if m.now.has(d.hi, tail) || m.old.size > 0 && m.old.has(d.hi, tail) {
		return true
	}
	if m.odd == nil {
		return false
	}
	_, ok := m.odd[digest{d.hi, uint64(tail)}]
	return ok
}

// find gives the slot of a digest, or where it belongs, with its distance + 1 there.
func (t *digestTable) find(hi uint64, tail uint32) (at int, distance uint64, found bool) {
	bucket, _ := bits.Mul64(hi, t.size)
	at, distance = int(bucket), 1
	for ; at < len(t.head); at++ {
		slot := t.head[at]
		switch have := slot >> headBits; {
		case have < distance: // free, or of a bucket that comes later
			return at, distance, false
		case have == distance && slot&headMask == hi&headMask && t.tail[at] == tail:
			return at, distance, true
		}
		distance++
	}
	return at, distance, false
}

func (t *digestTable) has(hi uint64, tail uint32) bool {
	_, _, found := t.find(hi, tail)
	return found
}

// insert adds a digest that is not there; false if there is no room near its bucket. Those
// behind it move down by one slot, so that the order of the buckets is kept.
func (t *digestTable) insert(hi uint64, tail uint32) bool {
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

// hi is the first word of the digest in a slot: the number in its bucket's span that has the
// slot's low bits.
func (t *digestTable) hi(slot int) uint64 {
	bucket := uint64(slot) - (t.head[slot]>>headBits - 1)
	first, rest := bits.Div64(bucket, 0, t.size)
	if rest > 0 {
		first++
	}
	return first + (t.head[slot]-first)&headMask
}
