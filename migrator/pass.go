package migrator

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
	"keyferry/slotlock"
)

// position is where a pass stands.
type position struct {
	db     int
	cursor uint64
	runID  string
}

// A pass may break off at any time and goes on from where all was done before, so it has to
// know of each page whether its keys are through, although they travel in batches that begin
// and end anywhere in a page:
//
//	pages     │  1  │  2  │    3    │ 4 │        uncut: keys not yet in a batch
//	batches   │   a   │   b   │   c   │ …        open:  batches with its keys that are not done
//
// When b is done before a, page 2 is not: a has some of its keys. reached moves on over the
// oldest pages that are neither uncut nor open.

// scanPass is one pass: it scans the source and feeds the workers, page upon page, and knows
// up to which page everything is done.
//
//	SCAN ─► pages ─► keys of the job's slots ─► batches ─► pool
type scanPass struct {
	m     *mover
	pool  *pool
	src   *link.Wire
	found int64
	keys  []slotlock.Key // of the pages in cut, not yet in a batch
	cut   []*page        // pages with keys there, oldest first
	wg    sync.WaitGroup // batches that are not done
	text  []byte         // names of the page in hand, one behind the other
	ends  []int          // where each of them ends

	mu    sync.Mutex // protects what follows, and the counts in pages
	pages []*page    // not known to be done, oldest first
	done  int        // pages that are
	err   error
	due   bool // the slice's time is over
	moved bool // a batch is done
	over  bool // nothing new is begun any more, because the slice is over
	left  bool // … and a batch was not
}

// page is what one SCAN gave.
type page struct {
	next  position // where the pass goes on after it
	uncut int      // its keys that are not yet in a batch
	open  int      // batches with keys of it that are not done
}

// pass scans the source from a cursor and moves every key of the slots that it sees.
// found is how many it saw, with repetitions. checkpoint is called now and then, and in the
// end, with a position up to which all is done. errSliceOver: that is not yet all.
func (m *mover) pass(ctx context.Context, from position, checkpoint func(position)) (found int64, err error) {
	if err := m.awaitReady(ctx); err != nil {
		return 0, err
	}
	src, err := link.DialWire(ctx, m.dialer, m.source, m.cfg.CallTimeout)
	if err != nil {
		return 0, joberr.At(joberr.Source, err)
	}
	defer src.Close()
	s := &scanPass{m: m, src: src, pool: m.newPool(ctx, false)}
	defer s.pool.close()
	if from.runID != src.Info.Life() {
		from = position{}
	}
	if m.sweeping.on.Load() {
		m.sweeping.begin(src.Info, m.stats.scanned.Load())
	} else {
		m.slice.begin(s.sliceOver)
		defer m.slice.end()
	}
	err = s.run(ctx, from, checkpoint)
	s.wg.Wait()
	if err = s.verdict(err); ctx.Err() != nil {
		err = ctx.Err() // the rest follows from it
	}
	if err == nil || errors.Is(err, errSliceOver) {
		if at := s.reached(); at != (position{}) {
			checkpoint(at)
		}
	}
	if errors.Is(err, errSliceOver) && s.done > 0 {
		m.stats.farthest = 0 // what comes behind the checkpoint is further than any before
	}
	if err != nil {
		return s.found, err
	}
	// A source that was replaced meanwhile has shown two halves of two different worlds.
	end, err := m.dialSource(ctx)
	if err != nil {
		return s.found, joberr.At(joberr.Source, err)
	}
	defer end.Close()
	if end.Info.Life() != src.Info.Life() {
		return s.found, joberr.At(joberr.Source, errors.New("the server was restarted, or began a replication history anew, during the pass"))
	}
	if err := m.checkTarget(ctx); err != nil {
		return s.found, err
	}
	m.stats.farthest = 0
	return s.found, m.large.drain()
}

// run scans one database after the other. A pass that was interrupted goes on where its checkpoint
// says, within a database; SCAN shows every key that is there from its begin to its end, whatever
// else comes and goes, so that a position is worth nothing after the server was another one.
func (s *scanPass) run(ctx context.Context, from position, checkpoint func(position)) error {
	var reached position
	for db := from.db; db < s.m.databases; db++ {
		for cursor := from.cursor; ; {
			keys, next, err := s.scan(ctx, db, cursor)
			if err != nil {
				return err
			}
			p := &page{next: position{db: db, cursor: next, runID: s.src.Info.Life()}, uncut: len(keys)}
			if next == 0 {
				p.next.db++
			}
			s.add(p, keys)
			if err := s.failed(); err != nil {
				return err
			}
			if at := s.reached(); at != reached && at != (position{}) {
				reached = at
				checkpoint(at)
			}
			if s.mayEnd() {
				return errSliceOver
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		s.give(len(s.keys)) // a batch is of one database
		from.cursor = 0
	}
	return nil
}

// add takes the keys of a page and gives the workers what makes whole batches.
func (s *scanPass) add(p *page, keys []slotlock.Key) {
	s.found += int64(len(keys))
	s.mu.Lock()
	s.pages = append(s.pages, p)
	s.mu.Unlock()
	if len(keys) > 0 {
		s.keys, s.cut = append(s.keys, keys...), append(s.cut, p)
	}
	for {
		n := s.m.batchKeys()
		if len(s.keys) < n {
			return
		}
		s.give(n)
	}
}

// give gives the workers a batch of the first n keys.
func (s *scanPass) give(n int) {
	if n == 0 {
		return
	}
	b := &batch{keys: s.keys[:n:n]}
	s.keys = s.keys[n:]
	var of []*page
	s.mu.Lock()
	for n > 0 {
		p := s.cut[0]
		k := min(n, p.uncut)
		p.uncut -= k
		p.open++
		of = append(of, p)
		if n -= k; p.uncut == 0 {
			s.cut = s.cut[1:]
		}
	}
	s.mu.Unlock()
	s.wg.Add(1)
	b.done = func(err error) {
		s.batchDone(of, err)
		s.wg.Done()
	}
	s.pool.give(b)
}

// batchDone notes what came of a batch with keys of some pages. One that was not begun
// because the slice is over leaves them open: the next slice comes by there again.
func (s *scanPass) batchDone(of []*page, err error) {
	s.mu.Lock()
	if errors.Is(err, errSliceOver) {
		s.left = true
		s.mu.Unlock()
		return
	}
	for _, p := range of {
		p.open--
	}
	if s.err == nil {
		s.err = err
	}
	s.moved = true
	s.mu.Unlock()
	s.mayEnd()
}

// sliceOver tells that the time of the slice is over.
func (s *scanPass) sliceOver() {
	s.mu.Lock()
	s.due = true
	s.mu.Unlock()
	s.mayEnd()
}

// mayEnd reports that the slice is over and something has been done in it. Batches that are
// not begun by then are left.
func (s *scanPass) mayEnd() bool {
	s.mu.Lock()
	s.over = s.over || s.due && (s.moved || s.done > 0)
	over := s.over
	s.mu.Unlock()
	if over {
		s.pool.fail(errSliceOver)
	}
	return over
}

// verdict is what came of the pass: what has gone wrong comes before the end of a slice.
//
// A batch that was left says that the slice is over even if the scan had come to its end: there
// are keys that nobody has moved, and the pass is no proof.
func (s *scanPass) verdict(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !errors.Is(err, errSliceOver) {
		return err
	}
	if s.err != nil {
		return s.err
	}
	if s.left {
		return errSliceOver
	}
	return err
}

// failed is the first error of a batch.
func (s *scanPass) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// reached is the position up to which everything is done; zero if that is not known.
func (s *scanPass) reached() (at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pages) > 0 && s.pages[0].uncut == 0 && s.pages[0].open == 0 && s.err == nil {
		at = s.pages[0].next
		s.pages = s.pages[1:]
		s.done++
	}
	s.m.stats.reached(s.done)
	return at
}

// batchKeys is how many keys the next batch should have. A sweep moves nothing: it may have more
// than a ceiling lets be moved at once.
func (m *mover) batchKeys() int {
	if m.sweeping.on.Load() {
		return min(int(m.batch.Keys()), m.gov.Batch(flowDepth*int(m.parallel.Load())))
	}
	return min(int(m.batch.Keys()), m.limit.Burst(), m.gov.Batch(flowDepth*int(m.parallel.Load())))
}

// scan fetches one page: the keys of the job's slots that are moved key by key.
func (s *scanPass) scan(ctx context.Context, db int, cursor uint64) (keys []slotlock.Key, next uint64, err error) {
	keys, next, err = s.askScan(ctx, db, cursor)
	return keys, next, joberr.At(joberr.Source, err)
}

// askScan asks for one page. The names of a page share one piece of memory, since all of them are
// locked and let go within a short time, and a million small strings are work for the collector.
func (s *scanPass) askScan(ctx context.Context, db int, cursor uint64) (keys []slotlock.Key, next uint64, err error) {
	if err := s.src.Use(ctx, db); err != nil {
		return nil, 0, err
	}
	count, rest := s.m.gov.Scan(time.Now(), s.m.cfg.LockHoldTarget, int(s.m.cfg.ScanCount))
	if rest > 0 {
		if sleep(ctx, rest); ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
	s.src.Begin(ctx)
	s.src.Command("SCAN", 3)
	s.src.Arg(strconv.FormatUint(cursor, 10))
	s.src.Arg("COUNT")
	s.src.ArgInt(int64(count))
	sent := time.Now()
	if err := s.src.Flush(); err != nil {
		return nil, 0, err
	}
	var head [3]upstream.Reply // the array, the cursor in it, and the array of names
	for i := range head {
		if head[i], err = s.src.Answer(); err != nil {
			return nil, 0, err
		}
	}
	s.m.gov.Scanned(time.Since(sent), count)
	next, err = strconv.ParseUint(string(head[1].Text), 10, 64)
	if err != nil || head[0].N != 2 || head[2].Kind != '*' {
		return nil, 0, upstream.ErrProtocol
	}
	s.text, s.ends = s.text[:0], s.ends[:0]
	own := int64(0) // keys of the gateway's
	for range head[2].N {
		name, err := s.src.Answer()
		if err != nil {
			return nil, 0, err
		}
		if router.Reserved(name.Text) {
			own++
		}
		if s.m.wants(name.Text) {
			s.text = append(s.text, name.Text...)
			s.ends = append(s.ends, len(s.text))
		}
	}
	s.m.stats.scanned.Add(head[2].N - own)
	text, begin := string(s.text), 0 // one piece of memory for all names of a page
	keys = make([]slotlock.Key, len(s.ends))
	for i, end := range s.ends {
		keys[i] = slotlock.Key{DB: db, Name: text[begin:end]}
		begin = end
	}
	return keys, next, nil
}

// wants reports that a key is of the job's slots, no other gateway's or job's own, and not of one that is moved in one
// piece later.
func (m *mover) wants(name []byte) bool {
	slot := m.scheme.Slot(name)
	if !m.slots.Has(slot) || router.Reserved(name) {
		return false
	}
	st, _ := m.whole.State(slot)
	return st != slotlock.Open
}
