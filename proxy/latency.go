package proxy

import (
	"context"
	"maps"
	"slices"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// latencyEvents are those of all loops together. Not for a loop's goroutine.
func (s *Server) latencyEvents(ctx context.Context) map[string]*stats.Event {
	var lists []map[string]*stats.Event
	s.each(ctx, func(l *loop) { lists = append(lists, l.rec.Spikes.Events()) })
	return stats.MergeEvents(lists...)
}

// resetLatency forgets events (all if none is named) and says how many there were.
func (s *Server) resetLatency(ctx context.Context, names []string) int {
	gone := make(map[string]bool)
	s.each(ctx, func(l *loop) {
		for _, name := range l.rec.Spikes.Forget(names) {
			gone[name] = true
		}
	})
	return len(gone)
}

// ofEvents answers with what f makes of all latency events.
func (c *call) ofEvents(f func(w *resp.Writer, events map[string]*stats.Event)) {
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) { f(w, srv.latencyEvents(srv.life.ctx)) })
}

func (c *call) latencyLatest() { c.ofEvents(latencyLatest) }

func (c *call) latencyHistory() {
	name := string(c.args[2])
	c.ofEvents(func(w *resp.Writer, events map[string]*stats.Event) { latencyHistory(w, events[name]) })
}

func (c *call) latencyGraph() {
	name := string(c.args[2])
	c.ofEvents(func(w *resp.Writer, events map[string]*stats.Event) {
		if e := events[name]; e != nil {
			w.Verbatim("txt", e.Graph(name, time.Now()))
		} else {
			w.Err("ERR No samples available for event '" + name + "'")
		}
	})
}

func (c *call) latencyReset() {
	var names []string
	for _, a := range c.args[2:] {
		names = append(names, string(a))
	}
	srv := c.s.l.srv
	c.later(func(w *resp.Writer) { w.Int(int64(srv.resetLatency(srv.life.ctx, names))) })
}

// latencyDoctor: with events of all loops together, of one moment for each loop.
func (c *call) latencyDoctor() {
	threshold := c.s.l.opt.LatencyThreshold
	c.ofEvents(func(w *resp.Writer, events map[string]*stats.Event) {
		w.Verbatim("txt", stats.Doctor(events, threshold))
	})
}

// latencyLatest: in the order of names: a map's own order would differ from call to call.
func latencyLatest(w *resp.Writer, events map[string]*stats.Event) {
	w.Array(len(events))
	for _, name := range slices.Sorted(maps.Keys(events)) {
		e := events[name]
		last := e.Spikes[len(e.Spikes)-1]
		w.Array(4)
		w.Text(name)
		w.Int(last.At)
		w.Int(last.Ms)
		w.Int(e.MaxMs)
	}
}

// latencyHistory: an event that never was has no samples, which is no error in Redis either.
func latencyHistory(w *resp.Writer, e *stats.Event) {
	if e == nil {
		w.Array(0)
		return
	}
	w.Array(len(e.Spikes))
	for _, x := range e.Spikes {
		w.Array(2)
		w.Int(x.At)
		w.Int(x.Ms)
	}
}

// latencyHistogram answers LATENCY HISTOGRAM [command ...]; a container stands for its
// subcommands. Names that are no command are passed over, as in Redis.
func (c *call) latencyHistogram() {
	s, args := c.s, c.args
	var list []*resp.Command
	if len(args) == 2 {
		stats.EachCommand(func(c *resp.Command) { list = append(list, c) })
	}
	for _, a := range args[2:] {
		if c := findCommand(a); c != nil {
			list = append(append(list, c), c.Subs...)
		}
	}
	srv := s.l.srv
	c.later(func(w *resp.Writer) {
		counts := srv.commandStats(srv.life.ctx)
		list = slices.DeleteFunc(list, func(c *resp.Command) bool { return counts[c.Index].Times == nil })
		w.Map(len(list))
		for _, c := range list {
			w.Text(c.Name)
			appendHistogram(w, counts[c.Index].Times)
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
