package integration

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

var (
	scenarioSeed  = flag.Uint64("scenario.seed", 1, "first seed of TestScenarios; 0 takes one from the clock")
	scenarioSeeds = flag.Int("scenario.seeds", 1, "how many seeds each scenario is tried with, with slots that stand still and with slots that move")
	scenarioSteps = flag.Int("scenario.steps", 25, "how many steps one has")
)

// step is one thing that happens in a scene.
type step func(s *scene)

// scenarios are made of steps, in any order.
var scenarios = []struct {
	name  string
	steps []step
}{
	{"databases", []step{pipelined, pipelined, watched}},
	{"messages", []step{subscribed, subscribed, published, published, published, overtaken, left}},
	{"events", []step{listened, listened, changed, changed, changed, subscribed, published, left}},
	{"lists", []step{popped(listPops), popped(listPops), popped(listPops), written(listWrites), written(listWrites), dead(listWrites), unblocked}},
	{"sets", []step{popped(setPops), popped(setPops), popped(setPops), written(setWrites), written(setWrites), dead(setWrites), unblocked}},
	{"streams", []step{popped(streamPops), popped(streamPops), popped(streamPops), written(streamWrites), written(streamWrites), dead(streamWrites), unblocked}},
	{"tracking", []step{tracked, read, read, read, changed, changed, written(listWrites), left}},
	{"pauses", []step{paused, pipelined, read, published, popped(listPops), written(listWrites), read, unpaused}},
	{"busy", []step{busy, pipelined, popped(listPops), written(listWrites)}},
	{"all", []step{
		pipelined, watched, subscribed, published, overtaken, listened, changed, popped(listPops), popped(setPops), popped(streamPops),
		written(listWrites), written(setWrites), written(streamWrites), dead(listWrites), unblocked, tracked, read, paused, unpaused, left, busy,
	}},
}

var allKeysOfScenes = []string{"{q}0", "{q}1", "{q}2", "{q}to", "{q}x", "s0", "s1", "s2", "{n}", "gone"}

const say = `"redis.call('publish',ARGV[1],ARGV[2]) return 1"`

