package migrator

import (
	"keyferry/migrator/job"
	"keyferry/migrator/joberr"
)

// judge says what an error does to a job:
//
//	what only an operator can mend (rights, passwords, missing commands, payloads of a
//	newer version)                                                        Hopeless
//	the target is out of memory                                           TargetFull
//	the target lacks what it was given                                    TargetForgot
//	everything else: READONLY, LOADING, MASTERDOWN, MISCONF, NOREPLICAS, BUSY, CLUSTERDOWN,
//	TRYAGAIN, EXECABORT …, and whatever happens to a connection           Failure
//
// What is not known is taken for something that passes, because a job that is failed has
// to be noticed by somebody, and one that tries again in vain says so in its status.
func judge(err error, published bool) job.EventKind {
	switch {
	case joberr.IsHopeless(err) || joberr.Unmendable(err):
		return job.Hopeless
	case published && joberr.IsForgot(err):
		return job.TargetForgot
	case published && joberr.IsOOM(err):
		return job.TargetFull
	}
	return job.Failure
}
