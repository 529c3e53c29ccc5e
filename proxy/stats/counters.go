package stats

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"keyferry/internal/metrics"
)

// Metric is one number that the data plane counts: an index into Counts and Table.
type Metric uint8

// The metrics. What each means is in Table, and nowhere else.
const (
	Clients Metric = iota
	Loops
	Commands
	BytesIn
	BytesOut
	ErrorReplies
	Connections
	Rejected
	ConnectionsLost
	LostReplies
	LimitCloses
	Evicted
	Unlingered
	Parked
	ParkedEver
	TryAgain
	CrossSlot
	AtSource
	AtTarget
	InFlight
	NumMetrics
)

// Row is all that is said of a metric but its value.
type Row struct {
	Name string // in JSON
	Info string // the field of INFO that shows it; "": none does
	// Series is what /metrics shows of it, with the values of its labels, and says what it
	// means. Nil: /metrics does not show it, or shows it apart by a label (commands by name,
	// error replies by code) that is counted in CommandStat; Help says then what it means.
	Series *metrics.Series
	Labels []string
	Help   string
	// Now is set if the metric says how many there are at this moment. Else it only grows, and
	// CONFIG RESETSTAT makes INFO count from 0 again.
	Now bool
}

// Table has one row for each metric. INFO, /metrics and the JSON API are made from it.
var Table = [NumMetrics]Row{
	Clients:         {Name: "clients", Info: "connected_clients", Series: metrics.Clients, Now: true},
	Loops:           {Name: "loops", Info: "loops", Series: metrics.Loops, Now: true},
	Commands:        {Name: "commands", Info: "total_commands_processed", Help: "Commands that clients sent, those that were refused included"},
	BytesIn:         {Name: "bytes_in", Info: "total_net_input_bytes", Series: metrics.ClientInBytes},
	BytesOut:        {Name: "bytes_out", Info: "total_net_output_bytes", Series: metrics.ClientOutBytes},
	ErrorReplies:    {Name: "error_replies", Info: "total_error_replies", Help: "Error replies to clients"},
	Connections:     {Name: "connections_received", Info: "total_connections_received", Series: metrics.Connections},
	Rejected:        {Name: "connections_rejected", Info: "rejected_connections", Series: metrics.Rejected},
	ConnectionsLost: {Name: "server_connections_lost", Info: "server_connections_lost", Series: metrics.ServerLost},
	LostReplies:     {Name: "lost_replies", Info: "replies_lost", Series: metrics.LostReplies},
	LimitCloses:     {Name: "clients_closed_for_limits", Info: "clients_closed_for_limits", Series: metrics.LimitCloses},
	Evicted:         {Name: "clients_evicted", Info: "evicted_clients", Help: "Clients closed as the largest while all together were over clients.memory-total"},
	Unlingered:      {Name: "clients_closed_unlingered", Info: "clients_closed_unlingered", Series: metrics.Unlingered},
	Parked:          {Name: "parked", Info: "commands_parked", Series: metrics.CommandsParked, Now: true},
	ParkedEver:      {Name: "parked_ever", Info: "commands_parked_ever", Series: metrics.ParkedEver},
	TryAgain:        {Name: "tryagain", Info: "commands_tryagain", Series: metrics.TryAgain},
	CrossSlot:       {Name: "crossslot", Help: "Commands refused since their keys are in several slots"},
	AtSource:        {Name: "moving_at_source", Info: "moving_slot_commands_at_source", Series: metrics.MovingCommands, Labels: []string{"source"}},
	AtTarget:        {Name: "moving_at_target", Info: "moving_slot_commands_at_target", Series: metrics.MovingCommands, Labels: []string{"target"}},
	InFlight:        {Name: "in_flight", Info: "commands_in_flight", Series: metrics.CommandsInFlight, Now: true},
}

// Counts is one value for each metric. As a part of a Recorder it belongs to the loop, which
// alone changes it; anywhere else it is a copy, and who has it may do with it what they like.
type Counts [NumMetrics]uint64

// Minus is what was counted since before was taken. Metrics of this moment stay as they are.
func (c Counts) Minus(before *Counts) Counts {
	for m := range c {
		if !Table[m].Now {
			c[m] -= before[m]
		}
	}
	return c
}

// MarshalJSON gives an object in the order of Table.
func (c Counts) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	for m, n := range c {
		sep := ","
		if m == 0 {
			sep = "{"
		}
		name, err := json.Marshal(Table[m].Name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s%s:%d", sep, name, n)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// Board is what other goroutines may read of a loop's counters, as they were at the end of its
// last turn. The loop alone writes.
//
// Each number is right by itself. One loop's numbers need not be of the same turn, since a
// reader may come in the midst of Publish: they are for people and rates, not for decisions.
type Board struct{ n [NumMetrics]atomic.Uint64 }

// Publish shows what has been counted. For the loop alone. A number that has not changed is
// not stored again: an atomic store costs some ten ns, and most turns change few of them.
func (b *Board) Publish(c *Counts) {
	for m := range c {
		if b.n[m].Load() != c[m] {
			b.n[m].Store(c[m])
		}
	}
}

// AddTo adds the loop's numbers to a sum. Any goroutine may call it.
func (b *Board) AddTo(sum *Counts) {
	for m := range sum {
		sum[m] += b.n[m].Load()
	}
}
