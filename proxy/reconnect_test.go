package proxy

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/router"
)

// TestServerEndsAnIdleConnection, as one does that has a timeout: no client sees it.
func TestServerEndsAnIdleConnection(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMin = 1, time.Minute }, server)
	ctx := context.Background()
	c := dialLine(t, addr)
	c.send("SET k v\n")
	c.expect("+OK")
	pipe := func() (id int64, up bool) {
		s.each(ctx, func(l *loop) {
			for _, p := range l.servers.pipes {
				id, up = p.ClientID(), p.State() == upstream.Up
			}
		})
		return id, up
	}
	for range 3 {
		first, _ := pipe()
		if err := server.Client().Do(ctx, "CLIENT", "KILL", "ID", strconv.FormatInt(first, 10)).Err(); err != nil {
			t.Fatal(err)
		}
		for id, up := pipe(); up && id == first; id, up = pipe() {
			time.Sleep(time.Millisecond)
		}
		c.send("GET k\n")
		c.expect("$1", "v")
	}
}

// awaitInFlight waits until a command has gone to a server, and gives the pipe that it is on.
func awaitInFlight(s *Server) (on *upstream.Pipe) {
	for on == nil {
		time.Sleep(time.Millisecond)
		s.each(context.Background(), func(l *loop) {
			for _, p := range l.servers.pipes {
				if p.State() == upstream.Up && p.InFlight() > 0 && p.Pending() == 0 {
					on = p
				}
			}
		})
	}
	return on
}

// TestLostConnectionIsReplacedAtOnce: who had sent a command on it sees an error; whoever comes
// next waits for the new connection, and does not see that there was none for a moment.
func TestLostConnectionIsReplacedAtOnce(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMin = 1, time.Minute }, server)
	ctx := context.Background()
	c, other := dialLine(t, addr), dialLine(t, addr)
	admin := server.Client()
	for range 3 {
		other.send("GET k\n") // the connection works
		other.expect("$-1")
		if err := admin.Do(ctx, "CLIENT", "PAUSE", 60_000, "WRITE").Err(); err != nil {
			t.Fatal(err)
		}
		c.send("SET k v\n")
		if err := admin.Do(ctx, "CLIENT", "KILL", "ID", awaitInFlight(s).ClientID()).Err(); err != nil {
			t.Fatal(err)
		}
		c.expect("-ERR connection to the server was lost (set); the command may or may not have been executed")
		if err := admin.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
			t.Fatal(err)
		}
		other.send("GET k\n")
		if other.expect("$-1"); t.Failed() {
			return
		}
	}
}

// TestFenceEndsWithItsGroup: a server that died with a command in flight is asked again and
// again to kill its connection, until no group leads there any more.
func TestFenceEndsWithItsGroup(t *testing.T) {
	stays, dies := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMax = 1, 20*time.Millisecond }, dies)
	c := dialLine(t, addr)
	c.send("GET k\n")
	c.expect("$-1")
	if err := dies.Pause(); err != nil {
		t.Fatal(err)
	}
	c.send("SET k v\n")
	p := awaitInFlight(s)
	if err := dies.Kill(); err != nil {
		t.Fatal(err)
	}
	c.expect("-ERR connection to the server was lost (set); the command may or may not have been executed")
	fencedBy(t, s, p, topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: stays.Addr}})
}

// TestFenceAfterChangeOfPassword: a server that has got another password is asked to kill a
// connection by that, as soon as a group leads there with it.
func TestFenceAfterChangeOfPassword(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMax = 1, 20*time.Millisecond }, server)
	ctx := context.Background()
	c := dialLine(t, addr)
	c.send("GET k\n")
	c.expect("$-1")
	admin := server.Client().Conn() // stays what it is when there is a password
	defer admin.Close()
	for _, cmd := range [][]any{{"CLIENT", "PAUSE", 60_000, "WRITE"}, {"CONFIG", "SET", "requirepass", "other"}} {
		if err := admin.Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.send("SET k v\n")
	p := awaitInFlight(s)
	if err := admin.Do(ctx, "CLIENT", "KILL", "ID", p.ClientID()).Err(); err != nil {
		t.Fatal(err)
	}
	c.expect("-ERR connection to the server was lost (set); the command may or may not have been executed")
	fencedBy(t, s, p, topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: server.Addr, Secret: topology.NewSecret("other")}})
}

