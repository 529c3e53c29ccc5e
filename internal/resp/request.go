package resp

import (
	"bytes"
	"math"
)

// Status is the outcome of one call to a scanner.
type Status uint8

const (
	Again   Status = iota // the frame goes on past the bytes at hand
	OK                    // a frame ends at n
	Invalid               // the bytes break the protocol; the connection is lost
)

// Limits of a request, those of Redis where it has them.
const (
	DefaultMaxBulk = 512 << 20 // bytes in one argument: proto-max-bulk-len
	DefaultMaxArgs = 1 << 20   // arguments in one request: Redis before 7.0; 7.0 itself has 2^31-1

	// What a client may send before it has authenticated. A limit set to one
	// of these is reported as "unauthenticated …" when exceeded.
	UnauthMaxBulk = 16384
	UnauthMaxArgs = 10
)

// maxLine is PROTO_INLINE_MAX_SIZE, in bytes: the most of an inline request
// or of a "*<n>" or "$<n>" header that may stand before its terminator.
const maxLine = 64 << 10

// keepArgs bounds the argument slots that a scanner keeps for its next frame
// (24 KB), so that one giant MSET does not pin megabytes for the rest of the
// connection. Redis keeps as many.
const keepArgs = 1024

const protocolError = "ERR Protocol error: "

type reqState uint8

const (
	reqStart  reqState = iota // between frames
	reqInline                 // in an inline request, before its LF
	reqCount                  // in "*<n>", before its CR LF
	reqHeader                 // in "$<n>", before its CR LF
	reqBody                   // in the body of an argument or in its CR LF
	reqDead                   // Invalid was returned
)

// span is where an argument stands in the buffer. Unfinished frames hold
// spans and not slices because the buffer may move until they are finished.
type span struct{ from, to int }

// RequestScanner frames client requests, multibulk and inline, incrementally:
// a large value arriving in pieces is never rescanned. The zero value is
// ready. It is not safe for concurrent use.
type RequestScanner struct {
	MaxBulk int // bytes in one argument; 0 is DefaultMaxBulk. May change between frames.
	MaxArgs int // arguments in one request; 0 is DefaultMaxArgs. May change between frames.

	state  reqState
	inline bool   // see Inline
	nul    bool   // the current line holds a NUL, so it never ends: see lineEnd
	pos    int    // buf[:pos] is understood and never looked at again
	seen   int    // no terminator in buf[pos:pos+seen]
	have   int    // length of buf at the last Again
	left   int    // arguments still to come, the current one included
	bulk   int    // bytes in the body of the current argument
	spans  []span // arguments of the unfinished frame

	args    [][]byte // arguments of the last finished frame
	scratch []byte   // backs the arguments of an inline frame
	errText string
}

// Scan goes on over buf, which begins with the first byte of a frame. OK: the
// frame is buf[:n], and Args are its arguments; the next call begins with
// buf[n:]. Again: call once more with a buffer that begins with the same bytes
// (it may have moved in memory) and has more of them. Invalid: ErrText says
// why, in Redis's words, and every further call returns Invalid until Reset.
// n is 0 unless OK is returned.
//
// As in Redis, "*0", a negative count and an empty line are frames without
// arguments, to be passed over in silence.
func (s *RequestScanner) Scan(buf []byte) (n int, st Status) {
	if s.state == reqStart {
		if n := s.scanWhole(buf); n > 0 {
			return n, OK
		}
		if len(buf) == 0 {
			s.have = 0
			return 0, Again
		}
		s.begin(buf[0])
	}
	for s.state != reqStart {
		if st := s.step(buf); st != OK {
			s.have = len(buf)
			return 0, st
		}
	}
	return s.pos, OK
}

// Args are the arguments of the frame that the last Scan found, the command's
// name first. They alias its buffer (those of an inline frame, memory of the
// scanner's own) and are valid until the next Scan; the slice of them is reused.
// Until then, or until Reset, the scanner also keeps that buffer reachable.
func (s *RequestScanner) Args() [][]byte { return s.args }

