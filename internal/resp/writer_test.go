package resp

import "testing"

func TestWriter(t *testing.T) {
	write := func(proto int) string {
		w := &Writer{Proto: proto}
		w.Map(1)
		w.Text("k")
		w.Set(2)
		w.Int(1)
		w.Bool(true)
		w.Push(1)
		w.Double(1.5)
		w.Null()
		w.NullArray()
		w.Verbatim("txt", "hi")
		w.Err("ERR no")
		return string(w.B)
	}
	for proto, want := range map[int]string{
		2: "*2\r\n$1\r\nk\r\n*2\r\n:1\r\n:1\r\n*1\r\n$3\r\n1.5\r\n$-1\r\n*-1\r\n$2\r\nhi\r\n-ERR no\r\n",
		3: "%1\r\n$1\r\nk\r\n~2\r\n:1\r\n#t\r\n>1\r\n,1.5\r\n_\r\n_\r\n=6\r\ntxt:hi\r\n-ERR no\r\n",
	} {
		if got := write(proto); got != want {
			t.Errorf("RESP%d: %q\nwant   %q", proto, got, want)
		}
		var sc ReplyScanner
		for b := []byte(want); len(b) > 0; {
			n, st := sc.Scan(b)
			if st != OK {
				t.Fatalf("RESP%d: %v at %q", proto, st, b)
			}
			b = b[n:]
		}
	}
}
