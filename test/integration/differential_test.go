package integration

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

var (
	differentialSeed = flag.Uint64("differential.seed", 0, "seed of the differential test; 0 takes one from the clock")
	differentialRuns = flag.Int("differential.runs", 6, "how often each command is sent in each version of the protocol, at least")
)

//go:embed testdata/differences.tsv
var differencesText string

// difference is one by design. Its reason is in docs/commands.md as well.
type difference struct {
	command, gateway, plain *regexp.Regexp
	reason                  string
	used                    int
}

func readDifferences() []*difference {
	var out []*difference
	for line := range strings.Lines(differencesText) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 || strings.HasPrefix(line, "#") {
			continue
		}
		out = append(out, &difference{regexp.MustCompile(f[0]), regexp.MustCompile(f[1]), regexp.MustCompile(f[2]), f[3], 0})
	}
	return out
}

// reply is a parsed reply.
type reply struct {
	kind  byte
	text  string // of a scalar
	elems []reply
}

func parseReply(frame []byte) reply {
	r := reply{kind: frame[0]}
	if parts, ok := resp.SplitAggregate(frame); ok {
		for _, p := range parts {
			r.elems = append(r.elems, parseReply(p))
		}
		return r
	}
	if body, ok := resp.BulkBody(frame); ok {
		r.text = string(body)
		return r
	}
	r.text = strings.TrimSuffix(string(frame[1:]), "\r\n")
	return r
}

func (r reply) null() bool {
	return r.kind == '_' || (r.kind == '$' || r.kind == '*') && r.text == "-1"
}

func (r reply) String() string {
	switch {
	case r.null():
		return "null"
	case r.kind == '$':
		return strconv.Quote(r.text)
	case bytes.IndexByte([]byte("*~%>"), r.kind) < 0:
		return string(r.kind) + r.text
	}
	var parts []string
	for _, e := range r.elems {
		parts = append(parts, e.String())
	}
	return string(r.kind) + "[" + strings.Join(parts, " ") + "]"
}

// sorted is the text of a reply whose aggregates have no order.
func (r reply) sorted() string {
	var parts []string
	for _, e := range r.elems {
		parts = append(parts, e.sorted())
	}
	if parts == nil {
		return r.String()
	}
	slices.Sort(parts)
	return string(r.kind) + "[" + strings.Join(parts, " ") + "]"
}

// sameReply compares in a mode of the grammar.
func sameReply(mode string, a, b reply) bool {
	if mode == "none" {
		return true
	}
	if a.kind == '-' || b.kind == '-' || mode == "exact" {
		return a.String() == b.String()
	}
	switch mode {
	case "order":
		return a.sorted() == b.sorted()
	case "near":
		return near(a, b)
	default: // type, drop
		return a.kind == b.kind
	}
}

func near(a, b reply) bool {
	if a.kind != b.kind || len(a.elems) != len(b.elems) {
		return false
	}
	for i := range a.elems {
		if !near(a.elems[i], b.elems[i]) {
			return false
		}
	}
	x, errX := strconv.ParseFloat(a.text, 64)
	y, errY := strconv.ParseFloat(b.text, 64)
	if errX == nil && errY == nil && x >= 0 && y >= 0 {
		return math.Abs(x-y) < 60_000
	}
	return a.text == b.text
}

// end is one of the two that are compared.
type end struct {
	t    *testing.T
	name string
	c    net.Conn
	buf  []byte
	n    int // batches, for the marker
}

func dialEnd(t *testing.T, name, addr string) *end {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &end{t: t, name: name, c: c}
}

// send writes a batch and a PING that marks its end.
func (e *end) send(cmds [][][]byte) {
	var out []byte
	for _, c := range cmds {
		out = resp.AppendRequest(out, c...)
	}
	e.n++
	out = resp.AppendRequest(out, []byte("PING"), []byte(e.marker()))
	if _, err := e.c.Write(out); err != nil {
		e.t.Fatalf("%s: %v", e.name, err)
	}
}

func (e *end) marker() string { return fmt.Sprintf("end-of-batch-%d", e.n) }

var errNoReply = errors.New("no reply")

// receive reads the replies up to the marker.
func (e *end) receive() ([]reply, error) {
	var out []reply
	_ = e.c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	for {
		var s resp.ReplyScanner
		n, st := s.Scan(e.buf)
		if st == resp.Invalid {
			return out, fmt.Errorf("%s: not RESP: %.100q", e.name, e.buf)
		}
		if st == resp.Again {
			chunk := make([]byte, 1<<16)
			n, err := e.c.Read(chunk)
			if err != nil {
				return out, fmt.Errorf("%s: %w: %w", e.name, errNoReply, err)
			}
			e.buf = append(e.buf, chunk[:n]...)
			continue
		}
		r := parseReply(e.buf[:n])
		e.buf = e.buf[n:]
		if r.text == e.marker() || len(r.elems) == 2 && r.elems[1].text == e.marker() {
			return out, nil
		}
		out = append(out, r)
	}
}

