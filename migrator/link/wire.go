package link

import (
	"context"
	"time"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
)

// Wire is a Conn to a group, over which batches of keys go, with what its server said of
// itself when it was made. One goroutine uses it.
type Wire struct {
	*upstream.Conn
	Group topology.Group
	Info  Info
}

// DialWire connects and reads INFO. The connection is closed when ctx ends.
func DialWire(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (*Wire, error) {
	c, err := d.Conn(ctx, upstream.Target{Endpoint: g.Endpoint, Name: d.Name(ForMoves)}, timeout)
	if err != nil {
		return nil, err
	}
	info, err := c.Do(ctx, "INFO")
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Wire{c, g, ReadInfo(string(info.Text))}, nil
}

// Close ends it. Nil has been closed.
func (w *Wire) Close() {
	if w != nil {
		w.Conn.Close()
	}
}
