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
// server answers in order, so each command has its place in asks until its reply has come.
//
//	Want, Drop, Track ─► SUBSCRIBE … ─┐
//	Publish           ─► PUBLISH     ─┼─► out, asks ─► write ─► server ─► read ─► messages to loops,
//	Heard             ─► PING        ─┘                                          then who waits for replies
//
// One connection for all of these is what makes an order: a PUBLISH behind a SUBSCRIBE is heard by
// it, and when the reply to a PING has come, so has all that the server had to say before.
type feed struct {
	h      *Hub
	group  router.Group
	ctx    context.Context
	stop   context.CancelFunc
	wakeup chan struct{} // capacity 1: there is something to send

	mu        sync.Mutex // protects all below; never held across I/O
	state     feedState
	out       []byte // commands not yet sent
	asks      []ask  // whose replies are awaited, in their order
	taken     int    // so many of asks, from the first, have been taken by write
	unsynced  int    // subscriptions whose confirmation is awaited; 1 more while it connects
	unmarked  bool   // there are publications behind the last PING
	gap       bool   // clients may have cached, since it was up last, what it has heard no news of
	waiters   []chan struct{}
	early     []*Publication // that wait for the first connection
	overheard []*Overheard   // that are published there by others than the feed, in the order of Overhear
	retiring  bool           // it is wanted no more, and ends when it has been answered

	answered []*Publication // the reader's: with their replies, but not with all of their messages
}

// feedState is whether a feed is of use. feedConnecting is the first; a feed that was up or could
// not connect is down until it is up.
type feedState uint8

const (
	feedConnecting feedState = iota
	feedUp
	feedDown
)

// ask is one command on a feed.
type ask struct {
	what asked
	pub  *Publication // of askedPublish
	then []func()     // of askedPing: run when all that came before is with the loops
}

type asked uint8

const (
	askedSubscription asked = iota // (UN)SUBSCRIBE, which a push confirms
	askedTracking
	askedPing
	askedPublish
)

// feedPing is how often a silent server is asked whether it is there; it is dropped after
// three times that.
const feedPing = 3 * time.Second

func newFeed(h *Hub, g router.Group) *feed {
	f := &feed{h: h, group: g, wakeup: make(chan struct{}, 1), unsynced: 1}
	f.ctx, f.stop = context.WithCancel(h.ctx)
	return f
}

// retire ends the feed: at once, or when it has been answered what it was asked. A publication that is
// under way gets its reply so.
func (f *feed) retire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retiring = true; len(f.asks) == 0 {
		f.stop()
	}
}

// subscribe sends a subscription or its end. Before the connection stands there is nothing
// to do: it begins with all that is wanted then.
func (f *feed) subscribe(k Key, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.command(ask{what: askedSubscription}, resp.AppendRequest(nil, []byte(k.Kind.Verb(on)), []byte(k.Name)))
}

func (f *feed) track(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trackLocked(on)
}

func (f *feed) trackLocked(on bool) {
	frame := resp.AppendRequest(nil, []byte("CLIENT"), []byte("TRACKING"), []byte("OFF"))
	if on {
		frame = resp.AppendRequest(nil, []byte("CLIENT"), []byte("TRACKING"), []byte("ON"), []byte("BCAST"))
	}
	f.command(ask{what: askedTracking}, frame)
}

// command queues a command, if the feed is up. mu is held.
func (f *feed) command(a ask, frame []byte) {
	if f.state != feedUp {
		return
	}
	f.out = append(f.out, frame...)
	f.h.pending.Add(int64(len(frame)))
	f.asks = append(f.asks, a)
	if a.what <= askedTracking {
		f.unsynced++
	}
	select {
	case f.wakeup <- struct{}{}:
	default:
	}
}

var pingFrame = []byte("*1\r\n$4\r\nPING\r\n")

// heard runs then when all that the server has said until now is with the loops; false: the feed
// hears nothing. Those who ask before the PING has gone out share it.
func (f *feed) heard(then func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != feedUp {
		return false
	}
	f.ping(then)
	return true
}

// ping: one that has not gone out is as good as another. mu is held.
func (f *feed) ping(then ...func()) {
	f.unmarked = false
	if n := len(f.asks); n > f.taken && f.asks[n-1].what == askedPing {
		f.asks[n-1].then = append(f.asks[n-1].then, then...)
		return
	}
	f.command(ask{what: askedPing, then: then}, pingFrame)
}

// synced reports that all subscriptions have been confirmed, or the server is away.
func (f *feed) synced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsynced == 0
}

