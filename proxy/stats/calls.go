package stats

import (
	"maps"
	"slices"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// maxErrorCodes bounds what servers, modules and scripts can make a loop remember.
const maxErrorCodes = 128

// Calls is what one loop counts of commands by name and of error replies by code. It belongs to
// the loop's goroutine.
type Calls struct {
	cmds   CommandStats
	errors map[string]uint64
}

// CommandStat is what is counted of one command.
type CommandStat struct {
	// Times is of those calls that were answered: from when the command was parsed to the last
	// byte of its reply. Nil: none was. A histogram has 1 KB, and most commands of the table
	// nobody ever sends.
	Times    *metrics.Histogram
	Failed   uint64 // … with an error
	Rejected uint64 // before they were executed; those are not in Times
}

func (q *Calls) init() {
	q.cmds = make([]CommandStat, resp.NumCommands())
	q.errors = make(map[string]uint64)
}

func (q *Calls) reset() {
	clear(q.cmds)
	clear(q.errors)
}

// Count counts a call that took ns.
func (q *Calls) Count(c *resp.Command, ns int64, failed bool) {
	st := &q.cmds[c.Index]
	if st.Times == nil {
		st.Times = &metrics.Histogram{}
	}
	st.Times.Record(time.Duration(ns))
	if failed {
		st.Failed++
	}
}

// CountRejected counts a command that is refused before it is executed. Names that are no
// command's are counted nowhere: clients could make us remember any number of them.
func (q *Calls) CountRejected(args [][]byte) {
	c := resp.Lookup(args[0])
	if c != nil && c.Subs != nil && len(args) > 1 {
		c = c.Sub(args[1])
	}
	if c != nil {
		q.cmds[c.Index].Rejected++
	}
}

// countError counts an error reply by its code, the first word.
func (q *Calls) countError(reply []byte) {
	end := 1
	for end < len(reply) && end < 64 && reply[end] > ' ' {
		end++
	}
	code := reply[1:end]
	if n, ok := q.errors[string(code)]; ok {
		q.errors[string(code)] = n + 1
	} else if len(q.errors) < maxErrorCodes {
		q.errors[string(code)] = 1
	}
}

// CommandStats are what was counted of every command, by resp.Command.Index.
type CommandStats []CommandStat

// NewCommandStats are empty ones, to add to.
func NewCommandStats() CommandStats { return make(CommandStats, resp.NumCommands()) }

// Add adds what was counted elsewhere.
func (sum CommandStats) Add(part CommandStats) {
	for i := range part {
		sum[i].add(&part[i])
	}
}

// add adds another loop's count of the same command.
func (st *CommandStat) add(o *CommandStat) {
	st.Failed += o.Failed
	st.Rejected += o.Rejected
	if o.Times == nil {
		return
	}
	if st.Times == nil {
		st.Times = &metrics.Histogram{}
	}
	st.Times.Add(o.Times)
}

// Commands is a copy of what the loop has counted by command. Its histograms are copied too:
// the loop goes on to count into its own.
func (q *Calls) Commands() CommandStats {
	out := slices.Clone(q.cmds)
	for i := range out {
		if st := &out[i]; st.Times != nil {
			h := *st.Times
			st.Times = &h
		}
	}
	return out
}

// Errors is a copy of the error replies by code.
func (q *Calls) Errors() map[string]uint64 { return maps.Clone(q.errors) }

// EachCommand visits the command table, subcommands after their container.
func EachCommand(f func(*resp.Command)) {
	for _, c := range resp.Commands {
		f(c)
		for _, sub := range c.Subs {
			f(sub)
		}
	}
}
