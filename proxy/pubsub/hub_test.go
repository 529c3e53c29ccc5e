package pubsub

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// hangBound is no expectation of speed: it ends a hang.
const hangBound = 2 * time.Minute

// fakeLoop is an event loop that runs what is posted, one after the other, and passes on what it
// is to deliver.
type fakeLoop struct {
	mail chan func()
	got  chan Message
}

func newFakeLoop(t *testing.T) *fakeLoop {
	l := &fakeLoop{mail: make(chan func(), 1000), got: make(chan Message, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for f := range l.mail {
			f()
		}
	})
	t.Cleanup(func() { close(l.mail); wg.Wait() })
	return l
}

func (l *fakeLoop) Post(f func()) { l.mail <- f }

func (l *fakeLoop) Deliver(list []Message) {
	for _, m := range list {
		l.got <- m
	}
}

// sync has f done and waits until the loop hears of it.
func (l *fakeLoop) sync(t *testing.T, f func(ready func())) {
	t.Helper()
	done := make(chan struct{})
	f(func() { close(done) })
	select {
	case <-done:
	case <-time.After(hangBound):
		t.Fatal("ready is not called")
	}
}

func (l *fakeLoop) next(t *testing.T) Message {
	t.Helper()
	select {
	case m := <-l.got:
		return m
	case <-time.After(hangBound):
		t.Fatal("no message")
		return Message{}
	}
}

