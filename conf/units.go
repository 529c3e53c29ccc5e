package conf

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as "64kb".
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  Size
}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"b", 1}} // "b" last: it ends the others too

var errSize = errors.New(`want a size, as "512", "64kb", "1mb" or "2gb"`)

// UnmarshalText reads a whole number with an optional unit b, kb, mb or gb (powers of
// 1024; redis.conf's k, m and g, which are powers of 1000, are refused).
func (s *Size) UnmarshalText(text []byte) error {
	t, unit := strings.ToLower(string(text)), Size(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(t, u.suffix); ok {
			t, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(t, 10, 62)
	if err != nil || Size(n) > 1<<62/unit {
		return errSize
	}
	*s = Size(n) * unit
	return nil
}

// String writes the size in its largest whole unit.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.suffix
		}
	}
	return "0b"
}

// Duration is a time, written as "5s".
type Duration time.Duration

var errDuration = errors.New(`want a time with its unit, as "20ms", "5s" or "1m"`)

// UnmarshalText reads Go's notation; negative times are refused.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return errDuration
	}
	*d = Duration(v)
	return nil
}

// String is Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }
