package proxy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// maxSamples is how many seconds with a spike are kept of one event, as in Redis.
const maxSamples = 160

// latencySample is the worst spike of one second.
type latencySample struct {
	at int64 // Unix seconds
	ms int64
}

// latencyEvent is a time series of spikes.
type latencyEvent struct {
	samples []latencySample // oldest first
	maxMs   int64
}

// latencyEvent notes a spike of ns.
func (l *loop) latencyEvent(name string, ns int64) {
	e := l.t.events[name]
	if e == nil {
		e = &latencyEvent{}
		l.t.events[name] = e
	}
	e.add(latencySample{l.now.Unix(), ns / int64(time.Millisecond)})
}

func (e *latencyEvent) add(x latencySample) {
	e.maxMs = max(e.maxMs, x.ms)
	if n := len(e.samples); n > 0 && e.samples[n-1].at == x.at {
		e.samples[n-1].ms = max(e.samples[n-1].ms, x.ms)
		return
	}
	if len(e.samples) == maxSamples {
		e.samples = e.samples[:copy(e.samples, e.samples[1:])]
	}
	e.samples = append(e.samples, x)
}

// latencyEvents merges those of all loops.
func (s *Server) latencyEvents(ctx context.Context) map[string]*latencyEvent {
	all := make(map[string][]latencySample)
	most := make(map[string]int64)
	s.each(ctx, func(l *loop) {
		for name, e := range l.t.events {
			all[name] = append(all[name], e.samples...)
			most[name] = max(most[name], e.maxMs)
		}
	})
	out := make(map[string]*latencyEvent)
	for name, list := range all {
		slices.SortFunc(list, func(a, b latencySample) int { return cmp.Compare(a.at, b.at) })
		e := &latencyEvent{maxMs: most[name]}
		for _, x := range list {
			e.add(x)
		}
		out[name] = e
	}
	return out
}

// resetLatency forgets events (all if none is named) and says how many there were.
func (s *Server) resetLatency(ctx context.Context, names []string) int {
	gone := make(map[string]bool)
	s.each(ctx, func(l *loop) {
		for name := range l.t.events {
			if len(names) == 0 || slices.Contains(names, name) {
				delete(l.t.events, name)
				gone[name] = true
			}
		}
	})
	return len(gone)
}

func (c *call) latency(sub string, args [][]byte) {
	s := c.s
	srv, ctx := s.l.srv, s.l.srv.ctx
	name := ""
	if len(args) > 2 {
		name = string(args[2])
	}
	switch sub {
	case "histogram":
		c.latencyHistogram(args)
	case "latest":
		c.later(func(w *resp.Writer) { latencyLatest(w, srv.latencyEvents(ctx)) })
	case "history":
		c.later(func(w *resp.Writer) { latencyHistory(w, srv.latencyEvents(ctx)[name]) })
	case "graph":
		c.later(func(w *resp.Writer) {
			e := srv.latencyEvents(ctx)[name]
			if e == nil {
				w.Err("ERR No samples available for event '" + name + "'")
				return
			}
			w.Verbatim("txt", latencyGraph(name, e, time.Now()))
		})
	case "reset":
		names := make([]string, 0, len(args))
		for _, a := range args[2:] {
			names = append(names, string(a))
		}
		c.later(func(w *resp.Writer) {
			w.Int(int64(srv.resetLatency(ctx, names)))
		})
	case "doctor":
		c.later(func(w *resp.Writer) {
			w.Verbatim("txt", latencyDoctor(srv.latencyEvents(ctx), srv.live.Load().LatencyThreshold))
		})
	case "help":
		c.help("LATENCY", latencyHelp)
	default:
		c.wrongArity("latency")
	}
}

func latencyLatest(w *resp.Writer, events map[string]*latencyEvent) {
	w.Array(len(events))
	for _, name := range slices.Sorted(maps.Keys(events)) {
		e := events[name]
		last := e.samples[len(e.samples)-1]
		w.Array(4)
		w.Text(name)
		w.Int(last.at)
		w.Int(last.ms)
		w.Int(e.maxMs)
	}
}

func latencyHistory(w *resp.Writer, e *latencyEvent) {
	if e == nil {
		w.Array(0)
		return
	}
	w.Array(len(e.samples))
	for _, x := range e.samples {
		w.Array(2)
		w.Int(x.at)
		w.Int(x.ms)
	}
}

