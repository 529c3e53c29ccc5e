package keymove

import (
	"context"
	"slices"
	"testing"

	"keyferry/internal/faultproxy"
	"keyferry/internal/testredis"
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
