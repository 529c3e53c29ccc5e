package job

import (
	"fmt"
	"time"

	"keyferry/internal/topology"
)

// sliceEnd counts a slice. It is as good as progress: a job whose slices end is not one that
// fails again and again. With no rest to take it goes on as it is.
func sliceEnd(j *topology.Job, e Event) {
	j.Slices++
	j.Attempt = 0
	if j.Slice.Rest > 0 {
		becomeResting(j, e.AtMs+j.Slice.Rest.Milliseconds())
	}
}

// RestText is what a resting job waits for.
func RestText(j topology.Job) string {
	return fmt.Sprintf("resting until %s (SLICE %v)", time.UnixMilli(j.NextTryAtMs).UTC().Format("2006-01-02T15:04:05.000Z"), j.Slice)
}

// ProgressAfterRest is the time of the last progress for a watchdog that does not count the
// rest that ends now. j is the job as it rested.
func ProgressAfterRest(j topology.Job, lastMs, nowMs int64) int64 {
	rested := nowMs - (j.NextTryAtMs - j.Slice.Rest.Milliseconds())
	return min(lastMs+max(rested, 0), nowMs)
}

// slicesTold is how many slices the history has in full.
const slicesTold = 40

// ToldSlice reports whether the history has this slice: of the first all, then each tenth,
// each hundredth and so on, since it has room for so many events only.
func ToldSlice(n int64) bool {
	step := int64(1)
	for n > slicesTold*step {
		step *= 10
	}
	return n%step == 0
}
