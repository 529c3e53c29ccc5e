package resp

import (
	"slices"
	"strings"

	"github.com/tidwall/redcon"
)

// AppendCommandInfo appends one element of the reply to COMMAND and COMMAND INFO, RESP2.
func AppendCommandInfo(b []byte, c *Command) []byte {
	b = redcon.AppendArray(b, 10)
	b = redcon.AppendBulkString(b, c.Name)
	b = redcon.AppendInt(b, int64(c.Arity))
	b = appendStatuses(b, c.flags)
	b = redcon.AppendInt(b, int64(c.FirstKey))
	b = redcon.AppendInt(b, int64(c.LastKey))
	b = redcon.AppendInt(b, int64(c.KeyStep))
	b = appendStatuses(b, c.acl)
	b = redcon.AppendArray(b, len(c.tips))
	for _, t := range c.tips {
		b = redcon.AppendBulkString(b, t)
	}
	b = redcon.AppendArray(b, len(c.specs))
	for i := range c.specs {
		b = c.specs[i].append(b)
	}
	b = redcon.AppendArray(b, len(c.Subs))
	for _, s := range c.Subs {
		b = AppendCommandInfo(b, s)
	}
	return b
}

func appendStatuses(b []byte, words []string) []byte {
	b = redcon.AppendArray(b, len(words))
	for _, w := range words {
		b = redcon.AppendString(b, w)
	}
	return b
}

func (s *keySpec) append(b []byte) []byte {
	str := redcon.AppendBulkString
	if s.notes != "" {
		b = str(str(redcon.AppendArray(b, 8), "notes"), s.notes)
	} else {
		b = redcon.AppendArray(b, 6)
	}
	b = appendStatuses(str(b, "flags"), s.flags)
	b = redcon.AppendArray(str(b, "begin_search"), 4)
	switch {
	case s.unknown:
		b = redcon.AppendArray(str(str(str(b, "type"), "unknown"), "spec"), 0)
	case s.keyword != "":
		b = redcon.AppendArray(str(str(str(b, "type"), "keyword"), "spec"), 4)
		b = redcon.AppendInt(str(str(str(b, "keyword"), s.keyword), "startfrom"), int64(s.startFrom))
	default:
		b = redcon.AppendArray(str(str(str(b, "type"), "index"), "spec"), 2)
		b = redcon.AppendInt(str(b, "index"), int64(s.index))
	}
	b = redcon.AppendArray(str(b, "find_keys"), 4)
	names := [3]string{"lastkey", "keystep", "limit"}
	kind := "range"
	if s.keynum {
		names, kind = [3]string{"keynumidx", "firstkey", "keystep"}, "keynum"
	}
	if s.unknown {
		return redcon.AppendArray(str(str(str(b, "type"), "unknown"), "spec"), 0)
	}
	b = redcon.AppendArray(str(str(str(b, "type"), kind), "spec"), 6)
	for i, v := range [3]int{s.a, s.b, s.c} {
		b = redcon.AppendInt(str(b, names[i]), int64(v))
	}
	return b
}

// AppendCommandDocs appends the value of one command in the reply to COMMAND DOCS, RESP2.
// Argument trees are left out.
func AppendCommandDocs(b []byte, c *Command) []byte {
	var kv [][2]string
	for _, p := range [][2]string{{"summary", c.Summary}, {"since", c.Since}, {"group", c.Group}, {"complexity", c.Complexity}} {
		if p[1] != "" {
			kv = append(kv, p)
		}
	}
	n := 2 * len(kv)
	if len(c.Subs) > 0 {
		n += 2
	}
	b = redcon.AppendArray(b, n)
	for _, p := range kv {
		b = redcon.AppendBulkString(redcon.AppendBulkString(b, p[0]), p[1])
	}
	if len(c.Subs) > 0 {
		b = redcon.AppendArray(redcon.AppendBulkString(b, "subcommands"), 2*len(c.Subs))
		for _, s := range c.Subs {
			b = AppendCommandDocs(redcon.AppendBulkString(b, s.Name), s)
		}
	}
	return b
}

