package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
)

// TestOutagesAreToldOnce: at once, then each minute, and when they are over; whoever comes and goes
// is told of now and then.
func TestOutagesAreToldOnce(t *testing.T) {
	core, log := observer.New(zapcore.InfoLevel)
	x := newOutages(zap.New(core))
	at := topology.Endpoint{Addr: "10.0.0.1:6379", Secret: topology.NewSecret("p")}
	other := topology.Endpoint{Addr: at.Addr, Secret: topology.NewSecret("tried in vain")}
	groups := []topology.Group{{ID: "g1", Endpoint: at}}
	now := time.Now()
	try := func(to topology.Endpoint, err error) {
		x.tried(to, err, now, func() []topology.Group { return groups })
	}
	said := func(want ...string) {
		t.Helper()
		all := log.TakeAll()
		if len(all) != len(want) {
			t.Errorf("the log has %v, want %q", all, want)
			return
		}
		for i, w := range want {
			if !strings.Contains(all[i].Message, w) || all[i].ContextMap()["group"] != "g1" {
				t.Errorf("the log says %q, want %q", all[i].Message, w)
			}
		}
	}
	state := func(want string) {
		t.Helper()
		if r := x.add(Reach{Up: true}, at); r.State != want || (r.DownMs != 0) != (want != Up) || (r.Error != "") != (want != Up) {
			t.Errorf("state %+v, want %s", r, want)
		}
	}
	down, wrong := errors.New("connection refused"), upstream.ServerError("WRONGPASS invalid")

	try(at, nil)
	try(other, wrong)
	try(at, context.Canceled)
	said()
	state(Up)
	for range 100 {
		try(at, down)
	}
	said("can't be reached")
	state(Down)
	now = now.Add(59 * time.Second)
	try(at, down)
	said()
	now = now.Add(2 * time.Second)
	try(at, down)
	said("can't be reached")
	try(other, nil)
	state(Down)
	try(at, nil)
	said("takes connections again")
	state(Up)

	for range 100 { // it comes and goes, ten times a second
		now = now.Add(50 * time.Millisecond)
		try(at, down)
		now = now.Add(50 * time.Millisecond)
		try(at, nil)
	}
	if n := len(log.TakeAll()); n > 4 {
		t.Errorf("%d lines in ten seconds", n)
	}

	now = now.Add(time.Hour)
	try(at, wrong)
	said("refuses new connections")
	state(Refuses)
	x.answered(at, now) // over a connection that stands
	state(Refuses)
	try(at, down)
	state(Down)
	x.answered(at, now)
	said("takes connections again")
	state(Up)

	// One that comes back with another password: at once, once, and what to do.
	now = now.Add(time.Hour)
	try(at, down)
	said("can't be reached")
	now = now.Add(time.Second)
	try(at, wrong)
	try(at, wrong)
	all := log.TakeAll()
	if len(all) != 1 || !strings.Contains(all[0].Message, "refuses") || !strings.Contains(all[0].ContextMap()["advice"].(string), "PROXY GROUP SET g1 PASSWORD") {
		t.Errorf("a wrong password after an outage: %v", all)
	}
	try(at, nil)
	said("takes connections again")

	try(at, down)
	x.keep(nil)
	state(Up)
}
