package resp

import (
	"slices"
	"strings"

	"github.com/tidwall/redcon"
)

// CommandInfo appends one element of the reply to COMMAND and COMMAND INFO.
func (w *Writer) CommandInfo(c *Command) {
	w.Array(10)
	w.Text(c.Name)
	w.Int(int64(c.Arity))
	w.statuses(c.flags)
	w.Int(int64(c.FirstKey))
	w.Int(int64(c.LastKey))
	w.Int(int64(c.KeyStep))
	w.statuses(c.acl)
	w.Set(len(c.tips))
	for _, t := range c.tips {
		w.Text(t)
	}
	w.Set(len(c.specs))
	for i := range c.specs {
		w.keySpec(&c.specs[i])
	}
	if len(c.Subs) == 0 {
		w.Set(0) // as Redis has it
	} else {
		w.Array(len(c.Subs))
	}
	for _, s := range c.Subs {
		w.CommandInfo(s)
	}
}

// statuses appends a set of words.
func (w *Writer) statuses(words []string) {
	w.Set(len(words))
	for _, x := range words {
		w.Status(x)
	}
}

func (w *Writer) keySpec(s *keySpec) {
	if s.notes != "" {
		w.Map(4)
		w.Text("notes")
		w.Text(s.notes)
	} else {
		w.Map(3)
	}
	w.Text("flags")
	w.statuses(s.flags)
	w.Text("begin_search")
	switch {
	case s.unknown:
		w.search("unknown")
	case s.keyword != "":
		w.search("keyword", "keyword", s.keyword, "startfrom", s.startFrom)
	default:
		w.search("index", "index", s.index)
	}
	w.Text("find_keys")
	switch {
	case s.unknown:
		w.search("unknown")
	case s.keynum:
		w.search("keynum", "keynumidx", s.a, "firstkey", s.b, "keystep", s.c)
	default:
		w.search("range", "lastkey", s.a, "keystep", s.b, "limit", s.c)
	}
}

// search appends one half of a key specification: its type and its fields.
func (w *Writer) search(kind string, fields ...any) {
	w.Map(2)
	w.Text("type")
	w.Text(kind)
	w.Text("spec")
	w.Map(len(fields) / 2)
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			w.Text(f)
		case int:
			w.Int(int64(f))
		}
	}
}

// CommandDocs appends the value of one command in the reply to COMMAND DOCS. Argument
// trees are left out.
func (w *Writer) CommandDocs(c *Command) {
	var kv [][2]string
	for _, p := range [][2]string{{"summary", c.Summary}, {"since", c.Since}, {"group", c.Group}, {"complexity", c.Complexity}} {
		if p[1] != "" {
			kv = append(kv, p)
		}
	}
	n := len(kv)
	if len(c.Subs) > 0 {
		n++
	}
	w.Map(n)
	for _, p := range kv {
		w.Text(p[0])
		w.Text(p[1])
	}
	if len(c.Subs) > 0 {
		w.Text("subcommands")
		w.Map(len(c.Subs))
		for _, s := range c.Subs {
			w.Text(s.Name)
			w.CommandDocs(s)
		}
	}
}

// AppendGetKeys appends the reply to COMMAND GETKEYS for a request, which has at least its
// name. It differs from Redis where numkeys is not a number in Redis's own form: " 2", which
// COMMAND GETKEYS reads and every command refuses, is refused.
func AppendGetKeys(b []byte, args [][]byte) []byte {
	_, keys, bad := requestKeys(args)
	if bad != "" {
		return AppendErr(b, bad)
	}
	b = redcon.AppendArray(b, len(keys))
	for _, k := range keys {
		b = redcon.AppendBulk(b, args[k])
	}
	return b
}

// requestKeys are the command of a request and the indexes of its keys; bad says why not.
func requestKeys(args [][]byte) (c *Command, keys []int, bad string) {
	if c = Lookup(args[0]); c != nil && c.Subs != nil && len(args) > 1 {
		c = c.Sub(args[1])
	}
	switch {
	case c == nil:
		return c, nil, "ERR Invalid command specified"
	case !c.hasKeySpec():
		return c, nil, "ERR The command has no key arguments"
	case !c.ArityOK(len(args)):
		return c, nil, "ERR Invalid number of arguments specified for command"
	}
	if keys = c.getKeys(args); len(keys) == 0 && c.Flags&NoMandatoryKeys == 0 {
		bad = "ERR " + errArguments.Error()
	}
	return c, keys, bad
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
		first, last, step, ok := s.keys(args)
		if !ok && c.find == fixedKeys {
			return nil
		}
		if !ok {
			keys, _ = c.AppendKeys(nil, args)
			return keys
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

// keys are the keys of a request: every step-th argument from first to last, which is less
// where it has none. false: it can't be told.
func (s *keySpec) keys(args [][]byte) (first, last, step int, ok bool) {
	if first = s.begin(args); first == 0 || s.notKeys() {
		return 1, 0, 1, true
	}
	last, step, ok = s.end(first, args)
	if s.keynum {
		first += s.b
	}
	return first, last, step, ok
}

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
