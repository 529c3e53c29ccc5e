package bench

import (
	"fmt"
	"slices"
	"strconv"
)

// judgeAll compares a whole key with a state.
func (o *op) judgeAll(s *state, v *reply) finding {
	switch o.key.kind {
	case kindString, kindTTL:
		got, f := o.valueOf(v)
		if !f.ok() {
			return f
		}
		return judgeSeq(s, uint32(s.num), got)
	case kindCounter:
		return judgeSum(s, v)
	}
	if v.kind != '*' {
		return found(classWrong, "an array", describe(v))
	}
	if len(v.elems) == 0 && s.count > 0 {
		return found(classLost, fmt.Sprintf("%d elements", s.count), "none")
	}
	if len(v.elems) > 0 && !s.alive {
		return found(s.unexpected(), "no key", describe(v))
	}
	if o.key.kind.slotted() {
		got, f := o.slots(v)
		if !f.ok() {
			return f
		}
		return o.judgeSlots(s, got)
	}
	got, f := o.entries(v)
	if !f.ok() {
		return f
	}
	return judgeOrder(s, s.elems, got)
}

func judgeSum(s *state, v *reply) finding {
	if v.kind == 0 {
		if s.alive {
			return found(classLost, s.num, "nothing")
		}
		return finding{}
	}
	got, err := strconv.ParseInt(string(v.text), 10, 64)
	switch {
	case v.kind != '$' || err != nil:
		return found(classWrong, s.num, describe(v))
	case !s.alive:
		return found(s.unexpected(), "nothing", got)
	case got < s.num:
		return found(classStale, s.num, got)
	case got > s.num:
		return found(classWrong, s.num, got)
	}
	return finding{}
}

// slots returns a hash or set by slot: the value's sequence number or score, and
// for a set's members, which have neither, 1.
func (o *op) slots(v *reply) ([]uint32, finding) {
	got := make([]uint32, o.key.size)
	step := 2
	if o.key.kind == kindSet {
		step = 1
	}
	if len(v.elems)%step != 0 {
		return nil, found(classWrong, "pairs", describe(v))
	}
	for i := 0; i < len(v.elems); i += step {
		slot := parseName(v.elems[i].text, o.key)
		if slot < 0 {
			return nil, found(classWrong, "elements of this key", describe(&v.elems[i]))
		}
		seq, f := uint32(1), finding{}
		switch o.key.kind {
		case kindHash:
			seq, f = o.valueOf(&v.elems[i+1])
		case kindZSet:
			seq, f = scoreOf(&v.elems[i+1])
		}
		if !f.ok() {
			return nil, f
		}
		got[slot] = seq
	}
	return got, finding{}
}

// judgeSlots finds every class of difference, and describes the first of each.
func (o *op) judgeSlots(s *state, got []uint32) finding {
	var all finding
	for slot, g := range got {
		want := s.elem(slot)
		if o.key.kind == kindSet && want != 0 {
			want = 1
		}
		f := judgeSeq(s, want, g)
		if f.classes&^all.classes != 0 {
			all.classes |= f.classes
			all.want += fmt.Sprintf("[%d]=%s ", slot, f.want)
			all.got += fmt.Sprintf("[%d]=%s ", slot, f.got)
		}
	}
	return all
}

// entries returns the sequence numbers of a list's elements or a stream's entries.
func (o *op) entries(v *reply) ([]uint32, finding) {
	if v.kind != '*' {
		return nil, found(classWrong, "an array", describe(v))
	}
	got := make([]uint32, 0, len(v.elems))
	for i := range v.elems {
		value := &v.elems[i]
		if o.key.kind == kindStream {
			entry := value.elems
			if len(entry) != 2 || len(entry[1].elems) != 2 {
				return nil, found(classWrong, "stream entries", describe(v))
			}
			value = &entry[1].elems[1]
		}
		seq, f := o.valueOf(value)
		if !f.ok() {
			return nil, f
		}
		if o.key.kind == kindStream && string(v.elems[i].elems[0].text) != string(appendID(nil, seq)) {
			return nil, found(classWrong, "the entry's own id", describe(&v.elems[i].elems[0]))
		}
		got = append(got, seq)
	}
	return got, finding{}
}

// judgeOrder compares two sequences of rising sequence numbers: what is only
// wanted was lost, what is only there had been removed, and what does not rise
// was executed twice or out of order.
func judgeOrder(s *state, want, got []uint32) finding {
	if slices.Equal(want, got) {
		return finding{}
	}
	f := finding{want: fmt.Sprintf("%d elements", len(want)), got: fmt.Sprintf("%d", len(got))}
	add := func(c class, what string, seq uint32) {
		if f.classes&c == 0 {
			f.classes |= c
			f.got += fmt.Sprintf(", %s %d", what, seq)
		}
	}
	w := 0
	for i, seq := range got {
		if i > 0 && seq <= got[i-1] {
			add(classWrong, "twice or out of order", seq)
			continue
		}
		for ; w < len(want) && want[w] < seq; w++ {
			add(classLost, "without", want[w])
		}
		if w < len(want) && want[w] == seq {
			w++
			continue
		}
		c := classResurrected
		if !s.alive {
			c = s.unexpected()
		}
		add(c, "with", seq)
	}
	for ; w < len(want); w++ {
		add(classLost, "without", want[w])
	}
	return f
}