// Inline tells that the last frame must be re-encoded (see AppendRequest)
// before it is forwarded. It was an inline request, or a multibulk in which
// other bytes stand where a CR LF belongs: Redis does not look at those, but
// other servers do and would drop the connection that many clients share.
func (s *RequestScanner) Inline() bool { return s.inline }

// Need is, after Again, a lower bound of the bytes that must be appended before
// Scan can tell anything new; at least 1. It stems from a length that the
// client declared: a hint of when to look again, never of what to allocate.
func (s *RequestScanner) Need() int {
	if s.state == reqBody {
		return s.bulk - (s.have - s.pos) + 2
	}
	return 1
}

// ErrText is, after Invalid, the error to send, as Redis words it, without the
// leading "-" and the line's end; otherwise "".
func (s *RequestScanner) ErrText() string { return s.errText }

// Reset forgets the frame at hand, the last frame's arguments and an error. It
// keeps the limits and the memory.
func (s *RequestScanner) Reset() {
	clear(s.args[:cap(s.args)]) // they would keep the caller's buffer alive
	*s = RequestScanner{
		MaxBulk: s.MaxBulk, MaxArgs: s.MaxArgs,
		args: s.args[:0], spans: s.spans[:0], scratch: s.scratch[:0],
	}
}

func (s *RequestScanner) maxBulk() int {
	if s.MaxBulk == 0 {
		return DefaultMaxBulk
	}
	return s.MaxBulk
}

func (s *RequestScanner) maxArgs() int {
	if s.MaxArgs == 0 {
		return DefaultMaxArgs
	}
	return s.MaxArgs
}

// scanWhole is the fast path: a well-formed multibulk frame that is in buf to
// its end. It returns its length, or 0 without a trace where anything is out of
// the ordinary; then the states below find out what. So only the first piece of
// a frame is ever gone over twice, and of that the headers only.
func (s *RequestScanner) scanWhole(buf []byte) int {
	if len(buf) < 4 || buf[0] != '*' {
		return 0
	}
	count, p := shortNumber(buf, 1)
	if p == 0 || count == 0 || count > s.maxArgs() {
		return 0
	}
	args, maxBulk := s.args[:0], s.maxBulk()
	if cap(args) > keepArgs {
		args = nil
	}
	for ; count > 0; count-- {
		if p >= len(buf) || buf[p] != '$' {
			return 0
		}
		size, from := shortNumber(buf, p+1)
		if from == 0 || size > maxBulk || size > len(buf)-from-2 {
			return 0
		}
		to := from + size
		if buf[to] != '\r' || buf[to+1] != '\n' {
			return 0
		}
		args = append(args, buf[from:to:to])
		p = to + 2
	}
	s.args, s.inline = args, false
	return p
}

// shortNumber reads the decimal of at most nine digits at buf[p:] and its CR LF.
// next is the index after them, or 0 if that is not what stands there.
func shortNumber(buf []byte, p int) (num, next int) {
	first := p
	for ; p < len(buf); p++ {
		c := buf[p] - '0'
		if c > 9 {
			break
		}
		num = num*10 + int(c)
		if p-first == 9 {
			return 0, 0
		}
	}
	if p == first || p+1 >= len(buf) || buf[p] != '\r' || buf[p+1] != '\n' {
		return 0, 0
	}
	if buf[first] == '0' && p-first > 1 {
		return 0, 0
	}
	return num, p + 2
}

func (s *RequestScanner) begin(first byte) {
	s.pos, s.seen, s.nul = 0, 0, false
	s.spans, s.args = s.spans[:0], s.args[:0]
	if cap(s.spans) > keepArgs {
		s.spans = nil
	}
	if cap(s.args) > keepArgs {
		s.args = nil
	}
	s.state, s.inline = reqCount, false
	if first != '*' {
		s.state, s.inline = reqInline, true
	}
}

