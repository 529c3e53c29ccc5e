package resp

import (
	"bytes"
	"math"
)

// Limits of a reply. Nothing is kept of a reply, so they guard not memory but
// against taking noise for RESP and waiting for its end.
const (
	maxReplyBulk  = 1 << 40 // bytes; a DUMP may exceed proto-max-bulk-len
	maxReplyCount = 1 << 31 // elements, or pairs, of one aggregate
	maxReplyDepth = 128     // levels open at once; Redis's own replies have about 5
	maxReplyHead  = 24      // bytes of a length line: more than any number has
)

type replyState uint8

const (
	replyType replyState = iota // before the first byte of a value
	replyLine                   // in a line of text, before its CR LF
	replyHead                   // in a length or count, before its CR LF
	replyBody                   // in the body of a bulk
	replyCR                     // before the CR behind a bulk
	replyLF                     // before the LF behind a bulk
	replyDead                   // Invalid was returned
)

// ReplyScanner finds the end of one server reply after another, RESP2 and
// RESP3, without keeping bytes: it consumes, and may be stopped between any two
// bytes. The zero value is ready. It is not safe for concurrent use.
//
// What counts is where a reply ends, so the text of lines is not looked at, and
// streamed lengths ("$?", "*?"), which no server sends, are Invalid.
type ReplyScanner struct {
	state   replyState
	started bool
	cr      bool  // in replyLine: the last byte was a CR
	typ     byte  // type of the reply
	kind    byte  // type of the value in hand, somewhere within the reply
	skip    int64 // bytes of the body still to come
	head    [maxReplyHead]byte
	headLen int

	// left[:depth] counts the values still to come on each open level; on the
	// lowest that is the reply itself. It is never 0: what is last on its level
	// closes the level before it opens its own, so a chain nested by its last
	// elements takes no room however long it is.
	left  [maxReplyDepth]int64
	depth int
}

// Scan consumes the n bytes of buf that belong to the current reply. OK: it ends
// at n, and the next call begins a new one. Again: n is len(buf) and there is
// more to come. Invalid: this is not RESP; so will be every further call, until
// the scanner is set to its zero value.
func (s *ReplyScanner) Scan(buf []byte) (n int, st Status) {
	if !s.started && s.state == replyType {
		if n := scalarLen(buf); n > 0 {
			s.typ = buf[0]
			return n, OK
		}
	}
	for n < len(buf) {
		m, st := s.step(buf[n:])
		n += m
		if st != Again {
			return n, st
		}
	}
	return n, Again
}

// Type is the first byte of the current or else of the last reply, such as '+',
// '$' or '*'. An attribute ('|') belongs to the reply behind it and gives way to
// that reply's type as soon as it has come.
func (s *ReplyScanner) Type() byte { return s.typ }

// Started tells that some bytes of the current reply have been consumed.
func (s *ReplyScanner) Started() bool { return s.started }

// More is how many bytes of the bulk at hand are still to come; 0 if there is none.
func (s *ReplyScanner) More() int {
	if s.state != replyBody {
		return 0
	}
	return int(min(s.skip, math.MaxInt32))
}

// scalarLen is the fast path: the length of the simple value that stands
// complete at the start of buf; 0 if there is none, or none so plain.
func scalarLen(buf []byte) int {
	if len(buf) < 3 {
		return 0
	}
	switch buf[0] {
	case '+', '-', ':', '_', '#', ',', '(':
		if i := bytes.IndexByte(buf, '\n'); i > 1 && buf[i-1] == '\r' {
			return i + 1
		}
	case '$', '=', '!':
		size, from := shortNumber(buf, 1)
		if from == 0 {
			if len(buf) >= 5 && string(buf[:5]) == "$-1\r\n" {
				return 5
			}
			return 0
		}
		end := from + size
		if end+2 <= len(buf) && buf[end] == '\r' && buf[end+1] == '\n' {
			return end + 2
		}
	}
	return 0
}

