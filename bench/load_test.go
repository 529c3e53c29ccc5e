package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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

// startLoad makes load until end is called, which gives what was measured.
func startLoad(t *testing.T, cfg LoadConfig) (end func() LoadResult) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var got LoadResult
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err = Load(ctx, cfg)
	}()
	return func() LoadResult {
		t.Helper()
		cancel()
		<-done
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

// await polls until cond holds. Its bound is no expectation of speed: it ends a hang.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// awaitCalls waits until the server has run a command so often.
func awaitCalls(t *testing.T, server *testredis.Server, command string, n int64) {
	t.Helper()
	await(t, fmt.Sprintf("%d times %s", n, command), func() bool { return commandCalls(t, server.Client())[command] >= n })
}

// freeze pauses the server for d or longer; it did nothing between the two times.
func freeze(t *testing.T, server *testredis.Server, d time.Duration) (from, to time.Time) {
	t.Helper()
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	from = time.Now()
	time.Sleep(d)
	to = time.Now()
	if err := server.Continue(); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// TestLoadNamesItsWorstMoments: a pause of the server is found where it was.
func TestLoadNamesItsWorstMoments(t *testing.T) {
	server := testredis.StartT(t)
	before := time.Now()
	end := startLoad(t, LoadConfig{Addr: server.Addr, Clients: 2, Rate: 200, Ops: "get"})
	awaitCalls(t, server, "get", 1)
	begun := time.Now() // the load's own beginning is between the two
	from, to := freeze(t, server, 500*time.Millisecond)
	time.Sleep(worstKept * momentSpan)
	awaitCalls(t, server, "get", commandCalls(t, server.Client())["get"]+10)
	got, ended := end(), time.Now()
	least := 0.9 * milliseconds(to.Sub(from))
	if len(got.Worst) != worstKept || got.Worst[0].MaxMS < least || got.Worst[0].MaxMS > got.Latency.MaxMS+1 {
		t.Errorf("%v of silence: %+v of %+v", to.Sub(from), got.Worst, got.Latency)
	}
	if !slices.ContainsFunc(got.Worst, func(m Moment) bool {
		return m.MaxMS >= least && m.AtS+momentSpan.Seconds() > to.Sub(begun).Seconds() && m.AtS < ended.Sub(before).Seconds()
	}) {
		t.Errorf("the server fell silent %v after the load began, and went on after %v: %+v", from.Sub(begun), to.Sub(begun), got.Worst)
	}
}

func TestLoadIsNoFasterThanItsRate(t *testing.T) {
	server := testredis.StartT(t)
	got, err := Load(context.Background(), LoadConfig{
		Addr: server.Addr, Clients: 4, Pipeline: 2, Rate: 2000, Requests: 1000, Ops: "set",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ops != 1000 || got.Seconds < 0.49 {
		t.Errorf("%d requests in %g s, want 1000 in half a second", got.Ops, got.Seconds)
	}
}

// TestPacerKeepsItsRate: nothing is sent early, and what was late once moves nothing behind it.
func TestPacerKeepsItsRate(t *testing.T) {
	const clients, rounds = 4, 50
	start := time.Now()
	for i := range clients {
		p := newPacer(start, 2000, 2, i, clients)
		for n := range rounds {
			intended := start.Add(time.Duration(i)*time.Millisecond + time.Duration(n)*4*time.Millisecond)
			if !p.next.Equal(intended) {
				t.Fatalf("client %d is to send batch %d %v after the start, want %v", i, n, p.next.Sub(start), intended.Sub(start))
			}
			if since := p.wait(context.Background()); since.Before(intended) || time.Now().Before(intended) {
				t.Fatalf("client %d sends batch %d %v early", i, n, intended.Sub(since))
			}
			if n == rounds/2 {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
}

// While the server is frozen, a generator that waits for replies sends nothing
// and measures one slow request per client. With a rate, the requests that should
// have been sent meanwhile are slow too.
func TestLoadCorrectsCoordinatedOmission(t *testing.T) {
	const rate = 400
	server := testredis.StartT(t)
	before := time.Now()
	end := startLoad(t, LoadConfig{Addr: server.Addr, Clients: 2, Rate: rate, Ops: "set"})
	awaitCalls(t, server, "set", 1)
	from, to := freeze(t, server, 500*time.Millisecond)
	awaitCalls(t, server, "set", int64(rate*to.Sub(before).Seconds())+2) // all that were due by then
	got := end()
	// Of the requests that fell into the pause the first waited for all of it, the last not at
	// all, and each that was made up for is as late as it was due early.
	pause := to.Sub(from)
	waited, want := got.Latency.MeanMS*float64(got.Ops), rate*pause.Seconds()*milliseconds(pause)/2
	if got.Latency.MaxMS < 0.9*milliseconds(pause) || waited < 0.8*want {
		t.Errorf("%v of silence: all together have waited for %.0f ms, want %.0f; %+v", pause, waited, want, got.Latency)
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
	end := startLoad(t, LoadConfig{Addr: server.Addr, Clients: 3, Rate: 1000, Ops: "get"})
	awaitCalls(t, server, "get", 30)
	if n := server.Client().ClientKillByFilter(context.Background(), "TYPE", "normal").Val(); n != 3 {
		t.Fatalf("%d connections killed, want the clients' 3", n)
	}
	before := commandCalls(t, server.Client())["get"]
	awaitCalls(t, server, "get", before+300)
	if got := end(); got.Ops < before+300-3 || got.Errors > 3 {
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
