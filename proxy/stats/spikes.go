package stats

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxSpikes is how many seconds with a spike are kept of one event, as in Redis.
const maxSpikes = 160

// Spike is the worst of one second.
type Spike struct {
	At int64 // Unix seconds
	Ms int64
}

// Event is a time series of spikes: what LATENCY shows under one name.
type Event struct {
	Spikes []Spike // oldest first; never empty
	MaxMs  int64   // of all time, those that are no longer in Spikes included
}

// Spikes are the latency events of one loop. They belong to the loop's goroutine.
type Spikes struct {
	threshold int64 // ns; math.MaxInt64: none is noted
	events    map[string]*Event
}

func (q *Spikes) init() { q.events = make(map[string]*Event) }

// Note notes a spike of ns, at a time.
func (q *Spikes) Note(name string, ns int64, at time.Time) {
	e := q.events[name]
	if e == nil {
		e = &Event{}
		q.events[name] = e
	}
	e.add(Spike{at.Unix(), ns / int64(time.Millisecond)})
}

// add keeps one spike a second, the worst, and the newest maxSpikes of them. Spikes come in the
// order of their time: a loop's clock does not go back, and MergeEvents sorts.
func (e *Event) add(x Spike) {
	e.MaxMs = max(e.MaxMs, x.Ms)
	if n := len(e.Spikes); n > 0 && e.Spikes[n-1].At == x.At {
		e.Spikes[n-1].Ms = max(e.Spikes[n-1].Ms, x.Ms)
		return
	}
	if len(e.Spikes) == maxSpikes {
		e.Spikes = e.Spikes[:copy(e.Spikes, e.Spikes[1:])]
	}
	e.Spikes = append(e.Spikes, x)
}

// Events is a copy of what the loop knows.
func (q *Spikes) Events() map[string]*Event {
	out := make(map[string]*Event, len(q.events))
	for name, e := range q.events {
		out[name] = &Event{slices.Clone(e.Spikes), e.MaxMs}
	}
	return out
}

// Forget forgets the named events, all if none is named, and says which it had.
func (q *Spikes) Forget(names []string) (had []string) {
	for name := range q.events {
		if len(names) == 0 || slices.Contains(names, name) {
			delete(q.events, name)
			had = append(had, name)
		}
	}
	return had
}

// MergeEvents makes one of the events of several loops: of a second in which several had a spike
// it keeps the worst.
func MergeEvents(lists ...map[string]*Event) map[string]*Event {
	all := make(map[string]*Event)
	for _, list := range lists {
		for name, e := range list {
			sum := all[name]
			if sum == nil {
				sum = &Event{}
				all[name] = sum
			}
			sum.Spikes = append(sum.Spikes, e.Spikes...)
			sum.MaxMs = max(sum.MaxMs, e.MaxMs)
		}
	}
	for _, e := range all {
		list := e.Spikes
		slices.SortFunc(list, func(a, b Spike) int { return cmp.Compare(a.At, b.At) })
		e.Spikes = nil
		for _, x := range list {
			e.add(x)
		}
	}
	return all
}

// Graph is the text of LATENCY GRAPH. It draws the spikes as columns, the newest right, each with its age below.
func (e *Event) Graph(name string, now time.Time) string {
	const columns, rows = 80, 4
	list := e.Spikes[max(0, len(e.Spikes)-columns):]
	low, high := list[0].Ms, list[0].Ms
	for _, x := range list {
		low, high = min(low, x.Ms), max(high, x.Ms)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n", name, high, low, e.MaxMs, strings.Repeat("-", columns))
	for row := rows - 1; row >= 0; row-- {
		for _, x := range list {
			level := int64(0)
			if high > low {
				level = (x.Ms - low) * (rows*3 - 1) / (high - low)
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
		ages[i] = shortAge(now.Unix() - x.At)
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

// Doctor is the text of LATENCY DOCTOR about the events of all loops.
func Doctor(events map[string]*Event, threshold time.Duration) string {
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
		for _, x := range e.Spikes {
			sum += x.Ms
		}
		n := int64(len(e.Spikes))
		period := float64(e.Spikes[n-1].At-e.Spikes[0].At) / float64(n)
		fmt.Fprintf(&b, "%d. %s: %d latency spikes (average %dms, period %.2f sec). Worst all time event %dms.\n", i+1, name, n, sum/n, period, e.MaxMs)
	}
	b.WriteString("\nThese are times from when a command was parsed to the end of its reply. SLOWLOG GET names the commands. " +
		"Most spikes are a slow command, here or of another client, at the server of that group; then waits for keys that are being moved, then an overloaded machine of this gateway.\n")
	return b.String()
}
