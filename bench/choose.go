package bench

import (
	"bytes"
	"time"
)

// What of all commands is what, in percent.
const (
	percentBig    = 5  // on big keys, where there are any
	percentRepeat = 12 // on the key of the command before, within a pipeline
	percentGroup  = 5  // of those on strings: MSET and MGET
	percentTTL    = 10 // of those on keys with a lifespan: PTTL, PEXPIRE, PERSIST
	percentDelete = 4  // of writes, where deletes are wanted
	percentDrop   = 40 // of writes on keys with elements
	percentAll    = 25 // of reads of keys with elements: the whole key

	groupMax     = 4
	readAllMax   = 64 // elements of a key that is read as a whole while running
	incrementMax = 1000
	fillElements = 500 // of one command of a preload
)

// The lifespans: short ones end while the oracle runs.
const (
	shortTTLMin, shortTTLMax = 2 * time.Second, 6 * time.Second
	longTTLMin, longTTLMax   = 20 * time.Minute, 60 * time.Minute
)

// Big keys are there to be big: they are not deleted, nor do they expire.

// lifespan gives strings of kind ttl a TTL always, and a quarter of the others,
// but strings, sometimes.
func (c *oracleClient) lifespan(k kind, n int, big bool) lifespan {
	switch {
	case k == kindString, k != kindTTL && (!c.withTTL() || n/int(kindCount)%4 != 0):
		return lifespanNone
	case !big && c.rng.IntN(2) == 0:
		return lifespanShort
	}
	return lifespanLong
}

func (c *oracleClient) withTTL() bool {
	for _, name := range c.oracle.cfg.Types {
		if name == kindNames[kindTTL] {
			return true
		}
	}
	return false
}

func (c *oracleClient) percent(n int) bool { return c.rng.IntN(100) < n }

// ttl draws a time to live for a key.
func (c *oracleClient) ttl(k *key) time.Duration {
	lo, hi := longTTLMin, longTTLMax
	if k.life == lifespanShort {
		lo, hi = shortTTLMin, shortTTLMax
	}
	return (lo + time.Duration(c.rng.Int64N(int64(hi-lo)))).Truncate(time.Millisecond)
}

// nextSeq gives n new sequence numbers and returns the first.
func (c *oracleClient) nextSeq(n int) uint32 {
	first := c.seq + 1
	c.seq += uint32(n)
	return first
}

// compose chooses and encodes the commands of one pipeline.
func (c *oracleClient) compose() {
	for range c.oracle.cfg.Pipeline {
		k := c.chooseKey()
		if k.kind == kindString && c.percent(percentGroup) {
			c.composeGroup(k)
			continue
		}
		o := c.chooseOp(k)
		c.encoder.command(&o)
		c.ops = append(c.ops, o)
	}
}

func (c *oracleClient) chooseKey() *key {
	if n := len(c.ops); n > 0 && c.percent(percentRepeat) {
		return c.ops[n-1].key
	}
	if len(c.big) > 0 && c.percent(percentBig) {
		return c.big[c.rng.IntN(len(c.big))]
	}
	return c.active[c.rng.IntN(len(c.active))]
}

// composeGroup makes an MSET or MGET of strings, which need not be in one slot.
func (c *oracleClient) composeGroup(first *key) {
	o := op{code: opReadAll, key: first}
	if !c.percent(c.oracle.cfg.ReadPercent) {
		o.code = opPut
	}
	begin := len(c.ops)
	for try := 0; try < 10*groupMax && len(c.ops)-begin < groupMax; try++ {
		if !c.inGroup(begin, o.key) {
			if o.code == opPut {
				o.seq = c.nextSeq(1)
			}
			c.ops = append(c.ops, o)
		}
		if o.key = c.chooseKey(); o.key.kind != kindString {
			o.key = first
		}
	}
	c.ops[begin].group = len(c.ops) - begin
	if len(c.ops)-begin == 1 {
		c.encoder.command(&c.ops[begin])
		return
	}
	c.encoder.several(c.ops[begin:])
}

func (c *oracleClient) inGroup(begin int, k *key) bool {
	for i := range c.ops[begin:] {
		if c.ops[begin+i].key == k {
			return true
		}
	}
	return false
}

