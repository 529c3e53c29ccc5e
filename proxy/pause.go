package proxy

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"keyferry/internal/resp"
)

// pauseMode is what CLIENT PAUSE holds up. A greater one holds up more.
//
// A loop's mode is its own copy, which the path of each command reads: it changes by message
// only.
type pauseMode uint8

const (
	pauseNone  pauseMode = iota
	pauseWrite           // commands that may write
	pauseAll
)

// clientsPaused is CLIENT PAUSE of the whole gateway; loops have its mode.
//
// Who touches it: any goroutine, under the mutex of Server.pauses. Posts to the loops happen
// under it too, so that every loop has the modes in the order in which they were decided.
// Loops that come later read pauses.mode.
type clientsPaused struct {
	mode  pauseMode
	until time.Time
	timer *time.Timer // that ends it
}

// pauseMax bounds a pause: beyond it a timer could not count.
const pauseMax = math.MaxInt64 / int64(time.Millisecond) / 2

// clientPause is answered when the pause is in force, and nothing that it holds up is under way: who
// pauses in order to promote a replica needs exactly that.
func (c *call) clientPause() {
	s, args := c.s, c.args[2:]
	ms, ok := resp.Integer(args[0])
	mode := pauseAll
	switch {
	case len(args) > 2:
		c.badSubcommand()
		return
	case len(args) == 2:
		switch strings.ToLower(string(args[1])) {
		case "write":
			mode = pauseWrite
		case "all":
		default:
			c.reject("ERR CLIENT PAUSE mode must be WRITE or ALL")
			return
		}
	}
	switch {
	case !ok:
		c.reject("ERR timeout is not an integer or out of range")
		return
	case ms < 0:
		c.reject("ERR timeout is negative")
		return
	}
	d := time.Duration(min(ms, pauseMax)) * time.Millisecond
	srv := s.l.srv
	c.laterHeld(func(w *resp.Writer) {
		srv.pauseClients(srv.life.ctx, mode, d)
		w.OK()
	})
}

// pauseClients holds up clients for d, or makes a pause that there is longer and stricter,
// never less, as Redis does. It returns when every loop goes by it and what these had sent
// to servers has been answered, but no later than d. Not for a loop's goroutine.
//
// Commands that blocked clients wait in are not waited for. What is parked for a key in motion
// still runs when the key comes: it was taken before the pause.
func (s *Server) pauseClients(ctx context.Context, mode pauseMode, d time.Duration) {
	s.pauses.mu.Lock()
	p := &s.pauses.now
	p.mode = max(p.mode, mode)
	if end := time.Now().Add(d); end.After(p.until) {
		p.until = end
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	until := p.until
	p.timer = time.AfterFunc(time.Until(until), func() { s.unpauseAt(until) })
	mode = p.mode
	s.pauses.mode.Store(int32(mode))
	loops := s.allLoops()
	drained := make(chan struct{}, len(loops))
	for _, l := range loops {
		l.post(func() {
			l.setPause(mode)
			l.parking.Await(l.sharedMarks(), func() { drained <- struct{}{} })
		})
	}
	s.pauses.mu.Unlock()
	if mode == pauseWrite { // the pause does not wait for it
		s.life.wg.Go(s.learnFunctions)
	}
	end := time.NewTimer(d)
	defer end.Stop()
	for range loops {
		select {
		case <-drained:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// unpause ends the pause; nothing is left of it when it returns. Not for a loop's goroutine.
func (s *Server) unpause(ctx context.Context) {
	s.unpauseAt(time.Time{})
	s.each(ctx, func(*loop) {})
}

// unpauseAt ends the pause that was to end then; any pause if that is zero.
//
// A timer that fires late must not end a longer pause that was begun meanwhile: it says which
// end it was set for.
func (s *Server) unpauseAt(until time.Time) {
	s.pauses.mu.Lock()
	defer s.pauses.mu.Unlock()
	if p := &s.pauses.now; until.IsZero() || !p.until.After(until) {
		if p.timer != nil {
			p.timer.Stop()
		}
		s.pauses.now = clientsPaused{}
		s.pauses.mode.Store(int32(pauseNone))
		s.pauses.functions.Store(nil)
		for _, l := range s.allLoops() {
			l.post(func() { l.setPause(pauseNone) })
		}
	}
}

// isPaused: for INFO, off the loops.
func (s *Server) isPaused() bool {
	s.pauses.mu.Lock()
	defer s.pauses.mu.Unlock()
	return s.pauses.now.mode != pauseNone
}

// setPause: only a weaker pause can let anybody go on; clients are tried again, and those that still
// have to wait stop at once.
func (l *loop) setPause(mode pauseMode) {
	less := mode < l.clients.pause
	l.clients.pause = mode
	if less {
		for s := range l.clients.all {
			s.wantResume()
		}
	}
}

// postponed reports that a pause holds up the command. CLIENT UNPAUSE it never does, which
// is the only way back for who paused everything for too long.
//
// EXEC is as its transaction is. Commands behind MULTI are asked by themselves, before they
// are queued.
func (c *call) postponed() bool {
	s, cmd := c.s, c.cmd
	switch {
	case s.l.clients.pause == pauseAll:
		return cmd.Traits&resp.EndsPause == 0
	case cmd == execCommand:
		return s.tx != nil && s.tx.mayWrite(s.l.srv)
	}
	if flags := s.l.srv.declares(cmd, c.args); flags.known {
		return !flags.noWrites
	}
	return mayWrite(cmd)
}

// mayWrite: functions that were queued before the pause began are looked at now.
func (tx *transaction) mayWrite(s *Server) bool {
	return tx.pauses || slices.ContainsFunc(tx.functions, func(name string) bool {
		return !s.functionFlags(name).noWrites
	})
}

// mayWrite reports that a server's data, or what its replicas hear, can change by the
// command: what CLIENT PAUSE WRITE holds up.
func mayWrite(cmd *resp.Command) bool {
	return cmd.Flags&(resp.Write|resp.MayReplicate) != 0 || cmd.Traits&resp.Heard != 0 || cmd.Serve == resp.Script && cmd.Flags&resp.Readonly == 0
}
