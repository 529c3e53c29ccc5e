package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"keyferry/conf"
	"keyferry/internal/gateway"
	"keyferry/internal/testredis"
)

// TestMain looks for goroutines that nobody waited for. The three that are left out belong
// to a pool that gnet has for the whole process and never closes.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// rig is a gateway in this process with two servers, all slots on g1.
type rig struct {
	t       *testing.T
	g       *gateway.Gateway
	servers []*testredis.Server
	url     string
	listen  string
	token   string
}

func newRig(t *testing.T, token string) *rig {
	t.Helper()
	r := &rig{t: t, token: token}
	var ports [2]int
	for i := range ports {
		p, err := testredis.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = p
	}
	r.listen = fmt.Sprintf("127.0.0.1:%d", ports[0])
	c, err := conf.Load("", nil, map[string]string{"listen": r.listen, "admin": fmt.Sprintf("127.0.0.1:%d", ports[1]),
		"http.listen": "127.0.0.1:0", "http.token": token, "http.hosts": "keyferry.example", "data-dir": t.TempDir(),
		"name": "t", "loops.count": "2", "migration.max-p99": "off", "slowlog.slower-than": "1ns", "hotkeys.sample-every": "2"})
	if err != nil {
		t.Fatal(err)
	}
	if r.g, err = gateway.Start(c, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = r.g.Stop(ctx)
	})
	r.url = "http://" + r.g.Web.Addr()
	for i := range 2 {
		s := testredis.StartT(t)
		r.servers = append(r.servers, s)
		r.command("GROUP", "ADD", fmt.Sprintf("g%d", i+1), s.Addr)
	}
	r.command("SLOT", "ASSIGN", "0-16383", "g1")
	r.await("the assignment", func() bool { return strings.Contains(r.get("/api/v1/slots"), `"g1"`) })
	return r
}

func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	for end := time.Now().Add(90 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (r *rig) request(method, path, body string, header ...string) *http.Request {
	q, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			q.Host = header[i+1]
		} else {
			q.Header.Set(header[i], header[i+1])
		}
	}
	return q
}

var noRedirect = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: time.Minute}

func (r *rig) do(q *http.Request) (int, string, http.Header) {
	r.t.Helper()
	a, err := noRedirect.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.StatusCode, string(b), a.Header
}

func (r *rig) auth() []string {
	if r.token == "" {
		return nil
	}
	return []string{"Authorization", "Bearer " + r.token}
}

func (r *rig) get(path string) string {
	r.t.Helper()
	code, body, _ := r.do(r.request("GET", path, "", r.auth()...))
	if code != 200 {
		r.t.Fatalf("GET %s: %d %s", path, code, body)
	}
	return body
}

func (r *rig) command(args ...string) string {
	r.t.Helper()
	b, _ := json.Marshal(map[string]any{"args": args})
	code, body, _ := r.do(r.request("POST", "/api/v1/command", string(b), append(r.auth(), "X-Keyferry", "1")...))
	if code != 200 {
		r.t.Fatalf("%v: %d %s", args, code, body)
	}
	return body
}