// chooseOp chooses a command on k. It looks at what k likely holds, so that reads
// and drops mostly find something; the model needs no such luck.
func (c *oracleClient) chooseOp(k *key) op {
	o := op{key: k, group: 1}
	switch read := c.percent(c.oracle.cfg.ReadPercent); {
	case k.life != lifespanNone && c.percent(percentTTL):
		c.chooseTTL(&o, read)
	case read:
		c.chooseRead(&o)
	case c.oracle.cfg.IncludeDeletes && !c.isBig(k) && c.percent(percentDelete):
		o.code, o.n = opDel, c.rng.IntN(2)
	default:
		c.chooseWrite(&o)
	}
	return o
}

func (c *oracleClient) chooseTTL(o *op, read bool) {
	switch {
	case read:
		o.code = opPTTL
	case c.percent(20):
		o.code = opPersist
	default:
		o.code, o.ttl = opExpire, c.ttl(o.key)
	}
}

func (c *oracleClient) chooseRead(o *op) {
	o.code = opReadAll
	if k := o.key; k.kind < kindHash || k.size <= readAllMax && c.percent(percentAll) {
		return
	}
	o.code = opReadOne
	c.chooseElem(o)
}

// chooseElem chooses an element to read or to drop.
func (c *oracleClient) chooseElem(o *op) {
	o.slot = c.rng.IntN(o.key.size)
	if g := o.key.guess(); o.key.kind == kindStream {
		o.seq = c.seq // of another key: a miss
		if len(g.elems) > 0 {
			o.seq = g.elems[c.rng.IntN(len(g.elems))]
		}
	}
}

func (c *oracleClient) chooseWrite(o *op) {
	k := o.key
	o.code = opPut
	switch {
	case k.kind == kindTTL:
		o.ttl = c.ttl(k)
	case k.kind == kindCounter:
		o.n = 1 + c.rng.IntN(incrementMax)
		return
	case k.kind.ordered():
		// About as long as it should be: too long is always dropped from.
		if k.guess().count > k.size || k.guess().count > k.size/2 && c.percent(percentDrop) {
			o.code = opDrop
			c.chooseElem(o)
			return
		}
	case k.kind.slotted():
		o.slot = c.rng.IntN(k.size)
		if c.percent(percentDrop) {
			o.code = opDrop
			return
		}
	}
	o.seq = c.nextSeq(1)
}

// composePreload appends the commands that create k.
func (c *oracleClient) composePreload(k *key) {
	add := func(o op) {
		o.key, o.group = k, 1
		c.encoder.command(&o)
		c.ops = append(c.ops, o)
	}
	add(op{code: opPurge})
	switch {
	case k.kind == kindCounter:
		add(op{code: opPut, n: 1 + c.rng.IntN(incrementMax)})
	case k.kind == kindTTL:
		add(op{code: opPut, seq: c.nextSeq(1), ttl: c.ttl(k)})
		return
	case k.kind == kindString:
		add(op{code: opPut, seq: c.nextSeq(1)})
	case k.kind == kindStream:
		for range k.size {
			add(op{code: opPut, seq: c.nextSeq(1)})
		}
	default:
		for slot := 0; slot < k.size; slot += fillElements {
			n := min(fillElements, k.size-slot)
			add(op{code: opFill, slot: slot, n: n, seq: c.nextSeq(n)})
		}
	}
	if k.life != lifespanNone {
		add(op{code: opExpire, ttl: c.ttl(k)})
	}
}

// refusals are the error codes of commands that were not executed.
var refusals = [][]byte{
	[]byte("TRYAGAIN"), []byte("CROSSSLOT"), []byte("OOM"), []byte("MOVED"), []byte("ASK"),
	[]byte("LOADING"), []byte("READONLY"), []byte("CLUSTERDOWN"), []byte("MASTERDOWN"),
	[]byte("MISCONF"), []byte("NOREPLICAS"), []byte("NOAUTH"), []byte("NOPERM"), []byte("BUSY"),
}

// refused tells whether an error reply means that the command was not executed.
// Any other error leaves it in doubt: a gateway that lost its server does not
// know either.
func refused(text []byte) bool {
	code, _, _ := bytes.Cut(text, []byte(" "))
	for _, refusal := range refusals {
		if bytes.Equal(code, refusal) {
			return true
		}
	}
	return false
}

// isWrongType tells whether a key holds another type than ours.
func isWrongType(text []byte) bool { return bytes.HasPrefix(text, []byte("WRONGTYPE")) }
