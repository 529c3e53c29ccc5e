package proxy

// push sends a message that is no reply, between two replies.
//
// A reply that streams must not be torn: what comes meanwhile is kept, in its order, and
// written behind it.
func (s *session) push(msg []byte) {
	if s.life == lifeGone {
		return
	}
	if front := s.queue.front(); len(s.out.pushes) > 0 || front != nil && front.state == requestStreaming {
		s.out.held += len(msg)
		s.out.pushes = append(s.out.pushes, append([]byte(nil), msg...))
		return
	}
	s.write(msg)
}

// pushBehind is push behind the replies to all commands that the client has in flight, so
// that it does not learn of the change of a value before it gets the old one.
//
// It takes a place in the queue like a reply. A client that blocks is told at once: its reply
// may never come.
func (s *session) pushBehind(msg []byte) {
	if s.life == lifeGone {
		return
	}
	if s.queue.n == 0 || s.blocks() {
		s.push(msg)
		return
	}
	r := s.l.newRequest(s, nil)
	r.span.Begun = 0 // no command
	s.queue.push(r)
	r.finish(msg)
}

// writePushes writes the messages that waited for the end of a reply.
func (s *session) writePushes() {
	if len(s.out.pushes) == 0 {
		return
	}
	if front := s.queue.front(); front != nil && front.state == requestStreaming {
		return
	}
	for _, msg := range s.out.pushes {
		s.out.held -= len(msg)
		s.write(msg)
	}
	s.out.pushes = nil
}
