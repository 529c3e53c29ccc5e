package resp

import "errors"

// errArguments is Redis's text for a request whose keys can't be found, such as a
// numkeys that is not a number.
//
//lint:ignore ST1005 Redis's own text
var errArguments = errors.New("Invalid arguments specified for command")

// keyFinder is a way to find the keys of a request.
//
// What counts is which keys the server will touch when it executes the request: one that
// we overlook would be written where its slot is not. So the finders read the options as
// the commands do. Redis's key specifications, which COMMAND GETKEYS goes by, don't: they
// take the first STORE where the last one counts, and a consumer group called "streams"
// for the keyword. See getKeys.
type keyFinder uint8

const (
	noKeys      keyFinder = iota
	oneKey                // argument FirstKey
	fixedKeys             // FirstKey to LastKey by KeyStep
	countedKeys           // a number of keys and then the keys; before it maybe a destination
	streamKeys            // XREAD, XREADGROUP: the first half of what follows STREAMS
	sortKeys              // SORT: argument 1 and the last STORE
	geoKeys               // GEORADIUS: argument 1 and the last STORE or STOREDIST
	migrateKeys           // MIGRATE: argument 3 or all behind KEYS
)

// countedAt says where countedKeys finds what it needs.
type countedAt struct {
	dest  int // argument of the destination; 0: none
	count int // argument of the number of keys
	first int // argument of the first key
}

// finderFor chooses the finder of a row. A row that fits none is a mistake in the data.
func finderFor(c *Command) (keyFinder, countedAt) {
	switch c.Name {
	case "sort":
		return sortKeys, countedAt{}
	case "georadius", "georadiusbymember":
		return geoKeys, countedAt{}
	case "xread", "xreadgroup":
		return streamKeys, countedAt{}
	case "migrate":
		return migrateKeys, countedAt{}
	}
	if len(c.specs) == 0 {
		return noKeys, countedAt{}
	}
	if s := c.specs[len(c.specs)-1]; s.keynum {
		return countedKeys, countedAt{dest: c.FirstKey, count: s.index + s.a, first: s.index + s.b}
	}
	switch {
	case c.FirstKey <= 0:
		panic("resp: commands.tsv: no way to find the keys of " + c.Name)
	case c.FirstKey == c.LastKey:
		return oneKey, countedAt{}
	}
	return fixedKeys, countedAt{}
}

// AppendKeys appends the indexes of the arguments that are keys. The request should have
// passed Resolve; if not, the result is still within its bounds. An error says that the
// keys can't be told, and that the server would not execute the request either. It
// allocates nothing when dst has room.
//
// Keys that are named by data, as by the patterns of SORT's BY and GET, can't be found.
func (c *Command) AppendKeys(dst []int, args [][]byte) ([]int, error) {
	if c.find == oneKey {
		if c.FirstKey >= len(args) {
			return dst, errArguments
		}
		return append(dst, c.FirstKey), nil
	}
	return c.appendManyKeys(dst, args)
}

func (c *Command) appendManyKeys(dst []int, args [][]byte) ([]int, error) {
	switch c.find {
	case noKeys:
		return dst, nil
	case fixedKeys:
		return c.appendFixedKeys(dst, args)
	case countedKeys:
		return c.appendCountedKeys(dst, args)
	case streamKeys:
		return appendStreamKeys(dst, args)
	case sortKeys:
		return appendSortKeys(dst, args)
	case geoKeys:
		return c.appendGeoKeys(dst, args)
	case migrateKeys:
		return appendMigrateKeys(dst, args)
	}
	panic("resp: " + c.Name + " has no key finder")
}

func (c *Command) appendFixedKeys(dst []int, args [][]byte) ([]int, error) {
	last := c.LastKey
	if last < 0 {
		last += len(args)
	}
	// The last key of MSET is followed by its value, which whoever cuts it will read.
	if last >= len(args) || c.pairs && len(args)%2 == 0 {
		return dst, errArguments
	}
	for i := c.FirstKey; i <= last; i += c.KeyStep {
		dst = append(dst, i)
	}
	return dst, nil
}

func (c *Command) appendCountedKeys(dst []int, args [][]byte) ([]int, error) {
	at := c.counted
	if at.count >= len(args) {
		return dst, errArguments
	}
	n, ok := parseInt(args[at.count])
	if !ok || n < 0 || n > int64(len(args)-at.first) || n == 0 && c.Flags&NoMandatoryKeys == 0 {
		return dst, errArguments
	}
	if at.dest > 0 {
		dst = append(dst, at.dest)
	}
	return appendRange(dst, at.first, at.first+int(n)), nil
}

