package link

import (
	"context"
	"testing"
	"time"

	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/joberr"
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
	w, err := DialWire(ctx, d, g, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if len(w.Info.RunID) != 40 || w.Info.Role != "master" || w.Info.Policy != "noeviction" {
		t.Errorf("%+v", w.Info)
	}
	g.Secret = topology.NewSecret("wrong")
	_, ofWire := DialWire(ctx, d, g, time.Minute)
	_, ofLink := Dial(ctx, d, g, time.Minute)
	for _, err := range []error{ofWire, ofLink} {
		if !joberr.Refused(err) || !joberr.Unmendable(err) || joberr.Describe(joberr.Source, err).Code != "WRONGPASS" {
			t.Errorf("wrong password: %v", err)
		}
	}
}
