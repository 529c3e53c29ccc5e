package keymove

// MoveStep is where the move of one key stands. The key is locked in all but the last
// three.
//
//	Read ──────► Restore ──────► Persist ──► Unlink ──► Committed
//	 │ │          │    │ refused    ▲         │  ▲
//	 │ │   unknown│    ▼            │ present │  │ unknown
//	 │ │          └► FenceTarget ► Probe      └► FenceSource
//	 │ │                            │ absent
//	 │ └ no answer: Released        └► Stays
//	 └ absent: Committed (nothing to move: it is at the target or nowhere)
//
// Persist leads to Stays as well: a copy that was compared and found wrong is taken back. And
// back to Probe, when another connection is to go on: it may lead to another server, by the
// same address, that never had the key. For the same reason Unlink leads back to Probe as long as
// no UNLINK was sent (Doubt).
//
// Even a refused RESTORE is followed by a look at the target: OOM is said before BUSYKEY
// would be, and an earlier self of the gateway may have brought the key there.
type MoveStep uint8

const (
	Read        MoveStep = iota // at the source: TTL, idle time or frequency, DUMP
	Restore                     // at the target: RESTORE without REPLACE, the commit point
	FenceTarget                 // RESTORE may have run or may still: kill its connection
	Probe                       // at the target: EXISTS, when nothing of ours can still run there
	Persist                     // at the target: comparison and WAIT, where they are asked for
	Unlink                      // at the source: UNLINK
	FenceSource                 // UNLINK may still run: kill its connection
	Committed                   // its home is the target
	Stays                       // its home is the source: the target was seen not to hold it
	Released                    // nothing was done; where it lives is as unknown as before
)

var stepNames = [...]string{"read", "restore", "fence-target", "probe", "persist", "unlink", "fence-source", "committed", "stays", "released"}

func (s MoveStep) String() string { return stepNames[s] }

// Outcome is what came of a step.
type Outcome uint8

const (
	OK      Outcome = iota // done; for Probe: the key is there
	Absent                 // Read, Probe: the key is not there
	Busy                   // Restore: BUSYKEY, the target has it
	Refused                // the server answered with an error: it was not executed
	Unknown                // no answer: it was executed, or not, or still may be
	Stale                  // Read: the source forgot that this key had left (see below)
)

var outcomeNames = [...]string{"ok", "absent", "busy", "refused", "unknown", "stale"}

func (o Outcome) String() string { return outcomeNames[o] }

// Next is the whole protocol of one key. It panics on an outcome that a step can't have.
//
// Stale is said by the reader of a source that was restarted during the job, or was a replica
// for a while (see link.Info.Life), about a key that has been committed before: the source came back from an older
// dump. The target has had the key since, so its word stands, also if that word is that
// the key was deleted: the source's copy is dropped and never restored.
func (s MoveStep) Next(o Outcome) MoveStep {
	switch s {
	case Read:
		switch o {
		case OK:
			return Restore
		case Absent:
			return Committed
		case Stale:
			return Unlink
		case Refused, Unknown: // reading changed nothing, and RESTORE was not sent
			return Released
		}
	case Restore:
		switch o {
		case OK, Busy: // BUSYKEY: the target had it already, and wins
			return Persist
		case Refused:
			return Probe
		case Unknown:
			return FenceTarget
		}
	case FenceTarget:
		switch o {
		case OK:
			return Probe
		case Refused, Unknown:
			return FenceTarget
		}
	case Probe:
		switch o {
		case OK:
			return Persist
		case Absent:
			return Stays
		case Refused, Unknown:
			return Probe
		}
	case Persist:
		switch o {
		case OK:
			return Unlink
		case Refused: // not durable yet: the source keeps its copy
			return Persist
		case Unknown: // who said that the target has it can't be asked any more
			return Probe
		case Absent: // the copy was not right, and has been removed again
			return Stays
		}
	case Unlink:
		switch o {
		case OK:
			return Committed
		case Refused:
			return Unlink
		case Unknown:
			return FenceSource
		}
	case FenceSource:
		switch o {
		case OK:
			return Unlink
		case Refused, Unknown:
			return FenceSource
		}
	}
	panic("keymove: " + s.String() + " can't have the outcome " + o.String())
}

// Retract is where a key at Persist stands when its copy was to be removed again and no
// answer came: that may still happen, and whether it has must be seen.
func (s MoveStep) Retract() MoveStep {
	if s != Persist {
		panic("keymove: " + s.String() + " is retracted")
	}
	return FenceTarget
}

// Doubt is where a key at Unlink stands when its target is not who it was: it must be seen there again.
func (s MoveStep) Doubt() MoveStep {
	if s != Unlink {
		panic("keymove: " + s.String() + " is doubted")
	}
	return Probe
}

// Final reports that the lock can be released.
func (s MoveStep) Final() bool { return s >= Committed }

// InDoubt reports that the target may have the key while the source still has it.
func (s MoveStep) InDoubt() bool { return s > Restore && s < Committed }
