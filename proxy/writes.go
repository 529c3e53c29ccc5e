package proxy

import "keyferry/internal/resp"

// The control plane can have writes refused, when the slots that the loops route by may be of another time
// (migrator.CheckStamps). Reads are served: they change nothing, most slots are where they were, and an
// application that gets errors for its writes does not take a key that it misses for one to be made.
//
// What a loop goes by is its own copy of the reason, which changes by message only: the path of a command costs
// a look at its length. Commands are asked before CLIENT PAUSE holds them up, since an answer that says why is
// worth more than none; and before MULTI queues them, so that EXEC runs nothing of such a transaction.
//
//	migrator ─► RefuseWrites ─► each loop ─► admit ─► -MISCONF keyferry refuses writes: …

// RefuseWrites has every loop refuse what writes, and say why; "" ends that. What is at servers already
// goes on.
func (s *Server) RefuseWrites(why string) {
	if why != "" {
		why = "MISCONF keyferry refuses writes: " + why
	}
	s.pauses.mu.Lock()
	defer s.pauses.mu.Unlock()
	s.pauses.refusal.Store(&why)
	for _, l := range s.allLoops() {
		l.post(func() { l.setRefusal(why) })
	}
}

// refusal is for loops that are yet to come, and for INFO.
func (s *Server) refusal() string {
	if why := s.pauses.refusal.Load(); why != nil {
		return *why
	}
	return ""
}

// setRefusal: blocked clients, and what waits for a key in motion, stay as they are: they were let in before.
// What a client has queued since MULTI was admitted before, and EXEC must not run it.
func (l *loop) setRefusal(why string) {
	l.clients.refusal = why
	if why == "" {
		return
	}
	for s := range l.clients.all {
		if s.tx != nil && (s.tx.writes || s.tx.scripts) {
			s.tx.broken = true
		}
	}
}

// writes reports that a command may change data. EXEC does not, since each of what it runs has been asked
// about. Of functions it is not known what they declare: FCALL_RO is for those that write nothing.
func (c *call) writes() bool {
	if c.cmd.Serve == resp.Script {
		flags := c.s.l.srv.declares(c.cmd, c.args)
		return !flags.noWrites && c.cmd.Flags&resp.Readonly == 0
	}
	return c.cmd.Flags&resp.Write != 0 && c.cmd != execCommand
}
