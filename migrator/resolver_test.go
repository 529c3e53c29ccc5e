package migrator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/slotlock"
)

// TestTouchesOfWhatTheTargetRefuses: a key that the target refuses is decided at once, each time
// that a client touches it: it is served at the source. A pause for the refusal, here of an hour,
// would be one for all clients of moving keys.
func TestTouchesOfWhatTheTargetRefuses(t *testing.T) {
	for _, refusal := range []string{"ERR DUMP payload version or checksum are wrong", "ERR Bad data format", "NOPERM this user has no permissions to run the 'restore' command"} {
		t.Run(refusal, func(t *testing.T) {
			var refusing *faultproxy.Proxy
			f := newFerryVia(t, func(c *Config) { c.BackoffMin = time.Hour }, func(target string) string {
				var err error
				if refusing, err = faultproxy.New(target, 1); err != nil {
					t.Fatal(err)
				}
				return refusing.Addr
			})
			t.Cleanup(func() { _ = refusing.Close() })
			refusing.SetTraps(faultproxy.Trap{Match: faultproxy.Command("RESTORE"), Action: faultproxy.Answer, Reply: "-" + refusal + "\r\n"})
			f.locks.SetMode(slotlock.Resolve)
			const keys = 5 * resolverCount
			for i := range keys {
				name := fmt.Sprint("k", i)
				f.src.Client().Set(context.Background(), name, "x", 0)
				decided := make(chan slotlock.Verdict, 1)
				v := f.locks.Admit(0, []byte(name), waiterFunc(func(v slotlock.Verdict) { decided <- v }))
				if v == slotlock.Wait {
					select {
					case v = <-decided:
					case <-time.After(20 * time.Second):
						t.Fatalf("%s is not decided", name)
					}
				}
				if v != slotlock.Source {
					t.Errorf("%s: %v", name, v)
				}
			}
			if e := f.stats.resolver.get(); e == nil {
				t.Error("the refusal is told nowhere")
			}
		})
	}
}
