package stats

import (
	"slices"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// Class is a kind of command whose latency is watched apart from others.
type Class int

// The classes.
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

// Link is the state of a gateway's connections to one group.
type Link struct {
	Up         int    `json:"up"`
	Down       int    `json:"down"`
	Connecting int    `json:"connecting"`
	InFlight   int    `json:"in_flight"` // commands without a reply
	Error      string `json:"error"`     // why one is down
}

// Add adds the connections of another loop.
func (x *Link) Add(y Link) {
	x.Up, x.Down, x.Connecting, x.InFlight = x.Up+y.Up, x.Down+y.Down, x.Connecting+y.Connecting, x.InFlight+y.InFlight
	if y.Error != "" {
		x.Error = y.Error
	}
}

// Sample is what a data plane has counted so far, summed over its loops. It belongs to the
// goroutine that asked for it.
type Sample struct {
	Counts    Counts
	Blocked   int64 // clients that wait in a blocking command
	Buffers   int64 // bytes of all clients' buffers, as last accounted
	Slow      uint64
	Classes   [classes]metrics.Histogram
	LockWaits metrics.Histogram
	Commands  []CommandCount // those that somebody sent
	Errors    map[string]uint64
	SlotOps   []uint32 // commands sampled, by slot; each wraps around
	OpsEach   int      // how many commands one of SlotOps stands for
	Links     map[string]Link
	Took      time.Duration // to ask the loops
}

// Part is what one loop adds to a Sample. The loop makes it and then has no more to do with it.
type Part struct {
	Blocked int64
	Buffers int64 // bytes
	Links   map[string]Link

	commands  CommandStats
	errors    map[string]uint64
	lockWaits metrics.Histogram
	slots     []uint32
}

// Part copies what the loop has counted, some ten µs of work. What the Recorder does not know is
// for the caller to fill in.
func (r *Recorder) Part() *Part {
	return &Part{commands: r.Calls.Commands(), errors: r.Calls.Errors(), lockWaits: r.LockWaits, slots: slices.Clone(r.Hot.slots)}
}

// Adder sums up the parts of several loops.
type Adder struct {
	sum      Sample
	commands CommandStats
}

// NewAdder begins a Sample with what the Boards show.
func NewAdder(c *Counts, slow uint64, opsEach int) *Adder {
	return &Adder{Sample{Counts: *c, Slow: slow, OpsEach: opsEach, Errors: make(map[string]uint64), Links: make(map[string]Link)}, NewCommandStats()}
}

// Add adds what one loop has said.
func (a *Adder) Add(p *Part) {
	out := &a.sum
	out.Blocked += p.Blocked
	out.Buffers += p.Buffers
	out.LockWaits.Add(&p.lockWaits)
	a.commands.Add(p.commands)
	for code, n := range p.errors {
		out.Errors[code] += n
	}
	if out.SlotOps == nil {
		out.SlotOps = p.slots
	} else {
		for i, n := range p.slots {
			out.SlotOps[i] += n
		}
	}
	for g, x := range p.Links {
		sum := out.Links[g]
		sum.Add(x)
		out.Links[g] = sum
	}
}

// Sum is the Sample, once all parts are added that came.
func (a *Adder) Sum() Sample {
	out := &a.sum
	EachCommand(func(c *resp.Command) {
		st := &a.commands[c.Index]
		if st.Times == nil && st.Rejected == 0 {
			return
		}
		n := CommandCount{Name: c.Name, Failed: st.Failed, Rejected: st.Rejected}
		if st.Times != nil {
			n.Calls = st.Times.Count
			out.Classes[classOf(c)].Add(st.Times)
		}
		out.Commands = append(out.Commands, n)
	})
	return *out
}
