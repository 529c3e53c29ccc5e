package topology

import (
	"net"
	"strconv"
	"testing"
)

// TestSplitAddr: what is taken for an address is what package net joins again to the same.
func TestSplitAddr(t *testing.T) {
	for _, addr := range []string{"", "h", ":", "h:", ":1", "h:1", "h:01", "h:0", "h:65535", "h:65536", "h:-1", "h:+1", "h:x", "a:b:1", "[a:b]:1", "[::1]:7000",
		"::1:7000", "[::1]", "[h]:1", "[]:1", "[::1:1", "::1]:1", "[[::1]]:1", "h]:1", "[h:1", "x[::1]:1", "[::1]x:1", "10.0.0.1:6379", "[fe80::1%eth0]:1", "h:1:"} {
		host, port, err := net.SplitHostPort(addr)
		n, _ := strconv.ParseUint(port, 10, 16)
		want := err == nil && host != "" && n != 0 && net.JoinHostPort(host, strconv.FormatUint(n, 10)) == addr
		e := Endpoint{Addr: addr}
		if got := e.check() == nil; got != want {
			t.Errorf("%q is taken for an address: %v", addr, got)
		}
		if h, p := splitAddr(addr); want && (h != host || p != port) {
			t.Errorf("%q is %q and %q", addr, h, p)
		}
	}
}
