package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/router"
)

// livesIn reports whether a key found in a group may be there: it is its slot's owner or,
// while the slot moves, its target. Anything else is a leftover that nobody can read.
//
// Both ends of a moving slot count: the key may be at either. A key may so be returned twice,
// which SCAN allows; one that is a duplicate at a source that its job has left behind must not
// be returned, as a client that asks for it would not find it.
func livesIn(t *router.Table, group int16, key []byte) bool {
	if router.Reserved(key) {
		return false
	}
	s := &t.Slots[t.Scheme.Slot(key)]
	return s.Owner == group || s.Target == group
}

// scan runs one step of SCAN at the group of its cursor. It is an ordinary command on that
// group's shared connection: keys that the client has just set are there before it, and
// nothing is held for it between two steps.
func (c *call) scan() {
	s, args := c.s, c.args
	l := s.l
	v, err := strconv.ParseUint(string(args[1]), 10, 64)
	if err != nil {
		c.reject("ERR invalid cursor")
		return
	}
	at, ok := parseCursor(v, l.table.Epoch)
	if !ok { // 0, or one that the gateway does not give: Redis takes that, too, and so it begins
		at, ok = nextGroup(l.table, cursor{epoch: l.table.Epoch, group: -1})
	}
	if !ok {
		c.scanEmpty()
		return
	}
	x := &scanning{at: at, args: cloneArgs(args)}
	r := c.begin()
	r.op = x
	x.ask(l, r)
}

func (c *call) scanEmpty() {
	s := c.s
	out := s.reply()
	out.Array(2)
	out.Text("0")
	out.Array(0)
	c.answer(out.B)
}

// scanning is a SCAN under way at one group.
//
// The whole reply of a step is collected, since its cursor comes first and stands for what the
// rest is cut down to.
type scanning struct {
	plain
	args [][]byte
	at   cursor
	buf  []byte
}

// ask sends it to the group of its cursor; if that is gone, the next cursor leads on.
func (x *scanning) ask(l *loop, r *request) {
	group := l.groupNumber(x.at.group)
	if group < 0 {
		x.at.at = 0
		x.finish(l, r, nil, -1)
		return
	}
	x.args[1] = strconv.AppendUint(nil, x.at.at, 10)
	args := x.args
	if moves, _ := movesSince(l.table, x.at.epoch); len(moves) > 0 {
		args = hurried(args)
	}
	x.send(l, r, group, resp.AppendRequest(nil, args...))
}

// hurriedCount is how many keys a step of a scan looks at, at least, once slots have moved
// since it began. If one moves twice before the scan is over it has to begin again: in steps
// of ten keys, as redis-cli makes them, it could be overtaken by the jobs for ever.
const hurriedCount = 1000

// hurried is a SCAN with a COUNT of at least hurriedCount. What is no COUNT stays as it is:
// the server says so.
func hurried(args [][]byte) [][]byte {
	count := []byte(strconv.Itoa(hurriedCount))
	for i := 2; i+1 < len(args); i += 2 {
		if bytes.EqualFold(args[i], []byte("count")) {
			if n, err := strconv.Atoi(string(args[i+1])); err == nil && n > 0 && n < hurriedCount {
				args = slices.Clone(args)
				args[i+1] = count
			}
			return args
		}
	}
	if len(args)%2 != 0 {
		return args
	}
	return append(slices.Clone(args), []byte("COUNT"), count)
}

// groupNumber is the index of the group with a number; -1 if there is none.
func (l *loop) groupNumber(n int) int16 {
	for i := range l.table.Groups {
		if l.table.Groups[i].Number == n {
			return int16(i)
		}
	}
	return -1
}

// The reply is taken apart, unlike any other that is passed on: the cursor becomes ours, and
// keys that do not live there are left out.
func (x *scanning) reply(r *request, b []byte, last bool) bool {
	x.buf = append(x.buf, b...)
	if !last {
		return false
	}
	l := r.s.l
	parts, ok := resp.SplitArray(x.buf, nil)
	if !ok || len(parts) != 2 {
		r.finish(bytes.Clone(x.buf)) // an error, as the server says it
		return false
	}
	next, _ := resp.BulkBody(parts[0])
	at, err := strconv.ParseUint(string(next), 10, 64)
	keys, ok := resp.SplitArray(parts[1], nil)
	if err != nil || !ok || at>>cursorAtBits != 0 {
		r.finish(resp.AppendErr(nil, fmt.Sprintf("ERR a server gave a SCAN cursor that can't be passed on: %q", next)))
		return false
	}
	x.at.at = at
	x.finish(l, r, keys, l.groupNumber(x.at.group))
	return false
}

// finish answers with the keys of one step and the cursor of the next.
func (x *scanning) finish(l *loop, r *request, keys [][]byte, group int16) {
	next, more := x.at, true
	if x.at.at == 0 {
		next, more = nextGroup(l.table, x.at)
	}
	v := uint64(0)
	if more {
		v = next.resume(l.table)
	}
	out := r.s.reply()
	out.Array(2)
	out.Text(strconv.FormatUint(v, 10))
	n := 0
	var body []byte
	for _, k := range keys {
		if name, ok := resp.BulkBody(k); ok && group >= 0 && livesIn(l.table, group, name) {
			body = append(body, k...)
			n++
		}
	}
	out.Array(n)
	r.finish(append(out.B, body...))
}

