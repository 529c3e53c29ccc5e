package proxy

import (
	"context"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
	"keyferry/internal/upstream"
)

// Class is a kind of command whose latency is watched apart from others.
type Class int

const (
	Reads Class = iota
	Writes
	Scripts
	Transactions
	Blocking // their time is mostly that of waiting for what they block on
	Others   // the gateway's own answers, channels, and what concerns every group
	classes
)

// ClassNames are what metrics and people call the classes.
var ClassNames = [classes]string{"read", "write", "script", "transaction", "blocking", "other"}

func classOf(c *resp.Command) Class {
	switch {
	case c.Flags&resp.Blocking != 0:
		return Blocking
	case c.Serve == resp.Script:
		return Scripts
	case c.Serve == resp.Transaction:
		return Transactions
	case !c.Serve.ByKey():
		return Others
	case c.Flags&resp.Write != 0:
		return Writes
	}
	return Reads
}

// CommandCount is what is counted of one command.
type CommandCount struct {
	Name                    string
	Calls, Failed, Rejected uint64
}

// Link is the state of the connections of all loops to one group.
type Link struct {
	Up, Down, Connecting int
	InFlight             int
	Error                string // why one is down
}

// Sample is what the data plane has counted so far, summed over its loops.
type Sample struct {
	Stats
	Blocked   int64 // clients that wait in a blocking command
	Buffers   int64 // bytes of all clients' buffers
	Slow      uint64
	Classes   [classes]metrics.Histogram
	LockWaits metrics.Histogram
	Commands  []CommandCount // those that somebody sent
	Errors    map[string]uint64
	SlotOps   []uint32 // commands sampled, by slot; each wraps around
	OpsEach   int      // how many commands one of SlotOps stands for
	Links     map[string]Link
	Took      time.Duration
}

// Sample asks every loop what it has counted: some ten µs on each. Loops that do not
// answer before ctx ends are missing in the sums, and ok is false. Not for a loop's
// goroutine.
func (s *Server) Sample(ctx context.Context) (out Sample, ok bool) {
	begin := time.Now()
	out = Sample{Stats: s.Stats(), Errors: make(map[string]uint64), Links: make(map[string]Link), OpsEach: s.opt.SampleEvery,
		Slow: uint64(s.nextSlow.Load())}
	cmds := make([]commandStat, resp.NumCommands())
	loops := s.allLoops()
	parts := make(chan func(), len(loops)) // a loop that answers too late blocks on nothing
	for _, l := range loops {
		l.post(func() { parts <- l.snapshot(&out, cmds) })
	}
	ok = true
	for range loops {
		select {
		case add := <-parts:
			add()
		case <-ctx.Done():
			ok = false
		case <-s.ctx.Done():
			ok = false
		}
	}
	eachCommand(func(c *resp.Command) {
		st := &cmds[c.Index]
		if st.times == nil && st.rejected == 0 {
			return
		}
		n := CommandCount{Name: c.Name, Failed: st.failed, Rejected: st.rejected}
		if st.times != nil {
			n.Calls = st.times.Count
			out.Classes[classOf(c)].Add(st.times)
		}
		out.Commands = append(out.Commands, n)
	})
	out.Took = time.Since(begin)
	return out, ok
}

// snapshot copies what the loop has counted and returns what adds the copy to out.
func (l *loop) snapshot(out *Sample, cmds []commandStat) (add func()) {
	mine := make([]commandStat, len(l.t.cmds))
	for i, st := range l.t.cmds {
		if st.times != nil {
			h := *st.times
			st.times = &h
		}
		mine[i] = st
	}
	waits, blocked, buffers := l.t.lockWaits, int64(len(l.blocked)+len(l.takers)), int64(l.memory)
	errors := make(map[string]uint64, len(l.t.errors))
	for code, n := range l.t.errors {
		errors[code] = n
	}
	slots := append([]uint32(nil), l.heat.slots...)
	links := l.links()
	return func() {
		out.Blocked += blocked
		out.Buffers += buffers
		out.LockWaits.Add(&waits)
		for i := range mine {
			cmds[i].merge(&mine[i])
		}
		for code, n := range errors {
			out.Errors[code] += n
		}
		if out.SlotOps == nil {
			out.SlotOps = slots
		} else {
			for i, n := range slots {
				out.SlotOps[i] += n
			}
		}
		for g, x := range links {
			sum := out.Links[g]
			sum.Up, sum.Down, sum.Connecting, sum.InFlight = sum.Up+x.Up, sum.Down+x.Down, sum.Connecting+x.Connecting, sum.InFlight+x.InFlight
			if x.Error != "" {
				sum.Error = x.Error
			}
			out.Links[g] = sum
		}
	}
}

func (l *loop) links() map[string]Link {
	out := make(map[string]Link)
	for k, p := range l.pipes {
		x := out[k.group]
		switch p.State() {
		case upstream.Up:
			x.Up++
		case upstream.Connecting:
			x.Connecting++
		case upstream.Down:
			x.Down++
			if err := p.Err(); err != nil {
				x.Error = err.Error()
			}
		}
		x.InFlight += p.InFlight()
		out[k.group] = x
	}
	return out
}

// merge adds another loop's count of the same command.
func (st *commandStat) merge(o *commandStat) {
	st.failed += o.failed
	st.rejected += o.rejected
	if o.times == nil {
		return
	}
	if st.times == nil {
		st.times = &metrics.Histogram{}
	}
	st.times.Add(o.times)
}
