package upstream

import (
	"errors"
	"fmt"
	"time"

	"keyferry/internal/resp"
)

// Call is one command in flight on a Pipe.
type Call interface {
	// Reply is given the next bytes of the reply; last marks the end of the frame. The
	// bytes are valid during the call only.
	Reply(b []byte, last bool)
	// Fail ends the call without a reply. With sent the server may have executed it, or
	// still may until the connection is fenced; err then is ErrLost.
	Fail(err error, sent bool)
}

// Socket is what a Pipe needs of its connection on its loop.
type Socket interface {
	Write(p []byte) (int, error)
	Buffered() int // bytes taken by Write that the kernel has not taken
	Close()
}

// Errors of calls that got no reply.
var (
	// ErrLost is given to calls in flight on a connection that died.
	ErrLost = errors.New("connection lost")
	// ErrDown is given to calls that could not be sent: not connected, last try failed.
	ErrDown = errors.New("not reachable")
	// ErrBusy is given to calls that found the queue of a connecting pipe full.
	ErrBusy = errors.New("too many requests wait for the connection")
	// ErrClosed is given to calls after the pipe was retired.
	ErrClosed = errors.New("no longer in use")
)

// State of a pipe. Transitions: idle→connecting→up→connecting→down→connecting…; up→down, if the
// connection was of no use; any→retired.
type State uint8

const (
	Idle       State = iota // never used
	Connecting              // a dial and handshake are under way; calls queue
	Up                      // calls flow
	Down                    // refused, or lost at once; calls fail at once until the next try
	Retired                 // the group is gone or the loop ends
)

// Env is what a pipe needs of its loop.
type Env struct {
	// Dial starts to connect; the loop later calls Connected or DialFailed.
	Dial func(p *Pipe)
	// Dirty asks for a Flush at the end of the turn.
	Dirty func(p *Pipe)
	// Lost is told the name of a dead connection that may have work at the server. The
	// owner fences it and then calls p.Fenced. failed is called when every call that was in
	// flight has been failed; meanwhile another connection may be found lost, and so on.
	Lost func(p *Pipe, name string) (failed func())
	// Retry calls p.Reconnect after d.
	Retry func(p *Pipe, d time.Duration)
}

// Limits bound a pipe.
type Limits struct {
	QueueBytes   int           // while connecting
	ReconnectMin time.Duration // first pause after a failure; doubled, with jitter by the loop
	ReconnectMax time.Duration
}

// worthwhile is how long a connection lasts at least, if it has answered nothing, to be followed
// by another without a pause.
const worthwhile = time.Second

// directWrite is the size from which a frame is written without a copy into out.
const directWrite = 32 << 10

// gatherMax is how much a turn gathers before it is written without waiting for the turn's
// end: more saves no system calls to speak of, and would not stay in the processor's cache.
const gatherMax = 64 << 10

// Pipe is one pipelined connection of one loop to one (group, database).
//
// Its loop owns it and nobody else touches it, so nothing in it is locked. It lives from New
// until it is Retired and its last call has ended, and has any number of connections in that
// time, one after another.
type Pipe struct {
	Group    string
	Endpoint // which may change: the next connection goes by it
	DB       int
	Proto    int // RESP version of the replies: 2 or 3

	env    *Env
	limits Limits
	state  State
	err    error         // why it is Down
	pause  time.Duration // before the last try after a failure; 0: it has been Up since

	present
	traffic
	history
	silence
}

// present is the connection that stands. Connected sets all of it; Closed sets conn to nil and
// leaves the rest, which is then that of the last one.
//
// Invariant: Up implies conn != nil, but while Closed tells Env.Lost. Retired may have one as
// well, until what is in flight has been answered.
type present struct {
	conn   Socket
	name   string    // CLIENT SETNAME
	id     int64     // CLIENT ID; 0: not known
	since  time.Time // when it was made
	before uint64    // history.answered at that time
}

// traffic is what has been taken and not answered.
//
// Invariant: calls has one entry for each reply that is still to come, in the order in which
// the server gets the commands; out is a tail of those commands' bytes. While the pipe is
// Connecting out has all of them, since nothing goes out then. scan is amid the reply of
// calls.front(), or between two.
type traffic struct {
	out   []byte
	calls ring
	scan  resp.ReplyScanner
	dirty bool // Env.Dirty has been told: a Flush will come
}

// history counts over the whole life of the pipe; nothing in it goes back but unfenced.
//
// Invariant: sent - answered == calls.n. A call that fails has been answered, too; whether the
// server may still execute it is what unfenced says.
type history struct {
	conns          uint64 // connections made
	sent, answered uint64 // calls taken, calls ended: marks for Drained
	unfenced       int    // dead connections whose last commands may still execute
}

