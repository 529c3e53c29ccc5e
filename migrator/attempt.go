package migrator

import (
	"strings"

	"keyferry/migrator/job"
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
func judge(err error, published bool) job.EventKind {
	switch {
	case isHopeless(err) || unmendable(err):
		return job.Hopeless
	case published && isOOM(err):
		return job.TargetFull
	}
	return job.Failure
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
