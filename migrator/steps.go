package migrator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"keyferry/internal/failpoint"
	"keyferry/internal/upstream"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
)

// advance gives all moves the same outcome.
func advance(moves []*keyMove, o Outcome) {
	for _, mv := range moves {
		mv.step = mv.step.Next(o)
	}
}

// askTarget sends the RESTOREs of the round: the commit point of each key.
func (w *worker) askTarget(ctx context.Context, db int) error {
	if len(w.restores) == 0 {
		return nil
	}
	hit(w.restores, "move.restore.before")
	if err := w.dst.Use(ctx, db); err != nil {
		for _, mv := range w.restores { // nothing was sent
			mv.step, mv.dump = Released, nil
		}
		w.restores = w.restores[:0]
		w.lostTarget()
		return err
	}
	w.dst.Begin(ctx)
	w.sent = time.Now()
	for _, mv := range w.restores {
		w.m.locks.Handle(mv.key)
		mv.appendRestore(w.dst, w.sent)
	}
	if err := w.dst.Flush(); err != nil {
		w.lostRestores(w.restores)
		return err
	}
	return nil
}

func (mv *keyMove) appendRestore(c *link.Wire, now time.Time) {
	args := 3
	if mv.idleS > 0 {
		args += 2
	}
	if mv.freq >= 0 {
		args += 2
	}
	if failpoint.On(failpoint.PlantReplace) {
		args++
	}
	c.Command("RESTORE", args)
	c.Arg(mv.key.Name)
	c.ArgInt(mv.ttlMs(now))
	c.ArgBytes(mv.dump)
	if failpoint.On(failpoint.PlantReplace) {
		c.Arg("REPLACE")
	}
	if mv.idleS > 0 {
		c.Arg("IDLETIME")
		c.ArgInt(mv.idleS)
	}
	if mv.freq >= 0 {
		c.Arg("FREQ")
		c.ArgInt(mv.freq)
	}
}

// ttlMs is the TTL argument of RESTORE: what is left, less the time since it was read. 0
// would mean no expiry, so a key that is due gets one millisecond.
func (mv *keyMove) ttlMs(now time.Time) int64 {
	if mv.ttl < 0 {
		return 0
	}
	return max(mv.ttl-now.Sub(mv.readAt).Milliseconds(), 1)
}

// lostRestores gives up the target's connection with RESTOREs on it whose fate is open.
func (w *worker) lostRestores(moves []*keyMove) {
	name := w.lostTarget()
	for _, mv := range moves {
		mv.fence, mv.dump = name, nil
		mv.step = mv.step.Next(Unknown)
	}
}

// hearTarget reads the replies to RESTORE. What is restored needs nothing more at the
// target where that has no replicas to wait for.
func (w *worker) hearTarget(ctx context.Context) error {
	if len(w.restores) == 0 {
		return nil
	}
	w.dst.Renew(ctx) // a slow source is no fault of the target's
	came := time.Now()
	defer func() { w.restored(came) }()
	w.sizes = w.sizes[:0]
	var first error
	for i, mv := range w.restores {
		o := OK
		switch _, err := w.dst.Answer(); {
		case err == nil:
			w.sizes = append(w.sizes, len(mv.dump))
			w.m.stats.big.note(mv)
			mv.restored, mv.seenBy, mv.wroteBy = true, w.dst.Name, w.dst.Name
		case !joberr.Refused(err):
			w.lostRestores(w.restores[i:])
			hit(w.restores, "move.restore.after")
			w.m.errs.add(joberr.At(joberr.Target, first)) // what was answered before the connection broke
			return err
		case strings.HasPrefix(err.Error(), "BUSYKEY"):
			o, mv.seenBy = Busy, w.dst.Name
		default:
			o = Refused
			if first == nil {
				first = fmt.Errorf("RESTORE %q: %w", mv.key.Name, err)
			}
		}
		mv.step = mv.step.Next(o)
		mv.dump = nil
	}
	hit(w.restores, "move.restore.after")
	if w.m.assurance.comparer.share == 0 && waitsFor(w.m.assurance.durability, w.dst.Info) == job.DurabilityNone {
		failpoint.Hit("move.persist.before")
		for _, mv := range w.restores {
			if mv.step == Persist {
				mv.step = mv.step.Next(OK)
			}
		}
		failpoint.Hit("move.persist.after")
	}
	return first
}