// silence is for Silent alone, but that Connected and Data set heardAt.
type silence struct {
	heardAt time.Time // when the server was last heard, or the oldest call was new
	rested  bool      // nothing was in flight when Silent was last asked
	seen    uint64    // … and so many calls had been answered
}

// New makes an idle pipe.
func New(group string, t Target, env *Env, l Limits) *Pipe {
	return &Pipe{Group: group, Endpoint: t.Endpoint, DB: t.DB, Proto: t.Proto, env: env, limits: l}
}

// ClientID is what the server calls the present connection; 0 if it is not known.
func (p *Pipe) ClientID() int64 { return p.id }

// Conns counts the connections made so far: what was bound to one is lost with it.
func (p *Pipe) Conns() uint64 { return p.conns }

// State says whether calls flow.
func (p *Pipe) State() State { return p.state }

// Err is why the pipe is down, if it is.
func (p *Pipe) Err() error { return p.err }

// InFlight is the number of calls without an answer.
func (p *Pipe) InFlight() int { return p.calls.n }

// Pending is the number of bytes that wait to be sent.
func (p *Pipe) Pending() int {
	n := len(p.out)
	if p.conn != nil {
		n += p.conn.Buffered()
	}
	return n
}

// Send queues one command. The frame is copied or written before Send returns; c gets
// exactly one last Reply or one Fail, possibly before Send returns.
func (p *Pipe) Send(c Call, frame []byte) {
	if p.state != Up && !p.takes(c, len(frame)) {
		return
	}
	p.sent++
	p.calls.push(c)
	p.put(frame)
}

// skipped takes the replies of a block that nobody asked for.
type skipped struct{}

func (skipped) Reply([]byte, bool) {}
func (skipped) Fail(error, bool)   {}

// SendBlock queues several commands that go out together or not at all, with nobody
// else's between them. c gets the reply of the one that stands behind the first before of
// them and in front of the last after; the other replies are dropped.
func (p *Pipe) SendBlock(c Call, frame []byte, before, after int) {
	if p.state != Up && !p.takes(c, len(frame)) {
		return
	}
	p.sent += uint64(before + 1 + after)
	for range before {
		p.calls.push(skipped{})
	}
	p.calls.push(c)
	for range after {
		p.calls.push(skipped{})
	}
	p.put(frame)
}

// takes reports whether a pipe that is not up takes a call; if not, the call has failed.
func (p *Pipe) takes(c Call, size int) bool {
	switch p.state {
	case Idle:
		p.connect()
	case Down:
		c.Fail(p.downError(), false)
		return false
	case Retired:
		c.Fail(ErrClosed, false)
		return false
	}
	if p.state == Connecting && len(p.out)+size > p.limits.QueueBytes && len(p.out) > 0 {
		c.Fail(ErrBusy, false)
		return false
	}
	return true
}

// put hands the bytes of calls that have been pushed to the next flush.
func (p *Pipe) put(frame []byte) {
	if p.state == Up && len(frame) >= directWrite {
		p.Flush()
		if p.conn != nil {
			_, _ = p.conn.Write(frame) // a failure arrives as Closed
		}
		return
	}
	p.out = append(p.out, frame...)
	if p.state != Up {
		return
	}
	if len(p.out) >= gatherMax {
		p.write()
	} else if !p.dirty {
		p.dirty = true
		p.env.Dirty(p)
	}
}

// Flush writes what the turn has gathered.
func (p *Pipe) Flush() {
	p.dirty = false
	if p.state == Up && len(p.out) > 0 {
		p.write()
	}
}

func (p *Pipe) write() {
	out := p.out
	p.out = nil // Write may report the end of the connection before it returns
	_, _ = p.conn.Write(out)
	if p.out == nil && cap(out) <= 256<<10 {
		p.out = out[:0]
	}
}

// Data takes bytes from the server. An error means that the server does not speak RESP
// as asked for: the caller closes the connection.
//
// Who gets a reply may send something, and writing that may show that the connection has
// ended: the calls that are left have been failed then, and the rest of b is nobody's.
func (p *Pipe) Data(b []byte, now time.Time) error {
	p.heardAt = now
	for conn := p.conn; len(b) > 0 && p.conn == conn; {
		n, st := p.scan.Scan(b)
		if st == resp.Invalid || p.calls.n == 0 {
			return fmt.Errorf("unexpected bytes from %s", p.Addr)
		}
		c := p.calls.front()
		if st == resp.OK {
			p.calls.pop()
			p.answered++
		}
		c.Reply(b[:n], st == resp.OK)
		b = b[n:]
	}
	if p.state == Retired && p.calls.n == 0 && p.conn != nil {
		p.conn.Close()
	}
	return nil
}

// More is a lower bound of the bytes that are still to come of the reply at hand, if it is a
// bulk string of which a part has come.
func (p *Pipe) More() int { return p.scan.More() }

func (p *Pipe) connect() {
	p.state = Connecting
	p.env.Dial(p)
}

// Connected makes c the pipe's connection. name and id are what the server knows it by.
func (p *Pipe) Connected(c Socket, name string, id int64, now time.Time) {
	p.conn, p.name, p.id, p.state, p.err, p.pause = c, name, id, Up, nil, 0
	p.conns++
	p.scan = resp.ReplyScanner{}
	p.heardAt, p.since, p.before = now, now, p.answered
	p.Flush()
}

// DialFailed ends a try to connect. What queued meanwhile fails, unsent.
func (p *Pipe) DialFailed(err error) {
	if p.state == Retired {
		return
	}
	p.goDown(err)
	p.failAll(p.downError(), false)
}

// Closed is called when the connection has ended, for whatever reason.
func (p *Pipe) Closed(err error) {
	if p.conn == nil {
		return
	}
	p.conn = nil
	failed := func() {}
	if p.calls.n > 0 {
		p.unfenced++
		failed = p.env.Lost(p, p.name)
	}
	switch {
	case p.state == Retired:
	case p.answered > p.before || time.Since(p.since) > worthwhile:
		// A server that ended a connection which has worked is there all the same, or soon
		// will be: what comes now waits for the next connection, instead of being refused.
		p.state = Connecting
	default:
		p.goDown(err)
	}
	p.failAll(ErrLost, true)
	failed()
	if p.state == Connecting { // and not retired by one of those
		p.env.Dial(p)
	}
}

func (p *Pipe) goDown(err error) {
	if err == nil {
		err = errors.New("closed by the server")
	}
	p.state, p.err = Down, err
	if p.pause == 0 {
		p.pause = p.limits.ReconnectMin
	} else {
		p.pause = min(2*p.pause, p.limits.ReconnectMax)
	}
	p.env.Retry(p, p.pause)
}

// Reconnect tries again after a pause.
func (p *Pipe) Reconnect() {
	if p.state == Down {
		p.connect()
	}
}

// Retire ends the pipe's use: it takes no more calls, and its connection is closed when
// those in flight have been answered.
func (p *Pipe) Retire() {
	if p.state == Up {
		p.Flush() // may end it, and then it is up no more
	}
	if p.state == Up && p.calls.n > 0 {
		p.state = Retired
		return
	}
	p.Abandon()
}

// Abandon is Retire at once: what is in flight fails.
func (p *Pipe) Abandon() {
	up := p.conn != nil
	p.state = Retired
	if up {
		p.conn.Close() // Closed fails the calls
		return
	}
	p.failAll(ErrClosed, false)
}

func (p *Pipe) failAll(err error, sent bool) {
	p.out = p.out[:0]
	// Only the calls of now: Fail may bring new ones to this pipe.
	for n := p.calls.n; n > 0 && p.calls.n > 0; n-- {
		c := p.calls.pop()
		p.answered++
		c.Fail(err, sent)
	}
}

// Fenced is called when one dead connection can no longer execute anything.
func (p *Pipe) Fenced() { p.unfenced-- }

// Mark is the place in the pipe's history to give to Drained.
func (p *Pipe) Mark() uint64 { return p.sent }

// Drained reports that every call taken before the mark has been answered, or can no
// longer execute.
func (p *Pipe) Drained(mark uint64) bool { return p.answered >= mark && p.unfenced == 0 }

// Silent is how long the oldest call in flight has waited without a byte from the server, as
// far as that has been seen: a call that was not there when it was last asked counts from now.
func (p *Pipe) Silent(now time.Time) time.Duration {
	waits := p.state == Up && p.calls.n > 0
	if !waits || p.rested || p.answered != p.seen {
		p.heardAt = now
	}
	p.rested, p.seen = !waits, p.answered
	return now.Sub(p.heardAt)
}

// Close ends the present connection because of reason; calls in flight fail.
func (p *Pipe) Close() {
	if p.state == Up {
		p.conn.Close()
	}
}

func (p *Pipe) downError() error { return fmt.Errorf("%w: %w", ErrDown, p.err) }
