package gateway

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"

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