func appendStreamKeys(dst []int, args [][]byte) ([]int, error) {
	first, _ := streamOptions(args)
	n := len(args) - first // keys and as many ids
	if first == 0 || n == 0 || n%2 != 0 {
		return dst, errArguments
	}
	return appendRange(dst, first, first+n/2), nil
}

// streamOptions reads the options of XREAD and XREADGROUP: first is the argument behind
// STREAMS, or 0 if the server won't get that far. They can't be searched for, since a
// group, a consumer and a stream may be called "block" or "streams".
func streamOptions(args [][]byte) (first int, blocks bool) {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case isOption(a, "streams"):
			return i + 1, blocks
		case isOption(a, "block"):
			blocks = true
			i++
		case isOption(a, "count"):
			i++
		case isOption(a, "group"):
			i += 2
		case isOption(a, "noack"):
		default:
			return 0, blocks
		}
	}
	return 0, blocks
}

// BlockArg is the argument of XREAD or XREADGROUP with the time to block for, in ms; 0 if
// there is none. The last BLOCK counts.
func BlockArg(args [][]byte) (at int) {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case isOption(a, "streams"):
			return at
		case isOption(a, "block"):
			i++
			at = i
		case isOption(a, "count"):
			i++
		case isOption(a, "group"):
			i += 2
		}
	}
	return at
}

// StreamArg says where XREAD names a stream, and where its id.
type StreamArg struct{ Key, ID int }

// NewestIDs are the streams of an XREAD whose id is "$": what comes after now.
func NewestIDs(args [][]byte) (out []StreamArg) {
	if !isName(args[0], "xread") {
		return nil
	}
	first, _ := streamOptions(args)
	n := len(args) - first
	if first == 0 || n%2 != 0 {
		return nil
	}
	for i := first; i < first+n/2; i++ {
		if string(args[i+n/2]) == "$" {
			out = append(out, StreamArg{i, i + n/2})
		}
	}
	return out
}

func appendSortKeys(dst []int, args [][]byte) ([]int, error) {
	if len(args) < 2 {
		return dst, errArguments
	}
	dst = append(dst, 1)
	store := 0
	for i := 2; i < len(args); i++ {
		switch a := args[i]; {
		case isOption(a, "limit"):
			i += 2
		case isOption(a, "get"), isOption(a, "by"):
			i++
		case isOption(a, "store") && i+1 < len(args):
			i++
			store = i
		}
	}
	return appendStore(dst, store), nil
}

func (c *Command) appendGeoKeys(dst []int, args [][]byte) ([]int, error) {
	if len(args) < 2 {
		return dst, errArguments
	}
	dst = append(dst, 1)
	store := 0
	// The least number of arguments is that without options.
	for i := -c.Arity; i < len(args)-1; i++ {
		if isOption(args[i], "store") || isOption(args[i], "storedist") {
			i++
			store = i
		}
	}
	return appendStore(dst, store), nil
}

// appendStore appends the argument of the last STORE, or nothing for 0.
func appendStore(dst []int, store int) []int {
	if store > 0 {
		dst = append(dst, store)
	}
	return dst
}

func appendMigrateKeys(dst []int, args [][]byte) ([]int, error) {
	if len(args) < 6 {
		return dst, errArguments
	}
	for i := 6; i < len(args); i++ {
		switch a := args[i]; {
		case isOption(a, "keys") && len(args[3]) > 0:
			return dst, errArguments
		case isOption(a, "keys"):
			return appendRange(dst, i+1, len(args)), nil
		case isOption(a, "auth"):
			i++
		case isOption(a, "auth2"):
			i += 2
		}
	}
	return append(dst, 3), nil
}

// appendRange appends from, …, to-1.
func appendRange(dst []int, from, to int) []int {
	for ; from < to; from++ {
		dst = append(dst, from)
	}
	return dst
}

// isOption reports whether the server takes arg for the lower-case option. It reads
// options as C strings, so "store\x00x" is STORE, and stores.
func isOption(arg []byte, option string) bool {
	n := len(option)
	return len(arg) >= n && isName(arg[:n], option) && (len(arg) == n || arg[n] == 0)
}
