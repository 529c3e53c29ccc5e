package resp

import (
	"bytes"
	"fmt"
	"strings"
)

// Flag is a set of command flags, as in Redis's COMMAND INFO.
type Flag uint32

const (
	Write Flag = 1 << iota
	Readonly
	DenyOOM
	Admin
	PubSub
	NoScript
	Blocking
	Loading
	Stale
	SkipMonitor
	SkipSlowlog
	Fast
	NoAuth
	MayReplicate
	MovableKeys
	AllowBusy
	NoMulti
	NoMandatoryKeys
	NoAsyncLoading
	Asking
	Touches // touches_arbitrary_keys
	Sentinel
)

var flagNames = map[string]Flag{
	"write": Write, "readonly": Readonly, "denyoom": DenyOOM, "admin": Admin, "pubsub": PubSub,
	"noscript": NoScript, "blocking": Blocking, "loading": Loading, "stale": Stale,
	"skip_monitor": SkipMonitor, "skip_slowlog": SkipSlowlog, "fast": Fast, "no_auth": NoAuth,
	"may_replicate": MayReplicate, "movablekeys": MovableKeys, "allow_busy": AllowBusy,
	"no_multi": NoMulti, "no_mandatory_keys": NoMandatoryKeys, "no_async_loading": NoAsyncLoading,
	"asking": Asking, "touches_arbitrary_keys": Touches, "sentinel": Sentinel,
}

// Serve is how the gateway serves a command.
type Serve uint8

const (
	Refused   Serve = iota // with a clear error
	Keyed                  // by the group of its keys' slot; all keys must be in one
	SplitMGet              // cut by slot, values merged in the order of the keys
	SplitMSet              // cut by slot, +OK
	SplitSum               // cut by slot, integers added
	Local                  // by the gateway itself
)

var serveNames = map[string]Serve{
	"refused": Refused, "keyed": Keyed, "mget": SplitMGet, "mset": SplitMSet, "sum": SplitSum, "local": Local,
}

// Command is one row of the table: what Redis up to 7.4 knows by this name, and how the
// gateway serves it.
type Command struct {
	Name     string // lower case; "client|id" for a subcommand
	Arity    int    // with the command's name; negative: at least
	Flags    Flag
	FirstKey int // as COMMAND INFO reports; 0: no fixed keys
	LastKey  int
	KeyStep  int
	Serve    Serve
	Index    int // 0 ≤ Index < NumCommands, subcommands included
	Subs     []*Command

	Since, Group, Summary, Complexity string

	flags, acl, tips []string
	specs            []keySpec
	find             keyFinder
}

// Lookup finds a command by its name in any case; nil if there is none.
func Lookup(name []byte) *Command {
	var low [maxName]byte
	if len(name) > maxName {
		return nil
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	return byName[string(low[:len(name)])]
}

// maxName is longer than any command's name; checked when the table is read.
const maxName = 24

// Sub finds a subcommand in any case; nil if there is none.
func (c *Command) Sub(name []byte) *Command {
	for _, s := range c.Subs {
		if len(s.Name) == len(c.Name)+1+len(name) && strings.EqualFold(s.Name[len(c.Name)+1:], string(name)) {
			return s
		}
	}
	return nil
}

// ArityOK reports whether a request of n arguments, name included, has the right number.
func (c *Command) ArityOK(n int) bool {
	return n == c.Arity || c.Arity < 0 && n >= -c.Arity
}

// Resolve finds the command that a request means: for a container the subcommand. bad is
// Redis's own error text (without '-') if there is none or the number of arguments is
// wrong, else "". It does not allocate on success.
func Resolve(args [][]byte) (cmd *Command, bad string) {
	c := Lookup(args[0])
	if c == nil {
		return nil, unknownCommand(args)
	}
	if c.Subs != nil && len(args) > 1 {
		s := c.Sub(args[1])
		if s == nil {
			return nil, fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", args[1], strings.ToUpper(c.Name))
		}
		c = s
	}
	if !c.ArityOK(len(args)) {
		return nil, "ERR wrong number of arguments for '" + c.Name + "' command"
	}
	return c, ""
}

// unknownCommand is the text of Redis 7.0's commandCheckExistence.
func unknownCommand(args [][]byte) string {
	var rest strings.Builder
	for _, a := range args[1:] {
		if rest.Len() >= 128 {
			break
		}
		fmt.Fprintf(&rest, "'%s' ", cString(a, 128-rest.Len()))
	}
	return fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", cString(args[0], 128), rest.String())
}

// cString is what C's %.*s prints: up to n bytes, up to the first NUL.
func cString(b []byte, n int) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return b[:min(n, len(b))]
}

// BlocksNow reports whether this request may block its connection at the server.
func BlocksNow(c *Command, args [][]byte) bool {
	if c.Flags&Blocking == 0 {
		return false
	}
	if c.Name != "xread" && c.Name != "xreadgroup" {
		return true
	}
	for _, a := range args[1:] {
		if strings.EqualFold(string(a), "block") {
			return true
		}
		if strings.EqualFold(string(a), "streams") {
			break
		}
	}
	return false
}