var (
	commands = []string{
		"SET %k %v", "SET %s %v", "GET %k", "GET %s", "APPEND %k %v", "SELECT %d", "SELECT %d", "SELECT %d", "MOVE %k %d", "MOVE %k %d", "MOVE %s %d", "COPY %k %k DB %d",
		"COPY %k %k DB %d REPLACE", "COPY %k %k", "DEL %k %s", "EXISTS %s %s %k", "MSET %s %v %s %v", "MGET %s %s %k", "RENAME %k %k", "RPUSH %k %v", "TYPE %k", "GETDEL %s",
		"FLUSHDB", "PEXPIREAT %k 4102444800%v", "PERSIST %k", "SETNX %s %v", "MULTI; SET %k %v; SELECT %d; GET %k; MOVE %k %d; EXEC", "MULTI; GET %k; SELECT %d; DISCARD",
		`EVAL "return redis.call('get',KEYS[1])" 1 %k`, "UNLINK %s", "SELECT 99", "MOVE %k 99", "MULTI; SELECT %d; EXEC", "STRLEN %s",
	}
	setsDatabases = []string{"SWAPDB %d %d", "SWAPDB 0 %d"}

	listPops = []string{
		"BLPOP %k 0", "BRPOP %k 0", "BLPOP %k %k 0", "BLMPOP 0 1 %k LEFT", "BLMPOP 0 2 %k %k RIGHT COUNT 2", "BLMOVE %k {q}to LEFT RIGHT 0", "BLMOVE %k %k RIGHT LEFT 0", "BRPOPLPUSH %k {q}to 0",
		"BLPOP %s 0", "BLPOP %s %s 0", "BRPOP s1 %k s0 0", "BLMPOP 0 3 s2 %k s1 LEFT", "BLPOP {q}to 0",
	}
	listWrites = []string{
		"LPUSH %k %v", "RPUSH %k %v %v", "RPUSH %s %v", "RPUSH %s %v %v %v", "DEL %k", "DEL %s", `EVAL "return redis.call('lpush',KEYS[1],ARGV[1])" 1 %k %v`, "MULTI; RPUSH %k %v; RPUSH %k %v; EXEC",
		"RPUSH {q}x %v; RENAME {q}x %k", "MULTI; RPUSH %k %v; DEL %k; EXEC", "SET %k %v", "LMOVE %k %k LEFT RIGHT", "LPOP %k", "RPUSH {q}x %v; COPY {q}x %k", "DEL {q}1; RPUSH {q}x %v; SORT {q}x STORE {q}1",
	}
	setPops    = []string{"BZPOPMIN %k 0", "BZPOPMAX %k 0", "BZMPOP 0 1 %k MIN", "BZPOPMIN %k %k 0", "BZPOPMIN %s %s 0", "BZPOPMAX %s 0", "BZMPOP 0 2 %s %k MAX COUNT 2"}
	setWrites  = []string{"ZADD %k %v m%v", "ZADD %k 1 a%v 2 b%v", "ZINCRBY %k 1 i%v", "ZADD %s 1 a%v", "DEL %k", "DEL {q}1; ZADD {q}x 3 x%v; ZUNIONSTORE {q}1 1 {q}x", "MULTI; ZADD %k 1 a; ZADD %k 2 b; EXEC", "ZADD {q}x 3 x%v; RENAME {q}x %k", "DEL %s", "GEOADD %k 13 38 p%v"}
	streamPops = []string{
		"XREADGROUP GROUP g c1 BLOCK 0 STREAMS %k >", "XREADGROUP GROUP g c2 BLOCK 0 COUNT 1 STREAMS %k >", "XREADGROUP GROUP g c3 BLOCK 0 STREAMS %k %k > >", "XREAD BLOCK 0 STREAMS %k $", "XREAD BLOCK 0 COUNT 1 STREAMS %k %k $ $",
		"XREADGROUP GROUP g c1 BLOCK 0 NOACK STREAMS %s >", "XREAD BLOCK 0 STREAMS %s 0",
	}
	streamWrites = []string{
		"XADD %k 1-%v f v", "XADD %k 1-%v f v; XADD %k 1-%v f v", "XADD %s 1-%v f v", "XGROUP CREATE %k g $ MKSTREAM", "XGROUP CREATE %k g 0 MKSTREAM", "XGROUP CREATE %s g 0 MKSTREAM", "XGROUP DESTROY %k g",
		"XGROUP CREATE %k g 0 MKSTREAM", "DEL %k", "SET %k %v", "XDEL %k 1-1", "XTRIM %k MAXLEN 1", "MULTI; XADD %k 1-%v f v; XGROUP DESTROY %k g; EXEC",
	}
	changes = []string{
		"SET %k %v", "SET %s %v", "DEL %k", "DEL %s", "RPUSH %k %v", "APPEND %s %v", "MULTI; SET %k %v; INCR %k; RPUSH %k x; EXEC", `EVAL "redis.call('set',KEYS[1],ARGV[1]) redis.call('expireat',KEYS[1],4102444800) return 1" 1 %k %v`,
		"RENAME %k %k", "SET %k %v EXAT 4102444800", "EXPIREAT %s 4102444800", "PERSIST %s", "GETDEL %s", "SETNX %s %v", "HSET %k f %v", "FLUSHDB", "COPY %k %k REPLACE", "ZADD %k 1 a%v", "SADD %s a%v",
	}
	readings = []string{"GET %k", "GET %s", "EXISTS %k", "STRLEN %s", "TYPE %k", "LRANGE %k 0 -1", "MGET %k %k", "HGET %k f"}
	// Of a transaction, or a script, the counts of receivers are those of its server.
	publishings = []string{
		"PUBLISH %c %v", "PUBLISH %c %v", "PUBLISH %c %v; PUBLISH %c %v", "SPUBLISH %c %v", "EVAL " + say + " 1 %k %c %v", "EVAL " + say + " 1 %s %c %v", "EVAL " + say + " 0 %c %v",
		"SET %k %v; PUBLISH %c %v; GET %k", "PUBLISH %c %v; EVAL " + say + " 1 %s %c %v; PUBLISH %c %v", "EVAL " + say + " 1 %s %c %v; EVAL " + say + " 1 %k %c %v; SPUBLISH %c %v",
	}
	trackings = []string{"ON", "ON", "ON", "ON BCAST", "ON BCAST PREFIX s", "ON BCAST PREFIX {q} PREFIX s1", "ON OPTIN", "ON OPTOUT"}
)

