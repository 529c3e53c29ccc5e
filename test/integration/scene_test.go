package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyferry/internal/resp"
)

// The two sides of a scene.
const (
	atGateway = iota
	atPlain
)

// actor is a client of a scene, with a connection to the gateway and one to a plain server.
//
// Each batch of its commands ends with a PING that nobody else sends: what comes in front of the reply
// to that belongs to the batch, whether it was asked for or not.
type actor struct {
	name    string
	at      [2]*party
	id      [2]string // CLIENT ID
	got     [2][]string
	reached [2]bool // the reply to the PING has come
	batch   int
	waits   bool   // its batch has not been answered yet
	lines   string // the batch

	proto  int
	topics map[string]bool    // what it has subscribed to
	tracks string             // options of CLIENT TRACKING ON; "": it does not
	reads  []string           // keys that the batch reads and the client remembers
	told   map[string]bool    // keys that the gateway has said to be invalid since they were read
	seen   map[string]bool    // keys that were ever read
	news   [2]map[string]bool // keys that it was told to forget since the last step
	to     *actor             // whom its invalidations are sent to
	from   *actor             // … and the other way round
}

// locked: in RESP2 a subscriber may say little else.
func (a *actor) locked() bool { return a.proto == 2 && len(a.topics) > 0 }

// free: it can be told to do something.
func (a *actor) free() bool { return !a.waits && !a.locked() }

func (a *actor) marker() string { return fmt.Sprintf("%s-%d", a.name, a.batch) }

// scene is a scenario under way: whatever its clients do, they do at a gateway and at a plain server,
// in steps. Each step begins when all that came of the one before is known, so that a plain server has
// one outcome; the gateway is to have the same.
type scene struct {
	*rand.Rand
	t       *testing.T
	addr    [2]string
	moving  bool
	actors  []*actor // idle ones, and those who wait
	control *actor
	trace   []string
	n       int // counts values and names
	paused  bool
	held    *actor // whose batch a pause holds up
	events  bool   // somebody may listen to keyspace events
}

func newScene(t *testing.T, seed uint64, moving bool, addr ...string) *scene {
	s := &scene{Rand: rand.New(rand.NewPCG(seed, 13)), t: t, addr: [2]string(addr), moving: moving}
	s.control = s.join(2)
	s.actors = nil
	return s
}

func (s *scene) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\n%s", strings.Join(s.trace[max(0, len(s.trace)-60):], "\n"), fmt.Sprintf(format, args...))
}

// join has a client come.
func (s *scene) join(proto int) *actor {
	s.t.Helper()
	s.n++
	a := &actor{name: fmt.Sprint("c", s.n), proto: proto, topics: map[string]bool{}, told: map[string]bool{}, seen: map[string]bool{}, news: [2]map[string]bool{{}, {}}}
	for i, addr := range s.addr {
		a.at[i] = meet(s.t, addr)
		a.id[i] = a.at[i].ask("HELLO "+strconv.Itoa(proto), "CLIENT ID")
	}
	s.actors = append(s.actors, a)
	s.trace = append(s.trace, fmt.Sprintf("%s joins, RESP%d", a.name, proto))
	return a
}

// leave closes a client's connections, and waits for nothing.
//
// But the plain server has to know of it: two sockets on which something has come it may read in any order.
func (s *scene) leave(a *actor) {
	s.t.Helper()
	s.trace = append(s.trace, a.name+" leaves")
	was := s.blocked(atPlain)
	_ = a.at[atPlain].c.Close()
	if a.waits {
		s.until("the plain server knows that a client has gone", func() bool { return s.blocked(atPlain) < was })
	}
	_ = a.at[atGateway].c.Close()
	s.actors = slices.DeleteFunc(s.actors, func(o *actor) bool { return o == a })
	if s.held == a {
		s.held = nil
	}
}

// send sends a batch, and awaits nothing. @name stands for a client's id.
func (s *scene) send(a *actor, lines ...string) {
	s.t.Helper()
	a.batch++
	a.waits, a.lines = true, strings.Join(lines, "; ")
	s.trace = append(s.trace, fmt.Sprintf("%s: %s", a.name, a.lines))
	for i, p := range a.at {
		a.got[i], a.reached[i] = nil, false
		var out []byte
		for _, line := range append(lines, "PING "+a.marker()) {
			out = resp.AppendRequest(out, s.words(line, i)...)
		}
		if _, err := p.c.Write(out); err != nil {
			s.fail("%s: %v", a.name, err)
		}
	}
}

var wordPattern = regexp.MustCompile(`"[^"]*"|\S+`)

// words cuts a line where it has spaces, but for what is in quotes.
func (s *scene) words(line string, side int) (words [][]byte) {
	for _, w := range wordPattern.FindAllString(line, -1) {
		if name, is := strings.CutPrefix(w, "@"); is {
			for _, a := range s.actors {
				if a.name == name {
					w = a.id[side]
				}
			}
		}
		words = append(words, []byte(strings.Trim(w, `"`)))
	}
	return words
}

