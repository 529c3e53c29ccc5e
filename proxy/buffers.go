package proxy

import (
	"math/bits"

	"keyferry/internal/resp"
)

// spares is memory that the loop uses again and again, so that what it does most often
// allocates nothing. Whoever takes a piece has it until the function returns that took it,
// but for requests and buffers, which are given back when they are done with.
//
// Invariants: input, keyIndex and scratch are overwritten by the next command; a frame in
// scratch must have been sent or copied when its handler returns. requests is a list by next,
// of requests that nobody refers to.
type spares struct {
	requests *request // free list
	call     *call    // see takeCall
	scanners []*resp.RequestScanner
	buffers  buffers
	input    []byte // what a session has kept and processes now, nil once its end was lent to the transport
	large    []byte // see loop.large
	keyIndex []int  // of a call's keys
	scratch  []byte // a frame that is about to be sent
	cutOf    []int  // see loop.cut
}

// buffers are spare byte slices that the sessions and requests of a loop share, by powers
// of two, so that neither pipelines nor large values make work for the collector.
//
// Invariant: a buffer is either here or with exactly one owner, who puts it back once or
// leaves it to the collector. To put one back that somebody still reads is the worst mistake
// that can be made with it: another client's bytes would be sent.
type buffers struct {
	free  [bufferClasses][][]byte
	bytes int // in free
}

const (
	bufferMin     = 4 << 10
	bufferClasses = 11       // 4 KB to 4 MB; larger ones are left to the collector
	sparesMax     = 32 << 20 // bytes that are kept; see trim
	sparesIdle    = 1 << 20  // … of a loop that needs none
)

// bufferHead is room for what stands before and behind an argument: sizes of large values
// are powers of two themselves.
const bufferHead = 1 << 10

// bufferSize is the capacity of the buffers of a class.
//
// A value of 1 MB with its header does not fit into 1 MB, and would take 2 MB without that
// room.
func bufferSize(c int) int {
	n := bufferMin << c
	if n >= 64<<10 {
		n += bufferHead
	}
	return n
}

// bufferClass is the least whose buffers have room for n bytes.
func bufferClass(n int) int {
	c := bits.Len(uint(max(n, 1)-1) / bufferMin)
	if c > 0 && n <= bufferSize(c-1) {
		return c - 1
	}
	return c
}

// get gives an empty buffer with room for at least n bytes.
func (p *buffers) get(n int) []byte {
	c := bufferClass(n)
	if c >= bufferClasses {
		return make([]byte, 0, n)
	}
	list := p.free[c]
	if len(list) == 0 {
		return make([]byte, 0, bufferSize(c))
	}
	b := list[len(list)-1]
	p.free[c] = list[:len(list)-1]
	p.bytes -= cap(b)
	return b
}

// put takes a buffer back. Nobody may use it any more.
//
// Only those that get gave out: another capacity is somebody else's slice.
func (p *buffers) put(b []byte) {
	c := bufferClass(cap(b))
	if c >= bufferClasses || cap(b) != bufferSize(c) || p.bytes+cap(b) > sparesMax {
		return
	}
	p.free[c] = append(p.free[c], b[:0])
	p.bytes += cap(b)
}

// append is the built-in one, but that it grows buffers by doubling and takes the outgrown
// one back.
func (p *buffers) append(to, b []byte) []byte {
	if len(to)+len(b) > cap(to) {
		to = p.grow(to, len(b))
	}
	return append(to, b...)
}

// grow makes room for n bytes more, and at least as many as there are.
func (p *buffers) grow(b []byte, n int) []byte {
	larger := append(p.get(max(len(b)+n, 2*(cap(b)-bufferHead))), b...)
	p.put(b)
	return larger
}

// mayLend reports whether p is the end of the input at hand, of which nothing is needed once
// p has been sent, and a good part of it: then it is not copied. The memory of an argument so
// goes from the client's connection to the server's.
//
// Then the transport keeps the buffer until the server's socket has taken it, and gives it
// back by GiveBack. For a small part of a large buffer it is not worth it: it would keep the
// whole.
func (l *loop) mayLend(p []byte) bool {
	n := len(l.spares.input)
	return n > 0 && len(p) >= cap(l.spares.input)/lendPart && &p[len(p)-1] == &l.spares.input[n-1]
}

// lendPart is which part of a buffer has to be sent, so that what waits for a server does not
// take many times its size.
const lendPart = 4

// GiveBack implements transport.Lender.
func (l *loop) GiveBack(b []byte) { l.spares.buffers.put(b) }

// large is where a server connection reads the next bytes of a large reply, of which n are
// still to come. They are handed on before the next read of any.
func (l *loop) large(n int) []byte {
	if l.spares.large == nil {
		l.spares.large = make([]byte, largeRead)
	}
	return l.spares.large[:min(n, largeRead)]
}

// largeRead is how much of a large reply one read takes at most: each wakes the server and
// each write the client, and in pieces of 64 KB that costs more than the copies.
const largeRead = 512 << 10

// trim gives up half of the larger spare buffers; called each second, it leaves little to a
// loop that does not use them.
func (p *buffers) trim() {
	for c := bufferClasses - 1; c >= 0 && p.bytes > sparesIdle; c-- {
		for n := (len(p.free[c]) + 1) / 2; n > 0 && p.bytes > sparesIdle; n-- {
			last := len(p.free[c]) - 1
			p.free[c][last], p.free[c] = nil, p.free[c][:last]
			p.bytes -= bufferSize(c)
		}
	}
}
