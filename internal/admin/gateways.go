package admin

import (
	"context"
	"slices"
	"strings"

	"keyferry/internal/topology"
)

// GatewayRow is one gateway in PROXY GATEWAY LIST JSON.
type GatewayRow struct {
	Name        string `json:"name"`
	State       string `json:"state"` // serving, draining, silent or out
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`     // that it has acknowledged; 0: nothing is known
	Undrained   int    `json:"undrained"` // epochs of which commands sent by earlier routes are still under way
	Jobs        int    `json:"jobs"`      // open ones that it owns
	This        bool   `json:"this"`      // it is the one that answers
	Version     string `json:"version"`
	topology.GatewayAddrs
}

func (r GatewayRow) fields() []any {
	return []any{"name", r.Name, "state", r.State, "incarnation", r.Incarnation, "epoch", r.Epoch, "jobs", r.Jobs,
		"clients", r.Clients, "peers", r.Peers, "version", r.Version}
}

// Gateways are all that the cluster knows of, by name.
func (s *Server) Gateways() []GatewayRow {
	st := s.Control.State()
	alive := make(map[string]topology.Ack)
	for _, r := range s.Control.Members() {
		alive[r.Name] = r.Ack
	}
	jobs := make(map[string]int)
	for _, j := range st.Jobs {
		if !j.Phase.Ended() {
			jobs[j.Owner]++
		}
	}
	rows := []GatewayRow{}
	for _, g := range st.Gateways {
		ack, ok := alive[g.Name]
		row := GatewayRow{g.Name, gatewayState(g, ok), g.Incarnation, ack.Epoch, len(ack.Undrained), jobs[g.Name], g.Name == s.Control.Gateway(), g.Version, g.GatewayAddrs}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b GatewayRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

func gatewayState(g topology.Gateway, alive bool) string {
	switch {
	case g.Out:
		return "out"
	case !alive:
		return "silent"
	case g.Draining:
		return "draining"
	}
	return "serving"
}

func (s *Server) gatewayList(context.Context, noArgs) ([]GatewayRow, error) { return s.Gateways(), nil }

type gatewayArgs struct {
	Name string `verb:"name"`
}

func (s *Server) gatewayDrain(ctx context.Context, a gatewayArgs) (status, error) {
	return ok, s.Control.Drain(ctx, a.Name)
}

func (s *Server) gatewayRemove(ctx context.Context, a gatewayArgs) (status, error) {
	return ok, s.Control.Remove(ctx, a.Name)
}
