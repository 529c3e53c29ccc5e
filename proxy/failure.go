package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"keyferry/internal/resp"
)

// failure is the reply of a command of which the part bad has failed. A part knows of itself only,
// and a client is told about the whole:
//
//	no part was executed, or none is known of         what the part says
//	the command only reads                            what it says; nothing was changed
//	some parts were executed, or may have been        its error, then which were, which may have
//	                                                  been, and which were not
//
// TRYAGAIN promises that nothing was executed, and clients repeat by it: it becomes ERR then. Any
// other first word is the server's, and stays.
func (g *gather) failure(bad *request) []byte {
	ends := make([]partEnd, len(g.parts))
	var count [partEnds]int
	for i, p := range g.parts {
		ends[i] = p.partEnd()
		count[ends[i]]++
	}
	if count[partNot] == len(ends) || count[partMaybe] == len(ends) {
		return bytes.Clone(bad.reply)
	}
	text := string(bytes.TrimSuffix(bad.reply[1:], []byte("\r\n")))
	if bad.cmd.Flags&resp.Readonly != 0 {
		if rest, said := strings.CutSuffix(text, nothingExecuted); said {
			text = rest + "; nothing was changed"
		}
		return resp.AppendErr(nil, text)
	}
	if rest, promises := strings.CutPrefix(text, "TRYAGAIN "); promises {
		text = "ERR " + rest
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, nothingExecuted), outcomeUnknown)
	said := "; it was "
	for end, how := range [partEnds]string{partDone: "executed", partMaybe: "perhaps executed", partNot: "not executed"} {
		if count[end] > 0 {
			text += said + how + g.those(ends, partEnd(end))
			said = ", "
		}
	}
	return resp.AppendErr(nil, text)
}

// partEnd is how a part of a command has ended.
type partEnd uint8

const (
	partDone  partEnd = iota
	partMaybe         // its answer is lost
	partNot           // it was not sent, or its server has refused it
	partEnds
)

// partEnd: an error of a server means that this part was not executed, as a command of Redis either
// is or is refused. One of the gateway's own says by the fate whether it had been sent.
func (r *request) partEnd() partEnd {
	switch {
	case r.fate == fateUnknown:
		return partMaybe
	case r.fate == fateNothing, len(r.reply) > 0 && r.reply[0] == '-':
		return partNot
	}
	return partDone
}

// partsNamed is how many groups, or runs of keys, an error names.
const partsNamed = 16

// those names the parts that have ended so: " at groups a, b" or " for keys 1,3-5 of 7". Keys are
// counted from 1 in the order in which the client gave them: names would be of any length.
func (g *gather) those(ends []partEnd, end partEnd) string {
	var names []string
	if g.groups != nil {
		for i, e := range ends {
			if e == end {
				names = append(names, g.groups[i])
			}
		}
		return " at group " + listed(names, ", ")
	}
	for i := 0; i < len(g.order); i++ {
		if ends[g.order[i]] != end {
			continue
		}
		first := i
		for i+1 < len(g.order) && ends[g.order[i+1]] == end {
			i++
		}
		name := strconv.Itoa(first + 1)
		if i > first {
			name += "-" + strconv.Itoa(i+1)
		}
		names = append(names, name)
	}
	return " for key " + listed(names, ",") + " of " + strconv.Itoa(len(g.order))
}

// listed joins names, the first of them if they are many.
func listed(names []string, by string) string {
	if n := len(names); n > partsNamed {
		return strings.Join(names[:partsNamed], by) + by + "… (" + strconv.Itoa(n) + ")"
	}
	return strings.Join(names, by)
}
