package proxy

import (
	"strings"

	"keyferry/internal/resp"
)

// call is one command of a client: what it says, and what has become of it so far.
//
//	bytes ─► process ─► call ─► admit ─► handler ─► answer, or a request that outlives it
//
// Who touches it: the loop's goroutine only. It is made by session.process, which uses the
// same one for each command that it parses, so that a command on a stable slot costs no
// allocation. Everything that acts for a command is given its call; nothing on the loop or
// the session says which command is at hand.
//
// Lifetime: until serve returns. args, frame and keys alias the client's input and the
// loop's scratch memory, and the call itself is overwritten by the next command. So what
// goes on later (a request's operation, a function that a goroutine runs or that joins
// replies) must have copied what it needs of it.
type call struct {
	s      *session
	cmd    *resp.Command // nil: there is no such command, or it has too many or few arguments
	args   [][]byte
	frame  []byte // as it came; from execute on in the form that servers are sent
	inline bool   // it did not come in that form
	keys   []int  // which of args are keys; found by execute

	executed *transaction // what EXEC runs, for MONITOR to show

	counted bool // it has been answered, or has a request, and is counted by that
	refused bool // it was answered with an error and not executed
	atOnce  bool // the gateway has answered it by itself, with no request
	muted   bool // CLIENT REPLY: the client does not see the reply
}

// takeCall gives out the loop's call. Commands don't nest: the second one that is asked for
// while the first is out costs an allocation, and harms nothing.
func (l *loop) takeCall() *call {
	c := l.spares.call
	if c == nil {
		return &call{}
	}
	l.spares.call = nil
	return c
}

// putCall takes it back. It keeps no session and no input alive.
//
// Cleared, so that a handler that kept the call by mistake fails at once, and not with another
// client's command.
func (l *loop) putCall(c *call) {
	*c = call{}
	l.spares.call = c
}

// begin makes the request of a command that is answered later. It takes its place in the
// session's queue now, which is what keeps replies in the order of the commands.
//
// Whatever the command does next, its place is fixed: also if it fails at once, or is answered
// by a goroutine much later.
func (c *call) begin() *request {
	s := c.s
	l := s.l
	c.counted = true // the request's reply counts, and not an answer
	r := l.newRequest(s, c.cmd)
	l.keep(r, c.frame)
	r.muted = c.muted
	s.queue.push(r)
	return r
}

// answer gives the whole reply of a command that the gateway answers by itself.
//
// A handler may have begun a request and answer by it instead; then the command is counted by
// that, with its time, and not here. Muted replies are counted too: CLIENT REPLY changes what
// is sent and not what has happened.
func (c *call) answer(reply []byte) {
	s := c.s
	cmd := c.cmd
	if c.counted {
		cmd = nil
	}
	c.atOnce = !c.counted
	c.counted = true
	s.l.rec.CountAnswer(cmd, reply)
	if c.muted {
		reply = nil
	}
	s.enqueueReply(reply)
}

// reject answers a command with an error. It was executed, and failed.
//
// INFO commandstats tells the two apart as Redis does: this is a failed call, refuse a
// rejected one.
func (c *call) reject(text string) { c.answer(resp.AppendErr(nil, text)) }

// refuse answers a command with an error instead of executing it: it counts as rejected,
// and MONITOR does not show it.
func (c *call) refuse(text string) {
	c.counted, c.refused = true, true
	c.s.l.rec.Calls.CountRejected(c.args)
	c.reject(text)
}

// async queues a reply that f makes off the loop; f may block for a short while, and must
// not touch the session.
//
// For what has to look at other loops (call must not be used on a loop) or at servers. Later
// commands of the client may overtake it, if they are answered at once: their replies wait,
// but what they do is done. Where that matters, laterHeld.
func (c *call) async(f func() []byte) *request {
	l := c.s.l
	r := c.begin()
	l.srv.life.wg.Go(func() {
		reply := f()
		l.post(func() { r.finish(reply) })
	})
	return r
}

// later is async for a reply that is written field by field.
func (c *call) later(f func(w *resp.Writer)) *request {
	proto := c.s.proto
	return c.async(func() []byte {
		w := &resp.Writer{Proto: proto}
		f(w)
		return w.B
	})
}

// laterHeld is later for what the client's next commands must find done.
func (c *call) laterHeld(f func(w *resp.Writer)) { c.s.hold = c.later(f) }

// wrongArity: for what the table's arity lets through although it makes no sense.
func (c *call) wrongArity(name string) {
	c.reject("ERR wrong number of arguments for '" + name + "' command")
}

// badSubcommand is what Redis says of a subcommand's arguments when it doesn't say more.
func (c *call) badSubcommand() {
	sub := c.args[1]
	c.reject("ERR unknown subcommand or wrong number of arguments for '" + string(sub[:min(len(sub), 128)]) + "'. Try " + strings.ToUpper(string(c.args[0])) + " HELP.")
}
