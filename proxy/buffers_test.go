package proxy

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// TestInputInPieces: however a pipeline of small and large commands is cut, each is executed
// once and in order.
func TestInputInPieces(t *testing.T) {
	_, addr := startProxy(t, testredis.StartT(t), testredis.StartT(t))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for run := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, run))
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(5 * hangBound))
		var in, want []byte
		for i := range 600 {
			value := bytes.Repeat([]byte{byte('a' + i%26)}, someSize(rng))
			switch key := []byte("k" + strconv.Itoa(rng.IntN(50))); rng.IntN(3) {
			case 0:
				in = append(in, "PING "+strconv.Itoa(i)+"\r\n"...)
				want = append(want, "$"+strconv.Itoa(len(strconv.Itoa(i)))+"\r\n"+strconv.Itoa(i)+"\r\n"...)
			default:
				in = resp.AppendRequest(in, []byte("SET"), key, value)
				in = resp.AppendRequest(in, []byte("GET"), key)
				want = append(append(want, "+OK\r\n$"+strconv.Itoa(len(value))+"\r\n"...), value...)
				want = append(want, "\r\n"...)
			}
		}
		go func() {
			for len(in) > 0 {
				n := min(len(in), 1+someSize(rng))
				if _, err := nc.Write(in[:n]); err != nil {
					return // the reader says so
				}
				in = in[n:]
			}
		}()
		got := make([]byte, len(want))
		r := bufio.NewReaderSize(nc, 1<<20)
		for at := 0; at < len(want); {
			n, err := r.Read(got[at:])
			if !bytes.Equal(got[at:at+n], want[at:at+n]) {
				t.Fatalf("run %d: other replies between bytes %d and %d of %d", run, at, at+n, len(want))
			}
			if at += n; err != nil {
				t.Fatalf("run %d: after %d of %d bytes: %v", run, at, len(want), err)
			}
		}
		nc.Close()
	}
}

// someSize is small mostly, and sometimes larger than every buffer.
func someSize(rng *rand.Rand) int {
	switch rng.IntN(8) {
	case 0:
		return rng.IntN(300_000)
	case 1, 2:
		return rng.IntN(10_000)
	}
	return rng.IntN(100)
}

func TestBuffers(t *testing.T) {
	var p buffers
	for _, n := range []int{0, 1, bufferMin, bufferMin + 1, 64 << 10, 65 << 10, 100 << 10, 128 << 10, 129 << 10, 130 << 10, 4 << 20, 5 << 20} {
		b := p.get(n)
		if cap(b) < n || len(b) != 0 {
			t.Errorf("get(%d): length %d, capacity %d", n, len(b), cap(b))
		}
		before := p.bytes
		p.put(b)
		if c := bufferClass(n); c > 0 && bufferSize(c-1) >= n || bufferSize(c) < n {
			t.Errorf("%d bytes are of class %d", n, c)
		}
		if kept := p.bytes > before; kept != (n <= 4<<20) {
			t.Errorf("%d bytes: kept %v", n, kept)
		}
	}
	var b []byte
	want := bytes.Repeat([]byte("0123456789"), 60_000)
	for i := 0; i < len(want); i += 1000 {
		b = p.append(b, want[i:i+1000])
	}
	if !bytes.Equal(b, want) {
		t.Error("append: other bytes")
	}
	for range 2000 {
		p.put(make([]byte, 0, bufferSize(3)))
	}
	if p.bytes > sparesMax {
		t.Errorf("%d bytes are kept", p.bytes)
	}
	for range 20 {
		p.trim()
	}
	if p.bytes > sparesIdle {
		t.Errorf("%d bytes are kept for nobody", p.bytes)
	}
	for p.bytes > 0 {
		for c := range p.free {
			if len(p.free[c]) > 0 {
				p.get(bufferSize(c))
			}
		}
	}
}
