package proxy

import (
	"bytes"
	"fmt"
	"strconv"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
	"keyferry/router"
	"keyferry/slotlock"
)

// transaction is what a client has queued since MULTI. It stays here until EXEC and then
// goes out as one block, so that a server never holds half of it and its keys are locked
// together while their slot moves.
type transaction struct {
	frames  []byte // as they will be sent
	n       int
	slot    int // of all keys; -1: no key yet
	keys    []slotlock.Key
	db      int // in effect behind what is queued
	broken  bool
	writes  bool
	unnamed bool     // it uses keys of its slot that it does not name
	reads   []string // keys to remember for CLIENT TRACKING when they are read
}

func (c *call) multi() {
	s := c.s
	if s.tx != nil {
		c.reject("ERR MULTI calls can not be nested")
		return
	}
	s.tx = &transaction{slot: -1, db: s.db}
	c.answer(okReply)
}

func (c *call) discard() {
	s := c.s
	if s.tx == nil {
		c.reject("ERR DISCARD without MULTI")
		return
	}
	s.tx = nil
	s.unwatch()
	c.answer(okReply)
}

// enqueue takes a command into the open transaction, or refuses it, which ends it.
func (c *call) enqueue() {
	s, cmd, args, frame := c.s, c.cmd, c.args, c.frame
	tx := s.tx
	outside := s.l.outside(cmd, args)
	if outside {
		args = inNoDatabase(cmd, args)
	}
	if why := s.queueable(cmd, args); why != "" {
		tx.broken = true
		c.reject(why)
		return
	}
	if c.inline || outside || cmd.Serve == resp.Script {
		s.l.scratch = resp.AppendRequest(s.l.scratch[:0], s.withBody(cmd, args)...)
		frame = s.l.scratch
	}
	if cmd == selectCommand {
		if n, ok := resp.Integer(args[1]); ok && n >= 0 && n < int64(s.l.table.Databases) {
			tx.db = int(n)
		}
	}
	tx.frames = append(tx.frames, frame...)
	tx.n++
	tx.writes = tx.writes || mayWrite(cmd)
	if len(tx.frames) > s.l.opt.QueryLimit {
		s.closeFor(fmt.Sprintf("%d bytes queued since MULTI, over client-query-buffer-limit", len(tx.frames)))
		return
	}
	c.answer([]byte("+QUEUED\r\n"))
}

// withBody makes EVAL of an EVALSHA whose script is known: nothing can be loaded in the
// middle of a transaction.
func (s *session) withBody(cmd *resp.Command, args [][]byte) [][]byte {
	switch {
	case cmd.Traits&resp.HasBody != 0:
		s.l.srv.scripts.remember(args[1])
	case cmd.Traits&resp.HasSHA != 0:
		if body, ok := s.l.srv.scripts.body(args[1]); ok {
			return append([][]byte{[]byte(cmd.Kin.Name), body}, args[2:]...)
		}
	}
	return args
}

// queueable notes the keys of a command for the transaction; else it says why it can't be
// part of one.
func (s *session) queueable(cmd *resp.Command, args [][]byte) string {
	switch {
	case cmd.Flags&resp.NoMulti != 0:
		return "ERR Command not allowed inside a transaction"
	case cmd.Traits&resp.Anywhere != 0:
		return ""
	case !InMulti(cmd):
		return fmt.Sprintf("ERR '%s' inside MULTI is not supported through the gateway: a transaction runs on the server of its keys", cmd.Name)
	}
	keys, err := cmd.AppendKeys(s.l.keyIndex[:0], args)
	if err != nil {
		return "" // the server will say what is wrong with it when it gets there
	}
	s.l.keyIndex = keys
	unnamed := cmd.Serve == resp.Script
	if cmd.Serve == resp.Sort {
		var bad string
		if unnamed, bad = sortsByPattern(s.l.table.Scheme, args); bad != "" {
			return bad
		}
	}
	tx := s.tx
	for _, k := range keys {
		slot := s.l.table.Scheme.Slot(args[k])
		if tx.slot < 0 {
			tx.slot = slot
		}
		if slot != tx.slot {
			s.l.rec.N[stats.CrossSlot]++
			return crossSlotText
		}
	}
	if unnamed && tx.slot >= 0 {
		s.l.srv.scripted.note(tx.slot)
		tx.unnamed = true
	}
	tx.keys = appendKeys(tx.keys, tx.db, cmd, args, keys)
	if s.tracking != nil && s.tracking.wants(cmd) {
		for _, k := range keys {
			tx.reads = append(tx.reads, string(args[k]))
		}
	}
	return ""
}

// InMulti reports whether a command may be part of a transaction.
func InMulti(cmd *resp.Command) bool {
	return cmd.Flags&resp.NoMulti == 0 && (cmd.Traits&resp.Anywhere != 0 || cmd.Serve.ByKey())
}

const crossSlotText = "CROSSSLOT Keys in request don't hash to the same slot"

