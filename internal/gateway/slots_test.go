package gateway

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"keyferry/conf"
	"keyferry/internal/topology"
	"keyferry/internal/topology/bolt"
)

// TestSlotsAreToldAlike: all who are asked about a slot say the same of where it is served
// and which way its keys move, also when the job has turned round. The groups' servers hang
// up on everybody, so that the jobs stay where they are.
func TestSlotsAreToldAlike(t *testing.T) {
	c := conf.Default()
	c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", "", t.TempDir()
	storeTurning(t, c.DataDir)
	g, err := Start(c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = g.Stop(ctx)
	}()
	admin := redis.NewClient(&redis.Options{Addr: g.Admin.Addr(), Protocol: 2})
	defer admin.Close()
	ask := func(args ...any) string {
		v, err := admin.Do(t.Context(), append([]any{"PROXY"}, args...)...).Result()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return strings.Trim(fmt.Sprint(v), "[]")
	}
	// foo is in slot 12182, bar in 5061, hello in 866.
	for key, want := range map[string]struct{ slot, key, explain string }{
		"foo":   {"group a state stable", "state stable", "group a"},
		"bar":   {"group a state moving target b job m1", "state moving job m1 at [[group b role target", "group a target b job m1"},
		"hello": {"group a state returning target b job m2", "state returning job m2 at [[group a role target", "group b target a job m2"},
	} {
		for got, want := range map[string]string{ask("SLOT", "OF", key): want.slot, ask("KEY", key): want.key, ask("EXPLAIN", "GET", key): want.explain} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", key, got, want)
			}
		}
	}
	for _, j := range g.Control.Table().Jobs { // else the first script there would miss keys that it does not name
		if j.Whole == nil {
			t.Errorf("scripts can't ask for slots of job %s, which goes on from before the start", j.ID)
		}
	}
	for _, want := range []string{"slots_moving:200", "slots_unassigned:0"} {
		if info := g.sections()["slots"]; !strings.Contains(info, want) {
			t.Errorf("INFO says %q, not %s", info, want)
		}
	}
}

// storeTurning stores a cluster in which m1 moves the slots 5000-5099 from a to b, and m2
// has turned round and takes 800-899 back.
func storeTurning(t *testing.T, dir string) {
	t.Helper()
	store, err := bolt.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	st := topology.NewState("redis", 16384, 16)
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(st.AddGroup(topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: hangsUp(t)}}))
	try(st.AddGroup(topology.Group{ID: "b", Endpoint: topology.Endpoint{Addr: hangsUp(t)}}))
	try(st.AssignSlots(topology.Range{First: 0, Last: 16383}, "a"))
	for _, first := range []int{5000, 800} {
		slots := []topology.Range{{First: first, Last: first + 99}}
		id, err := st.AddJob(topology.Job{JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: slots}, JobProgress: topology.JobProgress{Phase: topology.Queued}})
		try(err)
		try(st.PutJob(topology.Job{ID: id, JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: slots}, JobProgress: topology.JobProgress{Phase: topology.Bulk, Published: true}}))
		if first == 800 {
			try(st.PutJob(topology.Job{ID: id, JobRequest: topology.JobRequest{Source: "a", Target: "b", Slots: slots}, JobProgress: topology.JobProgress{Phase: topology.Reverting, Published: true, Back: true}}))
		}
	}
	try(topology.Create(t.Context(), store, st))
}

// hangsUp is the address of a server that closes every connection.
func hangsUp(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return ln.Addr().String()
}