// collect takes what has come of a batch, and reports that all of it has.
func (s *scene) collect(a *actor, side int, wait time.Duration) bool {
	for !a.reached[side] {
		f := a.at[side].frame(wait)
		if f == "" {
			return false
		}
		if r := parseReply([]byte(f)); r.text == a.marker() || len(r.elems) == 2 && r.elems[1].text == a.marker() {
			a.reached[side] = true
		} else {
			a.got[side] = append(a.got[side], s.plainly(f))
		}
	}
	return true
}

var differing = regexp.MustCompile(`script: [0-9a-f]{40}`)

// plainly leaves out of a frame what each server has its own of.
func (s *scene) plainly(frame string) string { return differing.ReplaceAllString(frame, "script: …") }

// patience is how long the gateway is given to do what a plain server has done.
const patience = 10 * time.Second

// ask sends a batch, awaits its replies, and demands the same of both.
func (s *scene) ask(a *actor, lines ...string) {
	s.t.Helper()
	s.send(a, lines...)
	if !s.collect(a, atPlain, patience) {
		s.fail("%s: a plain server does not answer; so far %q", a.name, a.got[atPlain])
	}
	s.answered(a)
}

// answered takes what the gateway says to a batch that the plain server has answered.
func (s *scene) answered(a *actor) {
	s.t.Helper()
	if !s.collect(a, atGateway, patience) {
		s.fail("%s (%s): is told %q, by a plain server %q, which is all", a.name, a.lines, a.got[atGateway], a.got[atPlain])
	}
	a.waits = false
	if s.held == a {
		s.held = nil
	}
	var said [2][]string
	for i := range a.at {
		said[i] = s.split(a, i)
		if a.proto == 3 && a.lines != "" { // what it hears of its own commands comes in front of or behind their replies
			slices.SortStableFunc(said[i], func(x, y string) int { return strings.Count(y[:1], ">") - strings.Count(x[:1], ">") })
		}
	}
	same := func(got, want string) bool { return got == want || s.watched(a, got, want) }
	if !slices.EqualFunc(said[0], said[1], same) {
		s.fail("%s (%s): is told\n %q, by a plain server\n %q", a.name, a.lines, said[0], said[1])
	}
}

// watched: for who watches a key its move is a change, of which a plain server knows nothing.
func (s *scene) watched(a *actor, got, want string) bool {
	return s.moving && strings.HasSuffix(a.lines, "; EXEC") && parseReply([]byte(got)).null() && strings.HasPrefix(want, "*")
}

// everything stands for all keys in an invalidation.
const everything = "\x00"

// split parts what a client was told from what it is to forget. The latter has no order: a plain server
// says at the end of its turn what has changed in it.
func (s *scene) split(a *actor, side int) (said []string) {
	news := a.news[side]
	for _, f := range a.got[side] {
		r := parseReply([]byte(f))
		switch {
		case len(r.elems) == 2 && r.elems[0].text == "invalidate", len(r.elems) == 3 && r.elems[1].text == "__redis__:invalidate" && r.elems[0].text == "message":
			keys := r.elems[len(r.elems)-1]
			if keys.null() {
				news[everything] = true
			}
			for _, k := range keys.elems {
				news[k.text] = true
			}
		default:
			if len(said) == 0 && side == atGateway { // what came before is about what was read before
				for _, k := range a.reads {
					delete(a.told, k)
				}
			}
			said = append(said, f)
		}
		if side == atGateway {
			maps.Copy(a.told, news)
		}
	}
	return said
}

