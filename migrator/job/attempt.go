package job

import (
	"time"

	"keyferry/internal/topology"
)

// BackoffPause is how long to wait after the attempt-th failure in a row (from 0): it doubles from
// least to most, and half of it is left to chance, so that jobs which failed together don't
// come back together. chance is in [0, 1).
func BackoffPause(least, most time.Duration, attempt int, chance float64) time.Duration {
	wait := most
	if attempt < 30 && least < most>>attempt {
		wait = least << attempt
	}
	return wait/2 + time.Duration(chance*float64(wait/2))
}

// failure counts an attempt. A run of attempts begins with the first and after progress;
// FirstError and LastError are of the present run.
func failure(j *topology.Job, e Event) {
	if e.Progress || j.Attempt == 0 {
		j.Attempt, j.FirstError = 0, firstOf(e)
	}
	j.Attempt++
	j.LastError = e.Err
	remember(j, e)
	if j.MaxAttempts > 0 && j.Attempt >= j.MaxAttempts {
		becomeFailed(j, reasonOf(e), e.AtMs)
		return
	}
	becomeBackoff(j, e.AtMs+e.WaitMs)
}

// hopeless fails the job at once: the other attempts would end the same way.
func hopeless(j *topology.Job, e Event) {
	if j.Attempt == 0 || j.FirstError == nil {
		j.FirstError = firstOf(e)
	}
	j.LastError = e.Err
	remember(j, e)
	becomeFailed(j, reasonOf(e), e.AtMs)
}

// targetFull pauses the job until the server has room again to which its keys go. It is no
// failed attempt: however long that takes, the job goes on by itself.
func targetFull(j *topology.Job, e Event) {
	if j.FirstError == nil || j.Phase != topology.Paused {
		j.FirstError = firstOf(e)
	}
	j.LastError = e.Err
	remember(j, e)
	reason := ReasonTargetOOM
	if j.Back {
		reason = ReasonSourceOOM
	}
	becomePaused(j, reason)
}

// targetForgot pauses the job until an operator says how it is to go on.
func targetForgot(j *topology.Job, e Event) {
	j.FirstError, j.LastError = e.Err, e.Err // why it waits, whatever else went wrong on the way
	remember(j, e)
	reason := ReasonTargetForgot
	if j.Back {
		reason = ReasonSourceForgot
	}
	becomePaused(j, reason)
}

func reasonOf(e Event) string { return e.Err.Origin + ": " + e.Err.Text }

func firstOf(e Event) *topology.JobError {
	if e.First != nil {
		return e.First
	}
	return e.Err
}

// remember adds the attempt that has failed to the list. The first one of all stays there,
// since it says how the trouble began.
func remember(j *topology.Job, e Event) {
	j.Attempts = append(j.Attempts, topology.Attempt{N: j.Attempt, AtMs: e.AtMs, Phase: j.Phase, First: firstOf(e), Last: e.Err, KeysMoved: j.KeysMoved})
	if n := len(j.Attempts); n > topology.MaxAttemptsKept {
		j.Attempts = append(j.Attempts[:1], j.Attempts[n-topology.MaxAttemptsKept+1:]...)
	}
}

// maxErrorKinds bounds what servers can make a job remember.
const maxErrorKinds = 64

// AddCounts adds up errors by kind, in to, which may be nil. Kinds that are too many count as
// "others".
func AddCounts(to, from map[string]int64) map[string]int64 {
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
