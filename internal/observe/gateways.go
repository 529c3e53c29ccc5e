package observe

import (
	"slices"
	"strings"

	"keyferry/internal/control"
	"keyferry/internal/topology"
)

// What is known of a gateway.
const (
	Serving  = "serving"
	Draining = "draining" // its jobs go to others, and no more come
	Silent   = "silent"   // the cluster does not hear of it; it is about to be taken out
	Out      = "out"      // it may not talk to servers
)

// Gateway is one gateway of the cluster, as PROXY GATEWAY LIST JSON and the API tell of it.
type Gateway struct {
	Name        string `json:"name"`
	State       string `json:"state"` // Serving and so on
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`     // that it has acknowledged; 0: nothing is known
	Undrained   int    `json:"undrained"` // runs of epochs of which commands sent by earlier routes are still under way
	Jobs        int    `json:"jobs"`      // open ones that it owns
	This        bool   `json:"this"`      // it is the one that answers
	Version     string `json:"version"`
	topology.GatewayAddrs
}

// Gateways are all that the cluster knows of, by name.
func Gateways(c *control.Control) []Gateway {
	st := c.State()
	alive := make(map[string]topology.Ack)
	for _, r := range c.Members() {
		alive[r.Name] = r.Ack
	}
	jobs := make(map[string]int)
	for _, j := range st.Jobs {
		if !j.Phase.Ended() {
			jobs[j.Owner]++
		}
	}
	rows := []Gateway{}
	for _, g := range st.Gateways {
		ack, ok := alive[g.Name]
		rows = append(rows, Gateway{g.Name, gatewayState(g, ok), g.Incarnation, ack.Epoch, len(ack.Undrained), jobs[g.Name], g.Name == c.Gateway(), g.Version, g.GatewayAddrs})
	}
	slices.SortFunc(rows, func(a, b Gateway) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func gatewayState(g topology.Gateway, alive bool) string {
	switch {
	case g.Out:
		return Out
	case !alive:
		return Silent
	case g.Draining:
		return Draining
	}
	return Serving
}
