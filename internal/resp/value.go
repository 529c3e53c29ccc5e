package resp

import (
	"strconv"
	"strings"

	"github.com/tidwall/redcon"
)

// AppendRequest encodes a request as servers are sent it.
func AppendRequest(dst []byte, args ...[]byte) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(len(args)), 10)
	dst = append(dst, "\r\n"...)
	for _, a := range args {
		dst = redcon.AppendBulk(dst, a)
	}
	return dst
}

// AppendErr encodes an error reply; text begins with the error's code. Line breaks in it
// become spaces, since they would end the reply.
func AppendErr(dst []byte, text string) []byte {
	dst = append(dst, '-')
	dst = append(dst, strings.NewReplacer("\r", " ", "\n", " ").Replace(text)...)
	return append(dst, "\r\n"...)
}

// ParseInt reads a whole integer reply.
func ParseInt(reply []byte) (int64, bool) {
	if len(reply) < 4 || reply[0] != ':' || string(reply[len(reply)-2:]) != "\r\n" {
		return 0, false
	}
	return parseLL(reply[1 : len(reply)-2])
}

// BulkBody is the value of a whole bulk reply; false for nil and for other types.
func BulkBody(reply []byte) ([]byte, bool) {
	if len(reply) == 0 || reply[0] != '$' {
		return nil, false
	}
	n, next := shortNumber(reply, 1)
	if next == 0 || len(reply) != next+n+2 {
		return nil, false
	}
	return reply[next : next+n], true
}

// SplitArray appends the frames of the elements of a whole array reply to dst.
func SplitArray(reply []byte, dst [][]byte) ([][]byte, bool) {
	if len(reply) == 0 || reply[0] != '*' {
		return nil, false
	}
	n, next := shortNumber(reply, 1)
	if next == 0 {
		return nil, false
	}
	var s ReplyScanner
	for range n {
		m, st := s.Scan(reply[next:])
		if st != OK {
			return nil, false
		}
		dst = append(dst, reply[next:next+m])
		next += m
	}
	return dst, next == len(reply)
}

// parseLL is Redis's string2ll: an optional minus, no plus, no leading zeros, no space,
// no overflow.
func parseLL(b []byte) (int64, bool) {
	if len(b) == 1 && b[0] >= '0' && b[0] <= '9' {
		return int64(b[0] - '0'), true
	}
	neg := false
	if len(b) > 0 && b[0] == '-' {
		neg, b = true, b[1:]
	}
	if len(b) == 0 || len(b) > 19 || b[0] < '1' || b[0] > '9' {
		return 0, false
	}
	v := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	switch {
	case neg && v <= 1<<63:
		return -int64(v), true
	case neg || v > 1<<63-1:
		return 0, false
	}
	return int64(v), true
}
