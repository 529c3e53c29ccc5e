package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// class is a way in which an endpoint can be wrong; they are bits.
type class uint8

const (
	// classLost: an acknowledged write, or a whole key, is missing.
	classLost class = 1 << iota
	// classStale: an older acknowledged value is there instead of the last.
	classStale
	// classResurrected: a key or element whose delete was acknowledged is there.
	classResurrected
	// classWrongTTL: the key expires too early, too late or never, or should not.
	classWrongTTL
	// classWrong: what was never, or not so often, written to this key.
	classWrong
	classEnd
)

var classNames = map[class]string{
	classLost: "lost", classStale: "stale", classResurrected: "resurrected",
	classWrongTTL: "wrong TTL", classWrong: "wrong",
}

// finding is how a reply differs from a state; the zero value is "not at all".
type finding struct {
	classes   class
	want, got string
}

func (f finding) ok() bool { return f.classes == 0 }

func found(c class, want, got any) finding {
	return finding{classes: c, want: fmt.Sprint(want), got: fmt.Sprint(got)}
}

// unexpected is the class of a key that is there and should not be.
func (s *state) unexpected() class {
	if s.expired {
		return classWrongTTL
	}
	return classResurrected
}

// judge compares the reply to o with what the reply must be if the key is in
// state s when the command is executed. It does not change s.
func (o *op) judge(s *state, v *reply, at span, tolerance time.Duration) finding {
	switch o.code {
	case opPut:
		return o.judgePut(s, v)
	case opFill:
		fresh := 0
		for i := range o.n {
			if o.key.kind.ordered() || s.elem(o.slot+i) == 0 {
				fresh++
			}
		}
		return o.judgeAdded(s, v, fresh)
	case opDrop:
		return o.judgeDrop(s, v)
	case opDel:
		return judgeDone(v, s.alive, classLost, s.unexpected())
	case opExpire:
		return judgeDone(v, s.alive, classLost, s.unexpected())
	case opPersist:
		without := s.unexpected()
		if s.alive {
			without = classWrongTTL
		}
		return judgeDone(v, s.hi != 0, classWrongTTL, without)
	case opReadOne:
		return o.judgeOne(s, v)
	case opReadAll:
		return o.judgeAll(s, v)
	case opPTTL:
		return judgeTTL(s, v, at, tolerance)
	}
	return finding{} // opPurge: whatever was there
}

// judgeDone judges the 1 or 0 of a command that answers whether it found what it
// was to change.
func judgeDone(v *reply, want bool, missing, surplus class) finding {
	switch got := v.n == 1; {
	case v.kind != ':':
		return found(classWrong, "an integer", describe(v))
	case want && !got:
		return found(missing, 1, v.n)
	case !want && got:
		return found(surplus, 0, v.n)
	}
	return finding{}
}

func (o *op) judgePut(s *state, v *reply) finding {
	switch o.key.kind {
	case kindString, kindTTL:
		if v.kind != '+' || string(v.text) != "OK" {
			return found(classWrong, "OK", describe(v))
		}
		return finding{}
	case kindCounter:
		return judgeCounter(s, int64(o.n), v)
	case kindStream:
		if want := appendID(nil, o.seq); v.kind != '$' || !bytes.Equal(v.text, want) {
			return found(classWrong, string(want), describe(v))
		}
		return finding{}
	}
	fresh := 1
	if o.key.kind.slotted() && s.elem(o.slot) != 0 {
		fresh = 0
	}
	return o.judgeAdded(s, v, fresh)
}

// judgeCounter judges a sum after increment was added.
func judgeCounter(s *state, increment int64, v *reply) finding {
	want := s.num + increment
	switch {
	case v.kind != ':':
		return found(classWrong, want, describe(v))
	case v.n == want:
		return finding{}
	case v.n == increment:
		return found(classLost, want, v.n) // it began at 0 again
	case v.n < want:
		return found(classStale, want, v.n)
	case !s.alive:
		return found(s.unexpected(), want, v.n)
	}
	return found(classWrong, want, v.n)
}

// judgeAdded judges the number of new elements, which for a list is its length.
func (o *op) judgeAdded(s *state, v *reply, fresh int) finding {
	want, more, fewer := int64(fresh), classLost, classResurrected
	if o.key.kind == kindList {
		// Longer than its pushes and pops allow: popped elements came back, or
		// a push was executed twice.
		want, more, fewer = int64(s.count+fresh), classWrong, classLost
	}
	if !s.alive {
		more, fewer = s.unexpected(), s.unexpected()
	}
	switch {
	case v.kind != ':':
		return found(classWrong, want, describe(v))
	case v.n > want:
		return found(more, want, v.n)
	case v.n < want:
		return found(fewer, want, v.n)
	}
	return finding{}
}

