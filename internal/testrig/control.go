package testrig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keyferry/internal/admin"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/router"
)

// awaitBound is no expectation of speed: it ends a hang.
const awaitBound = 4 * time.Minute

// ProxyErr says PROXY … to the gateway's admin address.
func (r *Rig) ProxyErr(args ...any) (any, error) {
	c := testredis.NewClient(r.Admin, "", 0)
	defer c.Close()
	return c.Do(context.Background(), append([]any{"PROXY"}, args...)...).Result()
}

// Proxy is ProxyErr of what must succeed.
func (r *Rig) Proxy(args ...any) any {
	r.T.Helper()
	v, err := r.ProxyErr(args...)
	if err != nil {
		r.T.Fatalf("PROXY %v: %v", args, err)
	}
	return v
}

// Command is the keyferry command with these arguments, for this gateway.
func (r *Rig) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "KEYFERRY_ADMIN="+r.Admin)
	return cmd
}

// Keyferry runs it, and returns what it printed, and its exit code.
func (r *Rig) Keyferry(args ...string) (out, errs string, code int) {
	r.T.Helper()
	var stdout, stderr bytes.Buffer
	cmd := r.Command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		r.T.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// Jobs lists the migrations; none when the gateway does not answer.
func (r *Rig) Jobs() []migrator.Status {
	v, err := r.ProxyErr("MIGRATION", "LIST", "JSON")
	if err != nil {
		return nil
	}
	var jobs []migrator.Status
	if err := json.Unmarshal([]byte(v.(string)), &jobs); err != nil {
		r.T.Fatal(err)
	}
	return jobs
}

// Job is the newest migration.
func (r *Rig) Job() migrator.Status {
	r.T.Helper()
	var jobs []migrator.Status
	r.Await("the gateway to list its jobs", func() bool { jobs = r.Jobs(); return len(jobs) > 0 })
	return jobs[len(jobs)-1]
}

// History is what has happened to a job.
func (r *Rig) History(id string) (events []topology.JobEvent) {
	r.T.Helper()
	if err := json.Unmarshal([]byte(r.Proxy("MIGRATION", "LOG", id, "JSON").(string)), &events); err != nil {
		r.T.Fatal(err)
	}
	return events
}

// AwaitMoved waits until the newest migration has moved more keys than that.
func (r *Rig) AwaitMoved(keys int64) {
	r.T.Helper()
	r.Await(fmt.Sprintf("more than %d keys to move", keys), func() bool { return r.Job().KeysMoved > keys })
}

// Await polls until cond holds.
func (r *Rig) Await(what string, cond func() bool) {
	r.T.Helper()
	deadline := time.NewTimer(awaitBound)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			r.T.Fatalf("waited in vain for %s; jobs: %+v", what, r.Jobs())
		case <-look.C: // nothing is to be expected of a gateway that has panicked; Start says how
			if r.Log != nil && strings.Contains(r.Log.String(), "panic:") && !cond() {
				r.T.Fatalf("the gateway panicked before %s", what)
			}
		case <-tick.C:
		}
	}
}

// AwaitDone waits until there are jobs and all are done.
func (r *Rig) AwaitDone() {
	r.T.Helper()
	r.Await("all jobs to be done", func() bool {
		done, err := allDone(r.Jobs())
		if err != nil {
			r.T.Fatal(err)
		}
		return done
	})
}

// Unlimited takes the rate away from jobs that were slow on purpose until now, and are not to
// be waited for any longer.
func (r *Rig) Unlimited() {
	r.T.Helper()
	for _, j := range r.Jobs() {
		_, _ = r.ProxyErr("MIGRATION", "LIMIT", j.ID, "RATE", "0") // it may have ended
	}
}

func allDone(jobs []migrator.Status) (bool, error) {
	for _, j := range jobs {
		if j.Phase == topology.Failed {
			return false, fmt.Errorf("job failed: %+v", j)
		}
		if j.Phase != topology.Done {
			return false, nil
		}
	}
	return len(jobs) > 0, nil
}

