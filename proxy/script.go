package proxy

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/tidwall/redcon"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/proxy/pubsub"
)

// scripts remembers the bodies of the scripts that went through the gateway, so that it
// can load one into a server that does not have it: a group added later, one that was
// restarted. It is safe for concurrent use.
//
// Bounded by number and by bytes. What falls out is no loss of function: its client gets
// NOSCRIPT, and sends the body, as clients do.
type scripts struct {
	bodies  *lru.Cache[string, script] // by hex SHA-1
	bytes   atomic.Int64               // of the bodies
	flushes atomic.Int64               // SCRIPT FLUSH so far: what had been loaded before is gone
}

// script is a body, and whether it may publish.
type script struct {
	body []byte
	says bool
}

// Bounds of what is remembered of scripts.
const (
	scriptsMax      = 4096
	scriptBytesMax  = 1 << 20  // a longer one is left to its client
	scriptsBytesMax = 64 << 20 // of all
	loadedMax       = 16384    // names remembered as loaded for one connection
)

// newScripts: the cache itself is safe for concurrent use; the count of bytes beside it is what bounds
// them, and follows every eviction.
func newScripts() *scripts {
	c := &scripts{}
	bodies, err := lru.NewWithEvict(scriptsMax, func(_ string, x script) { c.bytes.Add(-int64(len(x.body))) })
	if err != nil {
		panic(err) // the size is positive
	}
	c.bodies = bodies
	return c
}

// remember also says whether the script may publish. A name is the SHA-1 of a body, so that two loops
// that remember the same script at once do no harm.
func (c *scripts) remember(body []byte) (says bool) {
	if len(body) > scriptBytesMax {
		return maySay(body)
	}
	sum := sha1.Sum(body)
	name := hex.EncodeToString(sum[:])
	if x, have := c.bodies.Get(name); have {
		return x.says
	}
	says = maySay(body)
	if had, _ := c.bodies.ContainsOrAdd(name, script{bytes.Clone(body), says}); !had {
		for c.bytes.Add(int64(len(body))); c.bytes.Load() > scriptsBytesMax; {
			c.bodies.RemoveOldest()
		}
	}
	return says
}

// maySay reports that a script names PUBLISH or SPUBLISH, or may call what it does not name: by an
// argument that is no string, or by another name for redis.call. It is one pass over the body, since a body that is too
// long to be remembered has it each time.
func maySay(body []byte) bool {
	for i, c := range body {
		switch c {
		case 'p', 'P':
			if len(body)-i >= len(publishWord) && bytes.EqualFold(body[i:i+len(publishWord)], publishWord) {
				return true
			}
		case 'c':
			if rest, yes := bytes.CutPrefix(body[i:], callWord); yes && callsUnnamed(rest) {
				return true
			}
		}
	}
	return false
}

var publishWord, callWord = []byte("publish"), []byte("call")

// callsUnnamed looks at what stands behind the word call. A longer word is none, and ("GET" or
// ([[GET]] is a call of what it names; whatever else, as ) or = or (ARGV[1], may be of anything.
func callsUnnamed(rest []byte) bool {
	if len(rest) > 0 && (rest[0] == '_' || rest[0]|0x20 >= 'a' && rest[0]|0x20 <= 'z' || rest[0] >= '0' && rest[0] <= '9') {
		return false
	}
	rest = bytes.TrimLeft(rest, luaSpace)
	if len(rest) == 0 || rest[0] != '(' {
		return true
	}
	rest = bytes.TrimLeft(rest[1:], luaSpace)
	switch {
	case len(rest) == 0:
		return false // no script
	case rest[0] == '[':
		return len(rest) > 1 && rest[1] != '[' && rest[1] != '='
	}
	return rest[0] != '\'' && rest[0] != '"'
}

const luaSpace = " \t\r\n\v\f"

// body: names come in any case.
func (c *scripts) body(sha []byte) ([]byte, bool) {
	x, ok := c.get(sha)
	return x.body, ok
}

