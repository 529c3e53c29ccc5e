package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keyferry/internal/topology"
)

// oldDumpKind says who is killed when the source restarts from an old dump.
type oldDumpKind uint8

const (
	oldDumpAlone   oldDumpKind = iota
	oldDumpAndKill             // the gateway as well, so that its filter is gone
)

// oldDump restarts a source in the middle of a job with the data that it had before the
// job, when it has lost nothing but the knowledge of what has left: nobody has written to
// it since. The keys that had been moved must stay as the target has them.
//
// When the gateway dies too, nobody deletes keys: that a deleted one comes back then is
// the limit that is documented.
func (w *world) oldDump(n int, kind oldDumpKind) {
	w.t.Helper()
	w.note("old dump, round %d", n)
	ks := newKeyspace("old"+string(rune('a'+n%26)), 20)
	if kind == oldDumpAndKill {
		ks.keepAll = true
	}
	src := filepath.Join(w.Servers[0].Dir, "appendonlydir")
	keep, id := w.halfMoved(ks, src)
	for range halfMovedTries { // until a job stands still with all of these keys moved, and not all others
		if id != "" {
			break
		}
		w.shuffle()
		keep, id = w.halfMoved(ks, src)
	}
	if id == "" {
		w.t.Fatalf("no job could be stopped with the keys moved and others not, in %d tries", halfMovedTries+1)
	}
	w.work(ks, 8, 300*time.Millisecond) // at the target, where all of these keys are
	if kind == oldDumpAndKill {
		w.Kill()
	}
	w.must(w.Servers[0].Kill())
	w.must(os.RemoveAll(src))
	w.must(os.CopyFS(src, os.DirFS(keep)))
	w.must(w.Servers[0].Restart())
	w.note("g1 is back with an old dump")
	w.count("old dumps", 1)
	if kind == oldDumpAndKill {
		w.Start(w.failpoints)
	}
	w.order("MIGRATION", "RESUME", id)
	w.work(ks, 8, 300*time.Millisecond)
	w.allJobsEnd()
	w.checkKeys(ks, n)
	if w.failpoints == "" {
		w.PlacesRight()
	}
}

// halfMovedTries bounds oldDump. A job can be stopped in time in most orders of the keys.
const halfMovedTries = 20

// shuffle has the source give its keys in another order: its process has another hash seed. In
// some orders one of the keys is the last of all, and the job ends with it, however often it is
// tried.
func (w *world) shuffle() {
	w.t.Helper()
	w.gather("g1")
	w.must(w.Servers[0].Kill())
	w.must(w.Servers[0].Restart())
}

// halfMoved copies what the source has on disk, and moves everything until the keys of ks have
// arrived. There is no id when the job has come to its end before it could be stopped.
func (w *world) halfMoved(ks *keyspace, src string) (keep, id string) {
	w.t.Helper()
	w.gather("g1")
	w.work(ks, 8, 300*time.Millisecond)
	w.touchAll(ks)
	keep = filepath.Join(w.t.TempDir(), "aof")
	w.must(os.CopyFS(keep, os.DirFS(src)))
	id = fmt.Sprint(w.Proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "200"))
	w.Await("the keys to move", func() bool { return w.moved(ks) })
	w.order("MIGRATION", "PAUSE", id)
	w.Await("the job to stand still", func() bool { p := w.Job().Phase; return p == topology.Paused || p.Ended() })
	if w.Job().Phase.Ended() {
		w.note("it was too late for a pause")
		return "", ""
	}
	return keep, id
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// gather brings all slots to one group.
func (w *world) gather(group string) {
	w.t.Helper()
	w.order("MIGRATE", "0-16383", "TO", group) // refused if they are there already
	w.allJobsEnd()
}

// work lets clients work for a while, without faults.
func (w *world) work(ks *keyspace, clients int, d time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	var all sync.WaitGroup
	for range clients {
		w.workers++
		id := 100_000 + w.workers // never the same twice: it is part of what is written
		all.Go(func() { w.runClient(ctx, id, ks) })
	}
	all.Wait()
}

// touchAll makes every key exist: one that does not would be created at the source, also
// in the middle of the job, and be lost with what the source forgets.
func (w *world) touchAll(ks *keyspace) {
	w.t.Helper()
	c := w.well()
	defer c.Close()
	for _, k := range ks.live {
		o := op{client: -3, verb: map[kind]verb{kString: vAppend, kCounter: vIncr, kScript: vScriptIncr, kHash: vHSet}[k.kind], arg: "here"}
		if k.kind == kHash {
			o.field = "z"
		}
		if !w.apply(c, ks, k, o) {
			w.t.Fatalf("%s can't be written", k.name)
		}
	}
}

// moved reports whether every key of ks has left the first server.
func (w *world) moved(ks *keyspace) bool {
	for _, k := range ks.live {
		n, err := w.Servers[0].Client().Exists(context.Background(), k.name).Result()
		w.must(err)
		if n > 0 {
			return false
		}
	}
	return true
}

// TestSourceFromOldDump is the scenario by itself, with and without a restart of the
// gateway.
func TestSourceFromOldDump(t *testing.T) {
	w := newWorld(t, 1, 2, "")
	w.fill(500)
	for i := range 2 {
		if len(w.failures()) == 0 {
			w.oldDump(i, oldDumpKind(i%2))
		}
	}
	w.report()
}
