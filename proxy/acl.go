package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// aclCategories are all that there are, in the order of ACL CAT.
var aclCategories = strings.Fields("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking dangerous connection transaction scripting")

// ACL: there is one user, default, who may do everything that is served.
//
// Tools ask ACL WHOAMI, LIST and GETUSER to find out what they may do, and some refuse to go on
// without an answer. So all that only looks is answered as a Redis with this one user would;
// what would change users is refused by the command table. The servers' own users are theirs:
// nothing here is asked of them.

// aclWhoAmI needs no look at the session: who is authenticated is default.
func (c *call) aclWhoAmI() {
	w := c.s.reply()
	w.Text(defaultUser)
	c.answer(w.B)
}

func (c *call) aclUsers() {
	w := c.s.reply()
	w.Array(1)
	w.Text(defaultUser)
	c.answer(w.B)
}

// aclList: the hash is shown as Redis shows it: who can list users may be trusted with it, but not with
// the password.
func (c *call) aclList() {
	w := c.s.reply()
	w.Array(1)
	if hash := c.s.l.opt.passwordHash(); hash != "" {
		w.Text("user default on #" + hash + " ~* &* +@all")
	} else {
		w.Text("user default on nopass ~* &* +@all")
	}
	c.answer(w.B)
}

func (c *call) aclGetUser() {
	w := c.s.reply()
	c.s.aclUser(w, string(c.args[2]))
	c.answer(w.B)
}

func (c *call) aclCat() {
	if len(c.args) > 3 {
		c.badSubcommand()
		return
	}
	w := c.s.reply()
	aclCat(w, c.args[2:])
	c.answer(w.B)
}

func (c *call) aclGenPass() {
	if len(c.args) > 3 {
		c.badSubcommand()
		return
	}
	w := c.s.reply()
	aclGenPass(w, c.args[2:])
	c.answer(w.B)
}

func (c *call) aclDryRun() {
	w := c.s.reply()
	aclDryRun(w, c.args[2:])
	c.answer(w.B)
}

func (c *call) aclLog() {
	if len(c.args) > 3 {
		c.badSubcommand()
		return
	}
	w := c.s.reply()
	c.s.aclLog(w, c.args[2:])
	c.answer(w.B)
}

var aclHelp = []string{
	"CAT [<category>]", "    List all commands that belong to <category>, or all command categories", "    when no category is specified.",
	"DRYRUN <username> <command> [<arg> ...]", "    Returns whether the user can execute the given command without executing the command.",
	"GETUSER <username>", "    Get the user's details.",
	"GENPASS [<bits>]", "    Generate a secure 256-bit user password. The optional `bits` argument can", "    be used to specify a different size.",
	"LIST", "    Show users details in config file format.",
	"LOG [<count> | RESET]", "    Show the ACL log entries.",
	"USERS", "    List all the registered usernames.",
	"WHOAMI", "    Return the current connection username.",
}

// passwordHash is what Redis shows in the place of a password; "" if there is none. It is not
// kept: CONFIG SET requirepass may change the password at any time, and this is asked rarely.
func (o *Options) passwordHash() string {
	if o.Password == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(o.Password))
	return hex.EncodeToString(sum[:])
}

// aclUser has the fields of Redis 7, in their order, also where there is nothing to tell.
func (s *session) aclUser(w *resp.Writer, name string) {
	if name != defaultUser {
		w.Null()
		return
	}
	hash := s.l.opt.passwordHash()
	w.Map(6)
	w.Text("flags")
	if hash == "" {
		w.Set(2)
		w.Status("on")
		w.Status("nopass")
	} else {
		w.Set(1)
		w.Status("on")
	}
	w.Text("passwords")
	if hash == "" {
		w.Array(0)
	} else {
		w.Array(1)
		w.Text(hash)
	}
	for _, kv := range [][2]string{{"commands", "+@all"}, {"keys", "~*"}, {"channels", "&*"}} {
		w.Text(kv[0])
		w.Text(kv[1])
	}
	w.Text("selectors")
	w.Array(0)
}

// aclCat: the categories of a command are in its row of the table, also for what a configuration
// declares.
func aclCat(w *resp.Writer, args [][]byte) {
	if len(args) == 0 {
		w.Array(len(aclCategories))
		for _, name := range aclCategories {
			w.Text(name)
		}
		return
	}
	category := strings.ToLower(string(args[0]))
	var names []string
	stats.EachCommand(func(c *resp.Command) {
		if c.InCategory(category) {
			names = append(names, c.Name)
		}
	})
	if len(names) == 0 {
		w.Err("ERR Unknown category '" + cText(args[0]) + "'")
		return
	}
	w.Array(len(names))
	for _, name := range names {
		w.Text(name)
	}
}

