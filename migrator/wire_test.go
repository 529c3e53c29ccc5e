package migrator

import (
	"context"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
)

// TestWireKnowsItsServer: what a job needs to know of a server is there when dialWire returns,
// and a refused password is told as the server told it.
func TestWireKnowsItsServer(t *testing.T) {
	s, err := testredis.Start(testredis.Options{Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	ctx, d := context.Background(), upstream.NewDialer("test", 1)
	g := topology.Group{ID: "a", Endpoint: topology.Endpoint{Addr: s.Addr, Secret: topology.NewSecret("secret")}}
	w, err := dialWire(ctx, d, g, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if len(w.info.runID) != 40 || w.info.role != "master" || w.info.policy != "noeviction" {
		t.Errorf("%+v", w.info)
	}
	g.Secret = topology.NewSecret("wrong")
	_, ofWire := dialWire(ctx, d, g, time.Minute)
	_, ofLink := dial(ctx, d, g, time.Minute)
	for _, err := range []error{ofWire, ofLink} {
		if !refused(err) || !unmendable(err) || jobError(fromSource, err).Code != "WRONGPASS" {
			t.Errorf("wrong password: %v", err)
		}
	}
}