// comparison is one run of the same commands against both.
type comparison struct {
	t              *testing.T
	g              generator
	seed           uint64
	proto          string
	gateway, plain *end
	allowed        []*difference
	done           map[string]int  // replies compared, by command
	refused        map[string]bool // commands, as the command table says
	wrong          int
}

// TestDifferential sends seeded random sequences of every command, with right and wrong
// arguments, to the gateway, while all slots bounce between two servers, and to one plain
// Redis. The replies are equal but for the differences of docs/commands.md, and so are the
// contents.
func TestDifferential(t *testing.T) {
	seed := *differentialSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: go test ./test/integration -run TestDifferential -differential.seed %d", seed, seed)
	r := newRig(t, 2)
	plain := testredis.StartT(t)
	stop := make(chan struct{})
	var rounds atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ; rounds.Add(1) {
			select {
			case <-stop:
				return
			default:
				r.bounce(2)
			}
		}
	})
	allowed := readDifferences()
	compare := func(i int, proto string, times int) {
		c := &comparison{
			t: t, g: generator{rand.New(rand.NewPCG(seed, uint64(i)))}, seed: seed, proto: proto, allowed: allowed, done: map[string]int{}, refused: map[string]bool{},
			gateway: dialEnd(t, "gateway", r.listen), plain: dialEnd(t, "plain", plain.Addr),
		}
		c.run(times)
	}
	compare(0, "2", *differentialRuns)
	compare(1, "3", *differentialRuns)
	for i := 2; rounds.Load() < 2 && !t.Failed(); i++ { // until the slots have bounced some times
		compare(i, "3", 1)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d migrations of all slots meanwhile", 2*rounds.Load())
	for _, d := range allowed {
		t.Logf("%5d × %s: %s", d.used, d.command, d.reason)
	}
	r.placesRight()
}

func (c *comparison) run(times int) {
	grammar := readGrammar()
	perName := map[string]int{}
	for _, t := range grammar {
		perName[t.name()]++
	}
	var plan []op
	for _, t := range grammar {
		n := (times + perName[t.name()] - 1) / perName[t.name()]
		for i := range n {
			plan = append(plan, c.g.op(t, i%2 == 1))
		}
	}
	c.g.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	c.batch(c.g.op(template{mode: "exact", fixed: true, cmds: [][]string{{"function", "load", "$library"}, {"script", "load", "$script"}}}, false))
	for i := 0; len(plan) > 0 && c.wrong < 10; i++ {
		if i%25 == 0 {
			c.batch(c.g.seedOps()...)
			c.compareContents()
		}
		n := min(1+c.g.IntN(8), len(plan))
		for j, o := range plan[:n] {
			if alone(o) {
				n = max(j, 1)
				break
			}
		}
		c.batch(plan[:n]...)
		if slices.ContainsFunc(plan[:n], func(o op) bool { return strings.HasPrefix(o.name, "flush") }) {
			c.batch(c.g.seedOps()...)
		}
		plan = plan[n:]
	}
	c.compareContents()
	c.t.Logf("RESP%s: refused: %v", c.proto, slices.Sorted(maps.Keys(c.refused)))
	if c.wrong > 0 {
		return
	}
	for _, t := range grammar {
		if c.done[t.name()] < times && !c.refused[t.name()] {
			c.t.Errorf("%s was compared %d times only", t.name(), c.done[t.name()])
		}
	}
}

func alone(o op) bool {
	t := template{}
	for _, args := range o.cmds {
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		t.cmds = append(t.cmds, words)
	}
	return t.alone()
}

