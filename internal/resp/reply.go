package resp

// maxDepth bounds how deep replies may nest. Redis's own go to about 5.
const maxDepth = 64

// ReplyScanner finds the end of server replies, RESP2 and RESP3, without keeping bytes.
// The zero value is ready.
type ReplyScanner struct {
	kind  byte // type of the reply under way or, when none is, of the last one
	begun bool
	attr  bool // inside an attribute: the reply proper is still to come

	mode  scanMode
	head  byte  // type byte of the line under way
	num   int64 // its number so far
	neg   bool
	nums  int   // digits seen
	skip  int64 // bytes of a bulk and its CRLF still to come
	depth int
	left  [maxDepth]int64 // elements still to come, by depth
}

type scanMode uint8

const (
	atType scanMode = iota // the next byte is a type
	inNum                  // a line with a number that matters: length or count
	inText                 // a line of text up to CR
	atLF                   // CR seen
	inBulk                 // skipping
)

// Type is the first byte of the reply under way, or of the one that ended last. An
// attribute belongs to the reply behind it, whose type counts.
func (s *ReplyScanner) Type() byte { return s.kind }

// Started reports whether a part of a reply has been consumed.
func (s *ReplyScanner) Started() bool { return s.begun }

// Scan consumes what belongs to the reply under way. OK: it ends at buf[n]. Again: all
// of buf belongs to it and more is to come. Invalid: this is not RESP.
func (s *ReplyScanner) Scan(buf []byte) (n int, st Status) {
	if !s.begun {
		if n := quick(buf); n > 0 {
			s.kind = buf[0]
			return n, OK
		}
	}
	i := 0
	for i < len(buf) {
		switch s.mode {
		case atType:
			if !s.start(buf[i]) {
				return i, Invalid
			}
			i++
		case inNum:
			c := buf[i]
			i++
			if c == '\r' {
				s.mode = atLF
			} else if !s.digit(c) {
				return i, Invalid
			}
		case inText:
			for i < len(buf) && buf[i] != '\r' {
				i++
			}
			if i < len(buf) {
				i++
				s.mode = atLF
			}
		case atLF:
			if buf[i] != '\n' {
				return i, Invalid
			}
			i++
			over, ok := s.line()
			if !ok {
				return i, Invalid
			}
			if over {
				return i, OK
			}
		case inBulk:
			take := min(s.skip, int64(len(buf)-i))
			i += int(take)
			if s.skip -= take; s.skip == 0 && s.element() {
				return i, OK
			}
		}
	}
	return i, Again
}

// quick is the length of a whole, small, flat reply at the start of buf, or 0. It takes
// the common case without the state machine.
func quick(buf []byte) int {
	if len(buf) < 4 {
		return 0
	}
	switch buf[0] {
	case '+', '-', ':':
		for i := 1; i+1 < len(buf) && i < 64; i++ {
			if buf[i] == '\r' {
				if buf[i+1] == '\n' && (buf[0] != ':' || i > 1) {
					return i + 2
				}
				return 0
			}
		}
	case '$':
		v := 0
		for i := 1; i+1 < len(buf) && i < 10; i++ {
			c := buf[i]
			if c == '\r' {
				end := i + 2 + v + 2
				if i == 1 || buf[i+1] != '\n' || end > len(buf) {
					return 0
				}
				return end
			}
			if c < '0' || c > '9' {
				return 0
			}
			v = v*10 + int(c-'0')
		}
	}
	return 0
}

func (s *ReplyScanner) start(c byte) bool {
	s.head, s.num, s.neg, s.nums = c, 0, false, 0
	switch c {
	case '+', '-', ':', ',', '#', '(', '_':
		s.mode = inText
	case '$', '=', '!', '*', '~', '>', '%', '|':
		s.mode = inNum
	default:
		return false
	}
	if !s.begun {
		s.begun = true
		s.kind = c
		s.attr = c == '|'
	} else if s.attr && s.depth == 0 {
		s.kind = c
		s.attr = c == '|'
	}
	return true
}

func (s *ReplyScanner) digit(c byte) bool {
	if c == '-' && s.nums == 0 && !s.neg {
		s.neg = true
		return true
	}
	if c < '0' || c > '9' || s.nums >= 12 {
		return false
	}
	s.num = s.num*10 + int64(c-'0')
	s.nums++
	return true
}

// line acts on a header line that has ended. over: the reply ends here.
func (s *ReplyScanner) line() (over, ok bool) {
	switch s.head {
	case '$', '=', '!':
		if s.nums == 0 || s.neg && s.num != 1 {
			return false, false
		}
		if s.neg {
			return s.element(), true
		}
		s.skip, s.mode = s.num+2, inBulk
		return false, true
	case '*', '~', '>', '%', '|':
		if s.nums == 0 || s.neg && s.num != 1 || s.num > 1<<31 {
			return false, false
		}
		n := s.num
		if s.neg {
			n = 0
		}
		if s.head == '%' || s.head == '|' {
			n *= 2
		}
		if s.head == '|' {
			n++ // the reply that it describes follows as if it were its last element
		}
		if n == 0 {
			return s.element(), true
		}
		// What ends with the last element of its parent needs no level of its own.
		if s.depth > 0 && s.left[s.depth-1] == 1 && s.head != '|' {
			s.left[s.depth-1] = n
			s.mode = atType
			return false, true
		}
		if s.depth == maxDepth {
			return false, false
		}
		s.left[s.depth] = n
		s.depth++
		s.mode = atType
		return false, true
	}
	return s.element(), true
}

// element notes that one element has ended, and all that end with it. True when the
// reply ends.
func (s *ReplyScanner) element() bool {
	s.mode = atType
	for s.depth > 0 {
		s.left[s.depth-1]--
		if s.left[s.depth-1] > 0 {
			return false
		}
		s.depth--
	}
	s.begun = false
	return true
}
