package keymove

import (
	"context"
	"slices"
	"testing"
	"time"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/link"
	"keyferry/slotlock"
)

// TestStreamsByWhatIsStored: two versions that derive another lag from the same stream hold the
// same; another position of a group is another stream.
func TestStreamsByWhatIsStored(t *testing.T) {
	ctx := context.Background()
	s := testredis.StartT(t)
	c := s.Client()
	for _, cmd := range [][]any{{"XADD", "s", "1-1", "a", "b"}, {"XADD", "s", "2-1", "a", "b"}, {"XADD", "s", "3-1", "a", "b"}, {"XGROUP", "CREATE", "s", "g", "0"},
		{"XREADGROUP", "GROUP", "g", "c", "COUNT", 2, "STREAMS", "s", ">"}, {"XTRIM", "s", "MAXLEN", 1}} {
		if err := c.Do(ctx, cmd...).Err(); err != nil {
			t.Fatal(cmd, err)
		}
	}
	read := func(addr string) []string {
		conn := testredis.NewClient(addr, "", 0).Conn()
		defer func() { _ = conn.Close() }()
		list, err := content(ctx, conn, "stream", "s")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	newer, err := faultproxy.New(s.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = newer.Close() })
	const head = "*1\r\n%5\r\n$4\r\nname\r\n$1\r\ng\r\n$9\r\nconsumers\r\n:1\r\n$7\r\npending\r\n:2\r\n$17\r\nlast-delivered-id\r\n"
	says := func(rest string) []string {
		newer.SetTraps(faultproxy.Trap{Action: faultproxy.Answer, Match: faultproxy.Command("XINFO", "GROUPS"), Reply: head + rest})
		return read(newer.Addr)
	}
	here := read(s.Addr)
	if there := says("$3\r\n2-1\r\n$3\r\nlag\r\n:77\r\n"); !slices.Equal(here, there) {
		t.Errorf("by the lag: %q, %q", here, there)
	}
	if there := says("$3\r\n1-1\r\n$3\r\nlag\r\n:77\r\n"); slices.Equal(here, there) {
		t.Errorf("another position is taken for the same: %q", there)
	}
}

// TestExpiredWhileCompared: a key of any type that expires between two of the questions, at the
// target a moment earlier, differs in nothing. One that the source keeps does.
func TestExpiredWhileCompared(t *testing.T) {
	ctx := context.Background()
	end := func() (*testredis.Server, *faultproxy.Proxy, *link.Link) {
		s := testredis.StartT(t)
		p, err := faultproxy.New(s.Addr, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		l, err := link.Dial(ctx, upstream.NewDialer("test", 1), topology.Group{Endpoint: topology.Endpoint{Addr: p.Addr}}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return s, p, l
	}
	server, source, src := end()
	_, target, dst := end()
	c := &Comparer{src: src, dst: dst}
	says := func(reply string, words ...string) faultproxy.Trap {
		return faultproxy.Trap{Action: faultproxy.Answer, Match: faultproxy.Command(words...), Reply: reply, Times: 1}
	}
	for _, v := range []struct{ kind, read, value string }{
		{"string", "GET", "$1\r\na\r\n"}, {"list", "LRANGE", "*1\r\n$1\r\na\r\n"}, {"set", "SMEMBERS", "*1\r\n$1\r\na\r\n"},
		{"zset", "ZRANGE", "*2\r\n$1\r\na\r\n$1\r\n1\r\n"}, {"hash", "HGETALL", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
		{"stream", "XINFO", "*0\r\n"},
	} {
		dumped, kind, value := "$4\r\ndump\r\n", says("+"+v.kind+"\r\n", "TYPE"), says(v.value, v.read)
		for at, still := range map[string][2][]faultproxy.Trap{ // what the source, and the target, still answers; neither has the key
			"before the type at the target":  {{kind, value}, nil},
			"before the value at the target": {{kind, value}, {kind}},
			"before the value at the source": {{kind}, {kind, value}},
		} {
			source.SetTraps(append(still[0], says(dumped, "DUMP"))...)
			target.SetTraps(append(still[1], says("$5\r\nother\r\n", "DUMP"))...)
			if why, err := c.differs(ctx, &Key{Key: slotlock.Key{Name: "k"}}); err != nil || why != "" {
				t.Errorf("a %s that expires %s: %q, %v", v.kind, at, why, err)
			}
		}
	}
	if err := server.Client().Set(ctx, "k", "a", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	for at, still := range map[string][]faultproxy.Trap{"type": nil, "value": {says("+string\r\n", "TYPE")}} {
		target.SetTraps(append(still, says("$5\r\nother\r\n", "DUMP"))...)
		source.SetTraps()
		if why, err := c.differs(ctx, &Key{Key: slotlock.Key{Name: "k"}}); err != nil || why != "the target does not have it" {
			t.Errorf("a key that the source keeps, and the target lacks by its %s: %q, %v", at, why, err)
		}
	}
}
