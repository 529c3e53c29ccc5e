package proxy

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/resp"
)

// debugs are the subcommands of DEBUG that are served: what looks at one key, and SLEEP,
// which here holds up its own client alone. DEBUG is one row of the command table.
var debugs = map[string]struct {
	least, most int // arguments
	run         func(*call)
}{
	"sleep":  {3, 3, (*call).debugSleep},
	"object": {3, math.MaxInt, (*call).debugObject},
	"help":   {2, 2, help("DEBUG", debugHelp)},
}

// debug: what is refused has a reason; what Redis does not know either gets Redis's text.
func (c *call) debug() {
	sub, n := string(lower(c.args[1])), len(c.args)
	switch x := debugs[sub]; {
	case x.run != nil && n >= x.least && n <= x.most:
		x.run(c)
	case debugKnown[sub]:
		c.reject("ERR 'debug|" + sub + "' is not supported through the gateway: " + refusalText["debug"])
	default:
		c.reject("ERR unknown subcommand or wrong number of arguments for '" + string(c.args[1][:min(len(c.args[1]), 128)]) + "'. Try DEBUG HELP.")
	}
}

func (c *call) debugSleep() {
	secs, err := strconv.ParseFloat(string(c.args[2]), 64)
	if err != nil {
		secs = 0 // as in C
	}
	c.sleep(secs)
}

// debugObject is asked of the key's server.
func (c *call) debugObject() {
	s := c.s
	l := s.l
	r := c.begin()
	r.op = plain{}
	l.place(r, s.db, l.table.Scheme.Slot(c.args[2]), appendKeys(nil, s.db, c.cmd, c.args, []int{2}), resp.AppendRequest(nil, c.args...))
}

// role answers ROLE: a master without replicas.
func (c *call) role() {
	s := c.s
	w := s.reply()
	w.Array(3)
	w.Text("master")
	w.Int(0)
	w.Array(0)
	c.answer(w.B)
}

// sleep is DEBUG SLEEP: for one client and not, as in Redis, for all.
//
// The loop serves others meanwhile; that a server hangs is nothing that one client may try on
// all.
func (c *call) sleep(secs float64) {
	s := c.s
	l := s.l
	r := c.begin()
	s.hold = r
	d := time.Duration(0)
	if secs > 0 {
		d = time.Duration(min(secs, sleepMax.Seconds()) * float64(time.Second))
	}
	time.AfterFunc(d, func() { l.post(func() { r.finish(okReply) }) })
}

// sleepMax: a longer one would overflow, and nobody waits for it.
const sleepMax = time.Hour

// debugKnown are the subcommands of DEBUG that are refused with a reason.
var debugKnown = func() map[string]bool {
	out := make(map[string]bool)
	for _, name := range strings.Fields("aof-flush-sleep assert change-repl-id config-rewrite-force-all crash-and-recover digest digest-value dict-resizing " +
		"error leak log htstats htstats-key loadaof replicate mallctl mallctl-str drop-cluster-packet-filter close-cluster-link-on-packet-drop oom panic populate protocol reload " +
		"restart sdslen segfault set-active-expire quicklist-packed-threshold set-skip-checksum-validation stringmatch-len stringmatch-test structsize listpack " +
		"quicklist client-eviction client-enforce-reply-list pause-cron replybuffer replicate clusterlink set-disable-deny-scripts jmap ziplist cluster stringmatch") {
		out[name] = true
	}
	return out
}()

var debugHelp = []string{
	"OBJECT <key>", "    Show low level info about `key` and associated value, at its server,", "    which has to allow DEBUG (enable-debug-command).",
	"SLEEP <seconds>", "    Hold up this client for <seconds>. Decimals allowed. Other clients go on.",
}

// lower: cut, since what is longer is no name: a client can send 512 MB in its place.
func lower(b []byte) []byte { return bytes.ToLower(b[:min(len(b), 64)]) }
