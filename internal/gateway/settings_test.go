package gateway

import (
	"reflect"
	"testing"

	"keyferry/conf"
)

// TestOptionsBackAndForth: what the data plane is given is what CONFIG REWRITE writes.
func TestOptionsBackAndForth(t *testing.T) {
	c := conf.Default()
	c.Password, c.Clients.MaxClients, c.Locks.MaxParked, c.Clients.IdleTimeout = "p", 77, 78, 79
	o := proxyOptions(c, "n")
	if got := withOptions(c, &o); !reflect.DeepEqual(got, c) {
		t.Errorf("got  %+v\nwant %+v", got, c)
	}
	if got := withOptions(conf.Default(), &o); !reflect.DeepEqual(got, c) {
		t.Errorf("from the defaults: got  %+v\nwant %+v", got, c)
	}
}
