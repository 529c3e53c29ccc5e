package integration

import (
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/testredis"
)

// cases are what random scenarios have shown to be different once, as plain as it can be said. bounce moves all slots
// to the other server and back.
var cases = []struct {
	name string
	play func(s *scene, bounce func())
}{
	{"who passes on what it takes stands behind who waits for keys of several slots", func(s *scene, _ func()) {
		s.wait(s.join(2), "BLPOP s1 {q}0 0")
		s.wait(s.join(3), "BLMOVE {q}0 {q}to LEFT RIGHT 0")
		s.wait(s.join(2), "BRPOPLPUSH {q}0 {q}to 0")
		s.wait(s.join(2), "BLPOP {q}0 0")
		s.wait(s.join(2), "BLPOP s0 {q}to 0")
		for i := range 5 {
			s.act(fmt.Sprint("RPUSH {q}0 ", i))
		}
	}},
	{"who waits for another type of value is in nobody's way", func(s *scene, _ func()) {
		s.wait(s.join(2), "BLPOP s0 {q}0 0")
		s.wait(s.join(2), "BZPOPMIN s0 {q}0 0")
		s.wait(s.join(2), "BZPOPMIN {q}0 0")
		s.wait(s.join(2), "XREAD BLOCK 0 STREAMS {q}0 0")
		s.act("ZADD s0 1 a")
		s.act("MULTI", "ZADD {q}0 1 a", "EXEC")
		s.act("XADD {q}0 1-1 f v")
		s.act("DEL {q}0", "RPUSH {q}0 x")
	}},
	{"who waits is served from the key that was written to first", func(s *scene, _ func()) {
		s.wait(s.join(2), "BLPOP s1 {q}1 {q}0 0")
		s.act("MULTI", "RPUSH {q}0 1", "RPUSH {q}1 2", "EXEC")
		s.act("DEL {q}0 {q}1")
		s.wait(s.join(3), "BLMPOP 0 4 s0 s1 {q}0 {q}1 LEFT COUNT 2")
		s.act("MULTI", "RPUSH {q}1 1", "RPUSH {q}0 2", "EXEC")
	}},
	{"a key that has got another type moves", func(s *scene, bounce func()) {
		popper, reader, mover := s.join(2), s.join(3), s.join(2)
		s.wait(popper, "BLPOP {q}0 0")
		s.wait(reader, "XREAD BLOCK 0 STREAMS {q}0 $")
		s.wait(mover, "BLMOVE {q}0 {q}1 LEFT LEFT 0")
		s.act("SET {q}0 v")
		bounce()
		s.settle()
		s.wait(s.join(2), "BLPOP {q}0 0") // is told at once
		s.ask(s.control, "CLIENT UNBLOCK @"+mover.name+" ERROR")
		s.settle()
		s.wait(s.join(2), "BRPOP {q}0 {q}2 0")
		s.act("DEL {q}0")
		s.wait(s.join(2), "BRPOP {q}0 {q}2 0")
		s.act("RPUSH {q}0 1 2")
		s.act("XADD {q}0 1-1 f v")
	}},
	{"the other database", func(s *scene, _ func()) {
		writer := s.join(2)
		for _, line := range []string{"MOVE {q}0 1", "COPY {q}x {q}0 DB 1", "SWAPDB 0 1", "MULTI; COPY {q}0 {q}0 DB 1; EXEC", "MOVE s0 1"} {
			for range 5 {
				s.ask(s.control, "FLUSHALL", "RPUSH {q}0 1", "RPUSH {q}x 1", "RPUSH s0 1")
				for _, pop := range []string{"BLPOP {q}0 0", "BLPOP s0 s1 0"} {
					gone := s.join(2)
					s.ask(gone, "SELECT 1")
					s.wait(gone, pop)
					s.leave(gone)
				}
				s.ask(writer, strings.Split(line, "; ")...)
				s.settle()
				s.ask(s.control, "SELECT 1", "EXISTS {q}0 s0", "SELECT 0")
			}
		}
	}},
	{"clients that are blocked in a pause", func(s *scene, _ func()) {
		s.wait(s.join(2), "BLPOP {q}0 0")
		s.paused = true
		s.ask(s.control, "CLIENT PAUSE 3600000 WRITE")
		s.settle()
		s.act("RPUSH {q}0 1")
		s.unpause()
	}},
	{"one write serves more than 256, of whom one has gone", func(s *scene, _ func()) {
		for range 299 {
			s.send(s.join(2), "BLPOP {q}0 0")
		}
		s.until("all wait", func() bool { return s.blocked(atPlain) == 299 && s.blocked(atGateway) == 299 })
		gone := s.join(2)
		s.wait(gone, "BLPOP {q}0 0")
		s.leave(gone)
		s.act("RPUSH {q}0" + strings.Repeat(" x", 300)) // in any order, and so all the same
		s.ask(s.control, "LLEN {q}0")
	}},
}

// TestScenes plays what was found in TestScenarios.
func TestScenes(t *testing.T) {
	r := newRig(t, 2, "--set", "loops.count=3", "--set", "servers.max-dedicated=1000")
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	plain := testredis.StartT(t)
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			s := newScene(t, 1, false, r.listen, plain.Addr)
			s.ask(s.control, "FLUSHALL")
			x.play(s, func() {
				r.bounce(2)
				r.proxy("MIGRATE", "0-8191", "TO", "g2")
				r.awaitDone()
			})
			s.finish()
		})
	}
}
