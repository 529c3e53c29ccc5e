package stats

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"keyferry/internal/metrics"
	"keyferry/internal/resp"
)

// Config is what is measured, beyond what always is. CONFIG SET can change all but SampleEvery and
// BigValue while the server runs.
type Config struct {
	SlowerThan       time.Duration // commands that take as long are kept for SLOWLOG; 1 ns: all; 0: none
	SlowMax          int           // how many of them are
	LatencyThreshold time.Duration // … are noted for LATENCY; 0: none
	SampleEvery      int           // one command in so many is looked at for hot keys and slots; 0: none
	BigValue         int           // bytes from which a value that comes by is remembered as big; 0: none
}

// Shared is what the Recorders of one server have in common. It is made once, before them;
// any goroutine may use it.
type Shared struct {
	Started time.Time // where the loops' clocks begin
	// Slow is how many commands were slow so far, and so the id of the next: ids are unique over
	// all loops, and a client that polls SLOWLOG sees by them what is new.
	Slow atomic.Int64
	seed maphash.Seed // of the loops' sketches, which can be merged only if they have one seed
}

// NewShared makes what a new server's Recorders share.
func NewShared() *Shared { return &Shared{Started: time.Now(), seed: maphash.MakeSeed()} }

// Recorder is all that one loop measures. It belongs to that loop's goroutine, but for Board.
// It lives as long as the loop.
type Recorder struct {
	N         Counts            // the loop counts straight into it
	Board     Board             // … and shows it here
	Calls     Calls             // commands by name, errors by code
	Slow      SlowLog           // the slowest of late
	Spikes    Spikes            // seconds in which something was slow
	Hot       HotKeys           // which keys and slots are in use
	Big       BigValues         // which values are big
	LockWaits metrics.Histogram // how long commands on moving slots waited for their keys

	// notable is in ns the lesser of the thresholds of Slow and Spikes: one comparison tells of
	// nearly every command that it concerns neither.
	notable int64
}

// Init makes a Recorder for a scheme of so many slots. now is the loop's clock, in ns.
func (r *Recorder) Init(c *Config, shared *Shared, slots int, now int64) {
	r.Calls.init()
	r.Slow.shared = shared
	r.Spikes.init()
	r.Hot.init(c.SampleEvery, shared.seed, slots, now)
	r.Big.From = c.BigValue
	r.Configure(c)
}

// Configure puts new thresholds into force.
func (r *Recorder) Configure(c *Config) {
	r.Slow.threshold, r.Spikes.threshold = math.MaxInt64, math.MaxInt64
	if c.SlowerThan > 0 && c.SlowMax > 0 {
		r.Slow.threshold = int64(c.SlowerThan)
		if c.SlowerThan == 1 { // everything, also what is answered in no time
			r.Slow.threshold = 0
		}
	}
	if c.LatencyThreshold > 0 {
		r.Spikes.threshold = int64(c.LatencyThreshold)
	}
	r.notable = min(r.Slow.threshold, r.Spikes.threshold)
	r.Slow.ring.resize(c.SlowMax)
}

// Reset is CONFIG RESETSTAT: INFO and LATENCY HISTOGRAM begin anew. What N has counted stays, for
// those who compute rates of it.
func (r *Recorder) Reset() { r.Calls.reset() }

// Span is what is measured of one command, from when it was parsed until its reply has been
// written. It is a part of the loop's request and is recycled with it.
//
//	bytes come ─► Begun ──────────► Sent ───────────► last byte ────────► written
//	      Queued (input   lock wait       backend          write (the replies
//	      of a held-up                                     before it are due first)
//	      client)
type Span struct {
	Begun  int64  // ns of the loop's clock; 0: it is not timed, since it is no command
	Sent   int64  // … when it was last handed to a server connection; 0: it never was
	Queued int64  // ns that its bytes had waited before
	Head   []byte // the beginning of its frame, while there is a slow log
	Size   int    // bytes of its reply so far, once a large piece came

	slow *SlowEntry // it was slow, and its reply has not been written
}

// Recycled is an empty Span that keeps the memory of the old one's head.
func (t *Span) Recycled() Span { return Span{Head: t.Head[:0]} }

// Keep keeps what the slow log would show of a command.
func (r *Recorder) Keep(t *Span, frame []byte) {
	if r.Slow.threshold != math.MaxInt64 {
		t.Head = append(t.Head[:0], frame[:min(len(frame), headBytes)]...)
	}
}

// Done counts a command of which the last byte has come at now. reply is the reply, or its first
// piece; empty, if that is with the client already. locked says that the command is on a moving
// slot, where it may have waited for its keys. True: Notable wants to see it.
func (r *Recorder) Done(t *Span, c *resp.Command, reply []byte, now int64, locked bool) (notable bool) {
	failed := false
	if len(reply) > 0 && reply[0] == '-' {
		failed = true
		r.CountError(reply)
	}
	d := now - t.Begun
	r.Calls.Count(c, d, failed)
	if locked && t.Sent > 0 {
		r.LockWaits.Record(time.Duration(t.Sent - t.Begun))
	}
	return d >= r.notable && c.Flags&resp.Blocking == 0
}

// CountError counts an error reply to a client.
func (r *Recorder) CountError(reply []byte) {
	r.N[ErrorReplies]++
	r.Calls.countError(reply)
}

// CountAnswer counts a reply that the gateway itself gives to a command, in no time. c is nil
// where the command is counted elsewhere, or there is none.
func (r *Recorder) CountAnswer(c *resp.Command, reply []byte) {
	failed := len(reply) > 0 && reply[0] == '-'
	if failed {
		r.CountError(reply)
	}
	if c != nil {
		r.Calls.Count(c, 0, failed)
	}
}
