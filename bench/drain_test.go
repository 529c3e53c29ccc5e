package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"keyferry/internal/testredis"
)

// TestDrainIdle: without load nothing is said of clients.
func TestDrainIdle(t *testing.T) {
	one, two := testredis.StartT(t), testredis.StartT(t)
	ends := [2]Peer{{Name: "one", Addr: one.Addr, PID: one.PID()}, {Name: "two", Addr: two.Addr, PID: two.PID()}}
	moves := 0
	r, err := Drain(context.Background(), DrainConfig{Gateway: ends[0], Ends: ends, Keys: 2000, Rounds: 1, TryKeys: 1000, Ways: []BareWay{{1, 16, 100}}, IdleOnly: true,
		Move: func(ctx context.Context, to int) error {
			moves++
			_, err := bareDrain(ctx, ends[1-to].Addr, ends[to].Addr, BareWay{2, 10, 50}, math.MaxInt64)
			return err
		}}, func(string) {})
	if err != nil || moves != 1 || r.Idle.KeysPerS <= 0 || r.Loaded != (DrainRow{}) || strings.Contains(r.Table(), "latency") {
		t.Errorf("%v, %d moves, %+v\n%s", err, moves, r, r.Table())
	}
}

// TestDrain lets the bare loop stand for the gateway's job, and a third server for the
// gateway that clients load meanwhile.
func TestDrain(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields int
	}{{"strings", 0}, {"hashes", 3}} {
		t.Run(test.name, func(t *testing.T) {
			one, two, front := testredis.StartT(t), testredis.StartT(t), testredis.StartT(t)
			ends := [2]Peer{{Name: "one", Addr: one.Addr, PID: one.PID()}, {Name: "two", Addr: two.Addr, PID: two.PID()}}
			moves := 0
			cfg := DrainConfig{Gateway: Peer{Name: "front", Addr: front.Addr, PID: front.PID()}, Ends: ends, Keys: 5000, Fields: test.fields, ValueBytes: 20,
				Clients: 3, Rate: 2000, Baseline: 0.5, Rounds: 2, TryKeys: 1000, Ways: []BareWay{{1, 16, 100}, {3, 200, 500}},
				Move: func(ctx context.Context, to int) error {
					moves++
					_, err := bareDrain(ctx, ends[1-to].Addr, ends[to].Addr, BareWay{2, 10, 50}, math.MaxInt64)
					if moves%2 == 0 { // the one of a round that clients are to feel
						get := map[bool]string{false: "get", true: "hget"}[test.fields > 0]
						awaitCalls(t, front, get, commandCalls(t, front.Client())[get]+20)
					}
					return err
				}}
			r, err := Drain(context.Background(), cfg, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			if moves != 4 || len(r.Rounds) != 2 || len(r.Tries) != 2 || r.ClientErrors != 0 {
				t.Errorf("%d moves; %+v", moves, r)
			}
			for _, row := range []DrainRow{r.Limit, r.Idle, r.Loaded} {
				if row.KeysPerS <= 0 || row.MBPerS <= 0 || row.Seconds <= 0 {
					t.Errorf("%+v", row)
				}
			}
			if r.Baseline.P99MS <= 0 || r.During.MaxMS <= 0 || r.RSSBeforeMB <= 0 || r.DumpBytes < 20 {
				t.Errorf("%+v", r)
			}
			n, err := one.Client().DBSize(context.Background()).Result()
			if err != nil || n != 5000 {
				t.Errorf("after an even number of drains the first server has %d keys (%v)", n, err)
			}
			for _, word := range []string{"bare loop", "idle", "with 3 clients", "longest stall"} {
				if !strings.Contains(r.Table(), word) {
					t.Errorf("no %q in the table:\n%s", word, r.Table())
				}
			}
			if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), `"idle_of_limit"`) {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
}

func TestDrainRefusesNonsense(t *testing.T) {
	for _, cfg := range []DrainConfig{{}, {Move: func(context.Context, int) error { return nil }, Keys: -1}} {
		if _, err := Drain(context.Background(), cfg, func(string) {}); !errors.Is(err, errConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestDrainTellsOfAFailedJob: the job's own error comes back, and nothing hangs.
func TestDrainTellsOfAFailedJob(t *testing.T) {
	one, two := testredis.StartT(t), testredis.StartT(t)
	failed := errors.New("no room")
	_, err := Drain(context.Background(), DrainConfig{Gateway: Peer{Addr: one.Addr}, Ends: [2]Peer{{Name: "one", Addr: one.Addr}, {Name: "two", Addr: two.Addr}},
		Keys: 100, Ways: []BareWay{{1, 10, 10}}, Move: func(context.Context, int) error { return failed }}, func(string) {})
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}