// batch sends operations in one piece to both ends and compares the replies.
func (c *comparison) batch(ops ...op) {
	cmds := [][][]byte{{[]byte("HELLO"), []byte(c.proto)}}
	for _, o := range ops {
		cmds = append(cmds, o.cmds...)
	}
	c.plain.send(cmds)
	c.gateway.send(cmds)
	want, err := c.plain.receive()
	if err != nil {
		c.t.Fatalf("%v (after %v)", err, ops)
	}
	got, err := c.gateway.receive()
	if err != nil {
		c.t.Fatalf("%v (after %v)", err, ops)
	}
	if cmd, _ := resp.Resolve(ops[0].cmds[0]); len(ops) == 1 && cmd != nil && cmd.Serve == resp.Refused {
		c.compare(ops[0], nil, got[1], want[1])
		return
	}
	if len(got) != len(want) {
		c.mismatch("%v\n gateway: %v\n plain:   %v", ops, got, want)
		return
	}
	if len(ops) == 1 && alone(ops[0]) {
		c.done[ops[0].name]++
		c.compare(ops[0], nil, reply{kind: '*', elems: got[1:]}, reply{kind: '*', elems: want[1:]})
		return
	}
	at := 1
	for _, o := range ops {
		c.done[o.name]++
		for _, args := range o.cmds {
			c.compare(o, args, got[at], want[at])
			at++
		}
	}
}

func (c *comparison) compare(o op, args [][]byte, got, want reply) {
	if cmd, _ := resp.Resolve(o.cmds[0]); cmd != nil && cmd.Serve == resp.Refused {
		if got.kind != '-' {
			c.mismatch("%v is refused, as the command table has it; and yet it was answered %v", o, got)
		}
		c.refused[o.name] = true
		return
	}
	if sameReply(o.mode, got, want) {
		if o.mode == "drop" {
			c.drop(o)
		}
		return
	}
	line := string(bytes.ToLower(bytes.Join(args, []byte(" "))))
	if args == nil {
		line = o.name
	}
	for _, d := range c.allowed {
		if d.command.MatchString(line) && d.gateway.MatchString(got.String()) && d.plain.MatchString(want.String()) {
			d.used++
			c.drop(o)
			return
		}
	}
	c.mismatch("%v: of %.200q\n gateway: %.300s\n plain:   %.300s", o, line, got, want)
}

func (c *comparison) mismatch(format string, args ...any) {
	c.t.Helper()
	c.wrong++
	c.t.Errorf("RESP%s: "+format, append([]any{c.proto}, args...)...)
}

// drop deletes the keys of an operation on both sides.
func (c *comparison) drop(o op) {
	del := [][]byte{[]byte("DEL")}
	for _, args := range o.cmds {
		for _, a := range args {
			if bytes.HasPrefix(a, []byte("{")) {
				del = append(del, a)
			}
		}
	}
	if len(del) == 1 {
		return
	}
	for _, e := range []*end{c.plain, c.gateway} {
		e.send([][][]byte{del})
		if _, err := e.receive(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// readOf says how a value of a type is read.
var readOf = map[string]struct {
	mode string
	cmd  string
}{
	"string": {"exact", "GET %s"}, "list": {"exact", "LRANGE %s 0 -1"}, "hash": {"order", "HGETALL %s"}, "set": {"order", "SMEMBERS %s"},
	"zset": {"exact", "ZRANGE %s 0 -1 WITHSCORES"}, "stream": {"exact", "XRANGE %s - +"},
}

// compareContents compares what both hold: names, types, values and times to live.
func (c *comparison) compareContents() {
	c.t.Helper()
	var names []string
	for _, k := range c.both([]string{"order KEYS *"})[0].elems {
		if k.text != "" && !strings.ContainsAny(k.text, " \r\n\x00") {
			names = append(names, k.text)
		}
	}
	var asks []string
	for _, n := range names {
		asks = append(asks, "exact TYPE "+n)
	}
	var reads []string
	for i, kind := range c.both(asks) {
		if read, ok := readOf[kind.text]; ok {
			reads = append(reads, read.mode+" "+fmt.Sprintf(read.cmd, names[i]))
		}
		reads = append(reads, "near PTTL "+names[i])
	}
	c.both(reads)
}

// both asks both ends the same, each line a mode and a command, and gives the plain one's
// replies.
func (c *comparison) both(lines []string) []reply {
	c.t.Helper()
	var cmds [][][]byte
	for _, line := range lines {
		var args [][]byte
		for f := range strings.FieldsSeq(line) {
			args = append(args, []byte(f))
		}
		cmds = append(cmds, args[1:])
	}
	c.plain.send(cmds)
	c.gateway.send(cmds)
	want, err := c.plain.receive()
	got, err2 := c.gateway.receive()
	if err := errors.Join(err, err2); err != nil || len(got) != len(lines) || len(want) != len(lines) {
		c.t.Fatalf("%d replies and %d to %d commands, %v", len(got), len(want), len(lines), err)
	}
	for i, line := range lines {
		mode, cmd, _ := strings.Cut(line, " ")
		if !sameReply(mode, got[i], want[i]) {
			c.mismatch("contents: %s\n gateway: %.300s\n plain:   %.300s", cmd, got[i], want[i])
		}
	}
	return want
}
