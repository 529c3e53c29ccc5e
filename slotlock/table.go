package slotlock

import (
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// Verdict says where a client's command on one key runs.
type Verdict uint8

const (
	// Wait: the key is being moved, or must be pulled to the target first. The waiter
	// is woken with a verdict; nothing is held meanwhile.
	Wait Verdict = iota
	// Source: the key has certainly not been moved. The caller holds it shared and must
	// Release it once the command has been answered (or can no longer run).
	Source
	// Target: the key lives at the target. Nothing is held.
	Target
	// Full: the table has as many keys waiting as it may; the caller answers -TRYAGAIN.
	Full
)

func (v Verdict) String() string { return [...]string{"wait", "source", "target", "full"}[v] }

// Waiter is told when a key that it waits for has been decided.
//
// v is Target (run it there), Source (run it at the source: one shared hold has been
// taken for this waiter, which it must Release) or Wait (ask Admit again). Wake is
// called with no lock held, from whatever goroutine decided, and must not block.
// A waiter that has lost interest may still be woken and must then give back the hold.
type Waiter interface {
	Wake(t *Table, key Key, v Verdict)
}

// Key is one key of one logical database. Names are opaque bytes.
type Key struct {
	DB   int
	Name string
}

// Mode is how a table decides about keys that nobody holds.
type Mode uint8

const (
	// Filtered: the table knows every key that went to the target, so one that it does not
	// know is served at the source.
	Filtered Mode = iota
	// Resolve: every touch of a key that is not known to be moved pulls it to the
	// target first. Used in the tail phase and when the table does not know all of those.
	Resolve
	// AllTarget: the source has been proven empty; every key lives at the target.
	AllTarget
	// AllSource: nothing has moved, or will; every key is served at the source.
	AllSource
)

// Options size a Table. All are hints but MaxWaiting.
type Options struct {
	ExpectedKeys int  // keys the job is thought to move; the memory of them begins with that size
	MaxWaiting   int  // keys that may be locked or wanted on behalf of clients
	Mode         Mode // Filtered for a job that starts, Resolve for one that was resumed
	Closed       bool // Take gives nothing before Open
}

const spareMax = 64 // entries a shard keeps for use again

const shardCount = 64 // a power of two; far more than there are loops and mover workers

// Table is the lock table of one job. It is safe for concurrent use, has no clock and
// does no I/O: every outcome follows from the order of the calls alone, which is what
// lets the explorer in test/sim run it.
//
// The control plane makes it when the job is published, or resumed, and drops it when every
// loop has left the job's routes. Loops call Admit, Resolve, Pull, Release and Cancel; the mover
// TryLock, Want, Take, Commit and Abort; the runner sets the mode, freezes and thaws.
type Table struct {
	secrets  secrets
	recent   *Recent
	expiring Expiring
	shards   [shardCount]shard
	holds    atomic.Int64 // shared holds outstanding, of all keys
	grants   atomic.Int64 // times that Abort let waiters run at the source
	commits  atomic.Int64
	waiting  atomic.Int64 // keys locked or wanted for a client
	waking   atomic.Int64 // keys decided whose waiters are being told
	maxWait  int64
	away     atomic.Bool // the target can't be reached

	// touched are keys locked for resolve-on-touch (or by Want) that the mover has not
	// taken yet. mu protects it alone; it is taken with a shard's mu held, never the
	// other way about.
	mu      sync.Mutex
	touched []Key
	closed  bool
	bell    chan struct{} // capacity 1: rung when touched gains a key
}

// shard has the keys whose digests end alike. What is asked of one key touches one shard only,
// so that mode and frozen are there once for each: a command reads them under the lock that it
// takes anyway.
type shard struct {
	mu      sync.Mutex // protects all below; held for nanoseconds, never across a Wake
	mode    Mode
	frozen  bool // see Freeze
	entries map[Key]*entry
	spare   []*entry // no longer in entries; given out again, so that a command allocates none
	moved   movedSet // keys that live at the target
}

type entryState uint8

const (
	sharedOnly entryState = iota // held by commands in flight at the source
	wanted                       // the mover waits for the holders to finish; newcomers wait
	locked                       // the mover has it alone
)

// entry exists only while its key is held, wanted or waited for. Its states:
//
//	sharedOnly ──► wanted ──► locked ──► gone (Commit, Abort)
//	    │  ▲         │          ▲
//	    │  └─ Unwant ┘          │
//	    └── nobody holds it ────┘
//
// A locked entry has no shared holds, and one that is wanted gets no more.
type entry struct {
	state   entryState
	shared  int
	client  bool     // locked or wanted on behalf of a client; counted in Table.waiting
	waiters []Waiter // loops, each once, in the order in which they asked
}

// New makes the lock table of one job.
func New(o Options) *Table {
	t := &Table{secrets: secrets{rand.Uint64(), rand.Uint64()}, bell: make(chan struct{}, 1), maxWait: int64(max(o.MaxWaiting, 1)), closed: o.Closed}
	t.recent = &Recent{secrets: t.secrets}
	for i := range t.shards {
		s := &t.shards[i]
		s.mode = o.Mode
		s.entries = make(map[Key]*entry)
		s.moved.init(o.ExpectedKeys/shardCount, i)
	}
	return t
}

func (t *Table) shard(d digest) *shard { return &t.shards[d.lo%shardCount] }

// locked goes over the shards, each locked while it is looked at.
func (t *Table) locked() iter.Seq2[int, *shard] {
	return func(yield func(int, *shard) bool) {
		for i := range t.shards {
			s := &t.shards[i]
			s.mu.Lock()
			more := yield(i, s)
			s.mu.Unlock()
			if !more {
				return
			}
		}
	}
}

// Admit decides about a client's command on one key. It is the only way in for clients.
func (t *Table) Admit(db int, name []byte, w Waiter) Verdict {
	d := t.secrets.of(db, name)
	s := t.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen && s.freezing(Key{db, string(name)}, w) {
		return Wait
	}
	e := s.entries[Key{db, string(name)}]
	if e != nil && e.state != sharedOnly {
		e.addWaiter(w)
		return Wait
	}
	switch s.mode {
	case AllTarget:
		return Target
	case AllSource:
		return t.hold(s, e, Key{db, string(name)})
	case Filtered:
		if !s.moved.has(d) || t.forgot(db, name) {
			return t.hold(s, e, Key{db, string(name)})
		}
	}
	if s.moved.has(d) {
		return Target
	}
	return t.lockFor(s, e, Key{db, string(name)}, w)
}

// Resolve pulls a key to the target whatever Admit would say: for a command with
// several keys of which one lives there already. It answers Wait, Target or Full; Source
// only where nothing moves any more (AllSource).
func (t *Table) Resolve(db int, name []byte, w Waiter) Verdict {
	d := t.secrets.of(db, name)
	s := t.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := Key{db, string(name)}
	if s.freezing(k, w) {
		return Wait
	}
	e := s.entries[k]
	if e != nil && e.state != sharedOnly {
		e.addWaiter(w)
		return Wait
	}
	switch {
	case s.mode == AllSource:
		return t.hold(s, e, k)
	case s.mode == AllTarget || s.moved.has(d):
		return Target
	}
	return t.lockFor(s, e, k, w)
}

// lockFor locks k for a client as soon as its holders are done. The shard is locked.
func (t *Table) lockFor(s *shard, e *entry, k Key, w Waiter) Verdict {
	if t.waiting.Load() >= t.maxWait {
		return Full
	}
	if e == nil {
		e = s.enter(k, sharedOnly)
	}
	e.client = true
	t.waiting.Add(1)
	e.addWaiter(w)
	if e.shared > 0 {
		e.state = wanted
		return Wait
	}
	e.state = locked
	t.touch(k)
	return Wait
}

// Dup takes another shared hold for a caller that has one already. So it needs no verdict:
// nobody can have locked the key meanwhile.
func (t *Table) Dup(k Key) {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	e := s.entries[k]
	if e == nil || e.shared == 0 {
		s.mu.Unlock()
		panic("slotlock: Dup of a key that is not held")
	}
	e.shared++
	t.holds.Add(1)
	s.mu.Unlock()
}

// Release gives one shared hold back.
func (t *Table) Release(k Key) {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	e := s.entries[k]
	if e == nil || e.shared == 0 {
		s.mu.Unlock()
		panic("slotlock: Release of a key that is not held")
	}
	e.shared--
	t.holds.Add(-1)
	if e.shared == 0 { // the last one out hands the key to who wants it, if anybody does
		if e.state == wanted {
			e.state = locked
			t.touch(k)
		} else if e.empty() {
			s.drop(k, e)
		}
	}
	s.mu.Unlock()
}

// Commit unlocks a key that lives at the target from now on, also if there was nothing
// to move: the waiters run there, and may create it there.
func (t *Table) Commit(k Key) {
	d := t.secrets.ofKey(k)
	s := t.shard(d)
	s.mu.Lock()
	e := s.mustBeLocked(k)
	// In this order within one hold of the lock: nobody finds the key free and not yet moved.
	s.moved.add(d)
	woken := e.waiters
	t.done(e)
	s.drop(k, e)
	if s.keep(k, woken) {
		woken = nil
	}
	t.waking.Add(1)
	s.mu.Unlock()
	t.commits.Add(1)
	t.wake(k, woken, Target)
	t.waking.Add(-1)
}

// Abort unlocks a key that stays where it is. With atSource the caller has proof that
// the target does not hold it (RESTORE was never sent or was definitely refused): then
// those who wait run at the source, whatever the mode, so that a full target is never
// their problem. Without, they ask again.
func (t *Table) Abort(k Key, atSource bool) {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	e := s.mustBeLocked(k)
	woken := e.waiters
	v := Wait
	t.done(e)
	s.drop(k, e)
	if s.keep(k, woken) {
		woken = nil
	} else if atSource && len(woken) > 0 {
		// The holds are taken before the lock is let go, so that the mover can't have the key
		// back before those who wait have heard that they may run.
		v = Source
		s.enter(k, sharedOnly).shared = len(woken)
		t.holds.Add(int64(len(woken)))
		t.grants.Add(1)
	}
	s.mu.Unlock()
	t.wake(k, woken, v)
}

// Cancel withdraws a waiter. It may be woken all the same if that was under way.
func (t *Table) Cancel(k Key, w Waiter) {
	s := t.shard(t.secrets.ofKey(k))
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil {
		return
	}
	for i := range e.waiters {
		if e.waiters[i] == w {
			e.waiters = append(e.waiters[:i], e.waiters[i+1:]...)
			if e.empty() {
				s.drop(k, e)
			}
			return
		}
	}
}

// SetMode changes how free keys are decided. When it has returned, no Admit decides by
// the old mode any more; holds granted before remain until they are released. Until then some
// shards go by the old mode and some by the new: each mode has to be right beside the one that
// follows it.
func (t *Table) SetMode(m Mode) {
	for _, s := range t.locked() {
		s.mode = m
	}
}

// Moved reports whether the key has been committed. Used when a source comes back from an
// older dump with keys that had left.
func (t *Table) Moved(k Key) bool {
	d := t.secrets.ofKey(k)
	s := t.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved.has(d)
}

// Touched is signalled when Take has something to give.
func (t *Table) Touched() <-chan struct{} { return t.bell }

// Take hands over up to n keys that were locked because clients (or Want) asked for
// them, oldest first. The caller must Commit or Abort each.
func (t *Table) Take(n int) []Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = min(n, len(t.touched))
	if n == 0 || t.closed {
		return nil
	}
	out := append([]Key(nil), t.touched[:n]...)
	clear(t.touched[:n])
	if t.touched = t.touched[n:]; len(t.touched) > 0 {
		t.ring()
	} else {
		t.touched = nil
	}
	return out
}