// Info reads one number of PROXY INFO.
func (r *Rig) Info(field string) int {
	r.T.Helper()
	text := r.Proxy("INFO").(string)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			var n int
			_, _ = fmt.Sscan(v, &n)
			return n
		}
	}
	r.T.Fatalf("no %s in INFO", field)
	return 0
}

// Bounce moves all slots from group to group, n times.
func (r *Rig) Bounce(n int) {
	r.T.Helper()
	for i := range n {
		r.Proxy("MIGRATE", "0-16383", "TO", fmt.Sprintf("g%d", 2-i%2))
		r.AwaitDone()
	}
}

// KeepMoving moves all slots back and forth between the first two groups, in two jobs, so
// that at any time some move, until the returned function is called. That one waits for
// the last jobs, fails the test if not one has ended, and returns how many have.
func (r *Rig) KeepMoving() (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	rounds, ended := 0, make(chan error, 1)
	go func() { ended <- r.moveUntil(ctx, &rounds) }()
	r.T.Cleanup(cancel)
	return func() int {
		r.T.Helper()
		cancel()
		if err := <-ended; err != nil {
			r.T.Fatalf("moving slots: %v", err)
		}
		if rounds == 0 {
			r.T.Fatal("no migration has ended meanwhile")
		}
		return 2 * rounds
	}
}

// moveUntil is for another goroutine than the test's: it returns what went wrong.
func (r *Rig) moveUntil(ctx context.Context, rounds *int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for *rounds == 0 || ctx.Err() == nil { // one at least, also when who asked is done first
		to := fmt.Sprintf("g%d", 2-*rounds%2)
		for _, slots := range []string{"0-8191", "8192-16383"} {
			if _, err := r.ProxyErr("MIGRATE", slots, "TO", to); err != nil {
				return fmt.Errorf("MIGRATE %s TO %s: %w", slots, to, err)
			}
		}
		deadline := time.Now().Add(awaitBound)
		for done := false; !done; {
			<-tick.C
			var err error
			if done, err = allDone(r.Jobs()); err != nil {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("jobs do not end: %+v", r.Jobs())
			}
		}
		*rounds++
	}
	return nil
}

// allKeys lists what a server holds in its first dbs databases, as "db/key".
func allKeys(t *testing.T, s *testredis.Server, dbs int) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for db := range dbs {
		it := s.ClientDB(db).Scan(context.Background(), 0, "", 1000).Iterator()
		for it.Next(context.Background()) {
			out[fmt.Sprintf("%d/%s", db, it.Val())] = true
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// PlacesRight demands that every key sits at its slot's owner alone.
func (r *Rig) PlacesRight() {
	r.T.Helper()
	var rows []admin.SlotRow
	if err := json.Unmarshal([]byte(r.Proxy("SLOT", "LIST", "JSON").(string)), &rows); err != nil {
		r.T.Fatal(err)
	}
	owner := map[int]string{}
	for _, row := range rows {
		for s := row.First; s <= row.Last; s++ {
			owner[s] = row.Group
		}
	}
	seen := map[string]int{}
	for i, s := range r.Servers {
		for k := range allKeys(r.T, s, 2) {
			_, name, _ := strings.Cut(k, "/")
			if strings.HasPrefix(name, router.ReservedPrefix) {
				continue // the gateway's own, of a job or of a preflight that was cut short
			}
			if j, twice := seen[k]; twice {
				r.T.Errorf("key %s is at g%d and at g%d", k, j+1, i+1)
			}
			seen[k] = i
			if o := owner[router.Redis.Slot([]byte(name))]; o != fmt.Sprintf("g%d", i+1) {
				r.T.Errorf("key %s is at g%d, its slot's owner is %s", k, i+1, o)
			}
		}
	}
}

// KeysAt is how many keys a server has in database 0, without the gateway's own.
func KeysAt(t *testing.T, s *testredis.Server) (n int64) {
	t.Helper()
	for k := range allKeys(t, s, 1) {
		if !strings.HasPrefix(k, "0/"+router.ReservedPrefix) {
			n++
		}
	}
	return n
}