// fencedBy makes a group the only one, with which a lost connection of p that could not be fenced is.
func fencedBy(t *testing.T, s *Server, p *upstream.Pipe, g topology.Group) {
	t.Helper()
	ctx := context.Background()
	drained := func() (yes bool) {
		s.each(ctx, func(*loop) { yes = p.Drained(p.Mark()) })
		return yes
	}
	if drained() {
		t.Fatal("the command is said to have ended while its server can't be asked")
	}
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = 2
	_ = st.AddGroup(g)
	_ = st.AssignSlots(topology.Range{First: 0, Last: 16383}, g.ID)
	table, err := router.Build(st.Topology, router.View{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(hangBound); !drained(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still asked")
		}
	}
}

// whenFailed is a call that does something when it fails.
type whenFailed func()

func (whenFailed) Reply([]byte, bool) {}
func (f whenFailed) Fail(error, bool) { f() }

// TestSentWhenAGroupGoes: what is sent because a command has failed with its group goes to the
// groups of the table that has come.
func TestSentWhenAGroupGoes(t *testing.T) {
	first, second := testredis.StartT(t), testredis.StartT(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel alone and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, &testredis.Server{Addr: mute.Addr().String()})
	ctx := context.Background()
	c := dialLine(t, addr) // makes the loop
	c.send("PING\n")
	c.expect("+PONG")
	var sentTo []string
	s.each(ctx, func(l *loop) {
		l.pipe(0, 0, 2).Send(whenFailed(func() {
			for g := range l.table.Groups {
				p := l.pipe(int16(g), 0, 2)
				p.Send(ignored{}, []byte("*1\r\n$4\r\nPING\r\n"))
				sentTo = append(sentTo, p.Addr)
			}
		}), []byte("*1\r\n$4\r\nPING\r\n"))
	})
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = 2
	_ = st.AddGroup(topology.Group{ID: "g0", Endpoint: topology.Endpoint{Addr: first.Addr}}) // elsewhere now
	_ = st.AddGroup(topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: second.Addr}})
	_ = st.AssignSlots(topology.Range{First: 0, Last: 16383}, "g0")
	table, err := router.Build(st.Topology, router.View{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(ctx, table); err != nil {
		t.Fatal(err)
	}
	if want := []string{first.Addr, second.Addr}; !slices.Equal(sentTo, want) {
		t.Errorf("sent to %v, want %v", sentTo, want)
	}
	c.send("GET k\n")
	c.expect("$-1")
}

// TestSilentServerOfAWatcher: the time that a server may say nothing holds for the connection on
// which a client watches too, and not for one on which a client blocks.
func TestSilentServerOfAWatcher(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.RequestTimeout = 1, 2*time.Second }, server) // other replies come in that time
	blocked, c := dialLine(t, addr), dialLine(t, addr)
	blocked.send("BLPOP list 0\n")
	c.send("WATCH k\nMULTI\nSET k v\n")
	c.expect("+OK", "+OK", "+QUEUED")
	for blockedClients(s) == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2200 * time.Millisecond) // a watcher may think
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	c.send("EXEC\n")
	c.expect("-ERR connection to the server was lost (exec); the command may or may not have been executed")
	if err := server.Continue(); err != nil {
		t.Fatal(err)
	}
	other := testredis.NewClient(server.Addr, "", 0)
	defer other.Close()
	if err := other.RPush(context.Background(), "list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	blocked.expect("*2", "$4", "list", "$1", "x")
}
