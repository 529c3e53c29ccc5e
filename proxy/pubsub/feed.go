package pubsub

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/router"
)

// feed is the hub's connection to one group. It connects again for as long as it is
// wanted, and then subscribes to everything again; what was published meanwhile is lost,
// as it is for a client of the server itself.
//
// Two goroutines run while it is connected: run reads, and write sends what others queue in out. A
// server answers in order, so counting is enough to know that all was confirmed: sent goes up with
// each command and down with each confirmation, and is 0 while the server is away, since
// nobody is to wait for it.
//
// What is wanted while it connects is asked for at least once, and possibly twice:
//
//	begin: up = true          Want: enters the channel, feed.subscribe: up, so it is queued
//	begin: wantedNow ─► has the channel too, and queues it again
//
// A second SUBSCRIBE harms nothing. The other order, to ask for what is wanted and then to be up,
// could miss a channel that is entered between the two.
type feed struct {
	h      *Hub
	group  router.Group
	ctx    context.Context
	stop   context.CancelFunc
	wakeup chan struct{} // capacity 1: there is something to send

	mu      sync.Mutex // protects all below; never held across I/O
	out     []byte     // commands not yet sent
	up      bool
	sent    int  // commands whose confirmation is awaited
	gap     bool // clients may have cached, since it was up last, what it has heard no news of
	waiters []chan struct{}
}

// feedPing is how often a silent server is asked whether it is there; it is dropped after
// three times that.
const feedPing = 3 * time.Second

func newFeed(h *Hub, g router.Group) *feed {
	f := &feed{h: h, group: g, wakeup: make(chan struct{}, 1), sent: 1} // 1: it has not connected yet
	f.ctx, f.stop = context.WithCancel(h.ctx)
	return f
}

// subscribe sends a subscription or its end. Before the connection stands there is nothing
// to do: it begins with all that is wanted then.
func (f *feed) subscribe(k Key, on bool) {
	f.command(resp.AppendRequest(nil, []byte(k.Kind.Verb(on)), []byte(k.Name)))
}

func (f *feed) track(on bool) {
	if on {
		f.command(resp.AppendRequest(nil, []byte("CLIENT"), []byte("TRACKING"), []byte("ON"), []byte("BCAST")))
	} else {
		f.command(resp.AppendRequest(nil, []byte("CLIENT"), []byte("TRACKING"), []byte("OFF")))
	}
}

func (f *feed) command(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up {
		return
	}
	f.out = append(f.out, frame...)
	f.sent++
	select {
	case f.wakeup <- struct{}{}:
	default:
	}
}

// synced reports that all commands have been confirmed, or the server is away.
func (f *feed) synced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent == 0
}

// awaitSynced waits for that.
func (f *feed) awaitSynced(most time.Duration) {
	f.mu.Lock()
	if f.sent == 0 {
		f.mu.Unlock()
		return
	}
	done := make(chan struct{})
	f.waiters = append(f.waiters, done)
	f.mu.Unlock()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-f.ctx.Done():
	}
}

// confirmed counts n confirmations; all of them for n < 0.
func (f *feed) confirmed(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent -= n; f.sent <= 0 || n < 0 {
		f.sent = 0
		for _, w := range f.waiters {
			close(w)
		}
		f.waiters = nil
	}
}

func (f *feed) run() {
	o := &f.h.c
	wait := o.ReconnectMin
	for f.ctx.Err() == nil {
		began := time.Now()
		err := f.connectAndRead()
		f.mu.Lock()
		was := f.up
		f.up, f.out, f.gap = false, nil, true
		f.mu.Unlock()
		f.confirmed(-1) // nobody waits for a server that is away
		if was && f.ctx.Err() == nil {
			f.h.receive([]Message{{All: true}}) // what clients have cached may have changed unseen
		}
		if f.ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Second {
			wait = o.ReconnectMin
		}
		f.h.c.Log.Warn("subscriptions at a server are interrupted", zap.String("group", f.group.ID),
			zap.String("addr", f.group.Addr), zap.Error(err), zap.Duration("next_try_in", wait))
		pause(f.ctx, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, o.ReconnectMax)
	}
}

