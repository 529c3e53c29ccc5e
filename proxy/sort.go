package proxy

import (
	"bytes"
	"strings"

	"keyferry/internal/resp"
	"keyferry/router"
)

// sort runs SORT and SORT_RO. The patterns of BY and GET name other keys by what is in the
// sorted one: as in a Redis Cluster since 7.4, a hash tag has to keep those in its slot. While
// the slot moves such a SORT is treated as a script, which does not name all its keys either.
//
// A pattern without a hash tag names keys in any slot, of which only those would be found that
// are at this server: a wrong result that nobody notices is worse than an error.
func (c *call) sort() {
	s, cmd, args, keys := c.s, c.cmd, c.args, c.keys
	l := s.l
	slot, ok := c.oneSlot()
	if !ok {
		return
	}
	unnamed, bad := sortsByPattern(l.table.Scheme, args)
	if bad != "" {
		c.refuse(bad)
		return
	}
	if unnamed {
		l.srv.scripted.note(slot)
	}
	r := c.begin()
	r.op = plain{unnamed}
	c.observe(r)
	l.place(r, s.db, slot, appendKeys(nil, s.db, cmd, args, keys), resp.AppendRequest(nil, args...))
}

// sortsByPattern reports whether a SORT looks into keys that its arguments only give a pattern
// for, and what is wrong with it if these may be in another slot. A pattern without "*" names
// no key: BY does not sort then, and GET is nil.
func sortsByPattern(scheme router.Scheme, args [][]byte) (unnamed bool, bad string) {
	slot := scheme.Slot(args[1])
	for i := 2; i+1 < len(args); i++ {
		switch option := strings.ToUpper(string(args[i])); option {
		case "BY", "GET":
			i++
			if bytes.IndexByte(args[i], '*') < 0 {
				continue
			}
			if scheme.PatternSlot(args[i]) != slot {
				return false, "ERR " + option + " option of SORT denied in Cluster mode when keys formed by the pattern may be in different slots."
			}
			unnamed = true
		case "LIMIT":
			i += 2
		case "STORE":
			i++
		}
	}
	return unnamed, ""
}
