package stats

import "strconv"

// Frames of requests, as far as there are bytes of them: what a loop keeps of a slow command is
// the beginning of its frame.

// cutNumber reads "<kind><number>\r\n".
func cutNumber(b []byte, kind byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != kind {
		return 0, nil, false
	}
	for i := 1; i < len(b); i++ {
		if b[i] == '\r' && i+1 < len(b) {
			n, err := strconv.Atoi(string(b[1:i]))
			return n, b[i+2:], err == nil && n >= 0
		}
	}
	return 0, nil, false
}

// frameArgs are the arguments of a frame as far as it reaches; what is cut off is empty.
func frameArgs(frame []byte) [][]byte {
	count, rest, ok := cutNumber(frame, '*')
	if !ok {
		return [][]byte{nil}
	}
	args := make([][]byte, min(count, 1024))
	for i := range args {
		size, next, ok := cutNumber(rest, '$')
		if !ok || size > len(next) {
			break
		}
		args[i] = next[:size]
		rest = next[min(size+2, len(next)):]
	}
	return args
}