// pipelined: one client sends several commands at once, over several databases.
func pipelined(s *scene) {
	list := commands
	if !s.moving && len(s.waiting()) == 0 { // which of its keys would serve them is left open
		list = append(setsDatabases, commands...)
	}
	n := 1 + s.IntN(10)
	if s.events || len(s.waiting()) > 0 { // what is there for a moment only, who waits for keys of several slots may miss
		n = 1
	}
	s.act(s.several(n, list)...)
}

// watched: a client watches a key which another one may change before its transaction.
func watched(s *scene) {
	if s.paused {
		return
	}
	a := s.some(func(a *actor) bool { return a.free() && len(a.topics) == 0 })
	key := s.one([]string{"%k"})
	s.ask(a, "SELECT 0", "WATCH "+key, "GET "+key)
	if s.IntN(2) == 0 {
		s.ask(s.control, "SELECT 0", s.one([]string{"SET " + key + " %v", "DEL " + key, "GET " + key, "SET %k %v"}))
	}
	last := "SET " + key + " w"
	if s.moving { // or it would be written at one side only
		last = "TYPE " + key
	}
	s.ask(a, "MULTI", "GET "+key, last, "EXEC")
	s.settle()
}

func subscriber(a *actor) bool { return !a.waits && a.tracks == "" && a.to == nil && a.from == nil }

// subscribed: somebody comes to listen, or to listen no more.
func subscribed(s *scene) {
	a := s.some(subscriber)
	s.ask(a, s.subscription(a))
	s.settle()
}

func (s *scene) subscription(a *actor) string {
	what := s.topic(a, []string{"SUBSCRIBE %c", "SUBSCRIBE %c", "PSUBSCRIBE ch*", "PSUBSCRIBE *%d", "SSUBSCRIBE %c"})
	if s.IntN(3) > 0 {
		return what
	}
	delete(a.topics, what)
	return strings.Replace(what, "SUB", "UNSUB", 1)
}

// topic is something that a listens to from now on. It has one pattern at most, since a server goes through
// several in any order.
func (s *scene) topic(a *actor, of []string) string {
	what := s.one(of)
	if strings.HasPrefix(what, "P") {
		for t := range a.topics {
			if strings.HasPrefix(t, "P") {
				return t
			}
		}
	}
	a.topics[what] = true
	return what
}

// published: what is said is heard by all who listen.
func published(s *scene) { s.act(s.several(1, publishings)...) }

// overtaken: a subscription was sent, its reply is not awaited, and somebody publishes.
func overtaken(s *scene) {
	if s.paused {
		return
	}
	a, b := s.some(subscriber), s.some(func(a *actor) bool { return a.free() && a.tracks == "" })
	if a == b {
		return
	}
	line := s.subscription(a)
	s.trace = append(s.trace, a.name+": "+line)
	a.at[atPlain].say(line)
	want := a.at[atPlain].frame(patience)
	a.at[atGateway].say(line)
	lines := s.several(1, publishings)
	for s.events && strings.HasPrefix(lines[0], "SET") { // of what is written, only who has been told that he listens hears
		lines = s.several(1, publishings)
	}
	s.ask(b, lines...)
	if got := a.at[atGateway].frame(patience); got != want {
		s.fail("%s (%s) is told %q, by a plain server %q", a.name, line, got, want)
	}
	s.settle()
}

// left: a client that listens or tracks goes.
func left(s *scene) {
	var list []*actor
	for _, a := range s.actors {
		if !a.waits && a.from == nil && (len(a.topics) > 0 || a.tracks != "") {
			list = append(list, a)
		}
	}
	if len(list) > 0 && (len(list) > 4 || s.IntN(3) == 0) {
		a := list[s.IntN(len(list))]
		if a.to != nil {
			a.to.from = nil
		}
		s.leave(a)
		s.settle()
	}
}

