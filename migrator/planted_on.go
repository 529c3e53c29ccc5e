//go:build failpoints

package migrator

import (
	"context"
	"time"

	"keyferry/migrator/link"
)

// plantedUnlink lets the keys go at once and unlinks them later, if nothing comes between.
func (w *worker) plantedUnlink(db int, moves []*keyMove) {
	if len(moves) == 0 {
		return
	}
	names := make([]string, len(moves))
	for i, mv := range moves {
		names[i] = mv.key.Name
		mv.step = Committed
	}
	m := w.m
	time.AfterFunc(100*time.Millisecond, func() {
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.CallTimeout)
		defer cancel()
		l, err := link.Dial(ctx, m.dialer, m.source, m.cfg.CallTimeout)
		if err != nil {
			return
		}
		defer l.Close()
		if l.Use(ctx, db) == nil {
			_ = l.Conn.Unlink(ctx, names...).Err()
		}
	})
}