// TestGuard: who may ask what.
func TestGuard(t *testing.T) {
	open, closed := newRig(t, ""), newRig(t, "s3cret")
	bearer := []string{"Authorization", "Bearer s3cret"}
	for _, x := range []struct {
		r            *rig
		method, path string
		header       []string
		want         int
	}{
		{open, "GET", "/", nil, 200},
		{open, "GET", "/nothing", nil, 404},
		{open, "GET", "/", []string{"Host", "localhost:7382"}, 200},
		{open, "GET", "/", []string{"Host", "[::1]:7382"}, 200},
		{open, "GET", "/", []string{"Host", "keyferry.example"}, 200},
		{open, "GET", "/", []string{"Host", "evil.example"}, 421}, // DNS rebinding
		{open, "GET", "/metrics", []string{"Host", "127.0.0.1.evil.example:1"}, 421},
		{open, "GET", "/healthz", []string{"Host", "any.example"}, 200},
		{open, "POST", "/api/v1/command", nil, 403},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1"}, 200},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1", "Origin", "http://evil.example"}, 403},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1", "Origin", "null"}, 403},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1", "Sec-Fetch-Site", "cross-site"}, 403},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1", "Sec-Fetch-Site", "same-site"}, 403},
		{open, "POST", "/api/v1/command", []string{"X-Keyferry", "1", "Sec-Fetch-Site", "same-origin", "Origin", open.url}, 200},
		{open, "GET", "/api/v1/command", nil, 404},
		{closed, "POST", "/login", []string{"Origin", closed.url}, 401}, // it has no token
		{closed, "POST", "/login", []string{"Origin", "null", "Sec-Fetch-Site", "same-origin"}, 401},
		{closed, "POST", "/login", []string{"Origin", "null"}, 403},
		{closed, "POST", "/login", []string{"Origin", "null", "Sec-Fetch-Site", "none"}, 403},
		{closed, "POST", "/login", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403},
		{closed, "POST", "/login", []string{"Origin", "http://evil.example"}, 403},
		{closed, "POST", "/login", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}, 403},
		{closed, "POST", "/login", nil, 403},
		{open, "GET", "/debug/pprof/", nil, 403},
		{closed, "GET", "/", nil, 401},
		{closed, "GET", "/", []string{"Accept", "text/html"}, 303},
		{closed, "GET", "/login", nil, 200},
		{closed, "GET", "/static/app.css", nil, 200},
		{closed, "GET", "/healthz", nil, 200},
		{closed, "GET", "/readyz", nil, 200},
		{closed, "GET", "/metrics", nil, 401},
		{closed, "GET", "/metrics", bearer, 200},
		{closed, "GET", "/debug/pprof/", nil, 401},
		{closed, "GET", "/debug/pprof/cmdline", bearer, 200},
		{closed, "GET", "/api/v1/slots", []string{"Authorization", "Bearer wrong"}, 401},
		{closed, "GET", "/api/v1/slots", []string{"Cookie", "keyferry_session=0"}, 401},
		{closed, "POST", "/api/v1/command", []string{"X-Keyferry", "1"}, 401},
	} {
		code, body, h := x.r.do(x.r.request(x.method, x.path, `{"args":["GROUP","LIST"]}`, x.header...))
		if code != x.want {
			t.Errorf("%s %s %v: %d, want %d: %.200s", x.method, x.path, x.header, code, x.want, body)
		}
		if h.Get("Content-Security-Policy") == "" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: headers %v", x.method, x.path, h)
		}
	}
	login(t, closed)
}

func login(t *testing.T, r *rig) {
	form := func(token, next string) (int, http.Header) {
		code, _, h := r.do(r.request("POST", "/login", url.Values{"token": {token}, "next": {next}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded", "Origin", r.url))
		return code, h
	}
	if code, h := form("wrong", "/"); code != 401 || h.Get("Set-Cookie") != "" {
		t.Errorf("wrong token: %d %v", code, h)
	}
	code, h := form("s3cret", "/slots")
	c := h.Get("Set-Cookie")
	if code != 303 || h.Get("Location") != "/slots" || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") || strings.Contains(c, "s3cret") {
		t.Errorf("right token: %d %v", code, h)
	}
	value, _, _ := strings.Cut(c, ";")
	if code, _, _ := r.do(r.request("GET", "/api/v1/slots", "", "Cookie", value)); code != 200 {
		t.Errorf("with the cookie: %d", code)
	}
	for _, next := range []string{"//evil.example", "http://evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "/%zz"} {
		if _, h := form("s3cret", next); h.Get("Location") != "/" {
			t.Errorf("next %q leads to %q", next, h.Get("Location"))
		}
	}
}

// TestAPI: what clients and jobs do is seen, and verbs do what they do on the admin port.
func TestAPI(t *testing.T) {
	r := newRig(t, "")
	ctx := context.Background()
	c := testredis.NewClient(r.listen, "", 0)
	defer c.Close()
	for i := range 2000 {
		c.Set(ctx, fmt.Sprint("k", i), "v", 0)
		c.Get(ctx, "hot")
	}
	c.LPush(ctx, "k0", "x")
	for path, want := range map[string][]string{
		"/api/v1/hotkeys":                      {`"key":"hot"`, `"slot":6093`},
		"/api/v1/slowlog?n=3":                  {`"lpush"`, `"backend_us"`, `"group":"g1"`},
		"/api/v1/key?key=k1":                   {`"exists":true`, `"type":"string"`, `"outcome":"serve"`},
		"/api/v1/key?key=none":                 {`"exists":false`},
		"/api/v1/explain?arg=MGET&arg=a&arg=b": {`"outcome":"split"`},
		"/api/v1/bigkeys":                      {`[]`},
		"/api/v1/locks":                        {`[]`},
		"/api/v1/history":                      {`"points"`},
	} {
		body := r.get(path)
		for _, w := range want {
			if !strings.Contains(strings.ToLower(body), strings.ToLower(w)) {
				t.Errorf("%s: no %s in %.400s", path, w, body)
			}
		}
	}
	r.await("the errors in the overview", func() bool { return strings.Contains(r.get("/api/v1/overview"), `"WRONGTYPE":1`) })
	r.await("the group's keys", func() bool { return strings.Contains(r.get("/api/v1/groups"), `"keys":2000`) })
	if got := r.command("MIGRATE", "0-8191", "TO", "g2", "DRYRUN", "JSON"); !strings.Contains(got, `"estimated_keys"`) {
		t.Errorf("plan: %s", got)
	}
	if got := r.command("REBALANCE", "BY", "OPS", "WEIGHT", "g2", "3", "DRYRUN", "JSON"); !strings.Contains(got, `"estimated_bytes"`) || !strings.Contains(got, `"target":"g2"`) {
		t.Errorf("plan by use: %s", got)
	}
	r.command("MIGRATE", "0-8191", "TO", "g2")
	r.await("the job", func() bool {
		return strings.Contains(r.get("/api/v1/migrations"), `"phase":"done"`) && strings.Contains(r.get("/api/v1/migrations/m1"), `"to":"bulk"`)
	})
	code, body, _ := r.do(r.request("POST", "/api/v1/command", `{"args":["MIGRATE","0-8191","TO","nobody"]}`, "X-Keyferry", "1"))
	if code != 400 || !strings.Contains(body, `no such group`) {
		t.Errorf("%d %s", code, body)
	}
	for _, bad := range []string{"", "{", `{"args":[]}`, `{"args":"x"}`, "[]", strings.Repeat("x", 100000)} {
		if code, body, _ := r.do(r.request("POST", "/api/v1/command", bad, "X-Keyferry", "1")); code != 400 && code != 413 || !strings.Contains(body, `"error"`) {
			t.Errorf("%.20q: %d %s", bad, code, body)
		}
	}
	for _, want := range []string{`keyferry_commands_total{command="set"} 2000`, `keyferry_error_replies_total{code="WRONGTYPE"} 1`,
		`keyferry_migration_jobs{phase="done"} 1`, `keyferry_command_duration_seconds_count{class="read"}`, "keyferry_group_up{group=\"g1\"} 1", "go_goroutines"} {
		r.await(want+" in /metrics", func() bool { return strings.Contains(r.get("/metrics"), want) })
	}
}

// events opens the stream of events, until the test ends.
func (r *rig) events() *bufio.Scanner {
	r.t.Helper()
	a, err := http.Get(r.url + "/api/v1/events")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = a.Body.Close() })
	lines := bufio.NewScanner(a.Body)
	lines.Buffer(nil, 1<<20)
	return lines
}

