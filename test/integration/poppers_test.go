package integration

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// poppersEnd is one of the two ends of a comparison: the gateway or a plain server.
type poppersEnd struct {
	t    *testing.T
	addr string
	c    *wire // that writes and asks
}

func newPoppersEnd(t *testing.T, addr string) *poppersEnd {
	return &poppersEnd{t, addr, dialWire(t, addr)}
}

func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	c := dialRaw(t, addr)
	return &wire{t, c, bufio.NewReader(c)}
}

// ask sends a command and returns its reply as it came.
func (w *wire) ask(command string) string {
	w.t.Helper()
	w.send(command)
	return w.reply()
}

func (w *wire) send(command string) {
	w.t.Helper()
	if _, err := w.c.Write([]byte(command + "\r\n")); err != nil {
		w.t.Fatal(command, err)
	}
}

func (w *wire) reply() string {
	w.t.Helper()
	_ = w.c.SetReadDeadline(time.Now().Add(time.Minute))
	var scan resp.ReplyScanner
	for n := 1; ; n++ {
		if _, err := w.r.Peek(n); err != nil {
			w.t.Fatal("reply: ", err)
		}
		b, _ := w.r.Peek(w.r.Buffered())
		scan = resp.ReplyScanner{}
		if m, st := scan.Scan(b); st == resp.OK {
			out := string(b[:m])
			_, _ = w.r.Discard(m)
			return out
		}
		n = len(b)
	}
}

var blockedField = regexp.MustCompile(`blocked_clients:(\d+)`)

// awaitBlocked waits until so many clients wait for data.
func (e *poppersEnd) awaitBlocked(want int) {
	e.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if n := e.blocked(); n == want {
			return
		} else if time.Now().After(end) {
			e.t.Fatalf("%s: %d clients are blocked, want %d", e.addr, n, want)
		}
	}
}

func (e *poppersEnd) blocked() int {
	e.t.Helper()
	m := blockedField.FindStringSubmatch(e.c.ask("INFO clients"))
	if m == nil {
		e.t.Fatal("INFO without blocked_clients")
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// popper is a client that waits, at both ends.
type popper struct {
	command        string
	gateway, plain *wire
}

// poppers compares who is given what. Whoever waits does so at both ends, in the same order; the plain
// server says who is to be served.
type poppers struct {
	t              *testing.T
	rng            *rand.Rand
	gateway, plain *poppersEnd
	waiting        []*popper
	trace          []string
	n              int
}

func (p *poppers) both(command string) {
	p.t.Helper()
	p.trace = append(p.trace, command)
	if got, want := p.gateway.c.ask(command), p.plain.c.ask(command); got != want {
		p.fail("%s: %q, a plain server says %q", command, got, want)
	}
}

func (p *poppers) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Log(strings.Join(p.trace[max(len(p.trace)-40, 0):], "\n"))
	p.t.Fatalf(format, args...)
}

// pop has a client wait. It is known to wait before anything else is done.
func (p *poppers) pop(command string) {
	x := &popper{command, dialWire(p.t, p.gateway.addr), dialWire(p.t, p.plain.addr)}
	p.trace = append(p.trace, fmt.Sprintf("%s: %s", x.plain.c.LocalAddr(), command))
	x.plain.send(command)
	x.gateway.send(command)
	p.waiting = append(p.waiting, x)
	p.settle()
}

// leave closes a client, and waits for nothing.
func (p *poppers) leave(i int) {
	x := p.waiting[i]
	p.trace = append(p.trace, fmt.Sprintf("%s closes", x.plain.c.LocalAddr()))
	_, _ = x.plain.c.Close(), x.gateway.c.Close()
	p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
}

// settle takes the replies of those whom the plain server has served, and demands the same of the
// gateway; then as many wait at both ends.
func (p *poppers) settle() {
	p.t.Helper()
	served, still := p.served()
	for _, x := range served {
		want := x.plain.reply()
		_ = x.gateway.c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := x.gateway.r.Peek(1); err != nil {
			p.fail("%s (%s) is given nothing, by a plain server %q", x.plain.c.LocalAddr(), x.command, want)
		}
		if got := x.gateway.reply(); got != want {
			p.fail("%s (%s) is given %q, by a plain server %q", x.plain.c.LocalAddr(), x.command, got, want)
		}
		_, _ = x.plain.c.Close(), x.gateway.c.Close()
	}
	p.waiting = still
	p.gateway.awaitBlocked(len(still))
	for _, x := range still {
		if _, err := x.gateway.r.Peek(x.gateway.r.Buffered()); err != nil || x.gateway.r.Buffered() > 0 {
			p.fail("%s (%s) is given something", x.plain.c.LocalAddr(), x.command)
		}
	}
}

// served are those whom the plain server has answered, when all others wait there.
func (p *poppers) served() (served, still []*popper) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		blocked := p.plain.blocked()
		served, still = nil, nil
		for _, x := range p.waiting {
			_ = x.plain.c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := x.plain.r.Peek(1); err != nil {
				still = append(still, x)
			} else {
				served = append(served, x)
			}
		}
		if len(still) == blocked && p.plain.blocked() == blocked {
			return served, still
		}
		if time.Now().After(end) {
			p.fail("%d clients wait at the plain server, %d were not served", blocked, len(still))
		}
	}
}

