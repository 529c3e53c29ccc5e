package chaos

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// verb is what a client can do to one key.
type verb uint8

const (
	vGet verb = iota
	vSet
	vSetNX
	vAppend
	vDel
	vGetDel
	vIncr
	vScriptIncr // INCR by EVAL
	vTx         // MULTI, GET, APPEND, EXEC
	vHSet
	vHGet
	vHDel
	vHGetAll
	vMSet  // MSET of a key and its partner: SET in the histories of both
	vFlush // FLUSHALL, as one key sees it
)

var verbNames = [...]string{"GET", "SET", "SET NX", "APPEND", "DEL", "GETDEL", "INCR", "EVAL INCR", "MULTI GET APPEND EXEC", "HSET", "HGET", "HDEL", "HGETALL", "MSET", "FLUSHALL"}

func (v verb) reads() bool { return v == vGet || v == vHGet || v == vHGetAll }

// deletes: the last field of a hash takes the hash with it.
func (v verb) deletes() bool { return v == vDel || v == vGetDel || v == vHDel }

// op is one command in a key's history.
type op struct {
	client int
	verb   verb
	field  string
	arg    string
	call   time.Duration // since the engine began
	ret    time.Duration

	unknown bool   // no reply, or one that leaves open whether it was executed
	null    bool   // the reply was null
	text    string // the reply, where it is a string or a hash
	num     int64  // where it is a number, or the length after APPEND
}

func (o op) String() string {
	out := fmt.Sprintf("%q %d", o.text, o.num)
	switch {
	case o.unknown:
		out = "?"
	case o.null:
		out = "null"
	}
	return fmt.Sprintf("%9.3f … %9.3f ms  client %2d: %s %s %s → %s", ms(o.call), ms(o.ret), o.client, verbNames[o.verb], o.field, o.arg, out)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// absent is the state of a key that does not exist; a string is its value behind "=", a
// hash its sorted fields.
const absent = ""

// step is the model of one key: is the reply what a Redis in this state would give, and
// which state follows.
func step(state string, o op) (bool, string) {
	fits := func(null bool, text string, num int64) bool {
		return o.unknown || o.null == null && (null || o.text == text && o.num == num)
	}
	value := strings.TrimPrefix(state, "=")
	switch o.verb {
	case vGet:
		return fits(state == absent, value, 0), state
	case vSet:
		return true, "=" + o.arg
	case vSetNX:
		if state != absent {
			return fits(true, "", 0), state
		}
		return fits(false, "OK", 0), "=" + o.arg
	case vAppend:
		return fits(false, "", int64(len(value)+len(o.arg))), "=" + value + o.arg
	case vTx:
		return fits(false, value, int64(len(value)+len(o.arg))), "=" + value + o.arg
	case vDel:
		if state == absent {
			return fits(false, "", 0), absent
		}
		return fits(false, "", 1), absent
	case vGetDel:
		return fits(state == absent, value, 0), absent
	case vIncr, vScriptIncr:
		n, _ := strconv.ParseInt(value, 10, 64)
		return fits(false, "", n+1), "=" + strconv.FormatInt(n+1, 10)
	case vFlush:
		return true, absent
	}
	return stepHash(state, o, fits)
}

func stepHash(state string, o op, fits func(bool, string, int64) bool) (bool, string) {
	h := parseHash(state)
	old, has := h[o.field]
	switch o.verb {
	case vHGet:
		return fits(!has, old, 0), state
	case vHGetAll:
		return fits(false, state, 0), state
	case vHSet:
		h[o.field] = o.arg
		if has {
			return fits(false, "", 0), formatHash(h)
		}
		return fits(false, "", 1), formatHash(h)
	case vHDel:
		delete(h, o.field)
		if has {
			return fits(false, "", 1), formatHash(h)
		}
		return fits(false, "", 0), state
	}
	panic("no model of " + verbNames[o.verb])
}

func parseHash(state string) map[string]string {
	h := map[string]string{}
	for f := range strings.SplitSeq(state, ";") {
		if name, v, ok := strings.Cut(f, "="); ok {
			h[name] = v
		}
	}
	return h
}

func formatHash(h map[string]string) string {
	fields := make([]string, 0, len(h))
	for f, v := range h {
		fields = append(fields, f+"="+v)
	}
	sort.Strings(fields)
	return strings.Join(fields, ";")
}

// linearizable checks one key's history. A write whose outcome is unknown may take effect
// at any later time, or never: never is after the end.
func linearizable(history []op, bound time.Duration) porcupine.CheckResult {
	model := porcupine.Model{
		Init: func() any { return absent },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := step(state.(string), input.(op))
			return ok, next
		},
	}
	var ops []porcupine.Operation
	for i, o := range history {
		if o.unknown && o.verb.reads() {
			continue
		}
		ret := int64(o.ret)
		if o.unknown {
			ret = math.MaxInt64 - int64(len(history)-i)
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: o, Call: int64(o.call), Return: ret})
	}
	return porcupine.CheckOperationsTimeout(model, ops, bound)
}

// transcript is a history in the order of calls.
func transcript(history []op) string {
	sorted := append([]op(nil), history...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].call < sorted[j].call })
	var b strings.Builder
	for _, o := range sorted {
		b.WriteString(o.String() + "\n")
	}
	return b.String()
}
