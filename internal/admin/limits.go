package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"keyferry/internal/topology"
	"keyferry/migrator/job"
)

const limitsUsage = "[RATE <keys/s>] [BYTES <bytes/s>] [PARALLEL <n>] [MAXP99 <ms>|auto|off] [SLICE <work>[/<rest>]|off]"

// takeLimit reads one limit at args[i], if there is one: it returns the index of its value,
// or i when this is another word.
func takeLimit(l *job.Limits, args []string, i int) (next int, err error) {
	if i+1 >= len(args) {
		return i, nil
	}
	v := args[i+1]
	switch strings.ToLower(args[i]) {
	case "rate":
		l.KeysPerS, err = amount("RATE", v, "keys per second")
	case "bytes":
		l.BytesPerS, err = amount("BYTES", v, "bytes per second, as 500000, 512kb or 20mb")
	case "parallel":
		l.Parallel, err = countUpTo("PARALLEL", v, 64)
	case "maxp99":
		l.MaxP99Ms, err = maxP99(v)
	case "slice":
		var s topology.Slice
		if s, err = topology.ParseSlice(v); err != nil {
			return i, fmt.Errorf("SLICE %q: %w", v, err)
		}
		l.Slice = &s
	default:
		return i, nil
	}
	return i + 1, err
}

// amount is a number, with a unit of bytes if it has one. 0 takes a limit away.
func amount(name, text, want string) (*float64, error) {
	number, unit := strings.ToLower(text), 1.0
	for i, u := range []string{"kb", "mb", "gb"} {
		if n, ok := strings.CutSuffix(number, u); ok {
			number, unit = n, float64(int64(1)<<(10*(i+1)))
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		return nil, fmt.Errorf("%s %q: want %s, or 0 for no limit", name, text, want)
	}
	v *= unit
	return &v, nil
}

func countUpTo(name, text string, most int) (*int, error) {
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 || v > most {
		return nil, fmt.Errorf("%s %q: want 0 (as configured) to %d", name, text, most)
	}
	return &v, nil
}

func maxP99(text string) (*int, error) {
	auto, off := job.MaxP99Auto, job.MaxP99Off
	switch strings.ToLower(text) {
	case "auto":
		return &auto, nil
	case "off":
		return &off, nil
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 0 || v > 60_000 {
		return nil, fmt.Errorf("MAXP99 %q: want milliseconds up to 60000, auto (1.3 times what it is without the job), off, or 0 (as configured)", text)
	}
	return &v, nil
}

// limits reads a list of limits.
func limits(args []string) (l job.Limits, ok bool, err error) {
	for i := 0; i < len(args); i++ {
		next, err := takeLimit(&l, args, i)
		if err != nil {
			return l, true, err
		}
		if next == i {
			return l, false, nil
		}
		i = next
	}
	return l, len(args) > 0, nil
}
