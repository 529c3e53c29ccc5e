package bench

import "strconv"

// Commands that take the name of one element, by kind.
var (
	fillNames    = [kindCount]string{kindHash: "HSET", kindList: "RPUSH", kindSet: "SADD", kindZSet: "ZADD"}
	dropNames    = [kindCount]string{kindHash: "HDEL", kindSet: "SREM", kindZSet: "ZREM"}
	readOneNames = [kindCount]string{kindHash: "HGET", kindSet: "SISMEMBER", kindZSet: "ZSCORE"}
)

// encoder turns ops into requests.
type encoder struct {
	out        []byte
	valueBytes int
	scratch    []byte
}

func (e *encoder) reset() { e.out = e.out[:0] }

// begin starts a command of n arguments after its name.
func (e *encoder) begin(name string, n int) {
	e.out = appendHeader(e.out, '*', n+1)
	e.text(name)
}

func (e *encoder) text(s string) {
	e.out = appendHeader(e.out, '$', len(s))
	e.out = append(e.out, s...)
	e.out = append(e.out, "\r\n"...)
}

func (e *encoder) integer(n int64) {
	e.scratch = strconv.AppendInt(e.scratch[:0], n, 10)
	e.out = appendArg(e.out, e.scratch)
}

func (e *encoder) value(k *key, seq uint32) {
	e.scratch = appendValue(e.scratch[:0], k, seq, e.valueBytes)
	e.out = appendArg(e.out, e.scratch)
}

func (e *encoder) name(k *key, slot int) {
	e.scratch = appendName(e.scratch[:0], k, slot)
	e.out = appendArg(e.out, e.scratch)
}

// id writes the id of a stream entry; ours are the sequence numbers, so that
// what XADD must answer is known beforehand.
func (e *encoder) id(seq uint32) {
	e.scratch = appendID(e.scratch[:0], seq)
	e.out = appendArg(e.out, e.scratch)
}

func appendID(dst []byte, seq uint32) []byte {
	return append(strconv.AppendUint(dst, uint64(seq), 10), "-1"...)
}

// command writes one op that is not part of a group.
func (e *encoder) command(o *op) {
	k := o.key
	switch o.code {
	case opPut:
		e.put(o)
	case opFill:
		e.fill(o)
	case opDrop:
		e.drop(o)
	case opDel:
		e.begin([]string{"DEL", "UNLINK"}[o.n&1], 1)
		e.text(k.name)
	case opPurge:
		e.begin("UNLINK", 1)
		e.text(k.name)
	case opExpire:
		e.begin("PEXPIRE", 2)
		e.text(k.name)
		e.integer(o.ttl.Milliseconds())
	case opPersist:
		e.begin("PERSIST", 1)
		e.text(k.name)
	case opPTTL:
		e.begin("PTTL", 1)
		e.text(k.name)
	case opReadOne:
		e.readOne(o)
	case opReadAll:
		e.readAll(k)
	}
}

// several writes the ops of one group: an MSET or an MGET.
func (e *encoder) several(ops []op) {
	if ops[0].code == opPut {
		e.begin("MSET", 2*len(ops))
	} else {
		e.begin("MGET", len(ops))
	}
	for i := range ops {
		e.text(ops[i].key.name)
		if ops[i].code == opPut {
			e.value(ops[i].key, ops[i].seq)
		}
	}
}

func (e *encoder) put(o *op) {
	k := o.key
	switch k.kind {
	case kindString, kindTTL:
		args := 2
		if o.ttl > 0 {
			args = 4
		}
		e.begin("SET", args)
		e.text(k.name)
		e.value(k, o.seq)
		if o.ttl > 0 {
			e.text("PX")
			e.integer(o.ttl.Milliseconds())
		}
	case kindCounter:
		e.begin("INCRBY", 2)
		e.text(k.name)
		e.integer(int64(o.n))
	case kindStream:
		e.begin("XADD", 4)
		e.text(k.name)
		e.id(o.seq)
		e.text("v")
		e.value(k, o.seq)
	default:
		one := *o
		one.n = 1
		e.fill(&one)
	}
}

func (e *encoder) fill(o *op) {
	k := o.key
	args := o.n
	if k.kind == kindHash || k.kind == kindZSet {
		args *= 2
	}
	e.begin(fillNames[k.kind], 1+args)
	e.text(k.name)
	for i := range o.n {
		slot, seq := o.slot+i, o.seq+uint32(i)
		switch k.kind {
		case kindHash:
			e.name(k, slot)
			e.value(k, seq)
		case kindList:
			e.value(k, seq)
		case kindSet:
			e.name(k, slot)
		case kindZSet:
			e.integer(int64(seq))
			e.name(k, slot)
		}
	}
}

func (e *encoder) drop(o *op) {
	k := o.key
	switch k.kind {
	case kindList:
		e.begin("LPOP", 1)
		e.text(k.name)
	case kindStream:
		e.begin("XDEL", 2)
		e.text(k.name)
		e.id(o.seq)
	default:
		e.begin(dropNames[k.kind], 2)
		e.text(k.name)
		e.name(k, o.slot)
	}
}

func (e *encoder) readOne(o *op) {
	k := o.key
	switch k.kind {
	case kindList:
		e.begin("LINDEX", 2)
		e.text(k.name)
		e.integer(int64(o.slot))
	case kindStream:
		e.begin("XRANGE", 3)
		e.text(k.name)
		e.id(o.seq)
		e.id(o.seq)
	default:
		e.begin(readOneNames[k.kind], 2)
		e.text(k.name)
		e.name(k, o.slot)
	}
}

func (e *encoder) readAll(k *key) {
	var name string
	var rest []string
	switch k.kind {
	case kindHash:
		name = "HGETALL"
	case kindList:
		name, rest = "LRANGE", []string{"0", "-1"}
	case kindSet:
		name = "SMEMBERS"
	case kindZSet:
		name, rest = "ZRANGE", []string{"0", "-1", "WITHSCORES"}
	case kindStream:
		name, rest = "XRANGE", []string{"-", "+"}
	default:
		name = "GET"
	}
	e.begin(name, 1+len(rest))
	e.text(k.name)
	for _, arg := range rest {
		e.text(arg)
	}
}
