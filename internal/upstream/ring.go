package upstream

// ring is a FIFO of calls that reuses its memory.
type ring struct {
	buf  []Call // length a power of two
	head int
	n    int
}

func (r *ring) push(c Call) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = c
	r.n++
}

func (r *ring) front() Call { return r.buf[r.head] }

func (r *ring) pop() Call {
	c := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return c
}

func (r *ring) grow() {
	next := make([]Call, max(2*len(r.buf), 64))
	for i := range r.n {
		next[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
	}
	r.buf, r.head = next, 0
}
