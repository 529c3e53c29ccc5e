package keymove

import (
	"context"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/upstream"
)

// Expiry is when a key expires, in the words of the server that was asked. It is a value, made
// by ReadExpiry; the zero one is of nothing that was read.
//
// The time itself (PEXPIRETIME) stays what it is however often the key moves. What is left of
// it (PTTL), which is all that servers before 7.0 say, is off by the time that it travels.
type Expiry struct {
	ms       int64     // since 1970, or left at readAt; neverMs or goneMs. Centuries are more than a Duration has
	absolute bool      // since 1970
	readAt   time.Time // of what is left
}

// What servers say of keys without an expiry, and of no key.
const (
	neverMs = -1
	goneMs  = -2
)

// The commands that ask for an expiry.
const (
	AskTime = "PEXPIRETIME"
	AskLeft = "PTTL"
)

// ReadExpiry makes it of a reply to one of the commands.
func ReadExpiry(asked string, ms int64) Expiry {
	e := Expiry{ms: ms, absolute: asked == AskTime}
	if !e.absolute {
		e.readAt = time.Now()
	}
	return e
}

func (e Expiry) gone() bool { return e.ms == goneMs }

// Absolute reports that it is known to the millisecond.
func (e Expiry) Absolute() bool { return e.absolute }

// never reports that there is none.
func (e Expiry) never() bool { return e.ms < 0 }

// at is that time in ms since 1970, by the clock of the gateway where only what is left is known.
func (e Expiry) at() int64 {
	if e.absolute {
		return e.ms
	}
	return min(e.ms, farthest-e.readAt.UnixMilli()) + e.readAt.UnixMilli()
}

// tolerance is how far the expiries of two copies may be apart.
func (e Expiry) tolerance() time.Duration {
	if e.absolute {
		return 0
	}
	return 2 * time.Second // what was left when it was read took its time to come
}

// farthest keeps what is left from being more than RESTORE can add to its clock: it would wrap
// around, and the key would be one that has expired. A year is for clocks that differ.
const farthest = math.MaxInt64 - 365*24*3600*1000

// Argument is the TTL argument of RESTORE, and whether ABSTTL goes with it. 0 would mean no
// expiry, so a key that is due gets the least that there is.
func (e Expiry) Argument(now time.Time) (ms int64, absolute bool) {
	switch {
	case e.ms < 0:
		return 0, false
	case e.absolute:
		return max(e.ms, 1), true
	}
	left := e.ms - now.Sub(e.readAt).Milliseconds()
	return max(min(left, farthest-now.UnixMilli()), 1), false
}

// AskExpiry asks a server about a key over a connection for what is rare.
func AskExpiry(ctx context.Context, c *redis.Conn, key string) (Expiry, error) {
	word := AskTime
	ms, err := c.Do(ctx, word, key).Int64()
	if refused(err) {
		word = AskLeft
		ms, err = c.Do(ctx, word, key).Int64()
	}
	if err != nil {
		return Expiry{}, err
	}
	return ReadExpiry(word, ms), nil
}

// expiryWord is what a server has to ask for a key's expiry. Its version does not tell: others
// than Redis have versions of their own, and the user may not have the right.
func expiryWord(ctx context.Context, c *upstream.Conn, key string) (string, error) {
	_, err := c.Do(ctx, AskTime, key)
	switch {
	case err == nil:
		return AskTime, nil
	case refused(err):
		return AskLeft, nil
	}
	return "", err
}
