package resp

import "strings"

// Trait is a set of facts about a command that the gateway goes by and that no COMMAND reply
// tells. Whoever needs to know such a thing asks for the trait, so that a command's name is
// compared here only.
type Trait uint16

const (
	// AtOnceInMulti: it is not queued behind MULTI.
	AtOnceInMulti Trait = 1 << iota
	// WhileSubscribed: a RESP2 client may send it while it is subscribed to channels.
	WhileSubscribed
	// Anywhere: it has no keys and means the same on whatever server a transaction runs.
	Anywhere
	// Heard: it is no write, and yet what replicas or subscribers hear changes by it.
	Heard
	// Says: it is a message to whoever listens, and nothing else.
	Says
	// Subscribes: it begins to listen to channels.
	Subscribes
	// EndsPause: no CLIENT PAUSE holds it up.
	EndsPause
	// HasBody: a script, whose body is argument 1.
	HasBody
	// HasSHA: a script, the SHA-1 of whose body is argument 1. Kin takes the body instead.
	HasSHA
	// PopsPairs: it takes a member with its score, and so its reply has one field more.
	PopsPairs
	// ForReplicas: it waits for replicas, and its time-out is not one that a server may be
	// asked again with: what it waits for is tied to one connection.
	ForReplicas
	// PassesOn: it takes from its first key and gives that to its second.
	PassesOn
	// ScansElements: it takes and gives a cursor over the elements of one key, as argument 2 and
	// as the first part of its reply.
	ScansElements
)

// traits says which commands have which.
var traits = []struct {
	trait Trait
	names string
}{
	{AtOnceInMulti, "multi exec discard watch quit reset"},
	{WhileSubscribed, "subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe ping quit reset"},
	{Anywhere, "ping echo time select publish spublish lolwut"},
	{Heard, "publish spublish pfcount"},
	{Says, "publish spublish"},
	{Subscribes, "subscribe psubscribe ssubscribe"},
	{EndsPause, "client|unpause"},
	{HasBody, "eval eval_ro"},
	{HasSHA, "evalsha evalsha_ro"},
	{PopsPairs, "bzpopmin bzpopmax"},
	{ForReplicas, "wait waitaof"},
	{PassesOn, "blmove brpoplpush"},
	{ScansElements, "hscan sscan zscan"},
}

// kin are commands that do the same in another way: without blocking, from the first of
// their keys that has anything, and where a script is named by its body.
var kin = map[string]string{
	"blpop": "lpop", "brpop": "rpop", "bzpopmin": "zpopmin", "bzpopmax": "zpopmax",
	"blmpop": "lmpop", "bzmpop": "zmpop", "lmpop": "lmpop", "zmpop": "zmpop",
	"evalsha": "eval", "evalsha_ro": "eval_ro",
}

// setTraits is run when the table has been read. A name that there is not is a mistake in
// the program.
func setTraits() {
	for _, t := range traits {
		for name := range strings.FieldsSeq(t.names) {
			row(name).Traits |= t.trait
		}
	}
	for name, other := range kin {
		row(name).Kin = row(other)
	}
}

// row finds "get" and "client|id".
func row(name string) *Command {
	top, sub, has := strings.Cut(name, "|")
	c := Lookup([]byte(top))
	if c != nil && has {
		c = c.Sub([]byte(sub))
	}
	if c == nil {
		panic("resp: no row for " + name)
	}
	return c
}

// TakesFirst reports that the command takes from the first of its keys that has anything, so
// that its keys may be asked one after the other, by Kin.
func (c *Command) TakesFirst() bool { return c.Kin != nil && c.Traits&HasSHA == 0 }

// CountsKeys reports that a request says how many keys it has.
func (c *Command) CountsKeys() bool { return c.find == countedKeys }

// TimeoutArg is the argument of a command that may block which says for how long, and
// whether in milliseconds instead of seconds; 0: none does, or none that could be changed.
func (c *Command) TimeoutArg(args [][]byte) (at int, ms bool) {
	switch {
	case c.Serve != Blocks || c.Traits&ForReplicas != 0:
		return 0, false
	case c.find == streamKeys:
		return BlockArg(args), true
	case c.CountsKeys():
		return 1, false // BLMPOP and BZMPOP begin with it
	}
	return len(args) - 1, false
}