// randomKey asks the groups in random order until one has a key.
//
// Groups with few keys are drawn as often as those with many. Who needs a fair draw over all
// keys does not get it from a cluster either.
func (c *call) randomKey() {
	s := c.s
	l := s.l
	groups := l.table.Serving()
	rand.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
	r := c.begin()
	x := &drawing{db: s.db, tries: drawTries}
	for _, g := range groups {
		x.left = append(x.left, l.table.Groups[g].Number)
	}
	r.op = x
	x.next(l, r)
}

// drawTries is how often a group is asked for another key than a leftover.
const drawTries = 8

// drawing is a RANDOMKEY under way.
//
// left has numbers and not indexes, and db is kept, because the table and the client's
// database may change between two questions.
type drawing struct {
	plain
	db    int   // of the client when it asked
	left  []int // numbers of groups, since the table may change meanwhile
	tries int   // at the first of left; below 0: its keys are listed
	buf   []byte
}

// next: a group that is gone since is passed over. When none has a key the reply is null, as of an
// empty server.
func (x *drawing) next(l *loop, r *request) {
	for ; len(x.left) > 0; x.left = x.left[1:] {
		if group := l.groupNumber(x.left[0]); group >= 0 {
			x.buf = x.buf[:0]
			frame := randomKeyFrame
			if x.tries < 0 {
				frame = someKeysFrame
			}
			x.send(l, r, group, frame)
			return
		}
	}
	out := r.s.reply()
	out.Null()
	r.finish(out.B)
}

func (x *drawing) send(l *loop, r *request, group int16, frame []byte) {
	r.transmit(l.pipe(group, x.db, r.s.proto), block{frame: frame})
}

// reply: a key that does not live there is a leftover of a move, and the group is asked again, a
// bounded number of times.
func (x *drawing) reply(r *request, b []byte, last bool) bool {
	x.buf = append(x.buf, b...)
	if !last {
		return false
	}
	l := r.s.l
	group := l.groupNumber(x.left[0])
	if x.tries < 0 && x.buf[0] != '-' {
		if key := someKey(l.table, group, x.buf); key != nil {
			r.finish(key)
			return false
		}
		x.left, x.tries = x.left[1:], drawTries
		x.next(l, r)
		return false
	}
	name, ok := resp.BulkBody(x.buf)
	switch {
	case ok && group >= 0 && livesIn(l.table, group, name), x.buf[0] == '-':
		r.finish(bytes.Clone(x.buf))
		return false
	case ok:
		x.tries--
	default:
		x.left, x.tries = x.left[1:], drawTries
	}
	x.next(l, r)
	return false
}

var (
	randomKeyFrame = []byte("*1\r\n$9\r\nRANDOMKEY\r\n")
	someKeysFrame  = resp.AppendRequest(nil, []byte("SCAN"), []byte("0"), []byte("COUNT"), []byte("1000"))
)

// someKey draws from a page of SCAN; nil: none of its keys lives there. A group with one key beside the
// gateway's own would else be taken for an empty one, by chance.
func someKey(t *router.Table, group int16, page []byte) []byte {
	parts, ok := resp.SplitArray(page, nil)
	if !ok || len(parts) != 2 || group < 0 {
		return nil
	}
	keys, _ := resp.SplitArray(parts[1], nil)
	keys = slices.DeleteFunc(keys, func(k []byte) bool {
		name, ok := resp.BulkBody(k)
		return !ok || !livesIn(t, group, name)
	})
	if len(keys) == 0 {
		return nil
	}
	return bytes.Clone(keys[rand.IntN(len(keys))])
}

// listKeys runs KEYS. While slots move it asks twice: a key that left its source before that
// was asked, for a target which had been asked already, is there at the second time. It
// then runs alone: a SET in front of it may be waiting for its key, and one behind it must
// not come between the two times. False: not before what is in front of it.
func (c *call) listKeys() bool {
	s, frame := c.s, resp.AppendRequest(nil, c.args...)
	l := s.l
	found := &keyList{t: l.table, groups: l.table.Serving()}
	if !found.t.Moving() {
		c.fan(found.groups, frame, false, found.reply)
		return true
	}
	if s.queue.n > 0 {
		return false
	}
	found.seen = make(map[string]bool)
	r := c.begin()
	s.hold = r
	s.fanOut(r, found.groups, frame, &gather{join: func(parts [][]byte) []byte {
		if bad := found.add(parts); bad != nil {
			return bad
		}
		// The table may be another one by now: what is found is judged by that which was in force when
		// it was asked for.
		found.t, found.groups = l.table, l.table.Serving()
		s.fanOut(r, found.groups, frame, &gather{join: found.reply})
		return nil
	}})
	return true
}

// keyList joins the replies of KEYS.
type keyList struct {
	t      *router.Table
	groups []int16         // of t, that were asked
	seen   map[string]bool // where a key may come more than once
	body   []byte
	n      int
}

// add: by the table that was in force when the groups were asked: their order is that of the parts.
func (f *keyList) add(parts [][]byte) (bad []byte) {
	for i, p := range parts {
		keys, ok := resp.SplitArray(p, nil)
		if !ok {
			return badPart()
		}
		for _, k := range keys {
			name, ok := resp.BulkBody(k)
			if !ok || !livesIn(f.t, f.groups[i], name) || f.seen[string(name)] {
				continue
			}
			if f.seen != nil {
				f.seen[string(name)] = true
			}
			f.body = append(f.body, k...)
			f.n++
		}
	}
	return nil
}

func (f *keyList) reply(parts [][]byte) []byte {
	if bad := f.add(parts); bad != nil {
		return bad
	}
	return append(redcon.AppendArray(nil, f.n), f.body...)
}
