package migrator

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"keyferry/internal/resp"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
	"keyferry/slotlock"
)

// SetScripted gives the Manager the data plane's word on which slots scripts run in. Call
// it before Begin.
func (m *Manager) SetScripted(f func(slot int) bool) { m.plane.scripted = f }

// wholeSlots are the slots of a job, of which those are moved in one piece in which scripts
// have run. One that was published by the gateway's former self has keys on both sides: there
// a slot is moved so when a script comes. Those are asked for before there is a data plane to
// tell of scripts; nothing need be known of them.
func (m *Manager) wholeSlots(mv topology.Move, old bool) *slotlock.Whole {
	if m.plane.scripted == nil && !old {
		return nil
	}
	var slots []int
	for _, r := range mv.Slots {
		for s := r.First; s <= r.Last; s++ {
			slots = append(slots, s)
		}
	}
	w := slotlock.NewWhole(slots, func(slot int) bool { return !old && m.plane.scripted(slot) })
	if mv.Back {
		w.Deafen() // until it goes forward again: see runner.bulk
	}
	return w
}

// moveWhole moves the slots in which scripts run, each in one piece: while all of its
// keys are locked at once, instead of one by one, its commands wait.
//
//	watch the source for writes ─► list the keys by SCAN ─► for each slot:
//	close it ─► let those inside finish ─► move what was listed or written since ─► moved
//
// The list is made before, so that a slot is closed only as long as its own keys take, and
// completed by what the source tells of its writes (CLIENT TRACKING in broadcasting mode),
// since a script's writes can't be seen from outside.
func (m *mover) moveWhole(ctx context.Context) error {
	var open []int
	for _, s := range m.whole.Slots() {
		if st, _ := m.whole.State(s); st == slotlock.Open {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return nil
	}
	if err := m.awaitReady(ctx); err != nil {
		return err
	}
	return m.inOnePiece(ctx, open, m.slice.isOver, m.moveSlot)
}

// closedKeys gives all keys that a closed slot has at the source, by database. It is for when
// those inside have finished.
type closedKeys func(context.Context) (map[int][]slotlock.Key, error)

// inOnePiece closes slots one after the other and has each moved; after an error the slot is
// in the state to which move has set it. It ends with errSliceOver when over says so, if it
// has moved slots for as long as it took to list their keys, which is to be done again.
func (m *mover) inOnePiece(ctx context.Context, slots []int, over func() bool, move func(ctx context.Context, p *pool, slot int, keys closedKeys) error) error {
	w, err := m.watchWrites(ctx, slots)
	if err != nil {
		return joberr.At(joberr.Source, err)
	}
	defer w.close()
	begun := time.Now()
	listed, err := m.listKeys(ctx, slots)
	if err != nil {
		return err
	}
	listing, since := time.Since(begun), time.Now()
	p := m.newPool(ctx, true)
	defer p.close()
	for i, slot := range slots {
		if i > 0 && over() && time.Since(since) >= listing {
			return errSliceOver
		}
		m.whole.Set(slot, slotlock.Closed)
		err := move(ctx, p, slot, func(ctx context.Context) (map[int][]slotlock.Key, error) {
			written, err := w.of(ctx, slot)
			return m.byDB(listed[slot], written), joberr.At(joberr.Source, err)
		})
		if err != nil {
			return err
		}
		m.whole.Set(slot, slotlock.Moved)
	}
	return nil
}

// listKeys gives the keys of slots at the source.
func (m *mover) listKeys(ctx context.Context, slots []int) (map[int][]slotlock.Key, error) {
	src, err := m.dialSource(ctx)
	if err != nil {
		return nil, joberr.At(joberr.Source, err)
	}
	defer src.Close()
	wanted := make(map[int]bool)
	for _, s := range slots {
		wanted[s] = true
	}
	out := make(map[int][]slotlock.Key)
	for db := range m.databases {
		if err := src.Use(ctx, db); err != nil {
			return nil, joberr.At(joberr.Source, err)
		}
		for cursor := uint64(0); ; {
			count, sent := m.gov.Page(m.cfg.LockHoldTarget, int(m.cfg.ScanCount)), time.Now()
			names, next, err := src.Conn.Scan(ctx, cursor, "", int64(count)).Result()
			if err != nil {
				return nil, joberr.At(joberr.Source, err)
			}
			m.gov.Scanned(time.Since(sent), count)
			for _, n := range names {
				if s := m.scheme.Slot([]byte(n)); wanted[s] && !router.Reserved([]byte(n)) {
					out[s] = append(out[s], slotlock.Key{DB: db, Name: n})
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return out, nil
}

// slotPatience is how long the commands inside a slot that closes may take; it is opened
// again if that is too short, and the job tries again.
const slotPatience = 500 * time.Millisecond

// moveSlot moves one slot. If that breaks off with the slot's keys on both sides, the slot
// is opened key by key: a script that uses keys which it doesn't name may miss them then.
func (m *mover) moveSlot(ctx context.Context, p *pool, slot int, keys closedKeys) error {
	if err := m.awaitEmpty(ctx, slot); err != nil {
		m.whole.Set(slot, slotlock.Open)
		return err
	}
	all, err := keys(ctx)
	if err != nil {
		m.whole.Set(slot, slotlock.Open)
		return err
	}
	for db, list := range all {
		if err = p.moveAll(list); err == nil {
			err = m.allGone(ctx, db, list)
		}
		if err != nil {
			m.breakUp(slot, err)
			return err
		}
	}
	return nil
}

// byDB are the keys that were listed, and those that were written since, of which the source
// does not say in which database.
func (m *mover) byDB(listed []slotlock.Key, written []string) map[int][]slotlock.Key {
	for _, name := range written {
		for db := range m.databases {
			listed = append(listed, slotlock.Key{DB: db, Name: name})
		}
	}
	keys := make(map[int][]slotlock.Key)
	seen := make(map[slotlock.Key]bool, len(listed))
	for _, k := range listed {
		if !seen[k] {
			seen[k] = true
			keys[k.DB] = append(keys[k.DB], k)
		}
	}
	return keys
}

// breakUp gives a slot up as one that is moved in one piece. Nothing is lost by that, and scripts
// there run on; but keys that they use without naming them may be on the other side.
func (m *mover) breakUp(slot int, err error) {
	m.log.Warn("a slot in which scripts run could not be moved in one piece; until the job is done a script there may miss keys that it does not name",
		zap.String("job", m.job), zap.Int("slot", slot), zap.Error(err))
	m.whole.Refuse(slot)
}

// awaitEmpty waits until the commands inside a closed slot have been answered. It asks again and
// again, since who leaves tells nobody: on the path of a stable slot that would cost something.
func (m *mover) awaitEmpty(ctx context.Context, slot int) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	end := time.NewTimer(slotPatience)
	defer end.Stop()
	for {
		if _, holds := m.whole.State(slot); holds == 0 {
			return nil
		}
		select {
		case <-t.C:
		case <-end.C:
			return joberr.At(joberr.Source, fmt.Errorf("slot %d can't be moved in one piece: commands there take longer than %v", slot, slotPatience))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// allGone checks that the source has none of the keys any more.
func (m *mover) allGone(ctx context.Context, db int, keys []slotlock.Key) error {
	src, err := m.dialSource(ctx)
	if err != nil {
		return joberr.At(joberr.Source, err)
	}
	defer src.Close()
	if err := src.Use(ctx, db); err != nil {
		return joberr.At(joberr.Source, err)
	}
	for chunk := range slices.Chunk(keys, 1000) {
		names := make([]string, len(chunk))
		for i, k := range chunk {
			names[i] = k.Name
		}
		n, err := src.Conn.Exists(ctx, names...).Result()
		if err != nil {
			return joberr.At(joberr.Source, err)
		}
		if n > 0 {
			return joberr.At(joberr.Gateway, fmt.Errorf("%d keys of the slot could not be moved yet", n))
		}
	}
	return nil
}

// The source tells of writes behind the replies to them, on another connection. So a list of what
// was written is complete for a moment in the past: that of a PING on the same connection, which
// the server answers after all that it had to tell by then.

// writes collects the names of keys that are written at the source.
type writes struct {
	c     net.Conn
	wg    sync.WaitGroup
	slots map[int]bool
	m     *mover

	mu     sync.Mutex // protects what follows
	names  map[int]map[string]struct{}
	pongs  int
	err    error
	change chan struct{} // closed and replaced when pongs or err change
}

// watchWrites begins to listen before it returns: the PING behind CLIENT TRACKING has been answered,
// so that whatever is written from now on is told.
func (m *mover) watchWrites(ctx context.Context, slots []int) (*writes, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()
	c, err := m.dialer.Dial(ctx, upstream.Target{Endpoint: m.source.Endpoint, Proto: 3, Name: m.dialer.Name(link.ForMoves)})
	if err != nil {
		return nil, err
	}
	w := &writes{c: c, m: m, slots: make(map[int]bool), names: make(map[int]map[string]struct{}), change: make(chan struct{})}
	for _, s := range slots {
		w.slots[s] = true
	}
	w.wg.Go(w.read)
	_, err = c.Write([]byte("*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nBCAST\r\n"))
	if err == nil {
		_, err = w.of(ctx, -1)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *writes) close() {
	_ = w.c.Close()
	w.wg.Wait()
}

// of gives the keys of a slot that have been written so far. It is complete for whatever
// has been answered before it was called: the server queues the news of a write before
// its reply, and the answer to PING behind both.
func (w *writes) of(ctx context.Context, slot int) ([]string, error) {
	w.mu.Lock()
	want := w.pongs + 1
	w.mu.Unlock()
	if _, err := w.c.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.m.cfg.CallTimeout)
	defer cancel()
	for {
		w.mu.Lock()
		pongs, err, change := w.pongs, w.err, w.change
		if pongs >= want {
			var out []string
			for n := range w.names[slot] {
				out = append(out, n)
			}
			w.mu.Unlock()
			return out, nil
		}
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read is the goroutine of the connection. It ends with the first error, which of reports: a listener
// that has missed something knows of nothing that it has heard before either.
func (w *writes) read() {
	r := bufio.NewReaderSize(w.c, 64<<10)
	for {
		frame, err := upstream.ReadReply(r)
		if err == nil && frame[0] == '-' {
			err = errors.New(string(bytes.TrimSpace(frame[1:])))
		}
		w.mu.Lock()
		switch {
		case err != nil:
			w.err = err
		case bytes.HasPrefix(frame, []byte("+PONG")):
			w.pongs++
		default:
			w.note(frame)
			w.mu.Unlock()
			continue
		}
		close(w.change)
		w.change = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note takes the keys of an invalidation. mu is held.
func (w *writes) note(frame []byte) {
	parts, ok := resp.SplitAggregate(frame)
	if !ok || len(parts) != 2 {
		return
	}
	keys, _ := resp.SplitArray(parts[1], nil) // a flush has none: nothing is left to move
	for _, k := range keys {
		name, _ := resp.BulkBody(k)
		slot := w.m.scheme.Slot(name)
		if !w.slots[slot] || router.Reserved(name) {
			continue
		}
		if w.names[slot] == nil {
			w.names[slot] = make(map[string]struct{})
		}
		w.names[slot][string(name)] = struct{}{}
	}
}
