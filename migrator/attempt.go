package migrator

import (
	"strings"
	"time"

	"keyferry/internal/topology"
)

// judge says what an error does to a job:
//
//	what only an operator can mend (rights, passwords, missing commands, payloads of a
//	newer version)                                                        Hopeless
//	the target is out of memory                                           TargetFull
//	everything else: READONLY, LOADING, MASTERDOWN, MISCONF, NOREPLICAS, BUSY, CLUSTERDOWN,
//	TRYAGAIN, EXECABORT …, and whatever happens to a connection           Failure
//
// What is not known is taken for something that passes, because a job that is failed has
// to be noticed by somebody, and one that tries again in vain says so in its status.
func judge(err error, published bool) EventKind {
	switch {
	case isHopeless(err) || unmendable(err):
		return Hopeless
	case published && isOOM(err):
		return TargetFull
	}
	return Failure
}

// beyondWaiting begin the answers of a server that waiting does not change.
var beyondWaiting = []string{"NOPERM", "NOAUTH", "WRONGPASS", "ERR unknown command", "ERR DUMP payload version", "ERR Bad data format"}

// unmendable reports a server's own answer that waiting does not change.
func unmendable(err error) bool {
	if !refused(err) {
		return false
	}
	for _, text := range beyondWaiting {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// backoffPause is how long to wait after the attempt-th failure in a row (from 0): it doubles from
// least to most, and half of it is left to chance, so that jobs which failed together don't
// come back together. chance is in [0, 1).
func backoffPause(least, most time.Duration, attempt int, chance float64) time.Duration {
	wait := most
	if attempt < 30 && least < most>>attempt {
		wait = least << attempt
	}
	return wait/2 + time.Duration(chance*float64(wait/2))
}

// failure counts an attempt. A run of attempts begins with the first and after progress;
// FirstError and LastError are of the present run.
func failure(j topology.Job, e Event) topology.Job {
	if e.Progress || j.Attempt == 0 {
		j.Attempt, j.FirstError = 0, firstOf(e)
	}
	j.Attempt++
	j.LastError = e.Err
	j = remember(j, e)
	if j.MaxAttempts > 0 && j.Attempt >= j.MaxAttempts {
		return fail(j, e)
	}
	j.ResumeTo = goOnAt(j)
	j.Phase, j.NextTryAtMs = topology.Backoff, e.AtMs+e.WaitMs
	return j
}

func hopelessly(j topology.Job, e Event) topology.Job {
	if j.Attempt == 0 || j.FirstError == nil {
		j.FirstError = firstOf(e)
	}
	j.LastError = e.Err
	return fail(remember(j, e), e)
}

func fail(j topology.Job, e Event) topology.Job {
	j.ResumeTo = goOnAt(j)
	j.Phase, j.EndedAtMs, j.NextTryAtMs = topology.Failed, e.AtMs, 0
	j.Reason = e.Err.Origin + ": " + e.Err.Text
	return j
}

func targetFull(j topology.Job, e Event) topology.Job {
	if j.FirstError == nil || j.Phase != topology.Paused {
		j.FirstError = firstOf(e)
	}
	j.LastError = e.Err
	j = remember(j, e)
	j.ResumeTo = goOnAt(j)
	j.Phase, j.Reason = topology.Paused, ReasonTargetOOM
	if j.Back {
		j.Reason = ReasonSourceOOM
	}
	return j
}

func firstOf(e Event) *topology.JobError {
	if e.First != nil {
		return e.First
	}
	return e.Err
}

// remember adds the attempt that has failed to the list.
func remember(j topology.Job, e Event) topology.Job {
	j.Attempts = append(j.Attempts, topology.Attempt{N: j.Attempt, AtMs: e.AtMs, Phase: j.Phase, First: firstOf(e), Last: e.Err, KeysMoved: j.KeysMoved})
	if n := len(j.Attempts); n > topology.MaxAttemptsKept {
		j.Attempts = append(j.Attempts[:1], j.Attempts[n-topology.MaxAttemptsKept+1:]...)
	}
	return j
}

// maxErrorKinds bounds what servers can make a job remember.
const maxErrorKinds = 64

func addCounts(to, from map[string]int64) map[string]int64 {
	for kind, n := range from {
		if to == nil {
			to = make(map[string]int64)
		}
		if _, known := to[kind]; !known && len(to) >= maxErrorKinds {
			kind = "others"
		}
		to[kind] += n
	}
	return to
}