// TestEvents: the first of each kind has everything, later ones only what changed.
func TestEvents(t *testing.T) {
	r := newRig(t, "")
	lines := r.events()
	next := func(event string) string {
		for lines.Scan() {
			if lines.Text() == "event: "+event {
				lines.Scan()
				return strings.TrimPrefix(lines.Text(), "data: ")
			}
		}
		t.Fatalf("the stream ended before %s: %v", event, lines.Err())
		return ""
	}
	if got := next("slots"); !strings.Contains(got, `"first":0,"last":16383,"group":"g1"`) {
		t.Errorf("first slots: %s", got)
	}
	c := testredis.NewClient(r.listen, "", 0)
	defer c.Close()
	for i := range 2000 {
		c.Set(context.Background(), fmt.Sprint("k{", i, "}"), "v", 0)
	}
	r.command("MIGRATE", "100-9000", "TO", "g2", "RATE", "20") // it outlasts the test
	for !strings.Contains(next("jobs"), `"source"`) {
	}
	if got := next("jobs"); !strings.Contains(got, `"m1"`) || strings.Contains(got, `"source"`) {
		t.Errorf("jobs, not the first: %s", got)
	}
	r.command("MIGRATE", "9100-9199", "TO", "g2")
	seen := ""
	for !strings.Contains(seen, `"group":"g2","state":"stable"`) {
		got := next("slots")
		if strings.Contains(got, `"first":0,`) || strings.Contains(got, "16383") {
			t.Fatalf("not a delta: %s", got)
		}
		seen += got
	}
}