// aclGenPass gives hexadecimal digits for so many bits, rounded up to whole digits, as Redis gives it.
// It comes from the system's generator and not from a seeded one: it is meant to be a secret.
func aclGenPass(w *resp.Writer, args [][]byte) {
	bits := int64(256)
	if len(args) > 0 {
		var ok bool
		if bits, ok = resp.Integer(args[0]); !ok {
			w.Err(notAnInteger)
			return
		}
	}
	if bits < 1 || bits > 4096 {
		w.Err("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
		return
	}
	raw := make([]byte, (bits+7)/8)
	_, _ = rand.Read(raw) // never fails
	w.Text(hex.EncodeToString(raw)[:(bits+3)/4])
}

// aclDryRun: there is one user, who may do everything that exists with the right number of arguments.
// Whether the gateway serves the command is another question, which PROXY EXPLAIN answers.
func aclDryRun(w *resp.Writer, args [][]byte) {
	if string(args[0]) != defaultUser {
		w.Err("ERR User '" + cText(args[0]) + "' not found")
		return
	}
	rest := args[1:]
	c := resp.Lookup(rest[0])
	if c != nil && c.Subs != nil && len(rest) > 1 {
		c = c.Sub(rest[1])
	}
	switch {
	case c == nil:
		w.Err("ERR Command '" + cText(rest[0]) + "' not found")
	case !c.ArityOK(len(rest)):
		w.Err("ERR wrong number of arguments for '" + c.Name + "' command")
	default:
		w.OK()
	}
}

// aclLogMax is how many entries are kept (acllog-max-len), and aclLogMerge how long a
// failure like one that is there counts there.
const (
	aclLogMax   = 128
	aclLogMerge = time.Minute
)

// aclDenied is one entry: the one user may do everything, so it is always a failed AUTH. The
// log owns it; it is read and changed under deniedLog.mu.
type aclDenied struct {
	id           int64
	count        int64
	user, object string
	client       string // its line of CLIENT LIST
	first, last  time.Time
}

// deniedUserMax is how many bytes of a name that somebody tried are kept. Who has not
// authenticated must not be able to fill the gateway's memory with names.
const deniedUserMax = 128

// deniedLog is what ACL LOG shows, the newest first: at most aclLogMax entries. There is one for
// the gateway, since who guesses passwords comes with many connections, on every loop. It lives as
// long as the server.
type deniedLog struct {
	mu   sync.Mutex // protects list and next
	list []*aclDenied
	next int64
}

// denied notes that the client gave a wrong user or password.
//
// As in Redis, the same failure within a minute is counted at its entry, so that somebody who
// guesses passwords does not push everything else out.
func (s *session) denied(user []byte, object string) {
	name := string(user[:min(len(user), deniedUserMax)])
	q := &s.l.srv.denied
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, e := range q.list {
		// An entry that is counted again moves to the front, as the newest.
		if e.user == name && e.object == object && s.l.now.Sub(e.last) < aclLogMerge {
			e.count++
			e.last, e.client = s.l.now, s.describe()
			copy(q.list[1:i+1], q.list[:i])
			q.list[0] = e
			return
		}
	}
	e := &aclDenied{id: q.next, count: 1, user: name, object: object, client: s.describe(), first: s.l.now, last: s.l.now}
	q.next++
	q.list = append([]*aclDenied{e}, q.list[:min(len(q.list), aclLogMax-1)]...)
}

// aclLog is the gateway's log and not one loop's, so it is under a lock: failures to authenticate
// are rare, and who reads it is an operator.
func (s *session) aclLog(w *resp.Writer, args [][]byte) {
	q := &s.l.srv.denied
	n := int64(10)
	if len(args) > 0 && bytes.EqualFold(args[0], []byte("reset")) {
		q.mu.Lock()
		q.list = nil
		q.mu.Unlock()
		w.OK()
		return
	}
	if len(args) > 0 {
		var ok bool
		if n, ok = resp.Integer(args[0]); !ok {
			w.Err(notAnInteger)
			return
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list[:min(len(q.list), int(max(0, min(n, aclLogMax))))]
	w.Array(len(list))
	for _, e := range list {
		w.Map(10)
		w.Text("count")
		w.Int(e.count)
		for _, kv := range [][2]string{{"reason", "auth"}, {"context", "toplevel"}, {"object", e.object}, {"username", e.user}} {
			w.Text(kv[0])
			w.Text(kv[1])
		}
		w.Text("age-seconds")
		w.Double(float64(s.l.now.Sub(e.first).Milliseconds()) / 1000)
		w.Text("client-info")
		w.Text(strings.TrimSuffix(e.client, "\n"))
		w.Text("entry-id")
		w.Int(e.id)
		w.Text("timestamp-created")
		w.Int(e.first.UnixMilli())
		w.Text("timestamp-last-updated")
		w.Int(e.last.UnixMilli())
	}
}