// compareNews: of a key that moves clients may hear as well, and then not again before they read it. It is
// done at the end of a step, since a plain server tells at the end of its turn of what is in front of it.
func (s *scene) compareNews(a *actor) {
	s.t.Helper()
	news := a.news
	a.news = [2]map[string]bool{{}, {}}
	reader := a
	if a.from != nil {
		reader = a.from
	}
	got, want := news[atGateway], news[atPlain]
	if !s.moving {
		if !maps.Equal(got, want) {
			s.fail("%s (%s) is to forget %q, by a plain server %q", a.name, a.lines, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		return
	}
	for k := range want {
		before := a.told[k] && !strings.Contains(reader.tracks, "BCAST")
		if !got[k] && !before && !a.told[everything] {
			s.fail("%s (%s) is to forget %q, by a plain server %q too", a.name, a.lines, slices.Sorted(maps.Keys(got)), k)
		}
	}
	for k := range got {
		if !want[k] && k != everything && !reader.seen[k] && !strings.Contains(reader.tracks, "BCAST") {
			s.fail("%s (%s) is to forget %q, which it has never read", a.name, a.lines, k)
		}
	}
}

var blockedCount = regexp.MustCompile(`blocked_clients:(\d+)`)

// blocked is how many clients a side keeps waiting; -1: it is busy with a script still.
func (s *scene) blocked(side int) int {
	s.t.Helper()
	info := s.control.at[side].ask("INFO clients")
	if strings.HasPrefix(info, "BUSY ") {
		return -1
	}
	m := blockedCount.FindStringSubmatch(info)
	if m == nil {
		s.fail("INFO: %q", info)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func (s *scene) waiting() []*actor {
	return slices.DeleteFunc(slices.Clone(s.actors), func(a *actor) bool { return !a.waits })
}

// settle ends a step: those whom the plain server has served are told the same by the gateway, all
// others wait at both, and whoever is told something unasked is told it by both.
func (s *scene) settle() {
	s.t.Helper()
	var still int
	s.until("as many wait at the plain server as were not answered", func() bool {
		blocked := s.blocked(atPlain)
		still = 0
		for _, a := range s.waiting() {
			if !s.collect(a, atPlain, time.Millisecond) {
				still++
			}
		}
		return still == blocked && s.blocked(atPlain) == blocked
	})
	for _, a := range s.waiting() {
		if a.reached[atPlain] {
			s.answered(a)
		}
	}
	s.until(fmt.Sprintf("%d wait at the gateway", still), func() bool { return s.blocked(atGateway) == still })
	for _, a := range s.waiting() {
		if s.collect(a, atGateway, time.Microsecond) {
			s.fail("%s (%s) is told %q, by a plain server nothing", a.name, a.lines, a.got[atGateway])
		}
	}
	for _, a := range slices.Clone(s.actors) {
		if !a.waits && (len(a.topics) > 0 || a.tracks != "" || a.from != nil) {
			s.ask(a)
			s.compareNews(a)
		}
	}
}

func (s *scene) until(what string, done func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.fail("it never comes that %s: %d and %d are blocked", what, s.blocked(atGateway), s.blocked(atPlain))
		}
	}
}

// wait sends what may have to wait, and settles.
func (s *scene) wait(a *actor, lines ...string) {
	s.t.Helper()
	s.send(a, lines...)
	s.settle()
}

// act does what may be held up by a pause. One client at a time is: whose turn it would be after the
// pause, of several, is left open.
func (s *scene) act(lines ...string) {
	s.t.Helper()
	a := s.writer(lines)
	switch {
	case !s.paused:
		s.ask(a, lines...)
		s.settle()
	case s.held == nil:
		s.held = a
		s.wait(a, lines...)
	}
}

// writer is somebody for these lines.
//
// Who listens does not say MULTI: in RESP3 a plain server puts what it hears of its own commands into the
// reply of EXEC, which nobody can read then. And of who tracks, a gateway takes each key that its scripts name as read.
func (s *scene) writer(lines []string) *actor {
	s.t.Helper()
	return s.some(func(a *actor) bool {
		return a.free() && (len(a.topics) == 0 || !slices.Contains(lines, "MULTI")) && (a.tracks == "" || !slices.ContainsFunc(lines, isScript))
	})
}

func isScript(line string) bool { return strings.HasPrefix(line, "EVAL") }

// some is one of the actors who fit, or a new one.
func (s *scene) some(fits func(*actor) bool) *actor {
	s.t.Helper()
	var list []*actor
	for _, a := range s.actors {
		if fits(a) {
			list = append(list, a)
		}
	}
	if len(list) == 0 || len(list) < 3 && s.IntN(3) == 0 {
		return s.join(2 + s.IntN(2))
	}
	return list[s.IntN(len(list))]
}

func (s *scene) someFree() *actor { return s.some((*actor).free) }

// one picks a line and fills it: %k is a key of one slot, %s one of several, %c a channel, %d a database, %v a value that
// was not there before.
func (s *scene) one(lines []string) string {
	line := lines[s.IntN(len(lines))]
	for i := strings.IndexByte(line, '%'); i >= 0; i = strings.IndexByte(line, '%') {
		var with string
		switch line[i+1] {
		case 'k':
			with = "{q}" + strconv.Itoa(s.IntN(3))
		case 's':
			with = "s" + strconv.Itoa(s.IntN(3))
		case 'c':
			with = "ch" + strconv.Itoa(s.IntN(3))
		case 'd':
			with = strconv.Itoa(s.IntN(4))
		case 'v':
			s.n++
			with = strconv.Itoa(s.n)
		default:
			panic(line)
		}
		line = line[:i] + with + line[i+2:]
	}
	return line
}

func (s *scene) several(n int, lines []string) (out []string) {
	for range n {
		out = append(out, strings.Split(s.one(lines), "; ")...)
	}
	return out
}

// finish ends everything that goes on, and compares what both hold.
func (s *scene) finish() {
	s.t.Helper()
	if s.paused {
		s.unpause()
	}
	for len(s.actors) > 0 {
		s.leave(s.actors[0])
	}
	s.settle()
	for db := range 4 {
		s.ask(s.control, "SELECT "+strconv.Itoa(db))
		for _, k := range allKeysOfScenes {
			s.ask(s.control, "TYPE "+k, "EXISTS "+k, "GET "+k, "LRANGE "+k+" 0 -1", "ZRANGE "+k+" 0 -1 WITHSCORES", "XRANGE "+k+" - +", "PEXPIRETIME "+k)
		}
	}
}

func (s *scene) unpause() {
	s.t.Helper()
	s.paused = false
	s.ask(s.control, "CLIENT UNPAUSE")
	s.settle()
}