// step consumes the first n bytes of buf, which is not empty, or leaves an empty
// body without any. OK: the reply ends with them.
func (s *ReplyScanner) step(buf []byte) (n int, st Status) {
	switch s.state {
	case replyType:
		return s.stepType(buf)
	case replyLine:
		return s.stepLine(buf)
	case replyHead:
		return s.stepHead(buf)
	case replyBody:
		n := min(s.skip, int64(len(buf)))
		if s.skip -= n; s.skip == 0 {
			s.state = replyCR
		}
		return int(n), Again
	case replyCR:
		if buf[0] == '\r' {
			s.state = replyLF
			return 1, Again
		}
	case replyLF:
		if buf[0] == '\n' {
			return 1, s.closeValue()
		}
	}
	return 0, s.fail()
}

func (s *ReplyScanner) stepType(buf []byte) (int, Status) {
	s.kind = buf[0]
	if !s.started {
		s.started, s.typ = true, s.kind
		s.depth, s.left[0] = 1, 1
	} else if s.depth == 1 && s.typ == '|' {
		s.typ = s.kind
	}
	if n := scalarLen(buf); n > 0 {
		return n, s.closeValue()
	}
	switch s.kind {
	case '+', '-', ':', '_', '#', ',', '(':
		s.state, s.cr = replyLine, false
	case '$', '=', '!', '*', '~', '>', '%', '|':
		s.state, s.headLen = replyHead, 0
	default:
		return 0, s.fail()
	}
	return 1, Again
}

// stepLine looks for CR LF; either of them alone is text, as clients have it.
func (s *ReplyScanner) stepLine(buf []byte) (int, Status) {
	i := bytes.IndexByte(buf, '\n')
	if i < 0 {
		s.cr = buf[len(buf)-1] == '\r'
		return len(buf), Again
	}
	ended := s.cr
	if i > 0 {
		ended = buf[i-1] == '\r'
	}
	s.cr = false
	if ended {
		return i + 1, s.closeValue()
	}
	return i + 1, Again
}

func (s *ReplyScanner) stepHead(buf []byte) (int, Status) {
	part := buf[:min(len(buf), maxReplyHead-s.headLen)]
	i := bytes.IndexByte(part, '\n')
	if i >= 0 {
		part = part[:i+1]
	}
	s.headLen += copy(s.head[s.headLen:], part)
	if i < 0 {
		if s.headLen == maxReplyHead {
			return 0, s.fail()
		}
		return len(part), Again
	}
	if s.headLen < 2 || s.head[s.headLen-2] != '\r' {
		return 0, s.fail()
	}
	num, ok := parseInt(s.head[:s.headLen-2])
	if !ok {
		return 0, s.fail()
	}
	return len(part), s.opened(num)
}

// opened acts on the length or count of a value, now complete.
func (s *ReplyScanner) opened(num int64) Status {
	switch s.kind {
	case '$', '=', '!':
		if num == -1 && s.kind == '$' {
			return s.closeValue()
		}
		if num < 0 || num > maxReplyBulk {
			return s.fail()
		}
		s.skip, s.state = num, replyBody
		return Again
	}
	if num == -1 && s.kind == '*' {
		return s.closeValue()
	}
	if num < 0 || num > maxReplyCount {
		return s.fail()
	}
	if s.kind == '%' || s.kind == '|' {
		num *= 2
	}
	return s.openLevel(num)
}

// openLevel begins an aggregate of count values. It stands for one value of the
// level below; an attribute does not: the value that it describes is yet to come.
func (s *ReplyScanner) openLevel(count int64) Status {
	s.state = replyType
	switch {
	case s.kind == '|' && count == 0:
		return Again
	case count == 0:
		return s.closeValue()
	case s.kind != '|':
		s.take()
	}
	if s.depth == maxReplyDepth {
		return s.fail()
	}
	s.left[s.depth] = count
	s.depth++
	return Again
}

// closeValue ends a value that has no values in it still to come.
func (s *ReplyScanner) closeValue() Status {
	s.state = replyType
	s.take()
	if s.depth == 0 {
		s.started = false
		return OK
	}
	return Again
}

// take counts a value off its level and closes that if it was the last.
func (s *ReplyScanner) take() {
	top := s.depth - 1
	if s.left[top]--; s.left[top] == 0 {
		s.depth--
	}
}

func (s *ReplyScanner) fail() Status {
	s.state = replyDead
	return Invalid
}
