package proxy

import (
	"strconv"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
)

// TestUnblockOfADeadConnection: a server that never sees a command that blocks, since its
// connection is dead in that direction, can't end its wait. The client hears of it in the time
// that any other command may take: it would hold up the job that moves its key, for good.
func TestUnblockOfADeadConnection(t *testing.T) {
	server := testredis.StartT(t)
	link, err := faultproxy.New(server.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	s, addr := startProxyWith(t, func(o *Options) { o.Loops, o.RequestTimeout = 1, 2*time.Second }, &testredis.Server{Addr: link.Addr})
	link.SetTraps(faultproxy.Trap{Match: faultproxy.Command("blpop"), Action: faultproxy.HoldRequest, Times: 1})
	blocked, c := dialLine(t, addr), dialLine(t, addr)
	blocked.send("CLIENT ID\n")
	id := blocked.line()
	blocked.send("BLPOP list 0\n")
	for blockedClients(s) == 0 || link.Sprung() == 0 {
		time.Sleep(time.Millisecond)
	}
	n, err := strconv.Atoi(id[1:])
	if err != nil {
		t.Fatal(id, err)
	}
	c.send("CLIENT UNBLOCK " + strconv.Itoa(n) + "\n")
	c.expect(":1")
	blocked.expect("-ERR connection to the server was lost (blpop); the command may or may not have been executed")
	blocked.send("RPUSH list x\nBLPOP list 0\n")
	blocked.expect(":1", "*2", "$4", "list", "$1", "x")
}
