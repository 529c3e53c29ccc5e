package bench

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
)

// commandCalls returns how often the server has run each command.
func commandCalls(t *testing.T, client *redis.Client) map[string]int64 {
	t.Helper()
	info, err := client.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int64{}
	for _, row := range strings.Split(info, "\r\n") {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(row, "cmdstat_"), ":calls="); ok {
			count, _, _ := strings.Cut(rest, ",")
			calls[name], _ = strconv.ParseInt(count, 10, 64)
		}
	}
	return calls
}

func TestLoadSendsExactlyTheRequestsItCounts(t *testing.T) {
	server := testredis.StartT(t)
	for _, pipeline := range []int{1, 7, 64} {
		for ops, wantSets := range map[string][2]int64{ // bounds on the SETs among 5003
			"get": {0, 0}, "set": {5003, 5003}, "mixed": {300, 700}, "mget": {0, 0},
		} {
			if err := server.Client().ConfigResetStat(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			got, err := Load(context.Background(), LoadConfig{
				Addr: server.Addr, Clients: 5, Pipeline: pipeline, Requests: 5003, Ops: ops, KeySpace: 1000, Seed: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.Ops != 5003 || got.Errors != 0 || got.FirstError != "" {
				t.Errorf("%s/%d: %+v", ops, pipeline, got)
			}
			calls := commandCalls(t, server.Client())
			if sum := calls["get"] + calls["set"] + calls["mget"]; sum != 5003 {
				t.Errorf("%s/%d: the server ran %d, want 5003: %v", ops, pipeline, sum, calls)
			}
			if sets := calls["set"]; sets < wantSets[0] || sets > wantSets[1] {
				t.Errorf("%s/%d: %d SETs, want %v", ops, pipeline, sets, wantSets)
			}
		}
	}
}

func TestLoadFillsTheKeySpace(t *testing.T) {
	server := testredis.StartT(t)
	const keys = 2345
	_, err := Load(context.Background(), LoadConfig{
		Addr: server.Addr, DB: 2, Requests: 1, KeySpace: keys, ValueBytes: 10, Prefix: "p:", Ops: "get", Fill: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	client := server.ClientDB(2)
	if got := client.DBSize(context.Background()).Val(); got != keys {
		t.Errorf("%d keys, want %d", got, keys)
	}
	if got := client.Get(context.Background(), "p:000002344").Val(); got != randomText(10) || len(got) != 10 {
		t.Errorf("last key holds %q", got)
	}
}

// TestLoadNamesItsWorstMoments: a pause of the server is found where it was.
func TestLoadNamesItsWorstMoments(t *testing.T) {
	server := testredis.StartT(t)
	time.AfterFunc(500*time.Millisecond, func() { _ = server.Pause() })
	time.AfterFunc(900*time.Millisecond, func() { _ = server.Continue() })
	got, err := Load(context.Background(), LoadConfig{Addr: server.Addr, Clients: 2, Rate: 1000, Duration: 1500 * time.Millisecond, Ops: "get"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Worst) != worstKept || got.Worst[0].MaxMS < 200 || got.Worst[0].MaxMS > got.Latency.MaxMS+1 || got.Worst[0].AtS < 0.5 {
		t.Errorf("%+v", got)
	}
}

func TestLoadKeepsItsRate(t *testing.T) {
	server := testredis.StartT(t)
	got, err := Load(context.Background(), LoadConfig{
		Addr: server.Addr, Clients: 4, Pipeline: 2, Rate: 2000, Duration: time.Second, Ops: "set",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ops < 1800 || got.Ops > 2100 {
		t.Errorf("%d requests in a second, want about 2000", got.Ops)
	}
}

// While the server is frozen, a generator that waits for replies sends nothing
// and measures one slow request per client. With a rate, the requests that should
// have been sent meanwhile are slow too.
func TestLoadCorrectsCoordinatedOmission(t *testing.T) {
	server := testredis.StartT(t)
	go func() {
		time.Sleep(200 * time.Millisecond)
		_ = server.Pause()
		time.Sleep(500 * time.Millisecond)
		_ = server.Continue()
	}()
	got, err := Load(context.Background(), LoadConfig{
		Addr: server.Addr, Clients: 2, Rate: 1000, Duration: 1200 * time.Millisecond, Ops: "set",
	})
	if err != nil {
		t.Fatal(err)
	}
	// 500 of 1200 requests fell into the pause and waited 250 ms on average.
	if got.Latency.MaxMS < 400 || got.Latency.MeanMS < 50 {
		t.Errorf("the pause is missing from %+v", got.Latency)
	}
	if got.Ops < 1000 {
		t.Errorf("%d requests: those due during the pause were not made up for", got.Ops)
	}
}

func TestLoadCountsErrorsAndReconnects(t *testing.T) {
	server := testredis.StartT(t, "--maxmemory", "1")
	got, err := Load(context.Background(), LoadConfig{Addr: server.Addr, Clients: 2, Requests: 100, Ops: "set"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ops != 100 || got.Errors != 100 || !strings.HasPrefix(got.FirstError, "OOM ") {
		t.Errorf("%+v, want 100 refused for memory", got)
	}

	server = testredis.StartT(t)
	go func() {
		time.Sleep(200 * time.Millisecond)
		server.Client().ClientKillByFilter(context.Background(), "TYPE", "normal")
	}()
	got, err = Load(context.Background(), LoadConfig{Addr: server.Addr, Clients: 3, Rate: 1000, Duration: 700 * time.Millisecond, Ops: "get"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ops < 500 || got.FirstError != "" && got.Errors > 3 {
		t.Errorf("%+v, want at most one lost request per client and the rest answered", got)
	}
}

func TestLoadRefusesWhatCannotRun(t *testing.T) {
	for _, cfg := range []LoadConfig{{Ops: "incr"}, {Clients: -1}, {Pipeline: pipelineMax + 1}, {Rate: -1}, {ValueBytes: -5}, {KeySpace: keySpaceMax + 1}} {
		if _, err := Load(context.Background(), cfg); !errors.Is(err, errConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(context.Background(), LoadConfig{Addr: "127.0.0.1:" + strconv.Itoa(port)}); err == nil {
		t.Error("nobody listens, and Load did not say so")
	}
	server, err := testredis.Start(testredis.Options{Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if _, err := Load(context.Background(), LoadConfig{Addr: server.Addr, Password: "wrong"}); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("wrong password: %v", err)
	}
	if got, err := Load(context.Background(), LoadConfig{Addr: server.Addr, Password: "right", Requests: 10}); err != nil || got.Errors != 0 {
		t.Errorf("right password: %+v, %v", got, err)
	}
}

// A reply is the same in one piece and in single bytes.
func TestRepliesInPieces(t *testing.T) {
	const stream = "+OK\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*2\r\n*1\r\n$0\r\n\r\n:7\r\n-ERR no\r\n"
	for _, piece := range []int{1, 2, 5, 1000} {
		client, server := net.Pipe()
		go func() {
			for rest := []byte(stream); len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				_, _ = server.Write(rest[:min(piece, len(rest))])
			}
		}()
		c := &wire{Conn: client, buf: make([]byte, 4)}
		var got bytes.Buffer
		var v reply
		for range 7 {
			err := c.next(&v)
			for ; errors.Is(err, errNeedMore); err = c.next(&v) {
				if err := c.fill(); err != nil {
					t.Fatal(err)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			show(&got, &v)
		}
		if want := `+"OK" :-12 $"a\r\n" null null *[*[$""] :7] -"ERR no" `; got.String() != want {
			t.Errorf("pieces of %d: %s\nwant %s", piece, got.String(), want)
		}
		client.Close()
		server.Close()
	}
}

func show(w *bytes.Buffer, v *reply) {
	switch v.kind {
	case 0:
		w.WriteString("null")
	case '*':
		w.WriteString("*[")
		for i := range v.elems {
			show(w, &v.elems[i])
		}
		w.Truncate(w.Len() - 1)
		w.WriteString("]")
	case ':':
		w.WriteString(":" + strconv.FormatInt(v.n, 10))
	default:
		w.WriteString(string(v.kind) + strconv.Quote(string(v.text)))
	}
	w.WriteString(" ")
}

func TestRepliesThatAreNotRESP(t *testing.T) {
	for _, bad := range []string{"hello\r\n", "$x\r\n", "$-2\r\n", ":1x\r\n", "\n\n", "*99999999999\r\n", "+OK\n"} {
		c := &wire{buf: []byte(bad), w: len(bad)}
		if err := c.next(new(reply)); !errors.Is(err, errProtocol) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:1\r\n"))
	f.Add([]byte("*1\r\n*1\r\n*1\r\n+a\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &wire{buf: b, w: len(b)}
		for c.r < c.w && c.next(new(reply)) == nil {
		}
	})
}
