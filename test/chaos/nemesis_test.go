package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"time"

	"keyferry/internal/faultproxy"
)

// fault is one thing that the nemesis does. Two at once never concern the same party.
type fault struct {
	party string
	name  string
	do    func() error
	undo  func() error
	until time.Time
}

// nemesis does faults for as long as it is told. It belongs to the test's goroutine, as
// only that one may start processes.
type nemesis struct {
	w       *world
	longest time.Duration // of one fault
	atOnce  int
	flush   func() // FLUSHALL; nil: never
	active  []fault
}

// run returns when the time is over; the faults that are active then stay.
func (n *nemesis) run(d time.Duration) {
	end := time.Now().Add(d)
	for time.Now().Before(end) {
		n.expire(time.Now())
		if len(n.active) < n.atOnce && n.w.rng.IntN(12) == 0 {
			n.begin(n.pick())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// end ends every fault: servers run, links are whole.
func (n *nemesis) end() {
	n.expire(time.Now().Add(time.Hour))
	n.w.heal()
}

func (n *nemesis) expire(now time.Time) {
	var stay []fault
	for _, f := range n.active {
		if now.Before(f.until) {
			stay = append(stay, f)
			continue
		}
		n.w.note("nemesis: over: %s", f.name)
		if err := f.undo(); err != nil {
			n.w.t.Fatalf("%s: %v", f.name, err)
		}
	}
	n.active = stay
}

func (n *nemesis) begin(f fault) {
	for _, a := range n.active {
		if a.party == f.party {
			return
		}
	}
	length := time.Duration(n.w.rng.Int64N(int64(n.longest)))/2 + 10*time.Millisecond
	if n.w.rng.IntN(4) == 0 {
		length = n.longest
	}
	n.w.note("nemesis: for %v: %s", length.Round(time.Millisecond), f.name)
	if err := f.do(); err != nil {
		n.w.t.Fatalf("%s: %v", f.name, err)
	}
	n.w.count("faults", 1)
	n.w.count("fault "+strings.Fields(f.name)[0], 1)
	f.until = time.Now().Add(length)
	n.active = append(n.active, f)
}

func (n *nemesis) pick() fault {
	i := n.w.rng.IntN(len(n.w.Servers))
	switch r := n.w.rng.IntN(20); {
	case r < 3:
		return n.gateway()
	case r < 8:
		return n.server(i)
	case r == 8:
		if n.flush != nil {
			return fault{party: "flush", name: "flushall", do: func() error { n.flush(); return nil }, undo: nothing}
		}
		return n.link("front", n.w.front)
	case r < 11:
		return n.link("front", n.w.front)
	}
	return n.link(fmt.Sprintf("link %d", i+1), n.w.links[i])
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(d))) + 1
}

func nothing() error { return nil }

func (n *nemesis) gateway() fault {
	w := n.w
	if w.rng.IntN(3) == 0 {
		return fault{party: "gateway", name: "freeze the gateway",
			do:   func() error { return w.Child.Signal(syscall.SIGSTOP) },
			undo: func() error { return w.Child.Signal(syscall.SIGCONT) }}
	}
	return fault{party: "gateway", name: "kill the gateway",
		do:   func() error { w.Kill(); return nil },
		undo: func() error { w.Start(w.failpoints); return nil }}
}

func (n *nemesis) server(i int) fault {
	s, party := n.w.Servers[i], fmt.Sprintf("server %d", i+1)
	switch n.w.rng.IntN(5) {
	case 3:
		return n.failover(i, party)
	case 4: // connections that nobody uses are closed by the server from now on
		return fault{party: party, name: "reconfigure " + party, do: func() error { return n.configure(i, "timeout", "1") },
			undo: func() error { return n.configure(i, "timeout", "0") }}
	case 0:
		return fault{party: party, name: "kill " + party, do: s.Kill, undo: s.Restart}
	case 1:
		return fault{party: party, name: "freeze " + party, do: s.Pause, undo: s.Continue}
	}
	room := 1000 * n.w.rng.IntN(50)
	return fault{party: party, name: fmt.Sprintf("shrink maxmemory of %s to what it uses and %d bytes", party, room),
		do:   func() error { return n.shrink(i, room) },
		undo: func() error { return s.Client().ConfigSet(context.Background(), "maxmemory", "0").Err() }}
}

func (n *nemesis) configure(i int, name, value string) error {
	return n.w.Servers[i].Client().ConfigSet(context.Background(), name, value).Err()
}

func (n *nemesis) shrink(i, room int) error {
	ctx, c := context.Background(), n.w.Servers[i].Client()
	info, err := c.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	used, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		return err
	}
	return c.ConfigSet(ctx, "maxmemory", strconv.Itoa(used+room)).Err()
}

// prey are the commands whose replies are lost: those of moves most of all.
var prey = [][]string{{"restore"}, {"restore"}, {"unlink"}, {"unlink"}, {"exists"}, {"dump"}, {"scan"}, {"info"}, {"client", "list"}, {"client", "setname"},
	{"set"}, {"incr"}, {"append"}, {"exec"}, {"hset"}, {"lpop"}, {"blpop"}, {"xreadgroup"}, {"rpush"}, {"evalsha"}, {"flushall"}}

func (n *nemesis) link(party string, p *faultproxy.Proxy) fault {
	rng := n.w.rng
	d := faultproxy.Direction(rng.IntN(2))
	set := func(name string, f faultproxy.Fault, both bool) fault {
		return fault{party: party, name: fmt.Sprintf("%s %s, direction %d, both %v", name, party, d, both), undo: p.Heal, do: func() error {
			p.Set(d, f)
			if both {
				p.SetBoth(f)
			}
			return nil
		}}
	}
	now := func(name string, f func()) fault {
		return fault{party: party, name: name + " " + party, do: func() error { f(); return nil }, undo: p.Heal}
	}
	switch rng.IntN(9) {
	case 0, 1:
		return set("black-hole", faultproxy.Fault{Blackhole: true}, rng.IntN(2) == 0)
	case 2:
		return set("delay", faultproxy.Fault{Delay: upTo(rng, 30*time.Millisecond), Jitter: upTo(rng, 30*time.Millisecond)}, true)
	case 3:
		return set("throttle", faultproxy.Fault{BytesPerS: 2000 + rng.IntN(100_000)}, true)
	case 4:
		return now("reset", p.Reset)
	case 5:
		return now("half-close", func() { p.HalfClose(d) })
	case 6:
		return fault{party: party, name: "refuse " + party, undo: p.Heal, do: func() error { p.Reset(); return p.Refuse(true) }}
	case 7:
		bytes := int64(rng.IntN(20_000))
		return now(fmt.Sprintf("cut after %d bytes, direction %d,", bytes, d), func() { p.CutAfter(d, bytes) })
	}
	return n.trap(party, p, rng)
}

func (n *nemesis) trap(party string, p *faultproxy.Proxy, rng *rand.Rand) fault {
	words := prey[rng.IntN(len(prey))]
	act := faultproxy.Action(rng.IntN(4))
	times := 1 + rng.IntN(3)
	return fault{party: party, name: fmt.Sprintf("trap (%d, %d times) for %v on %s", act, times, words, party),
		do: func() error {
			p.SetTraps(faultproxy.Trap{Match: faultproxy.Command(words...), Action: act, Times: times})
			return nil
		},
		undo: func() error {
			n.w.count("trapped", p.Sprung())
			return p.Heal()
		}}
}