// AppendGetKeys appends the reply to COMMAND GETKEYS for a request, which has at least its
// name. It differs from Redis where numkeys is not a number in Redis's own form: " 2", which
// COMMAND GETKEYS reads and every command refuses, is refused.
func AppendGetKeys(b []byte, args [][]byte) []byte {
	c := Lookup(args[0])
	if c != nil && c.Subs != nil && len(args) > 1 {
		c = c.Sub(args[1])
	}
	switch {
	case c == nil:
		return AppendErr(b, "ERR Invalid command specified")
	case !c.hasKeySpec():
		return AppendErr(b, "ERR The command has no key arguments")
	case !c.ArityOK(len(args)):
		return AppendErr(b, "ERR Invalid number of arguments specified for command")
	}
	keys := c.getKeys(args)
	if len(keys) == 0 && c.Flags&NoMandatoryKeys == 0 {
		return AppendErr(b, "ERR "+errArguments.Error())
	}
	b = redcon.AppendArray(b, len(keys))
	for _, k := range keys {
		b = redcon.AppendBulk(b, args[k])
	}
	return b
}

// hasKeySpec reports whether any specification is of keys and not of channels.
func (c *Command) hasKeySpec() bool {
	return slices.ContainsFunc(c.specs, func(s keySpec) bool { return !s.notKeys() })
}

// getKeys are the indexes that COMMAND GETKEYS reports; none if it can't tell. It goes by
// the specifications; if one can't be followed, it asks the command's own finder instead,
// if there is one.
func (c *Command) getKeys(args [][]byte) []int {
	var keys []int
	for i := range c.specs {
		s := &c.specs[i]
		first := s.begin(args)
		if s.notKeys() || first == 0 {
			continue
		}
		last, step, ok := s.end(first, args)
		if !ok && c.find == fixedKeys {
			return nil
		}
		if !ok {
			keys, _ = c.AppendKeys(nil, args)
			return keys
		}
		if s.keynum {
			first += s.b
		}
		for ; first <= last; first += step {
			keys = append(keys, first)
		}
	}
	return keys
}

// keySpec is a key specification as in COMMAND INFO (redis.io, "Command key
// specifications").
type keySpec struct {
	flags     []string
	notes     string
	unknown   bool
	index     int    // begin_search index, or
	keyword   string // begin_search keyword,
	startFrom int    // from here on; negative: backwards from the end
	keynum    bool   // find_keys: a is keynumidx, b firstkey, c keystep; else a is lastkey, b keystep, c limit
	a, b, c   int
}

// notKeys: they are channels.
func (s *keySpec) notKeys() bool { return slices.Contains(s.flags, "not_key") }

// begin is the argument that the specification counts from, or 0 if it is for an option
// that is absent.
func (s *keySpec) begin(args [][]byte) int {
	word := strings.ToLower(s.keyword)
	switch {
	case s.unknown:
		return -1
	case word == "":
		return s.index
	case s.startFrom < 0:
		for i := len(args) + s.startFrom; i > 1; i-- {
			if isOption(args[i], word) {
				return i + 1
			}
		}
	default:
		for i := s.startFrom; i < len(args)-1; i++ {
			if isOption(args[i], word) {
				return i + 1
			}
		}
	}
	return 0
}

// end is the last key; false if it can't be told or there is none.
func (s *keySpec) end(first int, args [][]byte) (last, step int, ok bool) {
	if s.unknown || slices.Contains(s.flags, "incomplete") {
		return 0, 0, false
	}
	switch {
	case s.keynum:
		at := first + s.a
		if at >= len(args) {
			return 0, 0, false
		}
		n, ok := parseInt(args[at])
		if !ok || n < 0 || n > int64(len(args)) {
			return 0, 0, false
		}
		first += s.b
		last, step = first+int(n)-1, s.c
	case s.a >= 0:
		last, step = first+s.a, s.b
	case s.c == 0:
		last, step = len(args)+s.a, s.b
	default:
		last, step = first+(len(args)-first)/s.c+s.a, s.b
	}
	return last, step, first <= last && last < len(args)
}
