package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestConfigSurvivesRestart: what CONFIG SET changed and CONFIG REWRITE stored is in force
// after a restart, and the rest of the file is its owner's.
func TestConfigSurvivesRestart(t *testing.T) {
	const before = "# ours\n[clients] # all of them\nmax-clients = 500 # enough\n\n[slowlog]\n# nothing here\n"
	file := filepath.Join(t.TempDir(), "keyferry.toml")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 1, "--config", file)
	ctx := context.Background()
	for _, set := range [][2]string{{"maxclients", "321"}, {"slowlog-log-slower-than", "5000"}, {"timeout", "600"}, {"requirepass", "a \"word\""}} {
		c := redis.NewClient(&redis.Options{Addr: r.listen})
		if err := c.ConfigSet(ctx, set[0], set[1]).Err(); err != nil {
			t.Fatalf("%v: %v", set, err)
		}
		_ = c.Close()
	}
	c := redis.NewClient(&redis.Options{Addr: r.listen, Password: "a \"word\""})
	defer c.Close()
	if err := c.ConfigRewrite(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	r.kill()
	r.start("")
	for name, want := range map[string]string{"maxclients": "321", "slowlog-log-slower-than": "5000", "timeout": "600", "requirepass": "(redacted)", "slowlog-max-len": "128"} {
		got, err := c.ConfigGet(ctx, name).Result()
		if err != nil || got[name] != want {
			t.Errorf("%s is %v %v, want %s", name, got, err, want)
		}
	}
	text, _ := os.ReadFile(file)
	for _, part := range []string{"# ours\n", "[clients] # all of them\n", "max-clients = 321 # enough\n", "# nothing here\n"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the file has lost %q:\n%s", part, text)
		}
	}
	if strings.Contains(r.log.String(), "word") {
		t.Error("the password is in the log")
	}
}

// TestOperatingWhileSlotsMove: whatever is asked of the server while all slots move, the
// clients' counters are exact, a pause holds every write, and MONITOR has every command.
func TestOperatingWhileSlotsMove(t *testing.T) {
	r := newRig(t, 2)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var incremented [8]atomic.Int64
	seen := r.watchMonitor("n0") // before the first increment
	for i := range incremented {
		c := redis.NewClient(&redis.Options{Addr: r.listen, PoolSize: 1, ReadTimeout: time.Minute, MaxRetries: -1})
		defer c.Close()
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := c.Incr(context.Background(), fmt.Sprint("n", i)).Err(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				incremented[i].Add(1)
			}
		})
	}
	wg.Go(func() {
		c := redis.NewClient(&redis.Options{Addr: r.listen, PoolSize: 1, ReadTimeout: time.Minute, MaxRetries: -1})
		defer c.Close()
		for n := 0; ctx.Err() == nil; n++ {
			r.ask(c, n)
			if n%5 == 0 {
				r.pauseHolds(c, incremented[:])
			}
		}
	})
	r.bounce(rounds(6, 12))
	stop()
	wg.Wait()
	c := r.client()
	for i := range incremented {
		got, err := c.Get(context.Background(), fmt.Sprint("n", i)).Int64()
		if err != nil || got != incremented[i].Load() || got == 0 {
			t.Errorf("n%d is %d %v after %d increments", i, got, err, incremented[i].Load())
		}
	}
	if got, want := seen(), incremented[0].Load(); got != want {
		t.Errorf("MONITOR showed %d increments of n0, there were %d", got, want)
	}
	r.placesRight()
}

// ask asks what operators' tools ask; each must be answered without an error.
func (r *rig) ask(c *redis.Client, n int) {
	for _, cmd := range []string{"INFO everything", "CLIENT LIST", "CONFIG GET *", fmt.Sprint("CONFIG SET timeout ", 1000+n), "SLOWLOG GET", "LATENCY LATEST", "MEMORY STATS", "MEMORY DOCTOR",
		"MEMORY USAGE n1", "OBJECT ENCODING n1", "ACL LIST", "COMMAND COUNT", "LASTSAVE", "ROLE", "MODULE LIST", "CONFIG RESETSTAT", "CLIENT KILL TYPE pubsub"} {
		var args []any
		for _, w := range strings.Fields(cmd) {
			args = append(args, w)
		}
		if err := c.Do(context.Background(), args...).Err(); err != nil && !(strings.Contains(cmd, " n1") && strings.Contains(err.Error(), "nil")) {
			r.t.Errorf("%s: %v", cmd, err)
		}
	}
}

// pauseHolds demands that no write that is sent between the answers to PAUSE and UNPAUSE
// succeeds. Each client may count one that was under way: that which waited for a key that
// is being moved still runs, and a reply may have come that the client has not counted yet.
func (r *rig) pauseHolds(c *redis.Client, counts []atomic.Int64) {
	if err := c.Do(context.Background(), "CLIENT", "PAUSE", 600_000, "WRITE").Err(); err != nil {
		r.t.Errorf("PAUSE: %v", err)
		return
	}
	before := make([]int64, len(counts))
	for i := range counts {
		before[i] = counts[i].Load()
	}
	time.Sleep(100 * time.Millisecond)
	for i := range counts {
		if n := counts[i].Load() - before[i]; n > 1 {
			r.t.Errorf("client %d: %d writes during a pause", i, n)
		}
	}
	if err := c.Do(context.Background(), "CLIENT", "UNPAUSE").Err(); err != nil {
		r.t.Errorf("UNPAUSE: %v", err)
	}
}

// watchMonitor counts the INCRs of a key that MONITOR shows until the returned function is
// called, which gives their number, up to those that had been answered by then.
func (r *rig) watchMonitor(key string) (seen func() int64) {
	w := r.wire()
	w.expect("MONITOR", "+OK\r\n")
	_ = w.c.SetReadDeadline(time.Time{})
	counted, failed := make(chan int64, 1), make(chan error, 1)
	go func() {
		n := int64(0)
		for {
			line, err := w.r.ReadString('\n')
			if err != nil {
				failed <- err
				return
			}
			switch {
			case strings.HasSuffix(line, "\"incr\" \""+key+"\"\r\n"):
				n++
			case strings.Contains(line, `"the end"`):
				counted <- n
				return
			}
		}
	}()
	return func() int64 {
		r.t.Helper()
		if err := r.client().Echo(context.Background(), "the end").Err(); err != nil {
			r.t.Fatal(err)
		}
		select {
		case n := <-counted:
			return n
		case err := <-failed:
			r.t.Fatalf("MONITOR: %v", err)
			return 0
		}
	}
}