func (c *scripts) get(sha []byte) (script, bool) {
	if len(sha) != 2*sha1.Size {
		return script{}, false
	}
	return c.bodies.Get(strings.ToLower(string(sha)))
}

// forget: the count of flushes is how loops hear of it: what they noted of servers before is no longer
// true (loaded).
func (c *scripts) forget() {
	c.flushes.Add(1)
	c.bodies.Purge()
}

// existsIn joins the replies of SCRIPT EXISTS: a script exists if every group has it, or
// the gateway can load it where it is missing.
func (c *scripts) existsIn(parts [][]byte, shas [][]byte) []byte {
	have := make([]bool, len(shas))
	for i := range have {
		have[i] = true
	}
	for _, p := range parts {
		flags, ok := resp.SplitArray(p, nil)
		if !ok || len(flags) != len(shas) {
			return badPart()
		}
		for i, f := range flags {
			n, _ := resp.ParseInt(f)
			have[i] = have[i] && n == 1
		}
	}
	out := redcon.AppendArray(nil, len(shas))
	for i, yes := range have {
		if !yes {
			_, yes = c.body(shas[i])
		}
		if yes {
			out = redcon.AppendInt(out, 1)
		} else {
			out = redcon.AppendInt(out, 0)
		}
	}
	return out
}

// slotSet is a set of slots that only grows, safe for concurrent use.
//
// It never forgets: the mover asks when a job begins, and a script that has run once may run
// again.
type slotSet [16384 / 64]atomic.Uint64

// note: a load first: nearly always the bit is there, and a write would take the cache line from the
// other loops.
func (s *slotSet) note(slot int) {
	word, bit := &s[slot/64], uint64(1)<<(slot%64)
	if word.Load()&bit == 0 {
		word.Or(bit)
	}
}

// Scripted reports that a script with a key of the slot has run since the start: what it
// uses without naming it is in the same slot, if anywhere.
func (s *Server) Scripted(slot int) bool {
	return s.scripted[slot/64].Load()&(1<<(slot%64)) != 0
}

// eval runs EVAL and EVAL_RO.
func (c *call) eval() bool { return c.script() }

// evalSHA runs EVALSHA and EVALSHA_RO.
func (c *call) evalSHA() bool {
	x := &bySHA{plain: plain{unnamed: true}, sha: strings.ToLower(string(c.args[1])), frame: resp.AppendRequest(nil, c.args...)}
	return c.runScript(x, x.frame)
}

// script runs the scripts that are sent as they came: those with a body, FCALL and FCALL_RO.
func (c *call) script() bool {
	return c.runScript(&scripted{plain{unnamed: true}}, resp.AppendRequest(nil, c.args...))
}

// maySay reports that a script may publish. What a function does, or a script that the gateway has
// not seen, nobody knows: it is taken for one that does, if somebody listens.
func (l *loop) maySay(cmd *resp.Command, args [][]byte) bool {
	switch {
	case cmd.Traits&resp.Says != 0:
		return true
	case cmd.Serve != resp.Script:
		return false
	case cmd.Traits&resp.HasBody != 0:
		return l.srv.scripts.remember(args[1])
	case cmd.Traits&resp.HasSHA != 0:
		if x, known := l.srv.scripts.get(args[1]); known {
			return x.says
		}
	}
	return l.srv.hub.Listens()&pubsub.ListensToMessages != 0
}

// runScript sends a script to where its keys are. Those that it uses without naming them
// are its own risk: they are looked for on the server of those that it names.
func (c *call) runScript(op operation, frame []byte) bool {
	s := c.s
	l := s.l
	says := l.maySay(c.cmd, c.args)
	if says && s.queue.n > 0 {
		return false
	}
	slot, ok := c.oneSlot()
	if !ok {
		return true
	}
	r := c.begin()
	r.op = op
	send := func() { l.anywhere(r, frame) }
	if slot >= 0 {
		l.srv.scripted.note(slot)
		db, keys := s.db, appendKeys(nil, s.db, c.cmd, c.args, c.keys)
		send = func() { l.place(r, db, slot, keys, frame) }
		if mayWrite(c.cmd) {
			l.wakeAfter(r, keys)
		}
	}
	if !says {
		send()
		return true
	}
	s.hold = r // what it says comes before whatever its client does next
	l.sayByScript(r, send)
	return true
}

