package bolt

import (
	"errors"

	"go.etcd.io/bbolt"

	"keyferry/internal/topology"
)

// convert brings a file that an earlier version wrote into the present form, within one
// transaction: a crash leaves the one or the other. A file that is empty, or in the present
// form already, stays as it is.
//
// Before format 2 the key "cluster" held a State in one piece, whose epoch rose with every
// change, and in which each job knew when its slots had moved.
func convert(tx *bbolt.Tx) error {
	h, err := readHead(tx)
	if errors.Is(err, topology.ErrNotFound) {
		return nil
	}
	if err == nil && h.Format > 0 && h.Sum == "" { // from before there were checksums
		return writeHead(tx, h)
	}
	if err != nil || h.Format > 0 {
		return err
	}
	var s topology.State
	var moved struct {
		Jobs []struct {
			MovesFrom uint64 `json:"moves_from"`
			MovesTo   uint64 `json:"moves_to"`
			TurnedAt  uint64 `json:"turned_at"`
		} `json:"jobs"`
	}
	text := tx.Bucket(stateBucket).Get(headKey)
	if err := read(text, &s); err != nil {
		return err
	}
	if err := read(text, &moved); err != nil {
		return err
	}
	s.Revision = s.Epoch
	for i, m := range moved.Jobs {
		j := s.Jobs[i]
		if m.MovesFrom == 0 && !j.Published {
			continue
		}
		if j.Back {
			m.TurnedAt = max(m.TurnedAt, 1)
		}
		s.Moves = append(s.Moves, topology.Move{Job: j.ID, Slots: j.Slots, Source: j.Source, Target: j.Target,
			From: max(m.MovesFrom, 1), Back: j.Back, TurnedAt: m.TurnedAt, To: m.MovesTo})
	}
	return writeState(tx, &s, topology.Difference{Topology: true, Put: s.Jobs})
}