// restored counts what the target has restored, and tells the governor how long that took
// if the target was waited for: what had come by the time that the source was done with its
// part says nothing.
func (w *worker) restored(came time.Time) {
	bytes := 0
	for _, n := range w.sizes {
		bytes += n
	}
	w.m.stats.add(int64(len(w.sizes)), int64(bytes))
	w.m.unpaid.Add(int64(bytes))
	w.m.stats.sized(w.sizes...)
	if now := time.Now(); now.Sub(came) > noWait {
		w.m.gov.Restored(now, now.Sub(w.sent), len(w.sizes), bytes)
	}
}

// noWait is how long it takes to read replies that have come.
const noWait = 200 * time.Microsecond

// askSource sends UNLINK of what has been restored and the reads of the next keys.
// Nothing else touches these, so what is read needs no transaction: only the passing of
// time can come between PTTL and DUMP, and a key that expires there is gone as it should
// be. OBJECT goes first, because DUMP counts as an access.
func (w *worker) askSource(ctx context.Context, db int) error {
	if failpoint.On(failpoint.PlantEarlyUnlock) {
		w.plantedUnlink(db, w.unlinks)
		w.unlinks = w.unlinks[:0]
	}
	if len(w.unlinks)+len(w.reads) == 0 {
		return nil
	}
	hit(w.unlinks, "move.unlink.before")
	hit(w.reads, "move.read.before")
	if err := w.src.Use(ctx, db); err != nil {
		advance(w.reads, Unknown)
		w.unlinks, w.reads = w.unlinks[:0], w.reads[:0]
		w.lostSource()
		return err
	}
	w.src.Begin(ctx)
	if len(w.unlinks) > 0 {
		w.src.Command("UNLINK", len(w.unlinks))
		for _, mv := range w.unlinks {
			w.m.locks.Handle(mv.key)
			w.src.Arg(mv.key.Name)
		}
	}
	for _, mv := range w.reads {
		if w.object != "" {
			w.src.Command("OBJECT", 2)
			w.src.Arg(w.object)
			w.src.Arg(mv.key.Name)
		}
		w.src.Command("PTTL", 1)
		w.src.Arg(mv.key.Name)
		w.src.Command("DUMP", 1)
		w.src.Arg(mv.key.Name)
	}
	if err := w.src.Flush(); err != nil {
		w.lostExchange(w.unlinks, w.reads)
		return err
	}
	return nil
}

// objectWord is what to ask OBJECT about a key: what an eviction policy of either end goes
// by, or nothing, because each word about each key costs the source.
func objectWord(source, target link.Info) string {
	switch {
	case strings.Contains(source.Policy, "lfu"):
		return "FREQ"
	case strings.Contains(source.Policy, "lru") || strings.Contains(target.Policy, "lru"):
		return "IDLETIME"
	}
	return ""
}

// lostExchange gives up the source's connection with commands on it that have no reply.
// Reads change nothing; UNLINK may have been executed, or may still be.
func (w *worker) lostExchange(unlinks, reads []*keyMove) {
	name := w.lostSource()
	for _, mv := range unlinks {
		mv.fence = name
		mv.step = mv.step.Next(Unknown)
	}
	advance(reads, Unknown)
}

// hearSource reads the replies to UNLINK and to the reads.
func (w *worker) hearSource(ctx context.Context) error {
	var first error
	if len(w.unlinks) > 0 {
		o := OK
		if _, err := w.src.Answer(); err != nil {
			if !joberr.Refused(err) {
				w.lostExchange(w.unlinks, w.reads)
				hit(w.unlinks, "move.unlink.after")
				return err
			}
			o, first = Refused, err
		}
		advance(w.unlinks, o)
		hit(w.unlinks, "move.unlink.after")
	}
	stale := w.stale()
	var back []*keyMove
	big := false
	for i, mv := range w.reads {
		o, err := w.hearRead(mv)
		if first == nil {
			first = err
		}
		if o == Unknown {
			w.lostExchange(nil, w.reads[i:])
			break
		}
		if o == OK && w.m.locks.Moved(mv.key) {
			if stale {
				o = w.dropStale(mv)
			} else {
				back = append(back, mv)
			}
		}
		big = big || int64(len(mv.dump)) >= w.m.cfg.BigKeyBytes
		mv.step = mv.step.Next(o)
	}
	if big && w.src != nil {
		w.src.GiveAway() // big values are kept for longer than until the next exchange
	}
	hit(w.reads, "move.read.after")
	if err := w.distrust(ctx, back); err != nil {
		return err
	}
	return first
}

// stale reports that the source may have come back with keys that had left.
func (w *worker) stale() bool { return w.src.Info.Life() != w.m.sourceRunID }

func (w *worker) dropStale(mv *keyMove) Outcome {
	mv.dump = nil
	w.m.stats.stale.Add(1)
	return Stale
}

