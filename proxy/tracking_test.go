package proxy

import (
	"context"
	"testing"

	"keyferry/internal/testredis"
)

// TestTrackingOfWhatATransactionReads: what a client has read in a transaction or by a script
// it is told of as well.
func TestTrackingOfWhatATransactionReads(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t))
	other := testredis.NewClient(addr, "", 0)
	defer other.Close()
	for _, read := range []struct {
		commands string
		replies  []string
	}{
		{"MULTI\nGET k\nEXEC\n", []string{"+OK", "+QUEUED", "*1", "_"}},
		{"EVAL \"return redis.call('GET', KEYS[1])\" 1 k\n", []string{"_"}},
		{"CLIENT TRACKING OFF\nCLIENT TRACKING ON OPTIN\nCLIENT CACHING YES\nMULTI\nGET k\nEXEC\n", []string{"+OK", "+OK", "+OK", "+OK", "+QUEUED", "*1", "_"}},
	} {
		c := dialLine(t, addr)
		c.send("HELLO 3\n")
		for c.line() != "$7" || c.line() != "modules" {
		}
		c.expect("*0")
		c.send("CLIENT TRACKING ON\n" + read.commands)
		c.expect("+OK")
		c.expect(read.replies...)
		if err := other.Set(context.Background(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		c.expect(">2", "$10", "invalidate", "*1", "$1", "k")
		if err := other.Del(context.Background(), "k").Err(); err != nil {
			t.Fatal(err)
		}
	}
	c := dialLine(t, addr) // what was not said to be cached is not
	c.send("HELLO 3\n")
	for c.line() != "$7" || c.line() != "modules" {
	}
	c.expect("*0")
	c.send("CLIENT TRACKING ON OPTIN\nMULTI\nGET k\nEXEC\nCLIENT CACHING YES\nGET j\n")
	c.expect("+OK", "+OK", "+QUEUED", "*1", "_", "+OK", "_")
	if err := other.MSet(context.Background(), "k", "v", "j", "v").Err(); err != nil {
		t.Fatal(err)
	}
	c.expect(">2", "$10", "invalidate", "*1", "$1", "j")
}
