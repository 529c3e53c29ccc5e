package slotlock

import (
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ear is a waiter that remembers what it was told.
type ear struct {
	mu    sync.Mutex
	heard []Verdict
}

func (e *ear) Wake(_ *Table, _ Key, v Verdict) {
	e.mu.Lock()
	e.heard = append(e.heard, v)
	e.mu.Unlock()
}

func (e *ear) last(t *testing.T) Verdict {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.heard) == 0 {
		t.Fatal("not woken")
	}
	return e.heard[len(e.heard)-1]
}

func table(m Mode) *Table { return New(Options{Mode: m, MaxWaiting: 10}) }

var k = Key{0, "k"}

func TestUnmovedKeysAreSharedAtTheSource(t *testing.T) {
	tb := table(Filtered)
	e := &ear{}
	for range 3 {
		if v := tb.Admit(0, []byte("k"), e); v != Source {
			t.Fatalf("Admit: %s", v)
		}
	}
	if tb.TryLock(k) {
		t.Fatal("locked while commands are in flight")
	}
	for range 3 {
		tb.Release(k)
	}
	if !tb.TryLock(k) {
		t.Fatal("not free after the last release")
	}
	if v := tb.Admit(0, []byte("k"), e); v != Wait {
		t.Fatalf("Admit of a locked key: %s", v)
	}
	if v := tb.Admit(1, []byte("k"), e); v != Source {
		t.Fatalf("the same name in another database: %s", v)
	}
	tb.Commit(k)
	if v := e.last(t); v != Target {
		t.Fatalf("woken with %s", v)
	}
	if v := tb.Admit(0, []byte("k"), e); v != Target {
		t.Fatalf("after the move: %s", v)
	}
}

func TestAbort(t *testing.T) {
	tb := table(Resolve)
	e := &ear{}
	if v := tb.Admit(0, []byte("k"), e); v != Wait {
		t.Fatalf("Admit: %s", v)
	}
	if got := tb.Take(5); len(got) != 1 || got[0] != k {
		t.Fatalf("Take: %v", got)
	}
	tb.Abort(k, true)
	if v := e.last(t); v != Source {
		t.Fatalf("woken with %s, want the source", v)
	}
	if s := tb.Stats(); s.Holds != 1 || s.Grants != 1 {
		t.Fatalf("%+v: the hold was not taken for the waiter", s)
	}
	tb.Release(k)
	tb.Admit(0, []byte("k"), e)
	tb.Take(1)
	tb.Abort(k, false)
	if v := e.last(t); v != Wait {
		t.Fatalf("woken with %s without proof", v)
	}
	if !tb.Idle() {
		t.Fatal("something is still held")
	}
}

func TestWantMakesNoConvoy(t *testing.T) {
	tb := table(Filtered)
	e := &ear{}
	tb.Admit(0, []byte("k"), e)
	if !tb.Want(k) || tb.Want(k) {
		t.Fatal("Want: want once")
	}
	if v := tb.Admit(0, []byte("k"), e); v != Wait {
		t.Fatalf("a newcomer while the mover wants the key: %s", v)
	}
	if !tb.Unwant(k) {
		t.Fatal("Unwant")
	}
	if v := e.last(t); v != Wait {
		t.Fatalf("woken with %s, want to ask again", v)
	}
	if v := tb.Admit(0, []byte("k"), e); v != Source {
		t.Fatalf("after the wish was withdrawn: %s", v)
	}
	tb.Want(k)
	tb.Release(k)
	tb.Release(k)
	if got := tb.Take(1); len(got) != 1 {
		t.Fatal("a wanted key did not appear when its holders were done")
	}
	if tb.Unwant(k) {
		t.Fatal("Unwant of a locked key")
	}
	tb.Commit(k)
}

func TestFull(t *testing.T) {
	tb := table(Resolve)
	for i := range 10 {
		if v := tb.Admit(0, fmt.Append(nil, i), &ear{}); v != Wait {
			t.Fatalf("%d: %s", i, v)
		}
	}
	if v := tb.Admit(0, []byte("one more"), &ear{}); v != Full {
		t.Fatalf("beyond the bound: %s", v)
	}
	tb.SetMode(AllTarget)
	if v := tb.Admit(0, []byte("one more"), &ear{}); v != Target {
		t.Fatalf("after the proof: %s", v)
	}
}

