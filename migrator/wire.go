package migrator

import (
	"context"
	"time"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
)

// wire is a Conn to a group, over which batches of keys go, with what its server said of
// itself when it was made. One goroutine uses it.
type wire struct {
	*upstream.Conn
	group topology.Group
	info  serverInfo
}

// dialWire connects and reads INFO. The connection is closed when ctx ends.
func dialWire(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (*wire, error) {
	c, err := d.Conn(ctx, upstream.Target{Endpoint: g.Endpoint, Name: d.Name(forMoves)}, timeout)
	if err != nil {
		return nil, err
	}
	info, err := c.Do(ctx, "INFO")
	if err != nil {
		c.Close()
		return nil, err
	}
	return &wire{c, g, readInfo(string(info.Text))}, nil
}

func (w *wire) close() {
	if w != nil {
		w.Close()
	}
}
