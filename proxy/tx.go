package proxy

import (
	"bytes"
	"fmt"
	"strconv"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
	"keyferry/slotlock"
)

// transaction is what a client has queued since MULTI. It stays here until EXEC and then
// goes out as one block, so that a server never holds half of it and its keys are locked
// together while their slot moves.
//
// Lifetime: MULTI to EXEC or DISCARD, or the end of the client. Nothing of it is at any server
// before EXEC: the slot, and with it the server, is known by the first key only, and a server
// that holds half of a transaction could neither forget it nor move its keys.
//
// Invariant: frames are n commands in the form of servers, whose keys are all in slot and are
// listed in keys. Its bytes count as the client's memory.
type transaction struct {
	frames  []byte // as they will be sent
	n       int
	slot    int // of all keys; -1: no key yet
	keys    []slotlock.Key
	db      int // in effect behind what is queued
	broken  bool
	writes  bool
	says    bool // others may hear of it, who then look
	unnamed bool // it uses keys of its slot that it does not name
	scripts bool // it runs scripts
	pauses  bool // CLIENT PAUSE WRITE holds it up, whatever its functions declare
	// functions are those of which it was not known whether they write when they were queued.
	functions []string
	reads     []string     // keys to remember for CLIENT TRACKING when they are read
	scans     *queuedScans // nil: none
	published *published   // nil: none
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

// discard ends the watch as well, as in Redis: what was watched was for this transaction.
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
//
// It has passed admission like any command. What is refused here breaks the transaction, which
// EXEC then says.
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
		s.l.spares.scratch = resp.AppendRequest(s.l.spares.scratch[:0], s.withBody(cmd, args)...)
		frame = s.l.spares.scratch
	}
	// Keys of what follows are in the other database: the lock table goes by that.
	if cmd == selectCommand {
		if n, ok := resp.Integer(args[1]); ok && n >= 0 && n < int64(s.l.table.Databases) {
			tx.db = int(n)
		}
	}
	if cmd.Traits&resp.ScansElements != 0 {
		tx.queueScan(args, len(frame))
	}
	if cmd.Traits&resp.Says != 0 {
		tx.notePublish(cmd, args)
	}
	tx.frames = append(tx.frames, frame...)
	tx.n++
	tx.writes = tx.writes || mayWrite(cmd)
	tx.says = tx.says || s.l.maySay(cmd, args)
	tx.noteWrites(s.l.srv.declares(cmd, args), cmd, args)
	if len(tx.frames) > s.l.opt.QueryLimit {
		s.closeFor(fmt.Sprintf("%d bytes queued since MULTI, over client-query-buffer-limit", len(tx.frames)))
		return
	}
	c.answer([]byte("+QUEUED\r\n"))
}

// noteWrites keeps what CLIENT PAUSE WRITE will go by at EXEC.
func (tx *transaction) noteWrites(flags scriptFlags, cmd *resp.Command, args [][]byte) {
	switch {
	case flags.known:
		tx.pauses = tx.pauses || !flags.noWrites
	case cmd.Serve == resp.Script && cmd.Traits&(resp.HasBody|resp.HasSHA) == 0 && cmd.Flags&resp.Readonly == 0:
		tx.functions = append(tx.functions, string(args[1]))
	default:
		tx.pauses = tx.pauses || mayWrite(cmd)
	}
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
//
// All keys have to be in one slot, because one server executes it and its keys are locked
// together while they move. The first key decides.
func (s *session) queueable(cmd *resp.Command, args [][]byte) string {
	switch {
	case cmd.Flags&resp.NoMulti != 0:
		return "ERR Command not allowed inside a transaction"
	case cmd.Traits&resp.Anywhere != 0:
		return ""
	case !InMulti(cmd):
		return fmt.Sprintf("ERR '%s' inside MULTI is not supported through the gateway: a transaction runs on the server of its keys", cmd.Name)
	}
	keys, err := cmd.AppendKeys(s.l.spares.keyIndex[:0], args)
	if err != nil {
		// It then aborts the whole, as it would have done for a client of its own.
		return "" // the server will say what is wrong with it when it gets there
	}
	s.l.spares.keyIndex = keys
	if reserved(args, keys) {
		return reservedText
	}
	unnamed := cmd.Serve == resp.Script
	s.tx.scripts = s.tx.scripts || unnamed
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
//
// A transaction without WATCH is a block on the shared connection: it can be sent behind other
// commands of the client. With WATCH it must run alone, on the watching connection, and only
// if what was watched can be believed:
//
//   - the connection is the one that was there at WATCH (sound)
//
//   - no key was lost sight of meanwhile (lost)
//
//   - the slot has not had another owner since (ownerSince): a key that did not exist and was
//     created at a target is no change that the source could notice
//
//   - the keys of the transaction are in the slot that is watched
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
	// What is in front may still fail or change a watched key itself.
	case w != nil && s.queue.n > 0:
		return false // its own writes count as changes of what it watches
	case tx.says && s.queue.n > 0:
		return false
	case tx.writes && s.l.srv.waits.lines.Any() && c.heldByLine(tx.keys):
		return false
	}
	s.tx, c.executed = nil, tx
	l := s.l
	if w != nil && (w.lost || !w.on.sound() || l.servers.ownerSince[w.slot] > w.epoch || tx.slot >= 0 && tx.slot != w.slot) {
		return c.execMissed(tx, w)
	}
	if tx.n == 0 && w == nil {
		c.answer([]byte("*0\r\n"))
		return true
	}
	op := &execution{plain: plain{tx.unnamed}, db: s.db, after: tx.db, n: tx.n, writes: tx.writes, scripts: tx.scripts, scans: tx.scans, published: tx.published}
	r := c.begin()
	r.op = op
	if tx.writes {
		l.wakeAfter(r, tx.keys)
	}
	slot, keys := tx.slot, tx.keys
	if w != nil {
		op.on, slot, s.watch = w.on, w.slot, nil
		// The watched keys are locked too: they must not move between this and EXEC at the server.
		keys = union(keys, w.keys)
	}
	// The watching connection is another one than that by which the next commands go; and in which
	// database the client is from then on depends on the outcome.
	if w != nil || tx.db != s.db || tx.says {
		s.hold = r
	}
	if s.tracking != nil {
		for _, k := range tx.reads {
			s.remember(k)
		}
	}
	frame := append([]byte(multiFrame), tx.frames...)
	frame = append(frame, "*1\r\n$4\r\nEXEC\r\n"...)
	send := func() { l.anywhere(r, frame) }
	if slot >= 0 {
		send = func() { l.place(r, op.db, slot, keys, frame) }
	}
	if tx.says {
		l.sayByScript(r, send)
	} else {
		send()
	}
	return true
}