func TestAMissIsCertain(t *testing.T) {
	tb := New(Options{Mode: Filtered, MaxWaiting: 1})
	const n = 300_000 // far beyond the first layers
	for i := range n {
		key := Key{0, fmt.Sprint("key:", i)}
		if !tb.TryLock(key) {
			t.Fatal(key)
		}
		tb.Commit(key)
	}
	for i := range n {
		if !tb.Moved(Key{0, fmt.Sprint("key:", i)}) {
			t.Fatalf("key %d is forgotten", i)
		}
	}
	wrong := 0
	for i := range n {
		if tb.Moved(Key{0, fmt.Sprint("other:", i)}) {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d false positives of %d", wrong, n)
	}
}

// TestRandomUse checks the invariants in the package's doc against a plain model.
func TestRandomUse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := New(Options{Mode: Filtered, MaxWaiting: 100})
		keys := []string{"a", "b"}
		shared, lockedBy, home := map[string]int{}, map[string]bool{}, map[string]bool{}
		e := &ear{}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				name := rapid.SampledFrom(keys).Draw(t, "key")
				switch tb.Admit(0, []byte(name), e) {
				case Source:
					if home[name] {
						t.Fatalf("%s was committed and is served at the source", name)
					}
					if lockedBy[name] {
						t.Fatalf("%s is locked and is served at the source", name)
					}
					shared[name]++
				case Target:
					if !home[name] {
						t.Fatalf("%s is served at the target and never went there", name)
					}
				}
			},
			"release": func(t *rapid.T) {
				name := rapid.SampledFrom(keys).Draw(t, "key")
				if shared[name] > 0 {
					shared[name]--
					tb.Release(Key{0, name})
				}
			},
			"lock": func(t *rapid.T) {
				name := rapid.SampledFrom(keys).Draw(t, "key")
				if tb.TryLock(Key{0, name}) {
					if shared[name] > 0 || lockedBy[name] {
						t.Fatalf("%s locked while held", name)
					}
					lockedBy[name] = true
				}
			},
			"want": func(t *rapid.T) {
				tb.Want(Key{0, rapid.SampledFrom(keys).Draw(t, "key")})
			},
			"take": func(t *rapid.T) {
				for _, key := range tb.Take(1) {
					if shared[key.Name] > 0 || lockedBy[key.Name] {
						t.Fatalf("%s given out while held", key.Name)
					}
					lockedBy[key.Name] = true
				}
			},
			"commit": func(t *rapid.T) {
				name := rapid.SampledFrom(keys).Draw(t, "key")
				if lockedBy[name] {
					lockedBy[name], home[name] = false, true
					tb.Commit(Key{0, name})
				}
			},
			"abort": func(t *rapid.T) {
				name := rapid.SampledFrom(keys).Draw(t, "key")
				if lockedBy[name] {
					lockedBy[name] = false
					tb.Abort(Key{0, name}, false)
				}
			},
		})
	})
}

// TestManyGoroutines is for the race detector.
func TestManyGoroutines(t *testing.T) {
	tb := New(Options{Mode: Filtered, MaxWaiting: 1000})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			e := &ear{}
			for i := range 5000 {
				name := []byte(fmt.Sprint(i % 200))
				if tb.Admit(0, name, e) == Source {
					tb.Release(Key{0, string(name)})
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 3000 {
				key := Key{0, fmt.Sprint(i % 200)}
				if tb.TryLock(key) {
					if i%3 == 0 {
						tb.Commit(key)
					} else {
						tb.Abort(key, false)
					}
				}
				for _, key := range tb.Take(4) {
					tb.Commit(key)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAdmitRelease(b *testing.B) {
	tb := table(Filtered)
	name := []byte("some:key:name")
	key := Key{0, string(name)}
	b.ReportAllocs()
	for b.Loop() {
		tb.Admit(0, name, nil)
		tb.Release(key)
	}
}

// cpuTime is what this process has used of the processors: it does not pass while the machine
// is busy with others.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestTakeOfVeryMany: what is taken does not cost the moving of what is left.
func TestTakeOfVeryMany(t *testing.T) {
	cost := func(n int) time.Duration {
		tb := New(Options{MaxWaiting: n, Mode: Resolve})
		w := &ear{}
		for i := range n {
			if v := tb.Admit(0, strconv.AppendInt(nil, int64(i), 10), w); v != Wait {
				t.Fatal(v)
			}
		}
		began := cpuTime(t)
		for next := 0; next < n; {
			for _, k := range tb.Take(8) {
				if k.Name != strconv.Itoa(next) {
					t.Fatalf("got %q, want %d", k.Name, next)
				}
				next++
			}
		}
		used := cpuTime(t) - began
		if len(tb.Take(8)) > 0 {
			t.Error("more than there were")
		}
		return used
	}
	const n, times = 30_000, 8
	few, many := cost(n), cost(n*times)
	t.Logf("processor time for %d %v, for %d times as many %v", n, few, times, many)
	if many > 3*times*few+time.Second { // moving what is left at each Take would take several times that
		t.Errorf("%v of processor time for %d, %v for %d times as many", few, n, many, times)
	}
}
