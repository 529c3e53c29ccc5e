package proxy

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/upstream"
)

func sha1Hex(body string) string {
	sum := sha1.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// TestScriptLoadedOnALostConnection: a server says that it does not have a script, and is gone
// when that is to be mended.
func TestScriptLoadedOnALostConnection(t *testing.T) {
	onEachTransport(t, func(t *testing.T, s *Server, addr string, server *testredis.Server, link *faultproxy.Proxy) {
		ctx := context.Background()
		body := "return 7 --" + strings.Repeat("x", 100<<10) // written at once, and not with the turn
		run := fmt.Sprintf("EVALSHA %s 1 k\n", sha1Hex(body))
		c := dialLine(t, addr)
		c.send(string(resp.AppendRequest(nil, []byte("EVAL"), []byte(body), []byte("1"), []byte("k"))) + run)
		c.expect(":7", ":7")
		if err := server.Client().ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		link.Set(faultproxy.ToClient, faultproxy.Fault{Blackhole: true})
		c.send(run)
		awaitInFlight(s)
		s.each(ctx, func(*loop) { // which so finds the reply and the end at once
			link.CutAfter(faultproxy.ToClient, int64(len("-NOSCRIPT No matching script. Please use EVAL.\r\n")))
			link.Set(faultproxy.ToClient, faultproxy.Fault{})
			for link.Stats().Cut == 0 {
				time.Sleep(time.Millisecond)
			}
		})
		c.expect("-ERR connection to the server was lost (evalsha); the command may or may not have been executed")
		c.send(run)
		c.expect(":7")
	})
}

// TestScriptsAfterFlush: a script that is known again after SCRIPT FLUSH is loaded again
// where it had been loaded before, also for commands in a pipeline.
func TestScriptsAfterFlush(t *testing.T) {
	_, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, testredis.StartT(t), testredis.StartT(t))
	var low, high string
	for i := 0; low == "" || high == ""; i++ {
		if k := fmt.Sprint("k", i); slotOf(k) < 8192 {
			low = k
		} else {
			high = k
		}
	}
	const body = "return 7"
	sha := sha1Hex(body)
	c := dialLine(t, addr)
	for range 2 {
		c.send(fmt.Sprintf("EVAL %q 1 %s\n", body, low))
		c.expect(":7")
		c.send(fmt.Sprintf("EVALSHA %s 1 %s\nEVALSHA %s 1 %s\nPING\n", sha, high, sha, high))
		c.expect(":7", ":7", "+PONG")
		c.send("SCRIPT FLUSH\n")
		c.expect("+OK")
	}
	c.send(fmt.Sprintf("EVALSHA %s 1 %s\n", sha, high))
	c.expect("-NOSCRIPT No matching script. Please use EVAL.")
}

// TestScriptsAreBounded in bytes, not only in number.
func TestScriptsAreBounded(t *testing.T) {
	c := newScripts()
	for i := range 3 * scriptsBytesMax / scriptBytesMax {
		body := bytes.Repeat([]byte{'-'}, scriptBytesMax)
		copy(body, fmt.Sprint("-- ", i))
		c.remember(body)
		c.remember(body)
	}
	if n := c.bytes.Load(); n > scriptsBytesMax || n < scriptsBytesMax-scriptBytesMax {
		t.Errorf("%d bytes of scripts are kept, want %d", n, scriptsBytesMax)
	}
	c.forget()
	if n := c.bytes.Load(); n != 0 {
		t.Errorf("%d bytes after SCRIPT FLUSH", n)
	}
}

// TestScriptsThatMaySay: what a script does not name it may publish by.
func TestScriptsThatMaySay(t *testing.T) {
	for body, want := range map[string]bool{
		"return redis.call('GET', KEYS[1])":           false,
		"return redis.pcall ( \"GET\", KEYS[1])":      false,
		"return redis.call([[GET]], KEYS[1])":         false,
		"return redis.call([=[GET]=], KEYS[1])":       false,
		"local recalled, callback_of = 1, 2 return 1": false,
		"return 1":                         false,
		"return redis.call('Publish',1,2)": true,
		"return server.call('sPUBLISH')":   true,
		"return redis.call(ARGV[1])":       true,
		"return redis.call(\n\tARGV[1])":   true,
		"return redis.call( [1])":          true,
		"local f = redis.call f(ARGV[1])":  true,
		"return redis['call'](ARGV[1])":    true,
		"return redis.call":                true,
	} {
		if got := maySay([]byte(body)); got != want {
			t.Errorf("%q: %v", body, got)
		}
	}
}

// TestScriptsAfterServerWasAway: a script that could not be sent has not been loaded, neither
// where the server was known to be away nor where that turned out when it was dialled.
func TestScriptsAfterServerWasAway(t *testing.T) {
	server := testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.ReconnectMin, o.ReconnectMax = 1, time.Minute, time.Minute }, server)
	ctx := context.Background()
	onPipe := func(f func(*upstream.Pipe)) {
		s.each(ctx, func(l *loop) {
			for _, p := range l.servers.pipes {
				f(p)
			}
		})
	}
	const body = "return 7"
	run := fmt.Sprintf("EVALSHA %s 1 k\n", sha1Hex(body))
	c := dialLine(t, addr)
	c.send(fmt.Sprintf("EVAL %q 1 k\n", body))
	c.expect(":7")
	for _, dialled := range []bool{false, true} {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		for down := false; !down; time.Sleep(time.Millisecond) {
			onPipe(func(p *upstream.Pipe) { down = p.State() == upstream.Down })
		}
		s.each(ctx, func(l *loop) {
			for _, p := range l.servers.pipes {
				if dialled {
					p.Reconnect()
				}
			}
			for client := range l.clients.all {
				client.data([]byte(run))
			}
		})
		if got := c.line(); !strings.HasPrefix(got, "-ERR server not reachable") {
			t.Errorf("without a server: %s", got)
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		onPipe((*upstream.Pipe).Reconnect)
		c.send(run + run + "PING\n")
		c.expect(":7", ":7", "+PONG")
	}
}
