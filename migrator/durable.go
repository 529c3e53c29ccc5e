package migrator

import (
	"context"
	"slices"

	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/link"
	"keyferry/router"
)

// waitsFor is what is waited for at a target as it is now.
func waitsFor(durability string, i link.Info) string {
	if durability != job.DurabilityAuto {
		return durability
	}
	if i.Replicas > 0 {
		return job.DurabilityReplica
	}
	return job.DurabilityNone
}

// durabilityText is that for the status: what is had, and why it is not more.
func durabilityText(durability string, i link.Info) string {
	switch now := waitsFor(durability, i); {
	case now == job.DurabilityReplica && i.Replicas == 0:
		return "replica, but the target has none: nothing is given up at the source"
	case durability == job.DurabilityAuto && now == job.DurabilityNone:
		return "none: the target has no replica, so that a key can be lost with it"
	default:
		return now
	}
}

// persist waits until what was restored is as durable as the job asks for, once for all of
// the keys: it counts what the connection has written.
func (w *worker) persist(ctx context.Context, moves []*keyMove) error {
	if moves = w.seen(moves); len(moves) == 0 {
		return nil
	}
	if err := w.m.assurance.comparer.compare(ctx, moves); err != nil {
		return err
	}
	mode := waitsFor(w.m.assurance.durability, w.dst.Info)
	if mode == job.DurabilityNone {
		advance(moves, OK)
		return nil
	}
	if err := w.cover(ctx, moves); err != nil {
		return joberr.At(joberr.Target, err)
	}
	w.dst.Begin(ctx)
	patience := w.m.cfg.CallTimeout.Milliseconds() / 2
	if mode == job.DurabilityAOF {
		w.dst.Command("WAITAOF", 3)
		w.dst.ArgInt(1)
		w.dst.ArgInt(0)
	} else {
		w.dst.Command("WAIT", 2)
		w.dst.ArgInt(1)
	}
	w.dst.ArgInt(patience)
	err := w.dst.Flush()
	var n int64
	if err == nil {
		n, err = w.acknowledged(mode)
	}
	switch {
	case err == nil && n >= 1:
		advance(moves, OK)
	case err == nil && mode == job.DurabilityAOF:
		err = &joberr.CodedError{Code: "NOAOF", Text: "the append-only file was not synced in time: the restored keys are kept at the source"}
	case err == nil:
		if w.m.assurance.durability == job.DurabilityAuto {
			w.lostTarget() // the next connection sees what the target has now
		}
		err = &joberr.CodedError{Code: "NOREPLICAS", Text: "no replica acknowledged the restored keys in time: they are kept at the source"}
	case !joberr.Refused(err):
		w.lostTarget()
	}
	return joberr.At(joberr.Target, err)
}

// seen are the keys that this connection has seen at the target. The others are looked for
// again: where one server has died and another has its address, what was heard from the first
// says nothing of the second.
func (w *worker) seen(moves []*keyMove) (out []*keyMove) {
	for _, mv := range moves {
		if mv.seenBy == w.dst.Name {
			out = append(out, mv)
		} else {
			mv.step = mv.step.Next(Unknown)
		}
	}
	return out
}

// coverDump is the DUMP of a string of one byte, of version 10 (Redis 7.0).
const coverDump = "\x00\x01x\n\x00\"\x80\x86_\xbd\xe8H\xd0"

// cover writes something over this connection where it has not written the keys itself: WAIT
// and WAITAOF are about what their connection has written last, and of one that has written
// nothing newer servers say that all is well.
func (w *worker) cover(ctx context.Context, moves []*keyMove) error {
	if !slices.ContainsFunc(moves, func(mv *keyMove) bool { return mv.wroteBy != w.dst.Name }) {
		return nil
	}
	key := router.InternalPrefix + w.m.job
	w.dst.Begin(ctx)
	w.dst.Command("RESTORE", 4)
	w.dst.Arg(key)
	w.dst.ArgInt(1)
	w.dst.Arg(coverDump)
	w.dst.Arg("REPLACE")
	w.dst.Command("UNLINK", 1)
	w.dst.Arg(key)
	err := w.dst.Flush()
	if err == nil {
		_, err = w.dst.Answer()
	}
	if err == nil || joberr.Refused(err) {
		if _, e := w.dst.Answer(); err == nil || e != nil && !joberr.Refused(e) {
			err = e
		}
	}
	if joberr.IsOOM(err) { // what is written without memory: two databases change places that are one
		w.dst.Command("SWAPDB", 2)
		w.dst.Arg("0")
		w.dst.Arg("0")
		if err = w.dst.Flush(); err == nil {
			_, err = w.dst.Answer()
		}
	}
	switch {
	case err == nil:
		for _, mv := range moves {
			mv.wroteBy = w.dst.Name
		}
	case !joberr.Refused(err):
		w.lostTarget()
	}
	return err
}

// acknowledged reads the reply of WAIT, or the first of the two numbers of WAITAOF.
func (w *worker) acknowledged(mode string) (int64, error) {
	if mode == job.DurabilityReplica {
		return w.dst.Integer()
	}
	r, err := w.dst.Answer()
	if err != nil {
		return 0, err
	}
	if r.Kind != '*' || r.N != 2 {
		return 0, upstream.ErrProtocol
	}
	local, err := w.dst.Integer()
	if err == nil {
		_, err = w.dst.Integer()
	}
	return local, err
}

// durable checks that the target can give what the job asks for.
func (c *check) durable(ctx context.Context) error {
	switch c.job.Durability {
	case job.DurabilityReplica:
		if c.dst.Info.Replicas == 0 {
			c.fatal("durability", joberr.Target, c.dst.Group, "add a replica, or move with DURABILITY none", joberr.Hopeless("DURABILITY replica: the target has no replica"))
		}
	case job.DurabilityAOF:
		err := c.dst.Conn.Do(ctx, "WAITAOF", 1, 0, 1).Err()
		if err != nil && !joberr.Refused(err) {
			return joberr.At(joberr.Target, err)
		}
		if err != nil {
			c.fatal("durability", joberr.Target, c.dst.Group, "appendonly yes on Redis 7.2 or newer, or move with DURABILITY none", joberr.Hopeless("DURABILITY aof: %v", err))
		}
	}
	return nil
}

// setProof is how much the mover wants to be sure of before a key is given up.
func (m *mover) setProof(j topology.Job) {
	m.assurance.comparer = &comparer{m: m, share: j.VerifyShare}
	m.assurance.durability = j.Durability
	if j.Back { // what was asked for is about the target, and where keys come home to may have less
		m.assurance.durability = job.DurabilityAuto
	}
}