// listened: somebody listens to keyspace events.
func listened(s *scene) {
	if s.paused {
		return
	}
	if !s.events {
		s.events = true
		s.ask(s.control, "CONFIG SET notify-keyspace-events KEA")
	}
	a := s.some(subscriber)
	s.ask(a, s.topic(a, []string{"PSUBSCRIBE __key*__:*", "SUBSCRIBE __keyspace@0__:%k", "SUBSCRIBE __keyevent@0__:set", "PSUBSCRIBE __keyevent@%d__:*"}))
	s.settle()
}

// changed: a key is changed in one of many ways.
func changed(s *scene) { s.act(s.several(1, changes)...) }

// popped: somebody waits for data, behind those who do already.
func popped(pops []string) step {
	return func(s *scene) {
		if len(s.waiting()) > 8 || s.paused && s.held != nil {
			return
		}
		// In RESP3 a plain server puts the events of who is served into the reply to him.
		a := s.some(func(a *actor) bool { return a.free() && len(a.topics) == 0 })
		if s.paused {
			s.held = a
		}
		s.wait(a, s.one(pops))
	}
}

// written: something is written to a key for which somebody may wait.
func written(writes []string) step {
	return func(s *scene) { s.act(s.several(1, writes)...) }
}

// poppers are those who wait for data.
func (s *scene) poppers() []*actor {
	return slices.DeleteFunc(s.waiting(), func(a *actor) bool {
		return a == s.held || !strings.Contains(a.lines, "B") && !strings.Contains(a.lines, "X")
	})
}

// dead: somebody who waits goes, and something is written at once.
func dead(writes []string) step {
	return func(s *scene) {
		if list := s.poppers(); len(list) > 0 && !s.paused {
			lines := s.several(1, writes)
			writer := s.writer(lines) // before, since it may have to come
			s.leave(list[s.IntN(len(list))])
			s.ask(writer, lines...)
			s.settle()
		}
	}
}

// unblocked: somebody who waits is told by another client not to.
func unblocked(s *scene) {
	if list := s.poppers(); len(list) > 0 {
		a := list[s.IntN(len(list))]
		s.ask(s.control, "CLIENT UNBLOCK @"+a.name+[]string{"", " TIMEOUT", " ERROR"}[s.IntN(3)])
		s.settle()
	}
}

// tracked: somebody begins to track, in one of many ways, or ends it.
func tracked(s *scene) {
	a := s.some(func(a *actor) bool { return a.free() && len(a.topics) == 0 && a.from == nil })
	if a.tracks != "" {
		if a.to != nil {
			a.to.from, a.to = nil, nil
		}
		a.tracks, a.told, a.seen = "", map[string]bool{}, map[string]bool{}
		s.ask(a, "CLIENT TRACKING OFF")
		s.settle()
		return
	}
	how := s.one(trackings)
	if a.proto == 2 {
		to := s.some(func(o *actor) bool {
			return o != a && !o.waits && o.tracks == "" && o.from == nil && o.to == nil && len(o.topics) == 0
		})
		if to == a {
			return
		}
		if a.to, to.from = to, a; to.proto == 2 {
			to.topics["SUBSCRIBE __redis__:invalidate"] = true
			s.ask(to, "SUBSCRIBE __redis__:invalidate")
		}
		how += " REDIRECT @" + to.name
	}
	a.tracks = how
	s.ask(a, "CLIENT TRACKING "+how)
	s.settle()
}