// step leaves the present state for the next. OK: it did, and has set pos to
// where that one begins; reqStart means that the frame is complete.
func (s *RequestScanner) step(buf []byte) Status {
	switch s.state {
	case reqInline:
		return s.stepInline(buf)
	case reqCount:
		return s.stepCount(buf)
	case reqHeader:
		return s.stepHeader(buf)
	case reqBody:
		return s.stepBody(buf)
	}
	return Invalid // reqDead
}

func (s *RequestScanner) stepCount(buf []byte) Status {
	end, st := s.headerEnd(buf, "too big mbulk count string")
	if st != OK {
		return st
	}
	count, ok := parseInt(buf[s.pos+1 : end])
	limit := int64(s.maxArgs())
	switch {
	case !ok || count > math.MaxInt32:
		return s.fail("invalid multibulk length")
	case count > limit && limit == UnauthMaxArgs:
		return s.fail("unauthenticated multibulk length")
	case count > limit:
		return s.fail("invalid multibulk length")
	}
	s.advance(end + 2)
	if count <= 0 {
		s.state = reqStart
		return OK
	}
	s.left, s.state = int(count), reqHeader
	return OK
}

func (s *RequestScanner) stepHeader(buf []byte) Status {
	end, st := s.headerEnd(buf, "too big bulk count string")
	if st != OK {
		return st
	}
	if c := buf[s.pos]; c != '$' {
		if c == '\r' || c == '\n' {
			c = ' ' // as Redis does, lest it end the error's line
		}
		return s.fail("expected '$', got '" + string([]byte{c}) + "'")
	}
	size, ok := parseInt(buf[s.pos+1 : end])
	limit := int64(s.maxBulk())
	switch {
	case !ok || size < 0:
		return s.fail("invalid bulk length")
	case size > limit && limit == UnauthMaxBulk && size <= DefaultMaxBulk:
		return s.fail("unauthenticated bulk length")
	case size > limit:
		return s.fail("invalid bulk length")
	}
	s.advance(end + 2)
	s.bulk, s.state = int(size), reqBody
	return OK
}

func (s *RequestScanner) stepBody(buf []byte) Status {
	if len(buf)-s.pos-2 < s.bulk {
		return Again
	}
	end := s.pos + s.bulk
	s.noteEnd(buf, end)
	s.spans = append(s.spans, span{s.pos, end})
	s.advance(end + 2)
	if s.left--; s.left > 0 {
		s.state = reqHeader
		return OK
	}
	for _, a := range s.spans {
		s.args = append(s.args, buf[a.from:a.to:a.to])
	}
	s.state = reqStart
	return OK
}

func (s *RequestScanner) stepInline(buf []byte) Status {
	end, st := s.lineEnd(buf, '\n', "too big inline request")
	if st != OK {
		return st
	}
	line := buf[:end]
	if end > 0 && line[end-1] == '\r' {
		line = line[:end-1]
	}
	if !s.splitInline(line) {
		return s.fail("unbalanced quotes in request")
	}
	s.advance(end + 1)
	s.state = reqStart
	return OK
}

// headerEnd finds the CR of the header at pos, once the byte after it is there too.
func (s *RequestScanner) headerEnd(buf []byte, tooBig string) (int, Status) {
	end, st := s.lineEnd(buf, '\r', tooBig)
	if st != OK {
		return 0, st
	}
	if end+1 >= len(buf) {
		return 0, Again
	}
	s.noteEnd(buf, end)
	return end, OK
}

