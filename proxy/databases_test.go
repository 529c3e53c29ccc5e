package proxy

import (
	"bytes"
	"testing"

	"keyferry/internal/resp"
)

// TestOtherDB: of commands in a form that a server refuses it is the server that says so.
func TestOtherDB(t *testing.T) {
	for text, want := range map[string]int{
		"COPY a b": -1, "COPY a b DB 20": 20, "COPY a b replace db 20": 20, "COPY a b DB 20 REPLACE": 20, "COPY a b DB 20 DB 3": 3,
		"COPY a b c DB 20": -1, "COPY a b DB 20 c": -1, "COPY a b DB": -1, "COPY a b DB x": -1, "COPY a b DB -1": -1,
		"MOVE a 20": 20, "MOVE a x": -1, "SELECT 20": 20,
	} {
		args := bytes.Fields([]byte(text))
		cmd, bad := resp.Resolve(args)
		if bad != "" {
			t.Fatal(bad)
		}
		if n, ok := otherDB(cmd, args); ok != (want >= 0) || ok && n != want {
			t.Errorf("%s: %d, %v, want %d", text, n, ok, want)
		}
	}
}
