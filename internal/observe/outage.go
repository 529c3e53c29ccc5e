package observe

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator"
)

const (
	// outageEvery is how often the log says again that a server is down.
	outageEvery = time.Minute
	// outageRest is how long the log is silent about a group after it has come back: a server
	// that comes and goes is told of six times a minute, not a thousand times.
	outageRest = 10 * time.Second
)

// outages are the groups whose server can't be connected to. All connections of a gateway are
// made by one Dialer, which tells of each try: so whoever meets a server that is down, a client's
// command, a job, a probe, it is noticed at once, and told of once.
//
//	a try fails ─► down ─► the log says so ─► again each minute ─► a try succeeds ─► up, and the log says so
//
// A server that refuses what the gateway says of itself, as a password, is down for who has to
// connect anew, though connections that stand go on. Any goroutine but a loop's may call it.
type outages struct {
	log *zap.Logger

	mu sync.Mutex                    // protects of; only the log and the list of groups are asked with it held
	of map[topology.Endpoint]*outage // by address and secret: a new password that is tried in vain is no outage
}

// outage is one of them. When it is over it stays for a while, so that the log rests.
type outage struct {
	group   string
	err     error
	refused bool      // the server answers, and refuses the connection
	since   time.Time // zero: it is over
	told    time.Time // when the log last said something
	refusal bool      // … it was that the server refuses
	said    bool      // … of this one
	failed  int       // tries of this one
}

func newOutages(log *zap.Logger) *outages {
	return &outages{log: log, of: make(map[topology.Endpoint]*outage)}
}

// tried notes a try to connect. Tries at what is no group's are not looked at, nor such as were
// given up by who made them.
func (x *outages) tried(to topology.Endpoint, err error, now time.Time, groups func() []topology.Group) {
	if errors.Is(err, context.Canceled) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.of[to]
	switch {
	case err == nil:
		x.over(o, now)
		return
	case o == nil:
		for _, g := range groups() {
			if g.Endpoint == to {
				o = &outage{group: g.ID}
				x.of[to] = o
			}
		}
		if o == nil {
			return
		}
	}
	if o.since.IsZero() {
		o.since, o.failed, o.said, o.refusal = now, 0, false, false
	}
	o.failed++
	o.err = err
	var refusal upstream.ServerError
	o.refused = errors.As(err, &refusal)
	// One that was away, and refuses now, is another matter: somebody has to do something about it.
	news := o.refused && o.said && !o.refusal
	if !news && (o.said && now.Sub(o.told) < outageEvery || !o.said && now.Sub(o.told) < outageRest) {
		return
	}
	o.told, o.said, o.refusal = now, true, o.refusal || o.refused
	x.say(o, to, now)
}

// say is the log's line about an outage. mu is held.
func (x *outages) say(o *outage, to topology.Endpoint, now time.Time) {
	text := "a group's server can't be reached: commands for its slots fail until it can"
	fields := []zap.Field{zap.String("group", o.group), zap.String("addr", to.Addr), zap.Error(o.err),
		zap.Duration("for", now.Sub(o.since).Round(time.Millisecond)), zap.Int("tries", o.failed)}
	if o.refused {
		text = "a group's server refuses new connections: commands that need one fail until it takes them"
		fields = append(fields, zap.String("advice", migrator.RefusalAdvice(o.group, o.err)))
	}
	x.log.Warn(text, fields...)
}

// answered notes that a connection which stands works. It says nothing of new ones, which the
// server may refuse.
func (x *outages) answered(to topology.Endpoint, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if o := x.of[to]; o != nil && !o.refused {
		x.over(o, now)
	}
}

// over ends an outage, if there is one. mu is held.
func (x *outages) over(o *outage, now time.Time) {
	if o == nil || o.since.IsZero() {
		return
	}
	if o.said {
		o.told = now
		x.log.Info("a group's server takes connections again", zap.String("group", o.group), zap.Duration("after", now.Sub(o.since).Round(time.Millisecond)), zap.Int("failed_tries", o.failed))
	}
	o.since = time.Time{}
}

// keep forgets the outages of all other groups.
func (x *outages) keep(groups []topology.Group) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for to, o := range x.of {
		led := false
		for _, g := range groups {
			led = led || g.Endpoint == to && g.ID == o.group
		}
		if !led {
			delete(x.of, to)
		}
	}
}

// add puts what is known of an outage to what a probe knows of the server.
func (x *outages) add(r Reach, to topology.Endpoint) Reach {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch o := x.of[to]; {
	case o != nil && !o.since.IsZero():
		r.State, r.DownMs, r.Error = Down, o.since.UnixMilli(), o.err.Error()
		if o.refused {
			r.State = Refuses
		}
	case r.Up:
		r.State = Up
	case r.Error != "":
		r.State = Down
	default:
		r.State = Unknown
	}
	return r
}