// exec sends the transaction.
func (c *call) exec() bool {
	s := c.s
	tx, w := s.tx, s.watch
	switch {
	case tx == nil:
		c.reject("ERR EXEC without MULTI")
		return true
	case tx.broken:
		s.tx = nil
		s.unwatch()
		c.reject("EXECABORT Transaction discarded because of previous errors.")
		return true
	case w != nil && s.queue.n > 0:
		return false // its own writes count as changes of what it watches
	}
	s.tx, c.executed = nil, tx
	l := s.l
	if w != nil && (w.lost || !w.on.sound() || l.ownerSince[w.slot] > w.epoch || tx.slot >= 0 && tx.slot != w.slot) {
		return c.execMissed(tx, w)
	}
	if tx.n == 0 && w == nil {
		c.answer([]byte("*0\r\n"))
		return true
	}
	op := &execution{db: s.db, after: tx.db, n: tx.n, writes: tx.writes, unnamed: tx.unnamed}
	r := c.begin()
	r.op = op
	slot, keys := tx.slot, tx.keys
	if w != nil {
		op.on, slot, s.watch = w.on, w.slot, nil
		keys = union(keys, w.keys)
	}
	if w != nil || tx.db != s.db {
		s.hold = r
	}
	if s.tracking != nil {
		for _, k := range tx.reads {
			s.remember(k)
		}
	}
	frame := append([]byte("*1\r\n$5\r\nMULTI\r\n"), tx.frames...)
	frame = append(frame, "*1\r\n$4\r\nEXEC\r\n"...)
	if slot < 0 {
		l.anywhere(r, frame)
		return true
	}
	l.place(r, s.db, slot, keys, frame)
	return true
}

// union is a with what only b has.
func union(a, b []slotlock.Key) []slotlock.Key {
	have := make(map[slotlock.Key]struct{}, len(a)+len(b))
	for _, k := range a {
		have[k] = struct{}{}
	}
	for _, k := range b {
		if _, yes := have[k]; !yes {
			have[k] = struct{}{}
			a = append(a, k)
		}
	}
	return a
}

// execMissed answers an EXEC whose watched keys are no longer watched where they are.
func (c *call) execMissed(tx *transaction, w *watch) bool {
	s := c.s
	s.unwatch()
	if tx.slot >= 0 && tx.slot != w.slot {
		c.reject(crossSlotText)
		return true
	}
	out := s.reply()
	out.NullArray()
	c.answer(out.B)
	return true
}

// ignored takes a reply that nobody waits for.
type ignored struct{}

func (ignored) Reply([]byte, bool) {}
func (ignored) Fail(error, bool)   {}

// execution is an EXEC under way.
type execution struct {
	on      *lent // the connection that watches, or nil
	db      int   // of the client at MULTI
	after   int   // of the client when it has succeeded
	n       int   // commands
	writes  bool
	unnamed bool // it uses keys of its slot that it does not name
	sent    bool // on the connection that watches
}

func (x *execution) send(l *loop, r *request, group int16, frame []byte) {
	s := r.s
	g := l.table.Groups[group].ID
	if x.on == nil {
		p := l.pipe(group, x.db, s.proto)
		s.lastPipe = p
		if x.writes {
			s.lastWrite = p
		}
		r.flying = true
		if x.after == x.db {
			p.SendBlock(r, frame, x.n+1, 0)
			return
		}
		// The shared connection goes back to its own database in the same block.
		frame = resp.AppendRequest(frame, []byte("SELECT"), strconv.AppendInt(nil, int64(x.db), 10))
		p.SendBlock(r, frame, x.n+1, 1)
		return
	}
	if x.on.key.group != g || !x.on.sound() {
		// The keys live elsewhere by now.
		l.giveBackWatching(x.on)
		x.on = nil
		out := s.reply()
		out.NullArray()
		l.releaseHolds(r)
		r.op = nil
		r.finish(out.B)
		return
	}
	r.flying, x.sent = true, true
	if x.writes {
		s.lastWrite = x.on.pipe
	}
	on := x.on // which x may not have any more when it has been sent
	on.send(r, x.db, frame, x.n+1, 0)
	on.db = x.after // or not, if it is aborted; then the next user selects
	if x.after != x.db {
		on.db = -1
	}
}

func (x *execution) reply(r *request, b []byte, last bool) bool {
	s := r.s
	if x.after != x.db && !r.started && r.reply == nil && b[0] == '*' && !bytes.HasPrefix(b, []byte("*-1")) {
		s.db = x.after
	}
	if last {
		x.dropped(r)
	}
	return true
}

func (x *execution) dropped(r *request) {
	on := x.on
	if x.on = nil; on == nil {
		return
	}
	if x.sent {
		r.s.l.giveBack(on)
	} else {
		r.s.l.giveBackWatching(on)
	}
}

// place sends a request that has an operation to where the keys of one slot are.
func (l *loop) place(r *request, db, slot int, keys []slotlock.Key, frame []byte) {
	switch l.table.RouteSlot(slot) {
	case router.Serve:
		r.op.send(l, r, l.table.Slots[slot].Owner, frame)
	case router.Resolve:
		m := l.newMotion(slot, db)
		m.Keys = keys
		switch x := r.op.(type) {
		case *execution:
			m.Unnamed = x.unnamed
		case plain:
			m.Unnamed = x.unnamed
		case *bySHA:
			m.Unnamed = true
		case *blocking:
			m.Pull = x.keyed()
		}
		l.move(r, m, frame)
	default:
		r.op.dropped(r)
		r.op = nil
		r.finish(resp.AppendErr(nil, unservedText(slot)))
	}
}

// anywhere sends a request that has an operation and no keys to some group.
func (l *loop) anywhere(r *request, frame []byte) {
	for slot := range l.table.Slots {
		if g := l.table.Slots[slot].Owner; g >= 0 {
			r.op.send(l, r, g, frame)
			return
		}
	}
	r.op.dropped(r)
	r.op = nil
	r.finish(resp.AppendErr(nil, unservedText(0)))
}

// motionDB is the database that a request runs in.
func (r *request) motionDB() int {
	if r.motion != nil {
		return r.motion.db
	}
	return r.s.db
}
