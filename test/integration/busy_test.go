package integration

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// ends are the gateway and a plain server, each with connections by name. What is said to both must be
// answered alike.
type ends struct {
	t    *testing.T
	addr [2]string
	conn [2]map[string]*wire
}

func newEnds(t *testing.T, gateway, plain string) *ends {
	return &ends{t, [2]string{gateway, plain}, [2]map[string]*wire{make(map[string]*wire), make(map[string]*wire)}}
}

func (e *ends) at(i int, name string) *wire {
	if e.conn[i][name] == nil {
		e.conn[i][name] = dialWire(e.t, e.addr[i])
	}
	return e.conn[i][name]
}

// send says something, and awaits nothing.
func (e *ends) send(name, command string) {
	e.t.Helper()
	for i := range e.addr {
		e.at(i, name).send(command)
	}
}

// until asks until the answer begins so, at both ends.
func (e *ends) until(name, command, prefix string) {
	e.t.Helper()
	for i := range e.addr {
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if got := e.at(i, name).ask(command); strings.HasPrefix(got, prefix) {
				break
			} else if time.Now().After(end) {
				e.t.Fatalf("%s: %s says %q, never %s…", e.addr[i], command, got, prefix)
			}
		}
	}
}

var scriptName = regexp.MustCompile(`script: [0-9a-f]{40}`)

// same takes one reply of each end.
func (e *ends) same(name, what string) {
	e.t.Helper()
	var said [2]string
	for i := range e.addr {
		said[i] = scriptName.ReplaceAllString(e.at(i, name).reply(), "script: …")
	}
	if said[0] != said[1] {
		e.t.Errorf("%s: %q, a plain server says %q", what, said[0], said[1])
	}
}

func (e *ends) ask(name, command string) {
	e.t.Helper()
	e.send(name, command)
	e.same(name, command)
}

// keepTrying moves all slots back and forth until the returned function is called. A busy server
// refuses some of that.
func (r *rig) keepTrying() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = r.proxyErr("MIGRATE", "0-16383", "TO", fmt.Sprintf("g%d", 2-i%2))
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// TestBusyAndPausedLikeRedis: clients are told the same by the gateway and by a plain server when a
// script keeps it busy and is killed, and when writes are paused; also while slots move.
func TestBusyAndPausedLikeRedis(t *testing.T) {
	r := newRig(t, 2)
	plain := testredis.StartT(t)
	for _, s := range append([]*testredis.Server{plain}, r.servers...) {
		if err := s.Client().ConfigSet(context.Background(), "busy-reply-threshold", "20").Err(); err != nil {
			t.Fatal(err)
		}
	}
	const library = `#!lua name=l\nredis.register_function{function_name='r', callback=function(k) return redis.call('get',k[1]) end, flags={'no-writes'}}\n` +
		`redis.register_function('w', function(k) return redis.call('incr',k[1]) end)\nredis.register_function('f', function() while true do end end)`
	e := newEnds(t, r.listen, plain.Addr)
	e.ask("a", `FUNCTION LOAD "`+library+`"`)
	for _, moves := range []bool{false, true} {
		if moves {
			defer r.keepTrying()()
		}
		for range rounds(3, 100) {
			e.ask("a", "SET n 1")
			for _, x := range []struct{ run, kill, other string }{
				{`EVAL "while true do end" 1 n`, "SCRIPT KILL", "FUNCTION KILL"},
				{"FCALL f 1 n", "FUNCTION KILL", "SCRIPT KILL"},
				{"FCALL f 1 n", "FUNCTION KILL", "SCRIPT KILL"},
			} {
				e.send("busy", x.run)
				e.until("a", "GET n", "-BUSY")
				e.ask("a", `EVAL "return 1" 1 n`)
				e.ask("b", "INCR n")
				e.ask("b", x.other)
				e.ask("a", x.kill)
				e.same("busy", x.run)
				e.until("a", "GET n", "$1")
				e.ask("a", x.kill)
			}
			e.send("queued", "MULTI\r\nFCALL r 1 n\r\nEVAL \"#!lua flags=no-writes\\nreturn 1\" 1 n")
			for range 3 {
				e.same("queued", "MULTI")
			}
			e.ask("b", "CLIENT PAUSE 3600000 WRITE")
			e.ask("a", "GET n")
			e.ask("a", `EVAL "#!lua flags=no-writes\nreturn redis.call('get',KEYS[1])" 1 n`)
			e.ask("a", "FCALL r 1 n")
			e.ask("a", `EVAL_RO "return 1" 1 n`)
			e.ask("queued", "EXEC")
			e.send("held", "FCALL w 1 n")
			e.send("held2", `EVAL "#!lua\nreturn redis.call('incr',KEYS[1])" 1 n`)
			e.ask("a", "GET n")
			e.ask("b", "CLIENT UNPAUSE")
			e.send("a", "PING") // behind what was held up, both of which count
			e.same("a", "PING")
			for i := range e.addr {
				if a, b := e.at(i, "held").reply(), e.at(i, "held2").reply(); a+b != ":2\r\n:3\r\n" && a+b != ":3\r\n:2\r\n" {
					t.Errorf("%s: what was held up says %q, %q", e.addr[i], a, b)
				}
			}
		}
	}
}
