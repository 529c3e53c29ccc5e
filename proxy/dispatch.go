package proxy

import (
	"bytes"
	"fmt"
	"strings"

	"keyferry/internal/resp"
	"keyferry/internal/upstream"
	"keyferry/router"
	"keyferry/slotlock"
)

// command runs one request. args and frame alias the input and are valid during the call
// only; an inline frame is not in the form that servers are sent.
func (s *session) command(args [][]byte, frame []byte, inline bool) {
	l := s.l
	s.commands++
	l.n.total++
	cmd, bad := resp.Resolve(args)
	if bad != "" {
		s.reject(bad)
		return
	}
	s.lastCmd = cmd
	l.n.commands[cmd.Index]++
	if !s.authed && cmd.Flags&resp.NoAuth == 0 {
		s.reject("NOAUTH Authentication required.")
		return
	}
	var keys []int
	if cmd.Serve != resp.Local && cmd.Serve != resp.Refused {
		var err error
		if keys, err = cmd.AppendKeys(l.keyIndex[:0], args); err != nil {
			s.reject("ERR " + err.Error())
			return
		}
		l.keyIndex = keys
		if why := refusedForm(cmd, args); why != "" {
			s.reject(why)
			return
		}
	}
	outcome, slot := l.table.Route(cmd, args, keys)
	if inline && (outcome == router.Serve || outcome == router.Resolve) {
		l.scratch = resp.AppendRequest(l.scratch[:0], args...)
		frame = l.scratch
	}
	switch outcome {
	case router.Serve:
		r := l.newRequest(s, cmd)
		s.queue.push(r)
		p := l.pipe(l.table.Slots[slot].Owner, s.db)
		s.lastPipe = p
		l.send(r, p, frame)
	case router.Resolve:
		r := l.newRequest(s, cmd)
		s.queue.push(r)
		m := l.newMotion(slot, s.db)
		for _, k := range keys {
			m.keys = append(m.keys, slotlock.Key{DB: s.db, Name: string(args[k])})
		}
		l.move(r, m, frame)
	case router.Split:
		l.split(s, cmd, args, keys)
	case router.CrossSlot:
		l.n.crossSlot++
		s.reject("CROSSSLOT Keys in request don't hash to the same slot")
	case router.Unserved:
		s.reject(unservedText(slot))
	case router.Anywhere, router.Everywhere:
		s.keyless(cmd, args, outcome == router.Everywhere)
	case router.Local:
		s.local(cmd, args)
	case router.Refuse:
		s.reject(fmt.Sprintf("ERR '%s' is not supported through the gateway", cmd.Name))
	}
}

func unservedText(slot int) string {
	return fmt.Sprintf("CLUSTERDOWN Hash slot %d is not served by any group", slot)
}

// refusedForm names the reason for which this form of a served command is not served.
func refusedForm(cmd *resp.Command, args [][]byte) string {
	if resp.BlocksNow(cmd, args) {
		return fmt.Sprintf("ERR blocking '%s' is not supported through the gateway", cmd.Name)
	}
	if cmd.Name == "copy" {
		for _, a := range args[3:] {
			if len(a) == 2 && (a[0]|0x20) == 'd' && (a[1]|0x20) == 'b' {
				return "ERR 'copy' with DB is not supported through the gateway"
			}
		}
	}
	if (cmd.Name == "sort" || cmd.Name == "sort_ro") && sortsByOtherKeys(args) {
		return "ERR BY and GET patterns of '" + cmd.Name + "' are not supported through the gateway: the keys that they name may be on another server"
	}
	return ""
}

// sortsByOtherKeys reports whether a SORT looks into keys that its arguments only give a
// pattern for.
func sortsByOtherKeys(args [][]byte) bool {
	for i := 2; i+1 < len(args); i++ {
		switch strings.ToLower(string(args[i])) {
		case "by":
			if bytes.IndexByte(args[i+1], '*') >= 0 {
				return true
			}
			i++
		case "get":
			if string(args[i+1]) != "#" {
				return true
			}
			i++
		case "limit":
			i += 2
		case "store":
			i++
		}
	}
	return false
}

func (s *session) reject(text string) {
	s.l.n.errorReplies++
	s.answer(resp.AppendErr(nil, text))
}

func (l *loop) send(r *request, p *upstream.Pipe, frame []byte) {
	r.flying = true
	p.Send(r, frame)
}
