package job

import (
	"fmt"
	"strconv"

	"keyferry/internal/topology"
)

// Limits are an operator's ceilings of one job. In a change, nil leaves a limit as it is.
type Limits struct {
	KeysPerS  *float64 // 0: none
	BytesPerS *float64 // 0: none
	Parallel  *int     // 0: the default
	MaxP99Ms  *int     // 0: as configured; or MaxP99Off, MaxP99Auto
	Slice     *topology.Slice
}

// What a job's MaxP99Ms can be besides a number of milliseconds and 0, which is as
// configured.
const (
	MaxP99Off  = -1 // clients' latency does not count
	MaxP99Auto = -2 // a little more than clients wait without the job; see flow
)

// Apply changes the job's limits.
func (l *Limits) Apply(j *topology.Job) {
	if l == nil {
		return
	}
	set(&j.RateKeysPerS, l.KeysPerS)
	set(&j.RateBytesPerS, l.BytesPerS)
	set(&j.Parallel, l.Parallel)
	set(&j.MaxP99Ms, l.MaxP99Ms)
	set(&j.Slice, l.Slice)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// LimitsText is a job's limits as its history tells them.
func LimitsText(j topology.Job) string {
	return fmt.Sprintf("RATE %g BYTES %g PARALLEL %d MAXP99 %s SLICE %v", j.RateKeysPerS, j.RateBytesPerS, j.Parallel, MaxP99Text(j.MaxP99Ms), j.Slice)
}

// MaxP99Text is a job's MAXP99 as it is said.
func MaxP99Text(ms int) string {
	switch ms {
	case 0:
		return "as configured"
	case MaxP99Off:
		return "off"
	case MaxP99Auto:
		return "auto"
	}
	return strconv.Itoa(ms)
}
