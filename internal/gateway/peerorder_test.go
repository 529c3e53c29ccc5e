package gateway

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/topology"
)

// TestOrderWhenTheNextOwnerIsBehind: a job goes to a gateway that has not heard of that yet. It refuses what
// comes by the others until it has, and then executes a client's pipeline in its order, whatever of it
// was refused before.
func TestOrderWhenTheNextOwnerIsBehind(t *testing.T) {
	x := newDoored(t, 3)
	id, _ := x.halfway(500)
	const n = 3000
	done := 0
	for round := range 8 {
		owner, _ := x.owner(id)
		from := (owner + 1) % 3 // whose client sends
		next := (owner + 2) % 3
		x.stores[next].Away(true)
		st, err := topology.Update(t.Context(), x.stores[from], func(s *topology.State) error {
			return s.SetJobOwner(id, x.all[next].Control.Gateway())
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := x.all[from].Control.AwaitEpoch(t.Context(), st.Epoch); err != nil {
			t.Fatal(err)
		}
		nc, err := net.Dial("tcp", x.clients[from].Options().Addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = nc.Write(bytes.Repeat([]byte("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"), n)) }()
		back := time.AfterFunc(time.Duration(round)*15*time.Millisecond, func() { x.stores[next].Away(false) })
		in := bufio.NewReader(nc)
		for range n {
			_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			done++
			if got, err := strconv.Atoi(strings.Trim(line, ":\r\n")); err != nil || got != done {
				t.Fatalf("round %d: %q where %d is due", round, line, done)
			}
		}
		back.Stop()
		x.stores[next].Away(false)
		_ = nc.Close()
		x.agree()
	}
}
