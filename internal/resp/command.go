package resp

import (
	"bytes"
	"slices"
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
	Refused     Serve = iota // with a clear error
	Keyed                    // by the group of its keys' slot; all keys must be in one
	SplitMGet                // cut by slot, values merged in the order of the keys
	SplitMSet                // cut by slot, +OK
	SplitSum                 // cut by slot, integers added
	Local                    // by the gateway itself
	Transaction              // MULTI and what belongs to it
	Hub                      // by the gateway's subscriptions
	All                      // by every group, replies merged
	Any                      // by any one group
	Blocks                   // as Keyed, on a connection of its own where it may block
	Script                   // as Keyed, or by any one group if it names no key
	Sort                     // as Keyed, unless it looks at keys that it does not name
)

// Splits reports that the command is cut by slot.
func (s Serve) Splits() bool { return s == SplitMGet || s == SplitMSet || s == SplitSum }

// ByKey reports that the slot of its keys decides where the command runs.
func (s Serve) ByKey() bool {
	return s == Keyed || s.Splits() || s == Blocks || s == Script || s == Sort
}

var serveNames = map[string]Serve{
	"refused": Refused, "keyed": Keyed, "mget": SplitMGet, "mset": SplitMSet, "sum": SplitSum, "local": Local,
	"transaction": Transaction, "hub": Hub, "all": All, "any": Any,
	"blocking": Blocks, "script": Script, "sort": Sort,
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
	Traits   Trait
	Kin      *Command // see kin; nil: none
	Parent   *Command // of a subcommand
	Index    int      // 0 ≤ Index < NumCommands, subcommands included
	Subs     []*Command

	Doc

	flags, acl, tips []string
	specs            []keySpec
	find             keyFinder
	pairs            bool      // MSET, MSETNX: what follows the name are pairs
	counted          countedAt // where find is countedKeys
}

// Doc is what COMMAND DOCS says of a command in words.
type Doc struct {
	Since, Group, Summary, Complexity string
}

// Lookup finds a command by its name in any case; nil if there is none.
func Lookup(name []byte) *Command {
	if len(name) == 0 || len(name) > maxName {
		return nil
	}
	for i := nameHash(name); ; i++ {
		c := byName[i%nameSlots]
		if c == nil || isName(name, c.Name) {
			return c
		}
	}
}

const (
	// maxName is the length of the longest command name or more; checked when the table
	// is read, as is that nameSlots leaves room.
	maxName = 64
	// nameSlots is a power of two that leaves most slots free: nearly every name is found
	// at its first place, and every search ends.
	nameSlots = 2048
)

// nameHash is the place in byName where the search for a name begins. It looks at four
// letters and the length, which tell nearly all names apart. Bit 0x20 is what the cases
// of a letter differ by; that it also merges other bytes costs nothing but a comparison.
func nameHash[T []byte | string](name T) uint32 {
	n := len(name)
	h := uint32(name[0]) | uint32(name[1%n])<<8 | uint32(name[n/2])<<16 | uint32(name[n-1])<<24
	h = (h | 0x20202020) ^ uint32(n)<<3
	return h * 0x9E3779B1 >> 21
}

// isName reports whether arg is the lower-case word in any case.
func isName(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, c := range arg {
		if c != word[i] && (c < 'A' || c > 'Z' || c|0x20 != word[i]) {
			return false
		}
	}
	return true
}

// Sub finds a subcommand in any case; nil if there is none.
func (c *Command) Sub(name []byte) *Command {
	for _, s := range c.Subs {
		if isName(name, s.Name[len(c.Name)+1:]) {
			return s
		}
	}
	return nil
}

// InCategory reports whether the command is in an ACL category, whose name is given without
// its "@".
func (c *Command) InCategory(name string) bool { return slices.Contains(c.acl, "@"+name) }

// ArityOK reports whether a request of n arguments, name included, has the right number.
func (c *Command) ArityOK(n int) bool {
	return n == c.Arity || c.Arity < 0 && n >= -c.Arity
}

// Resolve finds the command that a request means: for a container the subcommand. bad is
// Redis's own error text (without '-') if there is none or the number of arguments is
// wrong, else "". The request has at least its name. It does not allocate on success.
//
// MSET and MSETNX with a key that has no value are refused here, with the text that the
// server has for it, since MSET is cut by its pairs.
func Resolve(args [][]byte) (cmd *Command, bad string) {
	c := Lookup(args[0])
	if c == nil {
		return nil, unknownCommand(args)
	}
	if c.Subs != nil && len(args) > 1 {
		s := c.Sub(args[1])
		if s == nil {
			return nil, "ERR unknown subcommand '" + string(cString(args[1], 128)) + "'. Try " + strings.ToUpper(c.Name) + " HELP."
		}
		c = s
	}
	if !c.ArityOK(len(args)) || c.pairs && len(args)%2 == 0 {
		bad = "wrong number of arguments for '" + c.Name + "' command"
		if c.Name == "exec" { // which so ends the transaction
			return nil, "EXECABORT Transaction discarded because of: " + bad
		}
		return nil, "ERR " + bad
	}
	return c, ""
}

// CrossProtocol reports whether a request is a line of HTTP, which a page in somebody's
// browser can send to any port that the browser reaches: the rest of what comes is written by
// the page. As in Redis by the first argument, in any form of a request: POST, and the header
// Host, which each request has in front of its body.
func CrossProtocol(args [][]byte) bool {
	if len(args) == 0 {
		return false
	}
	switch name := args[0]; len(name) {
	case 4:
		return bytes.EqualFold(name, []byte("post"))
	case 5:
		return bytes.EqualFold(name, []byte("host:"))
	}
	return false
}

// CrossProtocolText is what the log says of it, as Redis's.
const CrossProtocolText = "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to keyferry. " +
	"This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise the servers behind it. Connection aborted."

// unknownCommand lists the arguments until the list has 128 bytes. An argument is cut to
// what is then left, but its quotes are not counted, as in Redis.
func unknownCommand(args [][]byte) string {
	var list []byte
	for _, a := range args[1:] {
		if len(list) >= 128 {
			break
		}
		a = cString(a, 128-len(list))
		list = append(append(append(list, '\''), a...), "' "...)
	}
	return "ERR unknown command '" + string(cString(args[0], 128)) + "', with args beginning with: " + string(list)
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
	if c.Serve != Blocks {
		return false
	}
	if c.find != streamKeys {
		return true
	}
	_, blocks := streamOptions(args)
	return blocks
}