func (o *op) judgeDrop(s *state, v *reply) finding {
	switch o.key.kind {
	case kindList:
		return o.judgeListElem(s, s.elem(0), v)
	case kindStream:
		return judgeDone(v, s.entry(o.seq) >= 0, classLost, classResurrected)
	}
	return judgeDone(v, s.elem(o.slot) != 0, classLost, classResurrected)
}

// judgeListElem judges an element of a list whose elements count upward.
func (o *op) judgeListElem(s *state, want uint32, v *reply) finding {
	got, f := o.valueOf(v)
	switch {
	case !f.ok() || got == want:
		return f
	case got == 0 || want != 0 && got > want:
		return found(classLost, seqText(want), seqText(got))
	case !s.alive:
		return found(s.unexpected(), seqText(want), seqText(got))
	}
	return found(classResurrected, seqText(want), seqText(got))
}

// valueOf returns the sequence number of a value in a reply; 0 for a null.
func (o *op) valueOf(v *reply) (uint32, finding) {
	if v.kind == 0 {
		return 0, finding{}
	}
	seq, ok := parseValue(v.text, o.key)
	if v.kind != '$' || !ok {
		return 0, found(classWrong, "a value of this key", describe(v))
	}
	return seq, finding{}
}

func (o *op) judgeOne(s *state, v *reply) finding {
	switch o.key.kind {
	case kindHash:
		got, f := o.valueOf(v)
		if !f.ok() {
			return f
		}
		return judgeSeq(s, s.elem(o.slot), got)
	case kindZSet:
		got, f := scoreOf(v)
		if !f.ok() {
			return f
		}
		return judgeSeq(s, s.elem(o.slot), got)
	case kindSet:
		return judgeDone(v, s.elem(o.slot) != 0, classLost, s.unexpected())
	case kindList:
		return o.judgeListElem(s, s.elem(o.slot), v)
	}
	var want []uint32
	if s.entry(o.seq) >= 0 {
		want = []uint32{o.seq}
	}
	got, f := o.entries(v)
	if !f.ok() {
		return f
	}
	return judgeOrder(s, want, got)
}

// scoreOf returns a score; 0 for a null.
func scoreOf(v *reply) (uint32, finding) {
	if v.kind == 0 {
		return 0, finding{}
	}
	score, err := strconv.ParseUint(string(v.text), 10, 32)
	if v.kind != '$' || err != nil {
		return 0, found(classWrong, "a score", describe(v))
	}
	return uint32(score), finding{}
}

// judgeSeq compares the sequence numbers of one value; 0 is an absent one.
func judgeSeq(s *state, want, got uint32) finding {
	var c class
	switch {
	case got == want:
		return finding{}
	case got == 0:
		c = classLost
	case want == 0 && !s.alive:
		c = s.unexpected()
	case want == 0:
		c = classResurrected
	case got < want:
		c = classStale
	default:
		c = classWrong // newer than what was acknowledged: a refused write was executed
	}
	return found(c, seqText(want), seqText(got))
}

func judgeTTL(s *state, v *reply, at span, tolerance time.Duration) finding {
	want := "no key"
	switch {
	case s.alive && s.hi == 0:
		want = "no TTL"
	case s.alive:
		want = fmt.Sprintf("a TTL of %d to %d ms", (s.lo-at.reply)/int64(time.Millisecond), (s.hi-at.send)/int64(time.Millisecond))
	}
	left := v.n * int64(time.Millisecond)
	switch {
	case v.kind != ':':
		return found(classWrong, want, describe(v))
	case !s.alive && v.n != -2:
		return found(s.unexpected(), want, v.n)
	case s.alive && v.n == -2:
		return found(classLost, want, v.n)
	case s.alive && s.hi == 0 && v.n != -1, s.alive && s.hi != 0 && v.n < 0,
		s.hi != 0 && (at.send+left > s.hi+int64(tolerance) || at.reply+left < s.lo-int64(tolerance)):
		return found(classWrongTTL, want, v.n)
	}
	return finding{}
}

func seqText(seq uint32) string {
	if seq == 0 {
		return "nothing"
	}
	return "value " + strconv.FormatUint(uint64(seq), 10)
}

// describe shows a reply in a message, shortened.
func describe(v *reply) string {
	const shown = 80
	switch v.kind {
	case 0:
		return "nothing"
	case '*':
		return fmt.Sprintf("an array of %d", len(v.elems))
	}
	return fmt.Sprintf("%q", v.text[:min(len(v.text), shown)])
}