// read: who tracks reads something, or somebody else does.
func read(s *scene) {
	a := s.some(func(a *actor) bool { return a.free() && a.tracks != "" })
	line := s.one(readings)
	lines := []string{line}
	remembers := a.tracks != "" && !strings.Contains(a.tracks, "BCAST")
	switch in, out := strings.Contains(a.tracks, "OPTIN"), strings.Contains(a.tracks, "OPTOUT"); {
	case in && s.IntN(2) == 0:
		lines = []string{"CLIENT CACHING yes", line}
	case in:
		remembers = false
	case out && s.IntN(2) == 0:
		lines = []string{"CLIENT CACHING no", line}
		remembers = false
	}
	hears := a
	if a.to != nil {
		hears = a.to
	}
	if remembers {
		for _, w := range strings.Fields(line)[1:] {
			hears.reads = append(hears.reads, w)
			a.seen[w] = true
		}
	}
	s.ask(a, lines...)
	if hears != a { // it is told on a connection of its own
		for _, k := range hears.reads {
			delete(hears.told, k)
		}
	}
	hears.reads = nil
	s.settle()
}

// paused: writes are held up.
func paused(s *scene) {
	if !s.paused && s.IntN(3) == 0 {
		s.paused = true
		s.ask(s.control, "CLIENT PAUSE 3600000 WRITE")
		s.settle()
	}
}

func unpaused(s *scene) {
	if s.paused {
		s.unpause()
	}
}

// busy: a script keeps a server busy, others are told so, and it is killed.
func busy(s *scene) {
	if s.paused || s.IntN(2) == 0 {
		return
	}
	a, b := s.someFree(), s.control
	s.ask(b, "SELECT 0", "SET {n} 1")
	s.send(a, `EVAL "while true do end" 1 {n}`)
	defer s.killed()
	for _, p := range b.at {
		s.until("the script is known to be busy", func() bool {
			p.say("GET {n}")
			return strings.HasPrefix(p.frame(patience), "-BUSY")
		})
	}
	for range 1 + s.IntN(4) {
		s.raw(b, s.one([]string{"GET {n}", "SET {n} %v", "INCR {n}", "FUNCTION KILL"}))
	}
	s.raw(b, "SCRIPT KILL")
	s.settle()
	s.raw(b, "SCRIPT KILL")
}

// killed ends the script where a mismatch has left it.
func (s *scene) killed() {
	if s.t.Failed() {
		for _, addr := range s.addr {
			_ = meet(s.t, addr).ask("SCRIPT KILL")
		}
	}
}

// raw is a command without a PING behind it, which a busy server would refuse.
func (s *scene) raw(a *actor, line string) {
	s.t.Helper()
	s.trace = append(s.trace, a.name+": "+line)
	var said [2]string
	for i, p := range a.at {
		if _, err := p.c.Write(resp.AppendRequest(nil, s.words(line, i)...)); err != nil {
			s.fail("%s: %v", a.name, err)
		}
		said[i] = s.plainly(p.frame(patience))
	}
	if said[0] != said[1] {
		s.fail("%s is answered %q, by a plain server %q", line, said[0], said[1])
	}
}

// TestScenarios: several clients do at random what concerns each other, at the gateway and at a plain
// server, and are told the same; with slots that stand still, and while all move.
func TestScenarios(t *testing.T) {
	first := *scenarioSeed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	r := newRig(t, 2, "--set", "loops.count=3")
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	plain := testredis.StartT(t)
	for _, s := range append([]*testredis.Server{plain}, r.servers...) {
		if err := s.Client().ConfigSet(context.Background(), "busy-reply-threshold", "20").Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, moving := range []bool{false, true} {
		if moving {
			defer r.keepTrying()()
		}
		for i := range uint64(*scenarioSeeds) {
			for _, x := range scenarios {
				seed := first + i
				t.Run(fmt.Sprintf("%s/moving=%v/-scenario.seed=%d", x.name, moving, seed), func(t *testing.T) {
					play(t, seed, moving, x.steps, r.listen, plain.Addr)
				})
			}
		}
	}
}

func play(t *testing.T, seed uint64, moving bool, steps []step, addr ...string) {
	s := newScene(t, seed, moving, addr...)
	s.ask(s.control, "CLIENT UNPAUSE", "CONFIG SET notify-keyspace-events \"\"", "FLUSHALL")
	s.settle()
	for range *scenarioSteps {
		steps[s.IntN(len(steps))](s)
	}
	s.finish()
}