// Open lets Take give. A job that begins is closed until no command is in flight at the
// source without a hold: what a client asks to be moved has to wait for that too.
func (t *Table) Open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = false
	if len(t.touched) > 0 {
		t.ring()
	}
}

// Stats is a snapshot; its fields are not of one instant.
type Stats struct {
	Holds   int64 // shared holds outstanding
	Grants  int64 // times waiters were let run at the source by Abort
	Commits int64 // keys that have moved
	Waiting int64 // keys locked or wanted for clients
}

// Stats reads the counters.
func (t *Table) Stats() Stats {
	return Stats{Holds: t.holds.Load(), Grants: t.grants.Load(), Commits: t.commits.Load(), Waiting: t.waiting.Load()}
}

// Idle reports that no key is held, wanted or locked.
func (t *Table) Idle() bool {
	for _, s := range t.locked() {
		if len(s.entries) > 0 {
			return false
		}
	}
	return true
}

// touch makes a key that has just been locked one that Take gives out. The shard is locked.
func (t *Table) touch(k Key) {
	t.mu.Lock()
	t.touched = append(t.touched, k)
	t.ring()
	t.mu.Unlock()
}

// ring never blocks: one ring stands for any number of keys.
func (t *Table) ring() {
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

// done is told that a locked entry ends.
func (t *Table) done(e *entry) {
	if e.client {
		t.waiting.Add(-1)
	}
}

// wake tells those who wait for a key, with no lock held: a waiter may call the table back.
func (t *Table) wake(k Key, ws []Waiter, v Verdict) {
	for _, w := range ws {
		w.Wake(t, k, v)
	}
}

func (e *entry) addWaiter(w Waiter) {
	for _, have := range e.waiters {
		if have == w {
			return
		}
	}
	e.waiters = append(e.waiters, w)
}

// enter and drop begin and end a key's entry.
func (s *shard) enter(k Key, st entryState) *entry {
	e := &entry{}
	if n := len(s.spare); n > 0 {
		e, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	e.state = st
	s.entries[k] = e
	return e
}

func (s *shard) drop(k Key, e *entry) {
	delete(s.entries, k)
	if *e = (entry{}); len(s.spare) < spareMax {
		s.spare = append(s.spare, e)
	}
}

// mustBeLocked is the entry of a key that the mover says it has. To go on without would be to
// let a command and a move meet on one key.
func (s *shard) mustBeLocked(k Key) *entry {
	e := s.entries[k]
	if e == nil || e.state != locked {
		s.mu.Unlock()
		panic("slotlock: Commit or Abort of a key that is not locked")
	}
	return e
}
