package proxy

import "math/bits"

// buffers are spare byte slices that the sessions and requests of a loop share, by powers
// of two, so that neither pipelines nor large values make work for the collector.
type buffers struct {
	free  [bufferClasses][][]byte
	bytes int // in free
}

const (
	bufferMin     = 4 << 10
	bufferClasses = 6       // 4 KB to 128 KB; larger ones are left to the collector
	sparesMax     = 4 << 20 // bytes that are kept
)

// class is the least whose buffers have room for n bytes.
func bufferClass(n int) int { return bits.Len(uint(max(n, 1)-1) / bufferMin) }

// get gives an empty buffer with room for at least n bytes.
func (p *buffers) get(n int) []byte {
	c := bufferClass(n)
	if c >= bufferClasses {
		return make([]byte, 0, n)
	}
	list := p.free[c]
	if len(list) == 0 {
		return make([]byte, 0, bufferMin<<c)
	}
	b := list[len(list)-1]
	p.free[c] = list[:len(list)-1]
	p.bytes -= cap(b)
	return b
}

// put takes a buffer back. Nobody may use it any more.
func (p *buffers) put(b []byte) {
	c := bufferClass(cap(b))
	if cap(b) != bufferMin<<c || c >= bufferClasses || p.bytes+cap(b) > sparesMax {
		return
	}
	p.free[c] = append(p.free[c], b[:0])
	p.bytes += cap(b)
}

// append is the built-in one, but that it grows buffers by doubling and takes the outgrown
// one back.
func (p *buffers) append(to, b []byte) []byte {
	if n := len(to) + len(b); n > cap(to) {
		larger := append(p.get(max(n, 2*cap(to))), to...)
		p.put(to)
		to = larger
	}
	return append(to, b...)
}