// latencyHistogram answers LATENCY HISTOGRAM [command ...]; a container stands for its
// subcommands. Names that are no command are passed over, as in Redis.
func (c *call) latencyHistogram(args [][]byte) {
	s := c.s
	var list []*resp.Command
	if len(args) == 2 {
		eachCommand(func(c *resp.Command) { list = append(list, c) })
	}
	for _, a := range args[2:] {
		if c := findCommand(a); c != nil {
			list = append(append(list, c), c.Subs...)
		}
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) {
		stats := srv.commandStats(srv.ctx)
		list = slices.DeleteFunc(list, func(c *resp.Command) bool { return stats[c.Index].times == nil })
		w.Map(len(list))
		for _, c := range list {
			w.Text(c.Name)
			appendHistogram(w, stats[c.Index].times)
		}
	})
}

// appendHistogram gives the buckets of Redis, which doubles its bounds as we do: at each
// how many calls took at most so many µs, where that is more than at the one before.
func appendHistogram(w *resp.Writer, h *metrics.Histogram) {
	w.Map(2)
	w.Text("calls")
	w.Int(int64(h.Count))
	w.Text("histogram_usec")
	type step struct{ us, n int64 }
	var steps []step
	sum, before := uint64(0), uint64(0)
	for i, n := range h.Buckets {
		sum += n
		ns := metrics.BucketEndNs(i) + 1
		if whole := ns&(ns-1) == 0; (whole || i == len(h.Buckets)-1) && sum > before {
			// HdrHistogram's cells, two digits wide, end a little beyond the power of two.
			steps = append(steps, step{int64((ns + ns/128 - 1) / 1000), int64(sum)})
			before = sum
		}
	}
	w.Map(len(steps))
	for _, x := range steps {
		w.Int(x.us)
		w.Int(x.n)
	}
}

// latencyGraph draws the spikes as columns, the newest right, each with its age below.
func latencyGraph(name string, e *latencyEvent, now time.Time) string {
	const columns, rows = 80, 4
	list := e.samples[max(0, len(e.samples)-columns):]
	low, high := list[0].ms, list[0].ms
	for _, x := range list {
		low, high = min(low, x.ms), max(high, x.ms)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n", name, high, low, e.maxMs, strings.Repeat("-", columns))
	for row := rows - 1; row >= 0; row-- {
		for _, x := range list {
			level := int64(0)
			if high > low {
				level = (x.ms - low) * (rows*3 - 1) / (high - low)
			}
			switch cell := level - int64(row)*3; {
			case cell > 2:
				b.WriteByte('|')
			case cell < 0:
				b.WriteByte(' ')
			default:
				b.WriteByte("_o#"[cell])
			}
		}
		b.WriteByte('\n')
	}
	ages := make([]string, len(list))
	longest := 0
	for i, x := range list {
		ages[i] = shortAge(now.Unix() - x.at)
		longest = max(longest, len(ages[i]))
	}
	for i := range longest {
		b.WriteByte('\n')
		for _, a := range ages {
			if i < len(a) {
				b.WriteByte(a[i])
			} else {
				b.WriteByte(' ')
			}
		}
	}
	b.WriteByte('\n')
	return b.String()
}

func shortAge(s int64) string {
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 86400:
		return fmt.Sprintf("%dh", s/3600)
	}
	return fmt.Sprintf("%dd", s/86400)
}

func latencyDoctor(events map[string]*latencyEvent, threshold time.Duration) string {
	switch {
	case threshold <= 0:
		return "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this gateway. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n"
	case len(events) == 0:
		return "Dave, no latency spike was observed during the lifetime of this gateway, not in the slightest bit. I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n"
	}
	var b strings.Builder
	b.WriteString("Dave, I have observed latency spikes in this gateway.\n\n")
	for i, name := range slices.Sorted(maps.Keys(events)) {
		e := events[name]
		sum := int64(0)
		for _, x := range e.samples {
			sum += x.ms
		}
		n := int64(len(e.samples))
		period := float64(e.samples[n-1].at-e.samples[0].at) / float64(n)
		fmt.Fprintf(&b, "%d. %s: %d latency spikes (average %dms, period %.2f sec). Worst all time event %dms.\n", i+1, name, n, sum/n, period, e.maxMs)
	}
	b.WriteString("\nThese are times from when a command was parsed to the end of its reply. SLOWLOG GET names the commands. " +
		"Most spikes are a slow command, here or of another client, at the server of that group; then waits for keys that are being moved, then an overloaded machine of this gateway.\n")
	return b.String()
}

var latencyHelp = []string{
	"DOCTOR", "    Return a human readable latency analysis report.",
	"GRAPH <event>", "    Return an ASCII latency graph for the <event> class.",
	"HISTORY <event>", "    Return time-latency samples for the <event> class.",
	"LATEST", "    Return the latest latency samples for all events.",
	"RESET [<event> ...]", "    Reset latency data of one or more <event> classes.", "    (default: reset all data for all event classes)",
	"HISTOGRAM [COMMAND ...]",
	"    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
	"    If no commands are specified then all histograms are replied.",
}
