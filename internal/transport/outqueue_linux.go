package transport

// outQueue is what was written to a connection and the kernel has not taken yet: copies of
// what callers needed back, and memory that they have lent.
//
//	Write ─► copied ┐
//	                ├─► pieces ─► socket ─► lent memory goes back
//	WriteLent ──────┘
type outQueue struct {
	pieces []piece // from head on
	head   int
	bytes  int
}

// piece is a run of bytes.
type piece struct {
	rest []byte // not sent yet
	buf  []byte // what is given back
	from Lender // nil: rest is the queue's own and may be appended to
}

// pieceMax bounds what is gathered in one piece of the queue's own: what has been sent
// leaves with its piece, and is never moved.
const pieceMax = 256 << 10

func (q *outQueue) push(p piece) {
	q.pieces = append(q.pieces, p)
	q.bytes += len(p.rest)
}

// copy appends a copy of b.
func (q *outQueue) copy(b []byte) {
	if n := len(q.pieces); n > q.head {
		if last := &q.pieces[n-1]; last.from == nil && len(last.rest)+len(b) <= pieceMax {
			last.rest = append(last.rest, b...)
			q.bytes += len(b)
			return
		}
	}
	q.push(piece{rest: append([]byte(nil), b...)})
}

// first is what has to be sent next. The queue is not empty.
func (q *outQueue) first() []byte { return q.pieces[q.head].rest }

// sent tells that n bytes of the first piece are with the kernel.
func (q *outQueue) sent(n int) {
	p := &q.pieces[q.head]
	p.rest = p.rest[n:]
	q.bytes -= n
	if len(p.rest) > 0 {
		return
	}
	p.giveBack()
	q.head++
	switch {
	case q.head == len(q.pieces):
		q.pieces, q.head = nil, 0 // an idle connection keeps no memory
	case q.head > len(q.pieces)/2: // moved down when half is used up: the copies stay linear
		n := copy(q.pieces, q.pieces[q.head:])
		clear(q.pieces[n:])
		q.pieces, q.head = q.pieces[:n], 0
	}
}

// drop gives up what has not been sent.
func (q *outQueue) drop() {
	for i := range q.pieces[q.head:] {
		q.pieces[q.head+i].giveBack()
	}
	*q = outQueue{}
}

func (p *piece) giveBack() {
	if p.from != nil {
		p.from.GiveBack(p.buf)
	}
	*p = piece{}
}