// startHub runs a hub over servers, as groups g0, g1 …
func startHub(t *testing.T, servers ...*testredis.Server) *Hub {
	var groups []router.Group
	for i, s := range servers {
		groups = append(groups, router.Group{ID: fmt.Sprint("g", i), Endpoint: topology.Endpoint{Addr: s.Addr}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	dialer := upstream.NewDialer("t", 1)
	h := NewHub(ctx, Config{
		Dial: func(ctx context.Context, g router.Group) (net.Conn, error) {
			c, err := dialer.Dial(ctx, upstream.Target{Endpoint: g.Endpoint, Proto: 3})
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Linger: time.Minute, ReconnectMin: 10 * time.Millisecond, ReconnectMax: 100 * time.Millisecond,
		OfMove: func(_ string, channel, _ []byte) bool { return string(channel) == "of-a-move" },
		Log:    zap.NewNop(),
	}, groups)
	t.Cleanup(func() { cancel(); h.Wait() })
	return h
}

// TestHub: what any group publishes comes once to each loop that wants it, whatever the number of
// its clients, and to no other.
func TestHub(t *testing.T) {
	a, b := testredis.StartT(t), testredis.StartT(t)
	h := startHub(t, a, b)
	ctx := context.Background()
	one, two := newFakeLoop(t), newFakeLoop(t)
	ch, news := Key{Exact, "ch"}, Key{Pattern, "n*"}
	one.sync(t, func(ready func()) { h.Want(one, []Key{ch, news}, func() {}, ready) })
	one.sync(t, func(ready func()) { h.Want(one, []Key{ch}, func() {}, ready) })
	two.sync(t, func(ready func()) { h.Want(two, []Key{news}, func() {}, ready) })
	publish := func(s *testredis.Server, channel, text string, receivers int64) {
		t.Helper()
		if n, err := s.Client().Publish(ctx, channel, text).Result(); err != nil || n != receivers {
			t.Errorf("%s has %d receivers, want %d; %v", channel, n, receivers, err)
		}
	}
	publish(a, "of-a-move", "x", 0)
	publish(a, "ch", "1", 1)
	if m := one.next(t); m.Key != ch || string(m.Frame) != ">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\n1\r\n" {
		t.Errorf("%v %q", m.Key, m.Frame)
	}
	publish(b, "news", "2", 1)
	for _, l := range []*fakeLoop{one, two} {
		if m := l.next(t); m.Key != news {
			t.Errorf("%v %q", m.Key, m.Frame)
		}
	}
	if c, p, s := h.Counts(); c != 1 || p != 1 || s != 0 {
		t.Errorf("%d channels, %d patterns, %d sharded", c, p, s)
	}
	part := []byte("*2\r\n$2\r\nch\r\n:3\r\n") // two clients besides the gateway, at each of two groups
	if n, ok := h.Subscribers(Exact, [][]byte{[]byte("ch")}, [][]byte{part, part}); !ok || n[0] != 6 {
		t.Errorf("subscribers: %v %v", n, ok)
	}
	if _, ok := h.Subscribers(Exact, [][]byte{[]byte("ch")}, [][]byte{[]byte("+OK\r\n")}); ok {
		t.Error("+OK says how many subscribers there are")
	}
	h.Drop(one, []Key{ch}, nil) // the first of two
	h.Drop(one, []Key{ch, news, {Sharded, "none"}}, nil)
	two.sync(t, func(ready func()) { h.Want(two, []Key{{Exact, "last"}}, func() {}, ready) }) // so the servers have heard of the end
	publish(a, "ch", "3", 0)
	publish(a, "news", "4", 1)
	if m := two.next(t); m.Key != news || len(one.got) > 0 {
		t.Errorf("%v; %d for the loop that wants none", m.Key, len(one.got))
	}
	h.Drop(two, []Key{news, {Exact, "last"}}, nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.channels)+len(h.patterns) > 0 || h.Listens() != 0 {
		t.Errorf("left: %v, %v, %b", h.channels, h.patterns, h.Listens())
	}
}

// TestInterruptedFeed: when a feed is cut off, trackers are told that anything may have changed,
// both at once and when it is back; and it is subscribed to all again.
func TestInterruptedFeed(t *testing.T) {
	srv := testredis.StartT(t)
	h := startHub(t, srv)
	ctx := context.Background()
	l := newFakeLoop(t)
	l.sync(t, func(ready func()) { h.Want(l, []Key{{Exact, "ch"}}, func() {}, ready) })
	l.sync(t, func(ready func()) { h.Track(l, 1, ready) })
	srv.Client().Set(ctx, "k", "v", 0)
	if m := l.next(t); !m.Invalidates() || len(m.Keys) != 1 || string(m.Keys[0]) != "k" {
		t.Errorf("%+v", m)
	}
	if n := srv.Client().ClientKillByFilter(ctx, "TYPE", "pubsub").Val(); n != 1 {
		t.Fatalf("killed %d", n)
	}
	for range 2 {
		if m := l.next(t); !m.All {
			t.Errorf("%+v", m)
		}
	}
	if n := srv.Client().Publish(ctx, "ch", "again").Val(); n != 1 {
		t.Errorf("%d receivers", n)
	}
	if m := l.next(t); m.Key.Name != "ch" {
		t.Errorf("%+v", m)
	}
	h.Track(l, -1, nil)
	h.Drop(l, []Key{{Exact, "ch"}}, nil)
}

// TestServerAway: a server that is not there holds nobody up.
func TestServerAway(t *testing.T) {
	srv := testredis.StartT(t)
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	h := startHub(t, srv, &testredis.Server{Addr: fmt.Sprint("127.0.0.1:", port)})
	l := newFakeLoop(t)
	l.sync(t, func(ready func()) { h.Want(l, []Key{{Sharded, "ch"}}, func() {}, ready) })
	if n := srv.Client().SPublish(context.Background(), "ch", "x").Val(); n != 1 {
		t.Errorf("%d receivers", n)
	}
	if m := l.next(t); m.Key != (Key{Sharded, "ch"}) {
		t.Errorf("%+v", m)
	}
	h.SetGroups(nil)
	if len(h.feeds) != 0 {
		t.Errorf("feeds of no group: %v", h.feeds)
	}
}

// TestPublish: a message is counted by who gets it, whatever the server counts, goes to the next group
// when its own is away, and is answered by a group that is removed meanwhile.
func TestPublish(t *testing.T) {
	ctx := context.Background()
	a, b := testredis.StartT(t), testredis.StartT(t)
	l := newFakeLoop(t) // which ends after the hub
	h := startHub(t, a, b)
	type outcome struct {
		reply string
		err   error
	}
	publish := func(text string) chan outcome {
		done := make(chan outcome, 1)
		h.Publish(&Publication{Key: Key{Exact, "ch"}, From: []byte("me"), Frame: resp.AppendRequest(nil, []byte("PUBLISH"), []byte("ch"), []byte(text)),
			Done: func(reply []byte, err error) { done <- outcome{string(reply), err} }}, []byte(text))
		return done
	}
	expect := func(done chan outcome, want string) {
		t.Helper()
		select {
		case got := <-done:
			if got.reply != want || got.err != nil {
				t.Errorf("%+v, want %s", got, want)
			}
		case <-time.After(hangBound):
			t.Fatal("no reply")
		}
	}
	expect(publish("0"), ":0\r\n")
	for _, s := range []*testredis.Server{a, b} { // a client of the servers' own
		direct := s.Client().Subscribe(ctx, "ch")
		defer direct.Close()
		if _, err := direct.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int) string { return fmt.Sprintf(":%d\r\n", n) }
	expect(publish("1"), want(1))
	ch, all := Key{Exact, "ch"}, Key{Pattern, "c*"}
	h.Want(l, []Key{ch, all}, func() {}, func() {}) // nobody waits for the servers: the order is that of the calls
	expect(publish("2"), want(3))
	h.Want(l, []Key{ch}, func() {}, func() {})
	expect(publish("3"), want(4))
	h.Drop(l, []Key{ch, all}, nil)
	expect(publish("3"), want(2))
	h.Drop(l, []Key{ch}, nil)
	expect(publish("4"), want(1))
	first := []*testredis.Server{a, b}[GroupOf(h.groups, []byte("me"))]
	if err := first.Pause(); err != nil {
		t.Fatal(err)
	}
	late := publish("5")
	h.mu.Lock()
	var groups []router.Group
	for _, g := range h.groups {
		if g.Addr != first.Addr {
			groups = append(groups, g)
		} else {
			for f := h.feeds[g]; ; { // it has gone out
				f.mu.Lock()
				taken := f.taken
				f.mu.Unlock()
				if taken > 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	h.mu.Unlock()
	h.SetGroups(groups)
	if err := first.Continue(); err != nil {
		t.Fatal(err)
	}
	expect(late, want(1))
	expect(publish("6"), want(1))
	h.SetGroups(nil)
	if got := <-publish("7"); got.err != ErrAway {
		t.Errorf("%+v without a group", got)
	}
}

// TestListens: what may come by a channel or a pattern.
func TestListens(t *testing.T) {
	for k, want := range map[Key]Listens{
		{Exact, "ch"}: ListensToMessages, {Sharded, "__keyevent@0__:x"}: ListensToMessages, {Pattern, "ch*"}: ListensToMessages,
		{Exact, "__keyevent@0__:expired"}: ListensToEvents, {Pattern, "__key*"}: ListensToEvents,
		{Pattern, "*"}: ListensToMessages | ListensToEvents, {Pattern, "__?ey*"}: ListensToMessages | ListensToEvents, {Pattern, ""}: ListensToMessages | ListensToEvents,
	} {
		if got := k.hears(); got != want {
			t.Errorf("%v: %b, want %b", k, got, want)
		}
	}
}
