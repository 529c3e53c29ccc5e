package migrator

import (
	"fmt"
	"strings"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
	"keyferry/migrator/preflight"
)

// advices say what to do about an error, by its code; %s is where it came from, which is a
// group's server. What passes by itself is said to.
var advices = map[string]string{
	"TIMEOUT": "check that the %s's server answers and can be reached; the job goes on by itself when it does",
	"IO":      "check that the %s's server runs and can be reached; the job goes on by itself when it does",
	"OOM":     "raise the %s's maxmemory, or free some; the job goes on by itself when there is room",
	"FORGOT": "bring the %s's data back (a backup, a replica, its append-only file) and MIGRATION RESUME, which looks again; or take the loss: RESUME goes on with what it has, " +
		"MIGRATION CANCEL … REVERT brings that back; every key that had not been given up is still there and served",
	"READONLY":   "the %s has become a replica: make it a primary again; the job goes on by itself",
	"LOADING":    "wait until the %s has loaded its data; the job goes on by itself",
	"BUSY":       "a script keeps the %s busy: wait, or use SCRIPT KILL; the job goes on by itself",
	"MASTERDOWN": "restore the link of the %s to its primary, or make it a primary; the job goes on by itself",
	"MISCONF":    "the %s refuses writes, since it can't write its disk: " + preflight.DiskAdvice + "; the job goes on by itself",
	"NOREPLICAS": "the %s has too few replicas: check them and min-replicas-to-write; the job goes on by itself",
	"TOOLARGE":   "raise that setting of the %s (CONFIG SET), or make the keys smaller, then MIGRATION RESUME; all others have been moved, or will be",
	"NOPERM":     "allow the command to the user of the %s's group (ACL SETUSER), then MIGRATION RESUME",
	"NOAUTH":     "make the %s's server accept the password that its group has (ACL SETUSER default >…), then MIGRATION RESUME",
	"WRONGPASS":  "make the %s's server accept the password that its group has (ACL SETUSER default >…), then MIGRATION RESUME",
	"PREFLIGHT":  "correct what it says about the %s, then MIGRATION RESUME; MIGRATE … DRYRUN looks without a job",
}

// answerAdvices are for errors with no code of their own, by what their text says.
var answerAdvices = map[string]string{
	"unknown command":      "the %s lacks or has renamed a command that a move needs: make it available under its own name, then MIGRATION RESUME",
	"DUMP payload version": dumpAdvice,
	"Bad data format":      dumpAdvice,
}

const (
	dumpAdvice    = "the %s can't read the other server's dumps: it must be of the same version or a newer one; then MIGRATION RESUME"
	storeAdvice   = "check the store: that etcd answers and has room, or the disk under data-dir; stable slots are served meanwhile"
	gatewayAdvice = "see the gateway's log"
)

// advise says what to do about an error.
func advise(e *topology.JobError) string {
	switch e.Origin {
	case joberr.Store:
		return storeAdvice
	case joberr.Source, joberr.Target:
		if advice, ok := advices[e.Code]; ok {
			return fmt.Sprintf(advice, e.Origin)
		}
		for text, advice := range answerAdvices {
			if strings.Contains(e.Text, text) {
				return fmt.Sprintf(advice, e.Origin)
			}
		}
		return fmt.Sprintf("see the log of the %s's server", e.Origin)
	}
	return gatewayAdvice
}

// advise says what to do about a stall: about who is silent, or else the last error.
func (s *Stall) advise() {
	switch {
	case s.Silent != "":
		s.Advice = advise(&topology.JobError{Origin: s.Silent, Code: "TIMEOUT"})
	case s.LastError != nil:
		s.Advice = advise(s.LastError)
	}
}

// advice is for a job that waits, has failed or is stalled, that has keys in doubt, or that has
// met an error and made no progress since; else "". Manager.mu is held.
func (r *runner) advice(s *Stall) string {
	if s != nil {
		return s.Advice
	}
	j := &r.job
	waits := j.Phase == topology.Backoff || j.Phase == topology.Failed || job.WaitsForRoom(j) || job.Forgotten(j)
	if waits && j.FirstError != nil {
		text := advise(j.FirstError)
		if j.ResumeTo == topology.Reverting && !j.Onward {
			text += fmt.Sprintf("; MIGRATION RESUME %s FORWARD moves on to %s instead", j.ID, j.Target)
		}
		return text
	}
	if j.Phase.Ended() {
		return ""
	}
	if r.mover != nil && len(r.mover.open.inDoubt()) > 0 { // clients are refused these, however the others get on
		if e := r.mover.stats.resolver.get(); e != nil {
			return advise(e)
		}
	}
	_, last, _ := r.errs.peek()
	if last == nil || r.mover != nil && r.mover.stats.lastProgress.Load() > last.AtMs {
		return ""
	}
	return advise(last)
}
