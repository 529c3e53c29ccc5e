package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// TestOnePipelineOverDatabases: what a client has sent in one database is done before what it
// sends in another, as on the one connection of a plain server.
func TestOnePipelineOverDatabases(t *testing.T) {
	server, other := testredis.StartT(t), testredis.StartT(t)
	_, addr := startProxy(t, server, other)
	gateway, plain := dialLine(t, addr), dialLine(t, testredis.StartT(t).Addr)
	for _, pipeline := range []string{
		"SET k v; MOVE k 3; SELECT 3; GET k; DEL k",
		"SET k v; COPY k c{k} DB 3; SELECT 3; GET c{k}; DEL c{k}; SELECT 0; EXISTS c{k}; DEL k",
		"SELECT 3; SET k v; SELECT 0; EXISTS k; SELECT 3; MOVE k 0; SELECT 0; GET k; DEL k; SELECT 3; EXISTS k",
		"EVAL \"redis.call('select',5) return redis.call('set',KEYS[1],'v')\" 1 k; SELECT 5; GET k; DEL k",
		"MULTI; SELECT 4; SET k v; SELECT 0; EXEC; SELECT 4; GET k; DEL k",
		"MULTI; SELECT 4; SET k v; EXEC; GET k; DEL k; SELECT 0; EXISTS k",
		"SET k v; SWAPDB 0 3; EXISTS k; SELECT 3; GET k; DEL k; SWAPDB 0 3",
		"SET k v; SELECT 3; FLUSHALL; SELECT 0; EXISTS k",
		"SET k v; SELECT 7; FLUSHDB; SELECT 0; DEL k",
		"SELECT 7; SET k v; RESET; EXISTS k; SELECT 7; DEL k",
		"RPUSH l a; MOVE l 3; SELECT 3; BLPOP l 1; SELECT 0; EXISTS l",
		"SET k v; MOVE k 3; SELECT 3; WATCH k; MULTI; GET k; EXEC; DEL k",
	} {
		text := "SELECT 0\n" + strings.ReplaceAll(pipeline, "; ", "\n") + "\nECHO end\n"
		for round := range 20 {
			var got [2][]string
			for i, c := range []*lineClient{gateway, plain} {
				c.send(text)
				for len(got[i]) == 0 || got[i][len(got[i])-1] != "end" {
					got[i] = append(got[i], c.line())
				}
			}
			if a, b := strings.Join(got[0], " "), strings.Join(got[1], " "); a != b {
				t.Errorf("%s, round %d:\n  gateway %s\n  plain   %s", pipeline, round, a, b)
				break
			}
		}
	}
}

// TestLooksBehindWrites: what looks at all servers sees what its client has written before.
func TestLooksBehindWrites(t *testing.T) {
	_, addr := startProxyWith(t, func(o *Options) { o.ClusterFacade = true }, testredis.StartT(t), testredis.StartT(t))
	c := dialLine(t, addr)
	for i := range 30 {
		c.send(fmt.Sprintf("SELECT 2\nSET k%d v\nINFO keyspace\nCLUSTER COUNTKEYSINSLOT %d\nSELECT 0\n", i, slotOf(fmt.Sprint("k", i))))
		c.expect("+OK", "+OK")
		c.line() // length
		c.expect("# Keyspace")
		if got, want := c.line(), fmt.Sprintf("db2:keys=%d,", i+1); !strings.HasPrefix(got, want) {
			t.Fatalf("%s, want %s", got, want)
		}
		c.expect("", ":1", "+OK")
	}
}

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
