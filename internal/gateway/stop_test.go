package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keyferry/conf"
	"keyferry/internal/testredis"
)

// TestStopEndsWhateverIsConnected: clients of every port that stay connected do not keep a
// gateway from stopping, nor does a server that never answers.
func TestStopEndsWhateverIsConnected(t *testing.T) {
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	c := conf.Default()
	c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = fmt.Sprint("127.0.0.1:", port), "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	core, logs := observer.New(zap.ErrorLevel)
	g, err := Start(c, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	mute := neverAnswers(t)
	ask := func(addr, text string) {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if _, err := io.WriteString(nc, text); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, 1)); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	ask(g.Admin.Addr(), fmt.Sprintf("PROXY GROUP ADD g1 %s UNCHECKED\r\n", mute))
	ask(g.Admin.Addr(), "PROXY SLOT ASSIGN 0-16383 g1 UNCHECKED\r\n")
	for range 3 {
		ask(g.Admin.Addr(), "PING\r\n")
		ask(g.Admin.Addr(), "SUBSCRIBE keyferry:migrations\r\n")
		ask(c.Listen, "SUBSCRIBE news\r\n")
		ask(c.Listen, "PING\r\nPI")
		ask(g.Web.Addr(), "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	nc, err := net.Dial("tcp", g.Admin.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, "PROXY SLOT CHECK\r\n") // which asks the server
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := g.Stop(ctx); err != nil {
		t.Error(err)
	}
	if logs.Len() > 0 {
		t.Error(logs.All())
	}
}

// neverAnswers is the address of a server that takes connections and says nothing.
func neverAnswers(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String() // the kernel accepts
}

// TestPartThatHangs: a part that does not stop is named and left behind, and the next ones
// are stopped.
func TestPartThatHangs(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	g := &Gateway{log: zap.New(core)}
	hang := make(chan struct{})
	defer close(hang)
	err := g.within("listener", 20*time.Millisecond, func(context.Context) error { <-hang; return nil })
	if err == nil || !strings.Contains(err.Error(), "listener") || logs.FilterField(zap.String("part", "listener")).Len() != 1 {
		t.Errorf("%v, %v", err, logs.All())
	}
	if err := g.within("store", time.Minute, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
