package transport

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// lenderFunc is a Lender.
type lenderFunc func([]byte)

func (f lenderFunc) GiveBack(b []byte) { f(b) }

// TestWriteLent: what was lent and what was copied arrive in order; the memory that a
// transport keeps is untouched by it and comes back once, when it has been sent or the
// connection has ended.
func TestWriteLent(t *testing.T) {
	for _, read := range []bool{true, false} {
		t.Run(fmt.Sprintf("read=%v", read), func(t *testing.T) {
			onEach(t, func(t *testing.T, start func(Handler) string) {
				const rounds, size = 40, 200 << 10
				var lent, back atomic.Int64
				var want []byte
				for i := range rounds {
					want = append(append(want, bytes.Repeat([]byte{byte('a' + i%26)}, size)...), "copied"...)
				}
				closed := make(chan struct{})
				written := make(chan struct{})
				addr := start(&spy{
					data: func(c Conn, _ []byte) bool {
						for i := range rounds {
							buf := append(make([]byte, 0, size+100), "head"...)
							buf = append(buf, want[i*(size+6):i*(size+6)+size]...)
							given := false
							if c.WriteLent(buf[4:], buf, lenderFunc(func(b []byte) {
								if given || &b[0] != &buf[0] || len(b) != len(buf) {
									t.Error("other memory comes back, or twice")
								}
								given = true
								clear(b)
								back.Add(1)
							})) {
								lent.Add(1)
							} else {
								clear(buf)
							}
							small := []byte("copied")
							_, _ = c.Write(small)
							clear(small)
						}
						if n := back.Load(); n > 0 {
							t.Errorf("%d came back during the call", n)
						}
						close(written)
						return true
					},
					closed: func(Conn, error) { close(closed) },
				})
				c := dial(t, addr)
				_, _ = c.Write([]byte("x"))
				<-written
				if read {
					got := make([]byte, len(want))
					if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
						t.Errorf("other bytes, or too few: %d of %d, %v", n, len(want), err)
					}
				}
				_ = c.SetLinger(0)
				_ = c.Close()
				select {
				case <-closed:
				case <-time.After(hangBound):
					t.Fatal("the connection did not end")
				}
				if l, b := lent.Load(), back.Load(); l != b {
					t.Errorf("%d were lent and %d came back", l, b)
				}
				if strings.HasSuffix(t.Name(), "epoll") && lent.Load() == 0 {
					t.Error("nothing was lent")
				}
			})
		})
	}
}