// bySHA is an EVALSHA. The first of a script on each connection goes out behind a SCRIPT
// LOAD, so that no client sees NOSCRIPT for a script that the gateway knows.
//
// The load is noted when it is sent: a pipeline of the same EVALSHA needs it once. If that
// block fails, the note is taken back (dropped), else the next connection would be thought to
// have the script.
type bySHA struct {
	plain
	sha    string
	frame  []byte
	pipe   *upstream.Pipe
	mended bool
}

// loadedSet are the scripts known to be at a server, as long as one connection lasts.
//
// It is right to believe it as long as the connection is the same and nobody has flushed
// through this gateway. Who flushes past it makes one NOSCRIPT, which is mended (reply).
type loadedSet struct {
	conns   uint64
	flushes int64
	shas    map[string]struct{}
}

// loaded is what is known of the present connection of p, or of the one being made.
//
// Connections are numbered. While one is being made, what is sent goes out on the next, so the
// note is for that.
func (l *loop) loaded(p *upstream.Pipe) *loadedSet {
	conns := p.Conns()
	if p.State() != upstream.Up {
		conns++
	}
	flushes := l.srv.scripts.flushes.Load()
	set := l.servers.loadedBy[p]
	if set == nil || set.conns != conns || set.flushes != flushes || len(set.shas) > loadedMax {
		set = &loadedSet{conns, flushes, make(map[string]struct{})}
		l.servers.loadedBy[p] = set
	}
	return set
}

func (x *bySHA) send(l *loop, r *request, group int16, frame []byte) {
	x.pipe = l.scriptPipe(r, group, r.db())
	r.transmit(x.pipe, x.loading(l, r, frame))
}

// loading puts a SCRIPT LOAD in front of the command where the server may lack the script.
func (x *bySHA) loading(l *loop, r *request, frame []byte) block {
	b := block{frame: frame, writes: r.cmd.Flags&resp.Readonly == 0}
	body, known := l.srv.scripts.body([]byte(x.sha))
	set := l.loaded(x.pipe)
	if _, there := set.shas[x.sha]; there || !known {
		return b
	}
	set.shas[x.sha] = struct{}{}
	b.frame, b.before = append(loadFrame(body), frame...), 1
	return b
}

func loadFrame(body []byte) []byte {
	return resp.AppendRequest(nil, []byte("SCRIPT"), []byte("LOAD"), body)
}

// reply mends a NOSCRIPT of a server that has lost its scripts, if that changes no order:
// nothing of this client may have been executed since.
//
// A server that was restarted, or whose script was flushed past the gateway, says NOSCRIPT.
// Mended once, and only if the client has no other command behind it: that would be executed
// before.
func (x *bySHA) reply(r *request, b []byte, last bool) bool {
	if last {
		r.s.l.heardLane(x.pipe)
	}
	if !last || x.mended || r.state == requestStreaming || !bytes.HasPrefix(b, []byte("-NOSCRIPT")) {
		return true
	}
	l := r.s.l
	// All that was noted of that server is in doubt.
	delete(l.servers.loadedBy, x.pipe)
	body, known := l.srv.scripts.body([]byte(x.sha))
	if !known || r.s.queue.n > 1 || r.s.life == lifeGone {
		return true
	}
	x.mended = true
	r.put(x.pipe, block{frame: append(loadFrame(body), x.frame...), before: 1})
	return false
}

// dropped forgets that the script is at the server: it was to be loaded by what has failed.
func (x *bySHA) dropped(r *request) {
	if set := r.s.l.servers.loadedBy[x.pipe]; set != nil {
		delete(set.shas, x.sha)
	}
}

func (x *scripts) count() int { return x.bodies.Len() }
