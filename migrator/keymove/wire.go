package keymove

import (
	"context"
	"strconv"
	"time"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// wire is a Source or a Target over one connection.
type wire struct {
	*upstream.Conn
	info link.Info
}

func dialWire(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (wire, error) {
	w, err := link.DialWire(ctx, d, g, timeout)
	if err != nil {
		return wire{}, err
	}
	return wire{w.Conn, w.Info}, nil
}

func (w *wire) Name() string    { return w.Conn.Name }
func (w *wire) Info() link.Info { return w.info }

// wireSource is a Source by UNLINK, and by DUMP and what tells the expiry for the payload.
type wireSource struct {
	wire
	times string // see expiryWord; as long as the connection lives
}

// DialSource connects to a group that keys go from. The connection is closed when ctx ends.
func DialSource(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (Source, error) {
	w, err := dialWire(ctx, d, g, timeout)
	if err != nil {
		return nil, err
	}
	times, err := expiryWord(ctx, w.Conn, router.ReservedPrefix)
	if err != nil {
		w.Close()
		return nil, err
	}
	return &wireSource{w, times}, nil
}

// Ask puts UNLINK first: its keys are locked longest, and are free as soon as its reply is there,
// which does not wait for the values that the source has to make for the others.
func (s *wireSource) Ask(ctx context.Context, unlinks, reads []*Key, object string) error {
	s.Begin(ctx)
	if len(unlinks) > 0 {
		s.Command("UNLINK", len(unlinks))
		for _, k := range unlinks {
			s.Arg(k.Name)
		}
	}
	for _, k := range reads {
		k.ask(s.Conn, k.Name, object, s.times)
	}
	return s.Flush()
}

func (s *wireSource) HearUnlink() error {
	_, err := s.Answer()
	return err
}

func (s *wireSource) HearRead(k *Key, object string) (Outcome, error) {
	return k.hear(s.Conn, object, s.times)
}

func (s *wireSource) Keep() { s.GiveAway() }

// Refresh is asked on the same connection, so that it speaks of the process which has sent what
// was read before; a new connection might lead to another.
func (s *wireSource) Refresh(ctx context.Context) error {
	s.GiveAway() // what has been read is needed still
	info, err := s.Do(ctx, "INFO")
	if err == nil {
		s.info = link.ReadInfo(string(info.Text))
	}
	return err
}

// wireTarget is a Target by RESTORE and EXISTS.
type wireTarget struct {
	wire
	limit     link.Limit // of its server, as of the last Look
	uncounted bool       // the server refuses to count
	counts    bool       // the exchange under way ends with a mark
}

// DialTarget connects to a group that keys go to. The connection is closed when ctx ends.
func DialTarget(ctx context.Context, d *upstream.Dialer, g topology.Group, timeout time.Duration) (Target, error) {
	w, err := dialWire(ctx, d, g, timeout)
	if err != nil {
		return nil, err
	}
	t := &wireTarget{wire: w}
	if err := t.Look(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return t, nil
}

func (t *wireTarget) Limit() link.Limit { return t.limit }

// Look leaves a limit that the server does not tell unknown: the user may lack the right.
func (t *wireTarget) Look(ctx context.Context) error {
	var limit link.Limit
	for _, setting := range link.BulkLimits {
		r, err := t.Do(ctx, "CONFIG", "GET", setting)
		if refused(err) {
			continue
		}
		if err != nil {
			return err
		}
		if r.Kind != '*' {
			return upstream.ErrProtocol
		}
		for i := range r.N {
			part, err := t.Answer()
			if err != nil {
				return err
			}
			if i == 1 {
				limit = limit.Lower(setting, string(part.Text))
			}
		}
	}
	t.limit = limit
	return nil
}

// Restore writes large payloads from where they are, in the buffer of the source's connection: they
// have to be on their way before the source is asked for anything else.
func (t *wireTarget) Restore(ctx context.Context, keys []*Key, now time.Time, mark string) error {
	t.Begin(ctx)
	for _, k := range keys {
		k.restore(t.Conn, k.Name, now)
	}
	t.count(mark)
	return t.Flush()
}

// count asks for the number of the exchange, behind everything else in it.
func (t *wireTarget) count(mark string) {
	if t.counts = mark != "" && !t.uncounted; t.counts {
		t.Command("INCR", 1)
		t.Arg(mark)
	}
}

// HearMark takes a server's refusal for good, but for want of memory, which passes.
func (t *wireTarget) HearMark() (int64, error) {
	if !t.counts {
		return 0, nil
	}
	n, err := t.Integer()
	if refused(err) {
		t.uncounted = !joberr.IsOOM(err)
		return 0, nil
	}
	return n, err
}

// Mark takes what is no number for none: no proof is to be had of it. A server that can't tell yet, as one
// that is loading its data, is an error.
func (t *wireTarget) Mark(ctx context.Context, mark string, db int) (int64, error) {
	if err := t.Use(ctx, db); err != nil {
		return 0, err
	}
	r, err := t.Do(ctx, "GET", mark)
	if err != nil {
		return 0, link.NoMark(err)
	}
	n, _ := strconv.ParseInt(string(r.Text), 10, 64)
	return n, nil
}

// Unlink has one reply, of no interest: the keys may have expired.
func (t *wireTarget) Unlink(ctx context.Context, keys []*Key) error {
	t.Begin(ctx)
	t.Command("UNLINK", len(keys))
	for _, k := range keys {
		t.Arg(k.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := t.Answer()
	return err
}

func (t *wireTarget) HearRestore() error {
	_, err := t.Answer()
	return err
}

// Exists asks for each key by itself: EXISTS of several would only count them.
func (t *wireTarget) Exists(ctx context.Context, keys []*Key, mark string) error {
	t.Begin(ctx)
	for _, k := range keys {
		t.Command("EXISTS", 1)
		t.Arg(k.Name)
	}
	t.count(mark)
	return t.Flush()
}

func (t *wireTarget) HearExists() (bool, error) {
	n, err := t.Integer()
	return n == 1, err
}

// Acknowledged waits by WAIT, or by WAITAOF, of whose two numbers the first is the server's
// own.
func (t *wireTarget) Acknowledged(ctx context.Context, mode string, patience time.Duration) (int64, error) {
	t.Begin(ctx)
	if mode == job.DurabilityAOF {
		t.Command("WAITAOF", 3)
		t.ArgInt(1)
		t.ArgInt(0)
	} else {
		t.Command("WAIT", 2)
		t.ArgInt(1)
	}
	t.ArgInt(patience.Milliseconds())
	if err := t.Flush(); err != nil {
		return 0, err
	}
	if mode == job.DurabilityReplica {
		return t.Integer()
	}
	r, err := t.Answer()
	if err != nil {
		return 0, err
	}
	if r.Kind != '*' || r.N != 2 {
		return 0, upstream.ErrProtocol
	}
	local, err := t.Integer()
	if err == nil {
		_, err = t.Integer()
	}
	return local, err
}

// TouchDump is the DUMP of a string of one byte, of version 6: that of the first servers with a
// checksum in it (2.6), which everything since reads. A server refuses what is newer than itself.
const TouchDump = "\x00\x01x\x06\x00\xb4m\xee\xdfH\xbdtC"

// Touch restores a key and unlinks it again. Where there is no memory for it two databases
// change places that are one.
func (t *wireTarget) Touch(ctx context.Context, key string) error {
	t.Begin(ctx)
	t.Command("RESTORE", 4)
	t.Arg(key)
	t.ArgInt(1)
	t.Arg(TouchDump)
	t.Arg("REPLACE")
	t.Command("UNLINK", 1)
	t.Arg(key)
	err := t.Flush()
	if err == nil {
		_, err = t.Answer()
	}
	if err == nil || refused(err) {
		if _, e := t.Answer(); err == nil || e != nil && !refused(e) {
			err = e
		}
	}
	if joberr.IsOOM(err) {
		t.Command("SWAPDB", 2)
		t.Arg("0")
		t.Arg("0")
		if err = t.Flush(); err == nil {
			_, err = t.Answer()
		}
	}
	return err
}
