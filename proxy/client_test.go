package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/proxy/stats"
)

// lineClient speaks inline commands and reads bytes.
type lineClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dialLine(t *testing.T, addr string) *lineClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &lineClient{t, c, bufio.NewReader(c)}
}

// dialSmall is dialLine with small socket buffers: what the client does not read the gateway
// has to keep.
func dialSmall(t *testing.T, addr string) *lineClient {
	t.Helper()
	dialer := net.Dialer{Control: faultproxy.SmallBuffers}
	c, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &lineClient{t, c, bufio.NewReader(c)}
}

// eventually waits for what becomes true at some time, however slow the machine.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hangBound); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never so: %s", what)
		}
	}
}

func (c *lineClient) send(text string) {
	c.t.Helper()
	if _, err := c.c.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// line is the next line, without its end.
func (c *lineClient) line() string {
	c.t.Helper()
	_ = c.c.SetReadDeadline(time.Now().Add(hangBound))
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %q %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

func (c *lineClient) expect(lines ...string) {
	c.t.Helper()
	for _, want := range lines {
		if got := c.line(); got != want {
			c.t.Errorf("got %q, want %q", got, want)
		}
	}
}

// closed waits for the other side's end.
func (c *lineClient) closed() {
	c.t.Helper()
	_ = c.c.SetReadDeadline(time.Now().Add(hangBound))
	if b, err := c.r.ReadByte(); err == nil {
		c.t.Errorf("more to read: %q", b)
	}
}

func TestClientLikeRedis(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv)
	for g, s := range pairs(t, addr, srv.Addr) {
		sayTheSame(t, g, s, "CLIENT KILL", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID 0", "CLIENT KILL ID x", "CLIENT KILL ID 99999", "CLIENT KILL TYPE foo",
			"CLIENT KILL USER foo", "CLIENT KILL SKIPME maybe", "CLIENT KILL ADDR", "CLIENT KILL ADDR 1:2 LADDR", "CLIENT KILL foo bar", "CLIENT KILL ID ID 999999", "CLIENT KILL ID x y", "CLIENT KILL ID 5 y", "CLIENT KILL TYPE pubsub SKIPME yes",
			"CLIENT KILL TYPE master", "CLIENT KILL ID 99998 ID 99999", "CLIENT KILL LADDR 1.2.3.4:5 USER default",
			"CLIENT PAUSE", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 1 foo", "CLIENT PAUSE 0", "CLIENT PAUSE 0 write", "CLIENT PAUSE 99999999999999999999", "CLIENT UNPAUSE", "CLIENT UNPAUSE x",
			"CLIENT REPLY", "CLIENT REPLY foo", "CLIENT REPLY ON", "CLIENT GETREDIR", "CLIENT TRACKINGINFO",
			"CLIENT LIST TYPE foo", "CLIENT LIST TYPE replica", "CLIENT LIST ID", "CLIENT LIST ID x", "CLIENT LIST ID 0", "CLIENT LIST foo", "CLIENT LIST TYPE normal ID 3", "CLIENT LIST TYPE pubsub",
			"CLIENT NO-EVICT foo", "CLIENT NO-EVICT on x", "CLIENT NO-EVICT on", "CLIENT INFO x", "CLIENT nonsense", "CLIENT")
		fields := regexp.MustCompile(`([a-z-]+)=`)
		names := func(c *redis.Client) (out []string) {
			v, _ := do(c, "CLIENT", "INFO")
			for _, m := range fields.FindAllStringSubmatch(fmt.Sprint(v), -1) {
				out = append(out, m[1])
			}
			return out
		}
		// lib-name and lib-ver are those of 7.2
		if a, b := names(g), names(s); strings.TrimSuffix(fmt.Sprint(a), " lib-name lib-ver]") != strings.TrimSuffix(fmt.Sprint(b), "]") {
			t.Errorf("CLIENT INFO has\n%v, a server\n%v", a, b)
		}
	}
}

// TestClientReply: the replies of a client are those that a server gives.
func TestClientReply(t *testing.T) {
	srv := testredis.StartT(t)
	_, addr := startProxy(t, srv, testredis.StartT(t))
	const script = "SET k v\nCLIENT REPLY SKIP\nGET k\nGET k\nCLIENT REPLY SKIP\nPING\nPING\nCLIENT REPLY SKIP\nnonsense\nECHO a\n" +
		"CLIENT REPLY OFF\nSET k w\nGET nothing nothing\nCLIENT REPLY SKIP\nPING\nMGET k j i\nCLIENT LIST\nCLIENT REPLY ON\nGET k\n" +
		"CLIENT REPLY OFF\nSUBSCRIBE c\nUNSUBSCRIBE c\nPING\nRESET\nPING\nCLIENT REPLY SKIP\nQUIT\n"
	read := func(to string) string {
		c := dialLine(t, to)
		c.send(script)
		var all strings.Builder
		_ = c.c.SetReadDeadline(time.Now().Add(hangBound))
		for {
			line, err := c.r.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				return all.String() + err.Error()
			}
		}
	}
	if a, b := read(addr), read(srv.Addr); a != b {
		t.Errorf("gateway %q\nserver  %q", a, b)
	}
}