// union is a with what only b has.
//
// By a set, since a client may watch tens of thousands of keys.
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
//
// Lifetime: EXEC to its reply. It owns the watching connection from EXEC on, and the session
// has none any more: so a WATCH that comes behind gets another one.
type execution struct {
	plain
	on     *dedicated // the connection that watches, or nil
	db     int        // of the client at MULTI
	after  int        // of the client when it has succeeded
	n      int        // commands
	writes bool
	// scripts: it runs some, and so goes out where these do.
	scripts   bool
	sent      bool         // on the connection that watches
	scans     *queuedScans // nil: none
	published *published   // nil: none
}

// send: without a watch it is one block on the shared connection, which is left in the database in
// which it was. With one it is the watching connection's last block for this client. That the
// keys live elsewhere by now is found only here, under the locks: then nothing is sent, and
// null says that something has changed.
func (x *execution) send(l *loop, r *request, group int16, frame []byte) {
	s := r.s
	frame = x.scans.at(l.cursorGroup(group), frame)
	b := block{frame: frame, before: x.n + 1, writes: x.writes}
	switch on := x.on; {
	case on == nil:
		if x.after != x.db { // the shared connection goes back to its own database in the same block
			b.frame = resp.AppendRequest(frame, []byte("SELECT"), strconv.AppendInt(nil, int64(x.db), 10))
			b.after = 1
		}
		p := l.pipe(group, x.db, s.proto)
		if x.scripts {
			p = l.scriptPipe(r, group, x.db)
		}
		x.published.listen(l, l.table.Upstream(group).ID)
		r.transmit(p, b)
	case on.key.group != l.table.Upstream(group).ID || !on.sound(): // the keys live elsewhere by now
		l.giveBackWatching(on)
		x.on = nil
		out := s.reply()
		out.NullArray()
		r.finish(out.B)
	default:
		x.sent = true
		x.published.listen(l, on.key.group)
		on.send(r, x.db, b) // x may not have it any more when it has been sent
		on.db = x.after     // or not, if it is aborted; then the next user selects
		if x.after != x.db {
			on.db = -1
		}
	}
}

// reply: what the gateway changes of it (published, scans) is collected first. A transaction that was not aborted has executed its SELECT: then the client is in that
// database from now on.
func (x *execution) reply(r *request, b []byte, last bool) bool {
	s := r.s
	collects := true
	switch {
	case x.scans != nil:
		b = x.scans.reply(b, last)
	case x.published != nil:
		b = x.published.collect(b, last)
	default:
		collects = false
	}
	if b == nil {
		return false
	}
	if x.after != x.db && r.untouched() && b[0] == '*' && !bytes.HasPrefix(b, []byte("*-1")) {
		s.db = x.after
	}
	if last {
		if x.scripts && x.on == nil {
			s.l.heardLane(r.pipe)
		}
		published := x.published
		x.published = nil // else dropped would give it up
		if x.dropped(r); collects {
			r.whole(b, published)
		}
	}
	return !collects
}

// dropped: a connection that was sent the EXEC watches nothing any more; one that was not still does.
func (x *execution) dropped(r *request) {
	x.published.overlook(r.s.l)
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
