//go:build failpoints

package keymove

import (
	"context"
	"time"
)

// plantedUnlink lets the keys go at once and unlinks them later, if nothing comes between.
func (w *Worker) plantedUnlink(db int, moves []*Key) {
	if len(moves) == 0 {
		return
	}
	names := make([]string, len(moves))
	for i, mv := range moves {
		names[i] = mv.Name
		mv.Step = Committed
	}
	env := w.env
	time.AfterFunc(100*time.Millisecond, func() {
		ctx, cancel := context.WithTimeout(context.Background(), env.CallTimeout)
		defer cancel()
		l, err := env.Comparer.DialSource(ctx)
		if err != nil {
			return
		}
		defer l.Close()
		if l.Use(ctx, db) == nil {
			_ = l.Conn.Unlink(ctx, names...).Err()
		}
	})
}