// lineEnd finds the terminator of the line at pos. Redis looks for it with
// strchr, so a NUL before it hides it: such a line never ends, and is too big
// in the end. We keep to that, as what Redis waits for must not be executed.
func (s *RequestScanner) lineEnd(buf []byte, terminator byte, tooBig string) (int, Status) {
	from := s.pos + s.seen
	to := min(len(buf), s.pos+maxLine+1)
	if !s.nul {
		i := bytes.IndexByte(buf[from:to], terminator)
		fresh := buf[from:to]
		if i >= 0 {
			fresh = fresh[:i]
		}
		s.nul = bytes.IndexByte(fresh, 0) >= 0
		if i >= 0 && !s.nul {
			return from + i, OK
		}
	}
	s.seen = to - s.pos
	if s.seen > maxLine {
		return 0, s.fail(tooBig)
	}
	return 0, Again
}

// noteEnd marks a frame in which no CR LF stands at end: see Inline.
func (s *RequestScanner) noteEnd(buf []byte, end int) {
	if buf[end] != '\r' || buf[end+1] != '\n' {
		s.inline = true
	}
}

func (s *RequestScanner) advance(pos int) { s.pos, s.seen, s.nul = pos, 0, false }

func (s *RequestScanner) fail(text string) Status {
	s.state, s.errText = reqDead, protocolError+text
	s.args, s.spans = s.args[:0], s.spans[:0]
	return Invalid
}

// splitInline splits an inline request, which holds no NUL, into Args as
// sdssplitargs does. False: a quote is not closed, or not followed by a space.
func (s *RequestScanner) splitInline(line []byte) bool {
	// No argument is longer than its source, so scratch does not move below.
	if cap(s.scratch) < len(line) {
		s.scratch = make([]byte, 0, len(line))
	}
	out := s.scratch[:0]
	for p := 0; ; {
		for p < len(line) && isSpace(line[p]) {
			p++
		}
		if p == len(line) {
			return true
		}
		from := len(out)
		var ok bool
		if out, p, ok = appendToken(out, line, p); !ok {
			return false
		}
		s.args = append(s.args, out[from:len(out):len(out)])
	}
}

// appendToken appends the token at line[p:] to out; next is the index after it.
// A quote may open in the middle of a token but always closes it.
func appendToken(out, line []byte, p int) (_ []byte, next int, ok bool) {
	for ; p < len(line); p++ {
		switch c := line[p]; c {
		case ' ', '\n', '\r', '\t': // not \v and \f, which only isSpace has
			return out, p, true
		case '"', '\'':
			out, p, ok = appendQuoted(out, line, p+1, c)
			return out, p, ok && (p == len(line) || isSpace(line[p]))
		default:
			out = append(out, c)
		}
	}
	return out, p, true
}

// appendQuoted appends what stands between line[p] and the closing quote; next
// is the index after that. ok is false if there is none.
func appendQuoted(out, line []byte, p int, quote byte) (_ []byte, next int, ok bool) {
	for p < len(line) {
		c := line[p]
		switch {
		case c == quote:
			return out, p + 1, true
		case c == '\\' && quote == '\'' && p+1 < len(line) && line[p+1] == '\'':
			c = '\''
			p++
		case c == '\\' && quote == '"' && p+1 < len(line):
			c, p = unescape(line, p+1)
		}
		out = append(out, c)
		p++
	}
	return out, p, false
}

// unescape reads the escape whose backslash stands before line[p]; last is the
// index of its last byte.
func unescape(line []byte, p int) (c byte, last int) {
	switch c := line[p]; c {
	case 'n':
		return '\n', p
	case 'r':
		return '\r', p
	case 't':
		return '\t', p
	case 'b':
		return '\b', p
	case 'a':
		return '\a', p
	case 'x':
		if p+2 < len(line) {
			hi, lo := hexDigit(line[p+1]), hexDigit(line[p+2])
			if hi < 16 && lo < 16 {
				return hi<<4 | lo, p + 2
			}
		}
		return c, p
	default:
		return c, p
	}
}

// hexDigit is the value of a hexadecimal digit, or 255.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// isSpace is C's isspace in the "C" locale.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
