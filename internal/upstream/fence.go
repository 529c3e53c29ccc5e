package upstream

import (
	"context"
	"strconv"
	"time"
)

// Fence makes sure that no connection whose name match accepts can execute anything at
// the server any more: it kills those that the server lists until it lists none. It uses
// a new connection, and returns nil only on proof. A server that was restarted lists
// none, which is as good. timeout is that of each exchange; all of it has ctx's deadline.
//
// Proof is a list, not a kill: a connection that came to be while the list was made is in
// the next one, and there is a next one until there is nothing to kill.
func (d *Dialer) Fence(ctx context.Context, e Endpoint, timeout time.Duration, match func(name string) bool) error {
	c, err := d.Conn(ctx, Target{Endpoint: e}, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		list, err := c.Do(ctx, "CLIENT", "LIST")
		if err != nil {
			return err
		}
		killed := 0
		for _, x := range ParseClients(string(list.Text)) {
			if x.Name == c.Name || !match(x.Name) {
				continue
			}
			if _, err := c.Do(ctx, "CLIENT", "KILL", "ID", strconv.FormatInt(x.ID, 10)); err != nil {
				return err
			}
			killed++
		}
		if killed == 0 {
			return nil
		}
	}
}
