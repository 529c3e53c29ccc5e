package admin

import (
	"context"

	"keyferry/migrator"
)

func (s *Server) storeStatus(context.Context, noArgs) (migrator.StoreStatus, error) {
	return s.Manager.StoreStatus(), nil
}

func storeShape(_ noArgs, x migrator.StoreStatus) any {
	groups := []any{}
	for _, g := range x.Groups {
		groups = append(groups, []any{"group", g.Group, "state", g.State, "cluster", g.Cluster, "gateway", g.Gateway, "epoch", int64(g.Epoch), "error", g.Error})
	}
	return []any{"cluster", x.Cluster, "epoch", int64(x.Epoch), "changed_epoch", int64(x.Changed), "writes", x.Writes, "reason", x.Reason, "groups", groups}
}

func (s *Server) storeAccept(ctx context.Context, _ noArgs) (status, error) {
	text, err := s.Manager.AcceptStore(ctx)
	return status(text), err
}
