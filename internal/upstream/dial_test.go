package upstream

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestDialGivenUp: a handshake that ends by its deadline ends once, whoever notices first,
// the reader of the reply or the watch over the context.
func TestDialGivenUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel alone and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
		c, _, err := Dial(ctx, Target{Endpoint: Endpoint{Addr: ln.Addr().String()}, Name: "test"})
		cancel()
		if err == nil {
			t.Fatal("nobody has answered the handshake")
		}
		if c != nil {
			t.Fatal("a connection and an error")
		}
	}
}