// awaitSynced waits for that.
func (f *feed) awaitSynced(most time.Duration) {
	f.mu.Lock()
	if f.unsynced == 0 {
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

// confirmed counts n confirmations. mu is held.
func (f *feed) confirmed(n int) {
	if f.unsynced -= n; f.unsynced <= 0 {
		f.unsynced = 0
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
		was := f.lost()
		f.mu.Lock()
		if f.retiring {
			f.stop()
		}
		f.mu.Unlock()
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

// begin queues what is wanted now, and behind that what was published while it connected. The Hub's
// mutex makes that one with what the Hub knows: what is wanted from now on goes out behind it.
func (f *feed) begin() {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	keys, track := f.h.wantedNow()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.unsynced = feedUp, 1 // until all of this is queued
	for _, k := range keys {
		f.command(ask{what: askedSubscription}, resp.AppendRequest(nil, []byte(k.Kind.Verb(true)), []byte(k.Name)))
	}
	if track {
		f.trackLocked(true)
	} else {
		f.gap = false // nobody has cached anything
	}
	early := f.early
	f.early = nil
	for _, p := range early {
		f.publish(p, f.h.ears(p.Key))
	}
	f.confirmed(1)
}

// lost ends what a connection had begun, or the try to make one, and says whether there was one.
// Nobody waits for a server that is away. What had not been sent goes to another group.
func (f *feed) lost() (was bool) {
	f.mu.Lock()
	was = f.state == feedUp
	asks, taken, early, answered := f.asks, f.taken, f.early, f.answered
	f.h.pending.Add(-int64(len(f.out)))
	f.state, f.out, f.asks, f.taken, f.early, f.answered, f.gap, f.unmarked = feedDown, nil, nil, 0, nil, nil, true, false
	f.confirmed(f.unsynced)
	f.mu.Unlock()
	for _, p := range answered {
		p.finish()
	}
	for i, a := range asks {
		for _, then := range a.then {
			then()
		}
		switch {
		case a.pub == nil:
		case i < taken:
			a.pub.Done(nil, ErrUnknown)
		default:
			f.h.publish(a.pub)
		}
	}
	for _, p := range early {
		f.h.publish(p)
	}
	return was
}

// write sends what is queued. Behind publications it sends a PING, whose answer says that all of their
// messages have come; those that are sent together share it.
func (f *feed) write(c net.Conn, end chan struct{}) {
	ping := time.NewTicker(feedPing)
	defer ping.Stop()
	for {
		f.mu.Lock()
		if f.unmarked {
			f.ping() // behind it come no more messages of these publications
		}
		out := f.out
		f.out, f.taken = nil, len(f.asks)
		f.mu.Unlock()
		f.h.pending.Add(-int64(len(out)))
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
			f.heard(func() {})
		}
	}
}

var errNoRESP = errors.New("the server does not speak RESP3")

// brought is what one read has brought: first the messages go to the loops, then those who wait for
// replies hear.
type brought struct {
	messages []Message
	then     []func()
}

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
		var x brought
		for b := buf[:n]; len(b) > 0; {
			m, st := scan.Scan(b)
			if st == resp.Invalid {
				return errNoRESP
			}
			part = append(part, b[:m]...)
			b = b[m:]
			if st == resp.OK {
				if !f.parse(bytes.Clone(part), &x) {
					return errNoRESP
				}
				if part = part[:0]; cap(part) > 1<<20 {
					part = nil
				}
			}
		}
		if len(x.messages) > 0 {
			f.h.receive(x.messages)
		}
		for _, then := range x.then {
			then()
		}
		f.mu.Lock()
		if f.retiring && len(f.asks) == 0 {
			f.stop()
		}
		f.mu.Unlock()
	}
}

// closeGap says that the server tells of all changes from here on, and whether it did not before.
func (f *feed) closeGap() (was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, f.gap = f.gap, false
	return was
}

// parse takes a frame: a push, or a reply. False: it is neither.
func (f *feed) parse(frame []byte, x *brought) bool {
	if frame[0] != '>' {
		return f.replied(frame, x)
	}
	parts, ok := resp.SplitAggregate(frame)
	if !ok || len(parts) < 2 {
		return false
	}
	kind, _ := resp.BulkBody(parts[0])
	name, _ := resp.BulkBody(parts[1])
	m := Message{Frame: frame}
	switch string(kind) {
	case "message":
		m.Key = Key{Exact, string(name)}
	case "pmessage":
		m.Key = Key{Pattern, string(name)}
	case "smessage":
		m.Key = Key{Sharded, string(name)}
	case "invalidate":
		x.changed(parts[1])
		return true
	default:
		return !bytes.HasSuffix(kind, []byte("subscribe")) || f.replied(frame, x)
	}
	channel, _ := resp.BulkBody(parts[len(parts)-2])
	payload, _ := resp.BulkBody(parts[len(parts)-1])
	if m.of = f.publicationOf(m.Key.Kind, channel, payload); m.of == nil {
		m.over = f.overheardOf(m.Key, channel, payload)
	}
	if m.of != nil || !f.h.c.OfMove(f.group.ID, channel, payload) {
		x.messages = append(x.messages, m)
	}
	return true
}

// changed: null means all.
func (x *brought) changed(list []byte) {
	keys, ok := resp.SplitArray(list, nil)
	m := Message{All: !ok}
	for _, k := range keys {
		if name, ok := resp.BulkBody(k); ok && !router.Reserved(name) {
			m.Keys = append(m.Keys, name)
		}
	}
	if m.Invalidates() {
		x.messages = append(x.messages, m)
	}
}

// replied takes the reply to the first of asks.
func (f *feed) replied(frame []byte, x *brought) bool {
	f.mu.Lock()
	if len(f.asks) == 0 || f.taken == 0 {
		f.mu.Unlock()
		return false
	}
	a := f.asks[0]
	f.asks = f.asks[1:]
	f.taken--
	if a.what <= askedTracking {
		f.confirmed(1)
	}
	f.mu.Unlock()
	switch a.what {
	case askedPublish:
		a.pub.reply = frame
		f.answered = append(f.answered, a.pub)
		return true
	case askedPing:
		for _, p := range f.answered {
			x.then = append(x.then, p.finish)
		}
		f.answered = nil
		x.then = append(x.then, a.then...)
		return true
	}
	if frame[0] == '-' { // of a server that does not have the command, which will not be mended by waiting
		f.h.c.Log.Warn("a server refuses a subscription", zap.String("group", f.group.ID), zap.ByteString("error", frame))
	}
	// What was read and then changed before it was heard of is stale: once more for all.
	if a.what == askedTracking && frame[0] == '+' && f.closeGap() {
		x.messages = append(x.messages, Message{All: true})
	}
	return true
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
