package gateway

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keyferry/conf"
)

// TestTakenAddressIsNamed: who starts a gateway has to be told which of its addresses is
// somebody else's.
func TestTakenAddressIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for setting, change := range map[string]func(*conf.Config){
		"listen": func(c *conf.Config) { c.Listen = ln.Addr().String() },
		"admin":  func(c *conf.Config) { c.Admin = ln.Addr().String() },
	} {
		c := conf.Default()
		c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", "", t.TempDir()
		change(&c)
		g, err := Start(c, zap.NewNop())
		if err == nil {
			_ = g.Stop(t.Context())
			t.Fatalf("%s: started on an address that is taken", setting)
		}
		if !strings.Contains(err.Error(), "("+setting+")") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// TestSettingsOfTheFirstStart: a scheme other than the stored one is not heeded, and said not
// to be.
func TestSettingsOfTheFirstStart(t *testing.T) {
	c := conf.Default()
	c.Listen, c.Admin, c.HTTP.Listen, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", "", t.TempDir()
	for _, x := range []struct {
		scheme string
		warned int
	}{{"codis", 0}, {"redis", 1}, {"codis", 0}} {
		c.Cluster.Scheme = x.scheme
		core, logs := observer.New(zap.WarnLevel)
		g, err := Start(c, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Control.State().Scheme; got != "codis" {
			t.Errorf("scheme %s in force", got)
		}
		if err := g.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := logs.FilterField(zap.String("setting", "cluster.scheme")).Len(); n != x.warned {
			t.Errorf("started with %s: %d warnings, want %d: %v", x.scheme, n, x.warned, logs.All())
		}
	}
}