// step is one thing that clients do.
func (p *poppers) step(pops, writes []string) {
	p.t.Helper()
	fill := func(command string) string {
		p.n++
		return strings.NewReplacer("%k", "{q}"+strconv.Itoa(p.rng.IntN(2)), "%s", "s"+strconv.Itoa(p.rng.IntN(2)), "%v", strconv.Itoa(p.n)).Replace(command)
	}
	switch n := p.rng.IntN(10); {
	case n < 5:
		p.pop(fill(pops[p.rng.IntN(len(pops))]))
		return
	case n < 8 && len(p.waiting) > 0:
		p.leave(p.rng.IntN(len(p.waiting)))
	}
	p.both(fill(writes[p.rng.IntN(len(writes))]))
	p.settle()
}

// TestPoppers: who waits for data is served in the order in which he came, and who has gone is given
// nothing, as by a plain server, whatever happens to the slot meanwhile.
func TestPoppers(t *testing.T) {
	r := newRig(t, 2, "--set", "loops.count=4")
	plain := testredis.StartT(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lists := []string{"LPUSH %k %v", "RPUSH %k %v %v", "RPUSH %k %v", "EVAL \"return redis.call('lpush',KEYS[1],ARGV[1])\" 1 %k %v", "DEL %k"}
	kinds := []struct {
		name         string
		pops, writes []string
	}{
		{"lists", []string{"BLPOP %k 0", "BRPOP %k 0", "BLPOP {q}0 {q}1 0", "BLMPOP 0 1 %k LEFT", "BLMOVE %k {q}to LEFT RIGHT 0", "BRPOPLPUSH %k {q}to 0"}, lists},
		{"sets", []string{"BZPOPMIN %k 0", "BZPOPMAX %k 0", "BZMPOP 0 1 %k MIN", "BZPOPMIN {q}1 {q}0 0"}, []string{"ZADD %k %v m%v", "ZADD %k 1 a%v 2 b%v", "ZINCRBY %k 1 i%v", "DEL %k"}},
		{"several slots", []string{"BLPOP s0 s1 0", "BRPOP s1 s0 0", "BLPOP %s 0", "BLMPOP 0 2 s1 s0 LEFT", "BRPOP %s 0"}, []string{"LPUSH %s %v", "RPUSH %s %v %v", "RPUSH %s %v", "DEL %s"}},
		{"streams", []string{"XREADGROUP GROUP g c BLOCK 0 STREAMS {q}0 >", "XREADGROUP GROUP g c2 BLOCK 0 STREAMS {q}0 >"}, []string{"XADD {q}0 1-%v f v"}},
	}
	for _, moves := range []bool{false, true} {
		stop := func() int { return 0 }
		if moves {
			stop = r.KeepMoving()
		}
		for _, x := range kinds {
			t.Run(fmt.Sprintf("%s, slots move: %v", x.name, moves), func(t *testing.T) {
				p := &poppers{t: t, rng: rand.New(rand.NewPCG(seed, 2)), gateway: newPoppersEnd(t, r.listen), plain: newPoppersEnd(t, plain.Addr)}
				p.gateway.c.ask("DEL {q}0 {q}1 {q}to s0 s1")
				p.plain.c.ask("DEL {q}0 {q}1 {q}to s0 s1")
				if x.name == "streams" {
					p.both("XGROUP CREATE {q}0 g $ MKSTREAM")
				}
				for range rounds(15, 1000) {
					p.step(x.pops, x.writes)
				}
				for len(p.waiting) > 0 {
					p.leave(0)
				}
				p.settle()
			})
		}
		stop()
	}
}

// TestTurnsAcrossAMove: clients that wait for a key are served in the order in which they came, though
// the key has moved meanwhile, and they are clients of different loops.
func TestTurnsAcrossAMove(t *testing.T) {
	r := newRig(t, 2, "--set", "loops.count=4")
	e := newPoppersEnd(t, r.listen)
	for _, x := range []struct{ wait, write string }{
		{"BLPOP q 0", "RPUSH q %d"}, {"BRPOP q 0", "LPUSH q %d"}, {"BZPOPMIN q 0", "ZADD q %d m"}, {"BLMOVE q {q}to LEFT LEFT 0", "RPUSH q %d"},
	} {
		for round := range rounds(1, 20) {
			var waiting []*wire
			for i := range 4 {
				waiting = append(waiting, dialWire(t, r.listen))
				waiting[i].send(x.wait)
				e.awaitBlocked(i + 1)
			}
			r.bounce(2)
			for i, w := range waiting {
				e.c.ask(fmt.Sprintf(x.write, i))
				_ = w.c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := w.r.Peek(1); err != nil {
					t.Fatalf("%s, round %d: client %d is not served in its turn", x.wait, round, i)
				}
				w.reply()
			}
			e.c.ask("DEL q {q}to")
		}
	}
}
