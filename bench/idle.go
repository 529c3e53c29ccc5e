package bench

import (
	"context"
	"fmt"
	"time"
)

// IdleRow is the memory of a peer with so many clients that do nothing.
type IdleRow struct {
	Peer    string  `json:"peer"`
	Clients int     `json:"clients"`
	RSSMB   float64 `json:"rss_mb"`
}

// idleSettle is how long memory has to settle after the clients have connected.
const idleSettle = 500 * time.Millisecond

// idleMemory connects clients to each peer whose process is known, each of which has sent
// one command, and looks at its memory.
func idleMemory(ctx context.Context, peers []Peer, counts []int, progress func(string)) (rows []IdleRow, err error) {
	for _, peer := range peers {
		if peer.PID == 0 {
			continue
		}
		var conns []*wire
		for _, n := range counts {
			progress(fmt.Sprintf("%s with %d idle clients", peer.Name, n))
			for len(conns) < n && err == nil {
				var c *wire
				if c, err = dial(ctx, peer.Addr, "", 0, dialTimeout); err == nil {
					c.buf = make([]byte, 64)
					conns = append(conns, c)
					_ = c.SetDeadline(time.Now().Add(replyTimeout))
					err = c.ask("GET", "idle")
				}
			}
			if err != nil {
				err = fmt.Errorf("bench: idle client %d of %s: %w", len(conns), peer.Name, err)
				break
			}
			var timer *time.Timer
			sleep(ctx, &timer, idleSettle)
			mb, e := residentMB(peer.PID)
			if err = e; err != nil {
				break
			}
			rows = append(rows, IdleRow{peer.Name, n, mb})
		}
		for _, c := range conns {
			c.Close()
		}
		if err != nil {
			return rows, err
		}
	}
	return rows, ctx.Err()
}
