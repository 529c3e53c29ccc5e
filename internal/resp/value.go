package resp

import (
	"bytes"
	"math"
	"strconv"

	"github.com/tidwall/redcon"
)

// AppendRequest encodes a request as servers are sent it: an array of bulk strings.
func AppendRequest(dst []byte, args ...[]byte) []byte {
	dst = redcon.AppendArray(dst, len(args))
	for _, a := range args {
		dst = redcon.AppendBulk(dst, a)
	}
	return dst
}

// AppendErr encodes an error reply; text begins with the error's code, as in
// "ERR syntax error". Line breaks in it become spaces: they would end the reply
// and let the rest pass for another one.
func AppendErr(dst []byte, text string) []byte {
	return redcon.AppendError(dst, text)
}

// ParseInt reads a complete integer reply, ":<n>\r\n".
func ParseInt(reply []byte) (int64, bool) {
	line, rest, ok := cutHeader(reply, ':')
	if !ok || len(rest) != 0 {
		return 0, false
	}
	return parseInt(line)
}

// Integer reads an argument that is a number as Redis does: "01", "+1", "-0" and " 1" are
// none.
func Integer(arg []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(arg), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(arg)
}

// BulkBody is the value of a complete bulk reply, aliasing it. It is false for
// the null bulk and for every other type.
func BulkBody(reply []byte) ([]byte, bool) {
	line, rest, ok := cutHeader(reply, '$')
	if !ok {
		return nil, false
	}
	n, ok := parseInt(line)
	if !ok || n < 0 || int64(len(rest))-2 != n {
		return nil, false
	}
	if rest[n] != '\r' || rest[n+1] != '\n' {
		return nil, false
	}
	return rest[:n:n], true
}

// SplitArray appends to dst the frames of the elements of a complete array
// reply, aliasing it. False, with dst as it was: the reply is something else (the
// null array too) or not complete.
func SplitArray(reply []byte, dst [][]byte) ([][]byte, bool) {
	line, rest, ok := cutHeader(reply, '*')
	if !ok {
		return dst, false
	}
	return splitElements(line, rest, 1, dst)
}

// Elements are those of a complete array reply, one after the other.
type Elements struct {
	rest []byte
	left int64
}

// ArrayElements begins to go over the elements of an array; false: the reply is something
// else (the null array too).
func ArrayElements(reply []byte) (Elements, bool) {
	line, rest, ok := cutHeader(reply, '*')
	if !ok {
		return Elements{}, false
	}
	n, ok := parseInt(line)
	return Elements{rest, n}, ok && n >= 0
}

// Next is the frame of the next element, aliasing the reply; false: there is none, or it is
// not complete.
func (e *Elements) Next() ([]byte, bool) {
	if e.left == 0 {
		return nil, false
	}
	n := elementLen(e.rest)
	if n == 0 {
		return nil, false
	}
	el := e.rest[:n:n]
	e.rest, e.left = e.rest[n:], e.left-1
	return el, true
}

// AtEnd reports that all elements have been given, and that nothing is behind them.
func (e *Elements) AtEnd() bool { return e.left == 0 && len(e.rest) == 0 }

// elementLen is the length of the frame at the start of buf, or 0.
func elementLen(buf []byte) int {
	if n := scalarLen(buf); n > 0 {
		return n
	}
	return nestedLen(buf)
}

// SplitAggregate is SplitArray for every aggregate: arrays, sets, pushes, and maps, whose
// keys and values take turns.
func SplitAggregate(reply []byte) ([][]byte, bool) {
	if len(reply) == 0 {
		return nil, false
	}
	per := int64(1)
	switch reply[0] {
	case '*', '~', '>':
	case '%':
		per = 2
	default:
		return nil, false
	}
	line, rest, ok := cutHeader(reply, reply[0])
	if !ok {
		return nil, false
	}
	return splitElements(line, rest, per, nil)
}

func splitElements(line, rest []byte, per int64, dst [][]byte) ([][]byte, bool) {
	n, ok := parseInt(line)
	if !ok || n < 0 {
		return dst, false
	}
	out := dst
	for n *= per; n > 0; n-- {
		size := elementLen(rest)
		if size == 0 {
			return dst, false
		}
		out = append(out, rest[:size:size])
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return dst, false
	}
	return out, true
}

// nestedLen is the length of the reply that stands complete at the start of
// buf, or 0. It is apart from its caller because the scanner is large to clear.
func nestedLen(buf []byte) int {
	var s ReplyScanner
	if n, st := s.Scan(buf); st == OK {
		return n
	}
	return 0
}

// cutHeader splits "<kind><line>\r\n<rest>".
func cutHeader(reply []byte, kind byte) (line, rest []byte, ok bool) {
	if len(reply) == 0 || reply[0] != kind {
		return nil, nil, false
	}
	i := bytes.IndexByte(reply, '\n')
	if i < 2 || reply[i-1] != '\r' {
		return nil, nil, false
	}
	return reply[1 : i-1], reply[i+1:], true
}

// parseInt reads a decimal as Redis's string2ll does: an optional '-', then
// digits without a leading zero, nothing else, and within an int64.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 && b[0] == '0' {
		return 0, true
	}
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	// 19 digits cannot overflow a uint64, and no int64 has more.
	if len(b) == 0 || len(b) > 19 || b[0] == '0' {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	switch {
	case neg && v <= -math.MinInt64:
		return -int64(v), true // at MinInt64, where int64(v) wraps, so does the minus
	case !neg && v <= math.MaxInt64:
		return int64(v), true
	}
	return 0, false
}
