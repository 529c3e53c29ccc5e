package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/router"
	"keyferry/slotlock"
)

const (
	// slotScanLimit is how long CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT may take. A stock
	// server has no index of slots outside cluster mode, so all its keys must be looked at.
	slotScanLimit = 5 * time.Second
	// slotScansMax at a time: each makes a server go through all its keys.
	slotScansMax = 2
	slotScanKeys = "1000" // COUNT of each SCAN
)

const notAnInteger = "ERR value is not an integer or out of range"

func (c *call) countKeysInSlot() { c.keysInSlot(false) }
func (c *call) getKeysInSlot()   { c.keysInSlot(true) }

// keysInSlot answers CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT for the client's database.
func (c *call) keysInSlot(list bool) {
	s, args := c.s, c.args
	slot, ok := resp.Integer(args[2])
	limit, ok2 := int64(-1), true
	bad := "ERR Invalid slot"
	if list {
		limit, ok2 = resp.Integer(args[3])
		bad = "ERR Invalid slot or number of keys"
	}
	switch {
	case !ok || !ok2:
		c.reject(notAnInteger)
		return
	case slot < 0 || slot >= int64(len(s.l.table.Slots)) || list && limit < 0:
		c.reject(bad)
		return
	}
	srv, db, w := s.l.srv, s.db, s.reply()
	c.async(func() []byte {
		keys, err := srv.slotKeys(int(slot), db, limit)
		switch {
		case err != nil:
			w.Err(fmt.Sprintf("ERR keys of slot %d: %v", slot, err))
		case !list:
			w.Int(int64(len(keys)))
		default:
			w.Array(len(keys))
			for k := range keys {
				w.Text(k)
			}
		}
		return w.B
	})
}

// slotHome is where the keys of a slot can be.
//
// It is a picture of one table, to be compared with that of a later one.
type slotHome struct {
	scheme router.Scheme
	groups []router.Group // owner, then, while the slot moves, the target
	locks  *slotlock.Table
}

// slotHome: from the newest table: the loops may still go by the one before, but keys are where the
// newest one's job moves them.
func (s *Server) slotHome(slot int) slotHome {
	s.mu.Lock()
	t := s.mu.table
	s.mu.Unlock()
	x := t.Slots[slot]
	h := slotHome{scheme: t.Scheme}
	if x.Owner >= 0 {
		h.groups = append(h.groups, t.Groups[x.Owner])
	}
	if x.Target >= 0 {
		h.groups = append(h.groups, t.Groups[x.Target])
	}
	if x.Job >= 0 {
		h.locks = t.Jobs[x.Job].Locks
	}
	return h
}

// Another job between the same groups has another lock table, so it is not the same.
func (h slotHome) same(o slotHome) bool {
	if h.locks != o.locks || len(h.groups) != len(o.groups) {
		return false
	}
	for i := range h.groups {
		if h.groups[i] != o.groups[i] {
			return false
		}
	}
	return true
}

// slotKeys are the keys of a slot in one database, at most limit of them unless that is
// negative. Called from a goroutine. While the slot moves, its source is looked at before
// its target: a key that moves meanwhile is then seen at one of them at least, and one that
// is seen at both counts once. If the slot has another home at the end than at the start,
// it is all done again.
func (s *Server) slotKeys(slot, db int, limit int64) (map[string]struct{}, error) {
	ctx, cancel := context.WithTimeout(s.life.ctx, slotScanLimit)
	defer cancel()
	tooLong := fmt.Errorf("not done in %v: a server that is not in cluster mode has no index of slots, so all its keys are looked at", slotScanLimit)
	select {
	case s.slotScans <- struct{}{}:
		defer func() { <-s.slotScans }()
	case <-ctx.Done():
		return nil, tooLong
	}
	for {
		home := s.slotHome(slot)
		if len(home.groups) == 0 {
			return nil, errors.New("it is not served by any group")
		}
		keys := make(map[string]struct{})
		for _, g := range home.groups {
			err := s.scanGroup(ctx, g, db, func(key []byte) bool {
				if home.scheme.Slot(key) == slot && int64(len(keys)) != limit {
					keys[string(key)] = struct{}{}
				}
				return int64(len(keys)) != limit
			})
			if ctx.Err() != nil {
				return nil, tooLong
			}
			if err != nil {
				return nil, fmt.Errorf("group %s: %w", g.ID, err)
			}
		}
		if home.same(s.slotHome(slot)) {
			return keys, nil
		}
	}
}

// scanGroup shows every key of a group's database to each, until it returns false. Keys
// may come twice.
//
// A connection of its own, so that clients' commands don't wait behind a SCAN over everything.
func (s *Server) scanGroup(ctx context.Context, g router.Group, db int, each func(key []byte) bool) error {
	c, err := s.opt.Dialer.Conn(ctx, upstream.Target{Endpoint: g.Endpoint, DB: db}, slotScanLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	for cursor := "0"; ; {
		page, err := c.Do(ctx, "SCAN", cursor, "COUNT", slotScanKeys)
		if err != nil {
			return err
		}
		next, err := c.Answer()
		if err != nil {
			return err
		}
		keys, err := c.Answer()
		if err != nil {
			return err
		}
		if page.Kind != '*' || page.N != 2 || next.Kind != '$' || keys.Kind != '*' {
			return upstream.ErrProtocol
		}
		cursor = string(next.Text)
		for range keys.N {
			key, err := c.Answer()
			if err != nil {
				return err
			}
			if !each(key.Text) {
				return nil
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}
