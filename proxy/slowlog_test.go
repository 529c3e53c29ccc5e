package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyferry/internal/testredis"
)

// slowScript has commands of every kind, for a log that takes all.
const slowScript = "PING\nPING x\nECHO hi\nCOMMAND COUNT\nCLIENT GETNAME\nCLIENT ID\nCLIENT SETNAME q\nCLIENT LIST\nCONFIG GET port\nCONFIG SET timeout 0\nSELECT 1\nSELECT 0\nSELECT x\n" +
	"HELLO 3 AUTH default pp\nHELLO 2\nAUTH x\nAUTH u p\nACL WHOAMI\nINFO server\nTIME\nMULTI;DISCARD\nDISCARD\nMULTI;NOSUCH;PING;DISCARD\nWATCH k\nUNWATCH\nSET k v\nGET k\nLPUSH k v\nGET\nnosuch x\n" +
	"OBJECT HELP\nMEMORY HELP\nLATENCY RESET\nSLOWLOG LEN\nUNSUBSCRIBE x\nPUBLISH c m\nEVAL 'return 1' 1 k\nSCRIPT EXISTS x\nFUNCTION STATS\nEXEC\nSCRIPT KILL\nDBSIZE\nBLPOP l 0.01\nRESET\n"

// TestSlowLogTakesAllLikeRedis: at threshold 0 there is an entry for every command, also for those that
// the gateway answers itself, and none for what was refused.
func TestSlowLogTakesAllLikeRedis(t *testing.T) {
	srv, twin := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 1 }, srv)
	log := func(at string) (out []string) {
		admin := testredis.NewClient(at, "", 0)
		defer admin.Close()
		ctx := context.Background()
		for _, set := range [][]any{{"slowlog-max-len", 1000}, {"slowlog-log-slower-than", 0}} {
			if err := admin.ConfigSet(ctx, set[0].(string), fmt.Sprint(set[1])).Err(); err != nil {
				t.Fatal(err)
			}
		}
		c := dialLine(t, at)
		for line := range strings.Lines(slowScript) {
			c.send(strings.ReplaceAll(line, ";", "\n") + "ECHO next\n") // one after the other: entries are in the order of replies
			for c.line() != "next" {
			}
		}
		if err := admin.ConfigSet(ctx, "slowlog-log-slower-than", "-1").Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range admin.SlowLogGet(ctx, -1).Val() {
			if text := strings.Join(e.Args, " "); e.ClientAddr == c.c.LocalAddr().String() && text != "ECHO next" {
				out = append(out, text)
			}
		}
		slices.Reverse(out)
		return out
	}
	a, b := log(addr), log(twin.Addr)
	if !slices.Equal(a, b) {
		t.Errorf("gateway\n%s\nserver\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	// A transaction is one entry, and so is a script: what they call is executed by the server.
	c := dialLine(t, addr)
	c.send("CONFIG SET slowlog-log-slower-than 0\nSLOWLOG RESET\n")
	c.expect("+OK", "+OK")
	c.send("MULTI\nSET k v\nGET k\nEXEC\n")
	c.expect("+OK", "+QUEUED", "+QUEUED", "*2", "+OK", "$1", "v")
	var names []string
	for _, e := range s.SlowLog(context.Background(), -1) {
		names = append(names, e.Args[0])
	}
	if slices.Reverse(names); !slices.Equal(names, []string{"SLOWLOG", "MULTI", "EXEC"}) {
		t.Errorf("a transaction: %q", names)
	}
}
