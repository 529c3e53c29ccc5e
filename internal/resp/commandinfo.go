package resp

import "github.com/tidwall/redcon"

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

// AppendGetKeys appends the reply to COMMAND GETKEYS for a request.
func AppendGetKeys(b []byte, args [][]byte) []byte {
	c := Lookup(args[0])
	if c != nil && c.Subs != nil && len(args) > 1 {
		c = c.Sub(args[1])
	}
	switch {
	case c == nil:
		return AppendErr(b, "ERR Invalid command specified")
	case c.find == noKeys:
		return AppendErr(b, "ERR The command has no key arguments")
	case !c.ArityOK(len(args)):
		return AppendErr(b, "ERR Invalid number of arguments specified for command")
	}
	keys, err := c.AppendKeys(nil, args)
	if err != nil {
		return AppendErr(b, "ERR "+err.Error())
	}
	if len(keys) == 0 {
		if c.Flags&NoMandatoryKeys != 0 {
			return redcon.AppendArray(b, 0)
		}
		return AppendErr(b, "ERR "+errArguments.Error())
	}
	b = redcon.AppendArray(b, len(keys))
	for _, k := range keys {
		b = redcon.AppendBulk(b, args[k])
	}
	return b
}