// TestEventsOfManyJobs: the stream tells of every job that is remembered, without lists of slots that fill
// it, and the API has all of one.
func TestEventsOfManyJobs(t *testing.T) {
	r := newRig(t, "")
	const jobs = 53 // the list of jobs has the newest 50
	var even []string
	for i := range 200 {
		even = append(even, fmt.Sprint(2*i))
	}
	r.command("MIGRATE", strings.Join(even, ","), "TO", "g2")
	for i := range jobs - 1 {
		r.command("MIGRATE", fmt.Sprint(2*i+1), "TO", "g2")
	}
	last := fmt.Sprintf(`"id":"m%d"`, jobs)
	r.await("the last job", func() bool { return strings.Contains(r.get("/api/v1/migrations"), last) })
	lines := r.events()
	for lines.Scan() && lines.Text() != "event: jobs" {
	}
	lines.Scan()
	var told map[string]struct {
		Slots     any    `json:"slots"`
		SlotsText string `json:"slots_text"`
		SlotCount int    `json:"slot_count"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &told); err != nil {
		t.Fatal(err)
	}
	if len(told) != jobs {
		t.Errorf("the stream begins with %d jobs of %d", len(told), jobs)
	}
	if m := told["m1"]; m.Slots != nil || len(m.SlotsText) > 210 || !strings.HasPrefix(m.SlotsText, "0,2,4,") || !strings.HasSuffix(m.SlotsText, ",…") || m.SlotCount != 200 {
		t.Errorf("the stream says of m1: %d slots, %v, %q", m.SlotCount, m.Slots, m.SlotsText)
	}
	if one := r.get("/api/v1/migrations/m1"); !strings.Contains(one, `{"first":398,"last":398}]`) {
		t.Errorf("the API says of m1: %.300s", one)
	}
}

// TestSilentServer: with a server that hangs, pages and metrics take no longer.
func TestSilentServer(t *testing.T) {
	r := newRig(t, "")
	paths := []string{"/", "/metrics", "/api/v1/overview", "/api/v1/groups", "/api/v1/slots", "/api/v1/migrations", "/slots"}
	median := func() time.Duration {
		var took []time.Duration
		for i := range 42 {
			t0 := time.Now()
			r.get(paths[i%len(paths)])
			took = append(took, time.Since(t0))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	before := median()
	p, err := os.FindProcess(r.servers[0].PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Signal(syscall.SIGCONT) }()
	noticed := func() bool { return strings.Contains(r.get("/metrics"), `keyferry_group_up{group="g1"} 0`) }
	r.await("the probe to notice", noticed)
	during := median()
	t.Logf("median of %d answers: %v with all servers, %v with one stopped: %.2f times", 42, before, during, float64(during)/float64(before))
	r.await("the stopped server to be shown as such", noticed)
	if body := r.get("/api/v1/key?key=x"); !strings.Contains(body, `"error"`) {
		t.Errorf("a key at a stopped server: %s", body)
	}
}

// TestVerbsOverRESP: the verbs that look have a form for people too, and bad ones are
// refused with how they are used.
func TestVerbsOverRESP(t *testing.T) {
	r := newRig(t, "")
	ctx := context.Background()
	c := testredis.NewClient(r.listen, "", 0)
	defer c.Close()
	for range 200 {
		c.Set(ctx, "hot", "v", 0)
	}
	c.Set(ctx, "large", strings.Repeat("x", 2<<20), 0)
	a := testredis.NewClient(r.g.Admin.Addr(), "", 0)
	defer a.Close()
	ask := func(args ...any) string {
		v, err := a.Do(ctx, append([]any{"PROXY"}, args...)...).Result()
		return fmt.Sprint(v, err)
	}
	for _, x := range []struct {
		args []any
		want string
	}{
		{[]any{"HOTKEYS", 1}, "[[key hot db 0 slot 6093"},
		{[]any{"BIGKEYS"}, "[[key large db 0 bytes 2097"},
		{[]any{"LOCKS"}, "[]"},
		{[]any{"KEY", "hot"}, "group g1 role owner exists true type string"},
		{[]any{"KEY", "json"}, "exists false"},
		{[]any{"KEY", "json", "JSON"}, `"key":"json"`},
		{[]any{"KEY", "hot", "DB", 3}, "exists false"},
		{[]any{"KEY", "hot", "DB", 99}, "want 0 to 15"},
		{[]any{"KEY", "hot", "DB"}, "usage: PROXY KEY"},
		{[]any{"KEY"}, "usage: PROXY KEY"},
		{[]any{"EXPLAIN", "MGET", "hot", "large"}, "outcome split"},
		{[]any{"EXPLAIN", "GET", "\xff\x00"}, "outcome serve"},
		{[]any{"EXPLAIN"}, "usage: PROXY EXPLAIN"},
		{[]any{"HOTKEYS", 0}, "usage: PROXY HOTKEYS"},
		{[]any{"LOCKS", "x"}, "usage: PROXY LOCKS"},
		{[]any{"BIGKEYS", 1, 2}, "usage: PROXY BIGKEYS"},
		{[]any{"REBALANCE", "BY", "KEYS", "WEIGHT", "g1", "0", "DRYRUN"}, "source g1 target g2 slots 0-16383"},
		{[]any{"REBALANCE", "WEIGHT", "g1", "0", "WEIGHT", "g2", "0"}, "every group would be emptied"},
		{[]any{"REBALANCE", "WEIGHT", "g1", "-1"}, "want a number from 0"},
		{[]any{"REBALANCE", "WEIGHT", "g1", "nan"}, "want a number from 0"},
		{[]any{"REBALANCE", "WEIGHT", "nobody", "1"}, "no such group"},
		{[]any{"HELP"}, "EXPLAIN <command>"},
	} {
		if got := ask(x.args...); !strings.Contains(got, x.want) {
			t.Errorf("PROXY %q: %.300s, want %s", x.args, got, x.want)
		}
	}
}
