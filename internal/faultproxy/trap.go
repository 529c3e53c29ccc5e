package faultproxy

import (
	"strings"
	"sync"

	"keyferry/internal/resp"
)

// Action is what a trap does to a command that it matches.
type Action uint8

const (
	// DropReply lets the server execute the command and keeps back its reply and all
	// that follows on that connection; the client sees silence.
	DropReply Action = iota
	// DropReplyAndCut lets the server execute the command and resets the connection
	// in place of the reply.
	DropReplyAndCut
	// CutBefore resets the connection before the server sees the command.
	CutBefore
	// HoldRequest keeps the command and all behind it from the server for as long as
	// the connection stands.
	HoldRequest
	// Answer keeps the command from the server and gives Reply in its name. It acts only
	// when the command came in one piece and no reply is awaited before it.
	Answer
)

// Trap waits for commands of clients.
type Trap struct {
	Match  func(args [][]byte) bool
	Action Action
	Times  int    // how often it acts; 0: always
	Skip   int    // matches before it begins to act
	Reply  string // of Answer, in RESP

	hits int
}

// Command matches commands by name, and by their first argument if that is given, both
// in any case.
func Command(words ...string) func([][]byte) bool {
	return func(args [][]byte) bool {
		for i, w := range words {
			if i >= len(args) || !strings.EqualFold(string(args[i]), w) {
				return false
			}
		}
		return true
	}
}

// SetTraps replaces the traps. The first that matches a command acts. A connection that
// has subscribed or turned replies off is not looked at any more, since its replies can't
// be told from each other.
func (p *Proxy) SetTraps(traps ...Trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = nil
	for _, t := range traps {
		p.traps = append(p.traps, &t)
	}
}

// Sprung is how often traps have acted since they were set.
func (p *Proxy) Sprung() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.traps {
		n += t.hits
	}
	return n
}

// spring finds the trap of a command. alone: it can be answered here.
func (p *Proxy) spring(args [][]byte, alone bool) *Trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.traps {
		if t.Times > 0 && t.hits >= t.Times || t.Action == Answer && !alone || !t.Match(args) {
			continue
		}
		if t.Skip > 0 {
			t.Skip--
			continue
		}
		t.hits++
		return t
	}
	return nil
}

// tap follows the requests and replies of one connection, so that a reply can be told by
// its number.
type tap struct {
	p      *Proxy
	answer func([]byte) // to the client

	mu       sync.Mutex // protects all that follows
	blind    bool       // replies can't be counted (any more)
	buf      []byte     // an unfinished request; its bytes have been sent on already
	req      resp.RequestScanner
	rep      resp.ReplyScanner
	requests int64
	replies  int64
	dropAt   int64 // number of the reply to drop; 0: none
	drop     Action
}

// see takes what was read and gives what is to be written.
func (t *tap) see(d Direction, b []byte) []chunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blind {
		return []chunk{{bytes: b}}
	}
	if d == ToServer {
		return t.seeRequests(b)
	}
	return t.seeReplies(b)
}

func (t *tap) seeRequests(b []byte) []chunk {
	before := len(t.buf) // bytes of the frame that were sent on earlier
	t.buf = append(t.buf, b...)
	var out []chunk
	sent, at := 0, 0 // of b; of t.buf
	for {
		n, st := t.req.Scan(t.buf[at:])
		args := t.req.Args()
		if st == resp.Invalid || st == resp.OK && len(args) > 0 && t.uncountable(args) {
			t.blind, t.buf = true, nil
			return append(out, chunk{bytes: b[sent:]})
		}
		if st == resp.Again {
			if at > 0 {
				t.buf = append([]byte(nil), t.buf[at:]...)
			}
			return append(out, chunk{bytes: b[sent:]})
		}
		from := max(0, at-before)
		at += n
		if len(args) == 0 {
			continue
		}
		trap := t.p.spring(args, at-n >= before && t.replies == t.requests)
		if trap == nil {
			t.requests++
			continue
		}
		out = append(out, chunk{bytes: b[sent:from]})
		sent = from
		switch trap.Action {
		case Answer:
			sent = at - before
			t.answer([]byte(trap.Reply))
		case CutBefore:
			t.blind = true
			return append(out, chunk{cut: true})
		case HoldRequest:
			t.blind = true
			return append(out, chunk{wall: true})
		default:
			t.requests++
			if t.dropAt == 0 {
				t.dropAt, t.drop = t.requests, trap.Action
			}
		}
	}
}

func (t *tap) seeReplies(b []byte) []chunk {
	for at := 0; at < len(b); {
		if t.dropAt > 0 && t.replies+1 == t.dropAt {
			return t.swallow(b, at)
		}
		n, st := t.rep.Scan(b[at:])
		at += n
		if st == resp.Invalid {
			t.blind = true
			break
		}
		if st == resp.OK && t.rep.Type() != '>' { // pushes answer nothing
			t.replies++
		}
	}
	return []chunk{{bytes: b}}
}

// swallow keeps back the reply that begins at b[at]. The command has been executed by the
// time that its reply begins.
func (t *tap) swallow(b []byte, at int) []chunk {
	t.blind = true
	t.p.mu.Lock()
	t.p.stats.Swallowed++
	t.p.mu.Unlock()
	end := chunk{wall: true}
	if t.drop == DropReplyAndCut {
		end = chunk{cut: true}
	}
	return []chunk{{bytes: b[:at]}, end}
}

// uncountable reports commands after which replies can't be told by their number.
func (t *tap) uncountable(args [][]byte) bool {
	switch strings.ToUpper(string(args[0])) {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC", "PSYNC":
		return true
	case "CLIENT":
		return len(args) > 1 && strings.EqualFold(string(args[1]), "REPLY")
	}
	return false
}
