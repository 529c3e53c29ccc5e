package proxy

import (
	"bytes"
	"strconv"

	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
)

// The cursor of an HSCAN, SSCAN or ZSCAN is a place in a hash table that the server keeps in an
// order of its own: the seed is drawn when its process starts. When the key moves, the same cursor
// means another place, and what a client would go on with has only some of what it has not seen
// yet (a quarter of 5,000 fields was never returned). So the gateway's cursor says at which group it
// was given, and at another one the scan of this key begins again: elements may then come
// twice, which the promise of SCAN allows, but none is left out.
//
//	bit 52     1: it is the gateway's
//	bits 42-51 the number of the group
//	bits 0-41  the server's cursor
//
// As a cursor of SCAN it stays below 2^53, see cursor. 0 is the beginning and the end.
type elementCursor struct {
	group int    // number
	at    uint64 // the server's cursor
}

const (
	elementMark   = 1 << 52
	elementGroup  = 42 // where the group begins
	elementGroups = 1 << (52 - elementGroup)
)

// encode is the cursor as a number. What does not fit is passed on as it is: no server of today gives
// such a cursor, which would be of a table of 2^42 places.
func (c elementCursor) encode() uint64 {
	if c.at == 0 || c.at>>elementGroup != 0 || c.group >= elementGroups {
		return c.at
	}
	return elementMark | uint64(c.group)<<elementGroup | c.at
}

// parseElementCursor reads one. ours is false for a number that the gateway has not given, but a
// server: to a client that was connected there before, or to a script.
func parseElementCursor(v uint64) (c elementCursor, ours bool) {
	if v>>52 != 1 {
		return elementCursor{at: v}, false
	}
	return elementCursor{group: int(v >> elementGroup % elementGroups), at: v % (1 << elementGroup)}, true
}

// atPeer stands for the group where another gateway knows it: that one's cursors are the client's.
const atPeer = -1

// cursorGroup is the number of the group that an upstream is, or atPeer.
func (l *loop) cursorGroup(upstream int16) int {
	if l.table.IsPeer(upstream) {
		return atPeer
	}
	return l.table.Groups[upstream].Number
}

// elementScan is an HSCAN, SSCAN or ZSCAN as its client said it.
type elementScan struct {
	args [][]byte // the third is the cursor
	from elementCursor
	ours bool
}

// newElementScan copies the arguments, which are the client's input, since the command is made anew when its
// group is known.
func newElementScan(args [][]byte) elementScan {
	x := elementScan{args: cloneArgs(args)}
	if v, err := strconv.ParseUint(string(args[2]), 10, 64); err == nil { // else the server says so
		x.from, x.ours = parseElementCursor(v)
	}
	return x
}

// frame is the command with the cursor that the server of a group knows; nil where that is the one
// that the client gave.
func (x *elementScan) frame(group int) []byte {
	if !x.ours || group == atPeer {
		return nil
	}
	at := x.from.at
	if x.from.group != group {
		at = 0
	}
	x.args[2] = strconv.AppendUint(nil, at, 10)
	return resp.AppendRequest(nil, x.args...)
}

// withOurCursor is the reply of a group's server with the gateway's cursor. What is no reply of a scan,
// such as an error, stays as it is.
func withOurCursor(b []byte, group int) []byte {
	if group == atPeer {
		return b
	}
	parts, ok := resp.SplitArray(b, nil)
	if !ok || len(parts) != 2 {
		return b
	}
	next, _ := resp.BulkBody(parts[0])
	at, err := strconv.ParseUint(string(next), 10, 64)
	if err != nil {
		return b
	}
	cursor := strconv.AppendUint(nil, elementCursor{group, at}.encode(), 10)
	return append(redcon.AppendBulk(redcon.AppendArray(nil, 2), cursor), parts[1]...)
}

// scanElements runs HSCAN, SSCAN and ZSCAN. It is the handler instead of keyed, since the reply is
// taken apart; where the key is and when is decided as for any command with a key.
func (c *call) scanElements() {
	if len(c.keys) == 0 {
		c.plainly()
		return
	}
	r := c.begin()
	r.op = &elementScanning{elementScan: newElementScan(c.args)}
	l := c.s.l
	l.place(r, c.s.db, l.table.Scheme.Slot(c.args[1]), appendKeys(nil, c.s.db, c.cmd, c.args, c.keys), c.frame)
}

// elementScanning is one under way.
//
// Which group it is sent to is known only under the key's lock: it may have moved while the
// command was parked.
type elementScanning struct {
	plain
	elementScan
	group int // number of the group that it was sent to
	buf   []byte
}

// send may be asked again, at another group: what it makes of the cursor goes by the group alone.
func (x *elementScanning) send(l *loop, r *request, group int16, frame []byte) {
	x.group = l.cursorGroup(group)
	if f := x.frame(x.group); f != nil {
		frame = f
	}
	x.plain.send(l, r, group, frame)
}

// reply collects it: the cursor comes first, and is the gateway's when all is there.
func (x *elementScanning) reply(r *request, b []byte, last bool) bool {
	if x.buf = append(x.buf, b...); last {
		r.finish(withOurCursor(x.buf, x.group))
	}
	return false
}

// queuedScans are those of a transaction, most of which have none: a nil one does nothing.
type queuedScans struct {
	all   []queuedScan // in their order
	group int          // number of the group that the transaction was sent to
	buf   []byte
}

// queuedScan is one of them. Its place is told by number in the reply, and by bytes in what is sent: the
// transaction's frames are one piece by then.
type queuedScan struct {
	elementScan
	nth      int // command of the transaction
	from, to int // of its bytes in the transaction's frames
}

// queueScan notes a scan of size bytes that is about to be queued.
func (tx *transaction) queueScan(args [][]byte, size int) {
	if tx.scans == nil {
		tx.scans = &queuedScans{}
	}
	n := len(tx.frames)
	tx.scans.all = append(tx.scans.all, queuedScan{elementScan: newElementScan(args), nth: tx.n, from: n, to: n + size})
}

// multiFrame is what stands in front of a transaction's frames when they are sent.
const multiFrame = "*1\r\n$5\r\nMULTI\r\n"

// at is the transaction with the cursors that the server of a group knows.
func (q *queuedScans) at(group int, frame []byte) []byte {
	if q == nil {
		return frame
	}
	q.group = group
	out, done := []byte(nil), 0
	for i := range q.all {
		x := &q.all[i]
		if f := x.frame(group); f != nil {
			out = append(append(out, frame[done:len(multiFrame)+x.from]...), f...)
			done = len(multiFrame) + x.to
		}
	}
	return append(out, frame[done:]...)
}

// reply collects the reply of EXEC and gives it with the gateway's cursors, when all is there.
func (q *queuedScans) reply(b []byte, last bool) []byte {
	if q.buf = append(q.buf, b...); !last {
		return nil
	}
	parts, ok := resp.SplitArray(q.buf, nil)
	if !ok || len(parts) == 0 {
		return q.buf // an error, or null
	}
	for _, x := range q.all {
		if x.nth < len(parts) {
			parts[x.nth] = withOurCursor(parts[x.nth], q.group)
		}
	}
	return append(redcon.AppendArray(nil, len(parts)), bytes.Join(parts, nil)...)
}
