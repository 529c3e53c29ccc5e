package keymove

import (
	"time"

	"keyferry/internal/failpoint"
	"keyferry/internal/upstream"
	"keyferry/slotlock"
)

// Key is one key under its lock. It belongs to the worker that moves it, and between two of
// them to the list that it is on.
//
// Invariant: as long as Step is not final the lock is held, and whoever gives the key up hands
// it to somebody who goes on from Step.
type Key struct {
	slotlock.Key
	Step  MoveStep
	Since time.Time // locked at
	Payload
	Trace

	Unsettled *int // how many keys of its batch are not settled; nil for those of the resolvers
	Doubted   bool // it was handed to the resolvers, and others were told that it is in doubt
}

// Trace is over which connections the key was seen, which is what a later step may rely on.
// Connections are known by name: a name is never used twice.
type Trace struct {
	SeenBy   string // over which the target has last said that it has the key
	WroteBy  string // … and that has written it, or something since; see cover
	fence    string // on which a command about the key has no answer
	Restored bool   // by us, and not yet compared
	unlinked bool   // UNLINK has been sent once

	// What a Ledger goes by: the number of the exchange with the target in which the key was seen
	// there (0: none), by which mark, in which life of the target.
	life   string
	mark   string
	number int64
}

// Payload is the copy of a key that travels: its DUMP, and what DUMP does not carry.
//
// A payload is small for nearly every key and lives for one round: it points into the buffer of the
// connection that it was read from. Whoever keeps one for longer has that buffer given away first.
type Payload struct {
	dump   []byte // valid until the next exchange with the source unless it is big
	expiry Expiry
	idleS  int64 // OBJECT IDLETIME, seconds; -1: not known
	freq   int64 // OBJECT FREQ; -1: not known
}

// Bytes is how long the DUMP is.
func (p *Payload) Bytes() int { return len(p.dump) }

// Drop forgets the copy, for as large as it may be.
func (p *Payload) Drop() { p.dump = nil }

// MayExpire reports that the key had an expiry when it was read.
func (p *Payload) MayExpire() bool { return !p.Unread() && !p.expiry.never() }

// Unread reports that there was nothing to read.
func (p *Payload) Unread() bool { return p.expiry == Expiry{} }

// ask sends the reads of a key. Nothing else touches it, so what is read needs no
// transaction: only the passing of time can come between expiry and DUMP, and a key that
// expires there is gone as it should be. OBJECT goes first, because DUMP counts as an access.
// times is what the server has to ask for the expiry: see expiryWord.
func (p *Payload) ask(c *upstream.Conn, key, object, times string) {
	if object != "" {
		c.Command("OBJECT", 2)
		c.Arg(object)
		c.Arg(key)
	}
	c.Command(times, 1)
	c.Arg(key)
	c.Command("DUMP", 1)
	c.Arg(key)
}

// hear reads the replies to ask.
func (p *Payload) hear(c *upstream.Conn, object, times string) (Outcome, error) {
	p.idleS, p.freq = -1, -1
	if object != "" {
		switch r, err := c.Answer(); {
		case err != nil && !refused(err):
			return Unknown, err
		case err != nil || r.Kind != ':': // no such key, say: DUMP will tell
		case object == "FREQ":
			p.freq = r.N
		default:
			p.idleS = r.N
		}
	}
	ms, ttlErr := c.Integer()
	if ttlErr != nil && !refused(ttlErr) {
		return Unknown, ttlErr
	}
	expiry := ReadExpiry(times, ms) // here: the values that follow may take long to come
	dump, err := c.Answer()
	switch {
	case err != nil && !refused(err):
		return Unknown, err
	case err != nil:
		return Refused, err
	case dump.Kind == 0:
		return Absent, nil
	case dump.Kind != '$':
		return Unknown, upstream.ErrProtocol
	case ttlErr != nil:
		return Refused, ttlErr
	case expiry.gone(): // it has expired between the two
		return Absent, nil
	}
	p.dump, p.expiry = dump.Text, expiry
	return OK, nil
}

// restore sends RESTORE without REPLACE: the commit.
func (p *Payload) restore(c *upstream.Conn, key string, now time.Time) {
	args := 3
	ms, absolute := p.expiry.Argument(now)
	if absolute {
		args++
	}
	if p.idleS > 0 {
		args += 2
	}
	if p.freq >= 0 {
		args += 2
	}
	if failpoint.On(failpoint.PlantReplace) {
		args++
	}
	c.Command("RESTORE", args)
	c.Arg(key)
	c.ArgInt(ms)
	c.ArgBytes(p.dump)
	if absolute {
		c.Arg("ABSTTL")
	}
	if failpoint.On(failpoint.PlantReplace) {
		c.Arg("REPLACE")
	}
	if p.idleS > 0 {
		c.Arg("IDLETIME")
		c.ArgInt(p.idleS)
	}
	if p.freq >= 0 {
		c.Arg("FREQ")
		c.ArgInt(p.freq)
	}
}