func TestClientKill(t *testing.T) {
	s, addr := startProxy(t, testredis.StartT(t))
	c := dialLine(t, addr)
	c.send("CLIENT ID\n")
	me := c.line()[1:]
	others := make([]*lineClient, 5)
	for i := range others { // on both loops
		others[i] = dialLine(t, addr)
		others[i].send("PING\n")
		others[i].expect("+PONG")
	}
	others[0].send("SUBSCRIBE x\n")
	others[0].expect("*3", "$9", "subscribe", "$1", "x", ":1")
	others[1].send("BLPOP nothing 0\n")
	others[2].send("CLIENT ID\n")
	id := others[2].line()[1:]
	for _, x := range []struct{ cmd, want string }{
		{"CLIENT KILL TYPE pubsub", ":1"},
		{"CLIENT KILL ADDR " + others[1].c.LocalAddr().String(), ":1"},
		{"CLIENT KILL ID " + id + " TYPE pubsub", ":0"},
		{"CLIENT KILL ID " + id, ":1"},
		{"CLIENT KILL " + others[3].c.LocalAddr().String(), "+OK"},
		{"CLIENT KILL MAXAGE 100000 SKIPME no", ":0"},
		{"CLIENT KILL LADDR " + addr + " USER default", ":1"},
		{"CLIENT KILL ID " + me, ":0"},
		{"CLIENT KILL SKIPME no TYPE normal", ":1"},
	} {
		c.send(x.cmd + "\nPING\n")
		c.expect(x.want)
		if x.cmd != "CLIENT KILL SKIPME no TYPE normal" {
			c.expect("+PONG")
		}
	}
	c.closed()
	for _, o := range others {
		o.closed()
	}
	again := dialLine(t, addr)
	again.send("CLIENT KILL " + again.c.LocalAddr().String() + "\n")
	again.expect("+OK")
	again.closed()
	for s.Stats()[stats.Clients] > 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestClientPause holds up the clients of every loop, until it ends or is ended.
func TestClientPause(t *testing.T) {
	srv := testredis.StartT(t)
	s, addr := startProxy(t, srv)
	ctx := context.Background()
	boss := dialLine(t, addr)
	clients := make([]*lineClient, 6)
	for i := range clients {
		clients[i] = dialLine(t, addr)
		clients[i].send("SET n 1\n")
		clients[i].expect("+OK")
	}
	clients[3].send("MULTI\nINCR n\n")
	clients[3].expect("+OK", "+QUEUED")
	boss.send("CLIENT PAUSE 3600000 WRITE\nGET n\n")
	boss.expect("+OK", "$1", "1")
	for i, c := range clients {
		c.send([]string{"INCR n\nGET n\n", "EVAL 'return redis.call(\"incr\",KEYS[1])' 1 n\n", "PUBLISH c m\n", "EXEC\n", "PFCOUNT p\n", "BLPOP l 0.01\n"}[i])
	}
	paused := func() (n int) {
		s.each(ctx, func(l *loop) {
			for c := range l.clients.all {
				if c.isHeld() {
					n++
				}
			}
		})
		return n
	}
	for paused() < len(clients) {
		time.Sleep(time.Millisecond)
	}
	boss.send("GET n\nCLIENT LIST\n")
	boss.expect("$1", "1")
	boss.line()
	for range clients {
		if line := boss.line(); strings.Contains(line, " flags=b ") == strings.Contains(line, "cmd=client|list") && !strings.Contains(line, "flags=xb") {
			t.Errorf("flags in %s", line)
		}
	}
	boss.expect2()
	boss.send("CLIENT UNPAUSE\n")
	boss.expect("+OK")
	for i, first := range []string{":", ":", ":0", "*1", ":0", "*-1"} {
		if got := clients[i].line(); !strings.HasPrefix(got, first) {
			t.Errorf("client %d: %q, want %q", i, got, first)
		}
	}
	// ALL holds up reads as well, and ends by itself; a shorter one does not make it end sooner.
	start := time.Now()
	boss.send("CLIENT PAUSE 300\nCLIENT PAUSE 1 WRITE\nGET n\n")
	boss.expect("+OK", "+OK", "$1", "4")
	if d := time.Since(start); d < 250*time.Millisecond {
		t.Errorf("paused for %v", d)
	}
	// There is a way back from one that is too long.
	boss.send("CLIENT PAUSE 3600000\n")
	boss.expect("+OK")
	boss.send("CLIENT UNPAUSE\nPING\n")
	boss.expect("+OK", "+PONG")
}

// expect2 reads the rest of a bulk string of lines that was begun.
func (c *lineClient) expect2() {
	for c.line() != "" {
	}
}

// TestClientPauseWaitsForWhatIsSent: when PAUSE is answered, no write is on its way.
func TestClientPauseWaitsForWhatIsSent(t *testing.T) {
	srv := testredis.StartT(t)
	s, addr := startProxy(t, srv)
	w, boss := dialLine(t, addr), dialLine(t, addr)
	w.send("SET n 1\n")
	w.expect("+OK")
	for s.Stats()[stats.InFlight] > 0 {
		time.Sleep(time.Millisecond)
	}
	if err := srv.Pause(); err != nil {
		t.Fatal(err)
	}
	w.send("SET n 2\n")
	for s.Stats()[stats.InFlight] == 0 {
		time.Sleep(time.Millisecond)
	}
	boss.send("CLIENT PAUSE 600000 WRITE\n")
	_ = boss.c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if line, err := boss.r.ReadString('\n'); err == nil {
		t.Errorf("answered %q with a write under way", line)
	}
	if err := srv.Continue(); err != nil {
		t.Fatal(err)
	}
	boss.expect("+OK")
	w.expect("+OK")
}

// TestKillOfNobody: an address without a character is nobody's. It was taken for no
// condition, and CLIENT KILL "" ended every client.
func TestKillOfNobody(t *testing.T) {
	me, other := &session{who: identity{id: 1}}, &session{who: identity{id: 2}}
	for _, opts := range [][]string{{"ADDR", ""}, {"LADDR", ""}, {"ADDR", "", "ID", "2"}, {"ADDR", "", "ADDR", ""}} {
		var args [][]byte
		for _, o := range opts {
			args = append(args, []byte(o))
		}
		f, why := me.killFilter(args)
		if why != "" || f.match(other) {
			t.Errorf("CLIENT KILL %q: %q, and it means somebody", opts, why)
		}
	}
	_, addr := startProxy(t, testredis.StartT(t))
	c := testredis.NewClient(addr, "", 0)
	defer c.Close()
	if err := c.ClientKill(context.Background(), "").Err(); err == nil || err.Error() != "ERR No such client" {
		t.Errorf("CLIENT KILL of an empty address: %v", err)
	}
}
