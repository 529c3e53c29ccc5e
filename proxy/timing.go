package proxy

import (
	"time"

	"keyferry/internal/resp"
	"keyferry/proxy/stats"
)

// observe puts o into force on this loop.
//
// A password that is taken away lets in those who wait at the door; one that is set throws
// nobody out.
func (l *loop) observe(o *Options) {
	if l.opt != nil && l.opt.Password != "" && o.Password == "" {
		for s := range l.clients.all {
			s.modes.authed = true
		}
	}
	l.opt = o
	l.parking.Limits = o.parkingLimits()
	l.rec.Configure(&o.Config)
}

// clock reads the clock, at the start of an event.
//
// Once for each event, however many commands it brings. What is answered within one event so
// took no time; what is measured is waiting.
func (l *loop) clock() {
	l.now = time.Now()
	l.ns = int64(l.now.Sub(l.srv.stats.shared.Started))
}

// keep keeps what the slow log would show of a request.
//
// The beginning of the frame is kept only while there is a slow log: it is a copy for each
// command.
func (l *loop) keep(r *request, frame []byte) {
	r.span.Queued = r.s.input.waited
	if l.rec.Big.Is(len(frame)) {
		l.rec.Big.Note(r.s.db, frame, len(frame), l.now)
	}
	l.rec.Keep(&r.span, frame)
}

// timed counts a request whose last bytes, b, have come.
func (l *loop) timed(r *request, b []byte) {
	if r.span.Begun == 0 {
		return // it is an answer of the gateway's own, counted when it was given
	}
	switch {
	case r.state == requestStreaming:
		b = nil // its first bytes, which tell an error, are with the client
	case r.reply != nil:
		b = r.reply
	}
	if !l.rec.Done(&r.span, r.cmd, b, l.ns, r.motion != nil) {
		return
	}
	from := stats.Sender{ClientAddr: r.s.who.addr, ClientName: r.s.who.name}
	if r.pipe != nil {
		from.Group = r.pipe.Group
	}
	l.rec.Notable(&r.span, r.cmd, from, l.ns, l.now)
}

// sample looks at a command with keys, of which Hot.Due has said that it may be one to look at.
func (l *loop) sample(db int, cmd *resp.Command, args [][]byte, keys []int) {
	if !l.rec.Hot.Pick() {
		return
	}
	for _, k := range keys[:min(len(keys), stats.SampledKeys)] {
		l.rec.Hot.Add(db, args[k], l.table.Scheme.Slot(args[k]), cmd.Flags&resp.Write != 0)
	}
}