// distrust asks the source once more who it is when it shows keys that had left: since this
// connection was made, its process may have been a replica.
func (w *worker) distrust(ctx context.Context, back []*keyMove) error {
	if len(back) == 0 || w.src == nil {
		return nil
	}
	w.src.GiveAway() // what has been read is needed still
	w.src.Begin(ctx)
	w.src.Command("INFO", 0)
	err := w.src.Flush()
	if err == nil {
		var info upstream.Reply
		info, err = w.src.Answer()
		w.src.Info = link.ReadInfo(string(info.Text))
	}
	if err != nil {
		w.lostSource()
		return err
	}
	if w.stale() {
		for _, mv := range back {
			mv.step = Read.Next(w.dropStale(mv))
		}
	}
	return nil
}

// hearRead reads what the source says of one key.
func (w *worker) hearRead(mv *keyMove) (Outcome, error) {
	mv.idleS, mv.freq = -1, -1
	if w.object != "" {
		switch r, err := w.src.Answer(); {
		case err != nil && !joberr.Refused(err):
			return Unknown, err
		case err != nil || r.Kind != ':': // no such key, say: DUMP will tell
		case w.object == "FREQ":
			mv.freq = r.N
		default:
			mv.idleS = r.N
		}
	}
	ttl, ttlErr := w.src.Integer()
	if ttlErr != nil && !joberr.Refused(ttlErr) {
		return Unknown, ttlErr
	}
	if ttl >= 0 {
		mv.readAt = time.Now() // here: the values that follow may take long to come
	}
	dump, err := w.src.Answer()
	switch {
	case err != nil && !joberr.Refused(err):
		return Unknown, err
	case err != nil:
		return Refused, err
	case dump.Kind == 0:
		return Absent, nil
	case dump.Kind != '$':
		return Unknown, upstream.ErrProtocol
	case ttlErr != nil:
		return Refused, ttlErr
	case ttl == -2: // it has expired between the two
		return Absent, nil
	}
	mv.dump, mv.ttl = dump.Text, ttl
	return OK, nil
}

// single does a step that is not part of a round, for all keys that stand there.
func (w *worker) single(ctx context.Context, db int, step MoveStep, all []*keyMove) (stop bool, err error) {
	var moves []*keyMove
	for _, mv := range all {
		if mv.step == step {
			moves = append(moves, mv)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.m.cfg.CallTimeout)
	defer cancel()
	failpoint.Hit("move." + step.String() + ".before")
	switch step {
	case FenceTarget, FenceSource:
		err = w.fence(ctx, step, moves)
	case Probe:
		err = w.probe(ctx, db, moves)
	case Persist:
		err = w.persist(ctx, moves)
	}
	failpoint.Hit("move." + step.String() + ".after")
	w.m.errs.add(err)
	return err != nil, err
}

// fence kills the connections on which the fate of the keys is open.
func (w *worker) fence(ctx context.Context, step MoveStep, moves []*keyMove) error {
	g, origin := w.m.target, joberr.Target
	if step == FenceSource {
		g, origin = w.m.source, joberr.Source
	}
	done := make(map[string]bool)
	for _, mv := range moves {
		if !done[mv.fence] {
			if err := link.Fence(ctx, w.m.dialer, g, mv.fence, w.m.cfg.CallTimeout); err != nil {
				return joberr.At(origin, err)
			}
			done[mv.fence] = true
		}
		mv.step = mv.step.Next(OK)
	}
	return nil
}

// probe looks whether the target has the keys.
func (w *worker) probe(ctx context.Context, db int, moves []*keyMove) error {
	if err := w.dst.Use(ctx, db); err != nil {
		w.lostTarget()
		return joberr.At(joberr.Target, err)
	}
	w.dst.Begin(ctx)
	for _, mv := range moves {
		w.dst.Command("EXISTS", 1)
		w.dst.Arg(mv.key.Name)
	}
	if err := w.dst.Flush(); err != nil {
		w.lostTarget()
		return joberr.At(joberr.Target, err)
	}
	var first error
	for _, mv := range moves {
		n, err := w.dst.Integer()
		switch {
		case err != nil && !joberr.Refused(err):
			w.lostTarget()
			return joberr.At(joberr.Target, err)
		case err != nil:
			if first == nil {
				first = err
			}
		case n == 1:
			mv.step, mv.seenBy = mv.step.Next(OK), w.dst.Name
		default:
			mv.step = mv.step.Next(Absent)
		}
	}
	return joberr.At(joberr.Target, first)
}
