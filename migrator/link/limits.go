package link

import (
	"math"
	"strconv"
)

// BulkLimits are the settings of a server that bound one argument of a command. A client that sends
// more is cut off, with or without a word.
var BulkLimits = []string{"proto-max-bulk-len", "client-query-buffer-limit"}

// frameBytes is what the server keeps beside an argument while it comes in.
const frameBytes = 64

// Limit is how long an argument may be and by which setting. The zero value is of a server that
// does not tell.
type Limit struct {
	Setting string
	Bytes   int64
}

// Lower takes a setting into account; what is no number, or no limit, leaves it as it is.
func (l Limit) Lower(setting, value string) Limit {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 || n >= l.Most() {
		return l
	}
	return Limit{setting, n}
}

// Most is how long an argument may be.
func (l Limit) Most() int64 {
	if l.Bytes == 0 {
		return math.MaxInt64
	}
	return l.Bytes
}

// Takes reports whether it lets an argument of n bytes through.
func (l Limit) Takes(n int) bool { return l.Bytes == 0 || int64(n) <= l.Bytes-frameBytes }