func (f *feed) connectAndRead() error {
	c, err := f.h.c.Dial(f.ctx, f.group)
	if err != nil {
		return err
	}
	defer c.Close()
	unhook := context.AfterFunc(f.ctx, func() { _ = c.Close() })
	defer unhook()
	f.begin()
	end := make(chan struct{})
	defer close(end)
	f.h.wait.Go(func() { f.write(c, end) })
	return f.read(c)
}

// begin queues what is wanted now. What is asked for from now on goes out behind it. The one that
// sent begins with is taken back at the end, so that nobody finds the feed synced in between.
func (f *feed) begin() {
	f.mu.Lock()
	f.up, f.out, f.sent = true, nil, 1
	f.mu.Unlock()
	keys, track := f.h.wantedNow()
	for _, k := range keys {
		f.subscribe(k, true)
	}
	if track {
		f.track(true)
	} else {
		f.closeGap() // nobody has cached anything
	}
	f.confirmed(1)
}

func (f *feed) write(c net.Conn, end chan struct{}) {
	ping := time.NewTicker(feedPing)
	defer ping.Stop()
	for {
		f.mu.Lock()
		out := f.out
		f.out = nil
		f.mu.Unlock()
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return // the reader finds the connection closed
			}
		}
		select {
		case <-end:
			return
		case <-f.wakeup:
		case <-ping.C:
			if _, err := c.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
				return
			}
		}
	}
}

var errNoRESP = errors.New("the server does not speak RESP3")

// read takes what the server sends until the connection ends.
func (f *feed) read(c net.Conn) error {
	var scan resp.ReplyScanner
	var part []byte
	buf := make([]byte, 64<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(3 * feedPing))
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		var list []Message
		for b := buf[:n]; len(b) > 0; {
			m, st := scan.Scan(b)
			if st == resp.Invalid {
				return errNoRESP
			}
			part = append(part, b[:m]...)
			b = b[m:]
			if st == resp.OK {
				if msg, ok := f.parse(bytes.Clone(part)); ok {
					list = append(list, msg)
				}
				if part = part[:0]; cap(part) > 1<<20 {
					part = nil
				}
			}
		}
		if len(list) > 0 {
			f.h.receive(list)
		}
	}
}

// closeGap says that the server tells of all changes from here on, and whether it did not before.
func (f *feed) closeGap() (was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, f.gap = f.gap, false
	return was
}

// parse makes a message of a frame, or notes a confirmation.
func (f *feed) parse(frame []byte) (Message, bool) {
	if frame[0] != '>' {
		// The reply to CLIENT TRACKING or PING; or an error, of a server that does not have
		// the command, which will not be mended by waiting.
		if frame[0] == '-' {
			f.h.c.Log.Warn("a server refuses a subscription", zap.String("group", f.group.ID), zap.ByteString("error", frame))
		}
		if !bytes.HasPrefix(frame, []byte("+PONG")) {
			f.confirmed(1)
		}
		// What was read and then changed before it was heard of is stale: once more for all.
		all := bytes.HasPrefix(frame, []byte("+OK")) && f.closeGap()
		return Message{All: all}, all
	}
	parts, ok := resp.SplitAggregate(frame)
	if !ok || len(parts) < 2 {
		return Message{}, false
	}
	kind, _ := resp.BulkBody(parts[0])
	name, _ := resp.BulkBody(parts[1])
	if n := len(parts); n >= 3 && bytes.HasSuffix(kind, []byte("message")) {
		channel, _ := resp.BulkBody(parts[n-2])
		payload, _ := resp.BulkBody(parts[n-1])
		if f.h.c.OfMove(f.group.ID, channel, payload) {
			return Message{}, false
		}
	}
	switch string(kind) {
	case "message":
		return Message{Key: Key{Exact, string(name)}, Frame: frame}, true
	case "pmessage":
		return Message{Key: Key{Pattern, string(name)}, Frame: frame}, true
	case "smessage":
		return Message{Key: Key{Sharded, string(name)}, Frame: frame}, true
	case "invalidate":
		keys, ok := resp.SplitArray(parts[1], nil)
		m := Message{All: !ok}
		for _, k := range keys {
			if name, ok := resp.BulkBody(k); ok {
				m.Keys = append(m.Keys, name)
			}
		}
		return m, m.Invalidates()
	default:
		f.confirmed(1) // (p|s)(un)subscribe
	}
	return Message{}, false
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
