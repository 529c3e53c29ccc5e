package resp

import (
	"slices"
)

// KeysAndFlags answers COMMAND GETKEYSANDFLAGS for a request, which has at least its name.
func (w *Writer) KeysAndFlags(args [][]byte) {
	c, keys, bad := requestKeys(args)
	if bad != "" {
		w.Err(bad)
		return
	}
	w.Array(len(keys))
	for i, k := range keys {
		w.Array(2)
		w.Bulk(args[k])
		flags := c.keyFlags(args, i, k)
		w.Set(len(flags))
		for _, f := range flags {
			w.Status(f)
		}
	}
}

// keyFlags are what a request does with its key at index, the nth that getKeys gives.
func (c *Command) keyFlags(args [][]byte, nth, index int) []string {
	for i := range c.specs {
		s := &c.specs[i]
		first, last, step, ok := s.keys(args)
		if !ok {
			break
		}
		if index >= first && index <= last && (index-first)%step == 0 {
			if slices.Contains(s.flags, "variable_flags") {
				return variableFlags(c, args)
			}
			return s.flags
		}
	}
	if c.Name == "sort" && nth > 0 { // its destination
		return []string{"OW", "update"}
	}
	return c.specs[0].flags
}

// variableFlags are those of SET and BITFIELD, which depend on options.
func variableFlags(c *Command, args [][]byte) []string {
	option := func(word string, from int) bool {
		return slices.ContainsFunc(args[from:], func(a []byte) bool { return isName(a, word) })
	}
	switch {
	case c.Name == "set" && !option("get", 3):
		return []string{"OW", "update"}
	case c.Name == "bitfield" && !option("set", 2) && !option("incrby", 2):
		return []string{"RO", "access"}
	}
	return []string{"RW", "access", "update"}
}
