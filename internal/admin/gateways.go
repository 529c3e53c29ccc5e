package admin

import (
	"context"

	"keyferry/internal/observe"
)

func gatewayFields(r observe.Gateway) []any {
	return []any{"name", r.Name, "state", r.State, "incarnation", int64(r.Incarnation), "epoch", int64(r.Epoch), "jobs", r.Jobs,
		"clients", r.Clients, "peers", r.Peers, "version", r.Version}
}

func (s *Server) gatewayList(context.Context, noArgs) ([]observe.Gateway, error) {
	return observe.Gateways(s.Control), nil
}

type gatewayArgs struct {
	Name string `verb:"name"`
}

func (s *Server) gatewayDrain(ctx context.Context, a gatewayArgs) (status, error) {
	return ok, s.Control.Drain(ctx, a.Name)
}

func (s *Server) gatewayRemove(ctx context.Context, a gatewayArgs) (status, error) {
	return ok, s.Control.Remove(ctx, a.Name)
}
