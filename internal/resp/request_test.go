package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// redisAt runs a real redis-server for the test on a Unix socket, which no
// other test can have taken, and which hands over what the server wrote before
// it closed even if it closed on unread input (TCP would not).
func redisAt(t testing.TB, args ...string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyferry-resp") // t.TempDir may exceed a socket's 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "sock")
	cmd := exec.Command("redis-server", append([]string{"--port", "0", "--unixsocket", socket,
		"--dir", dir, "--save", "", "--appendonly", "no"}, args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("redis-server is needed for this test: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return socket
		}
	}
	t.Fatal("redis-server does not answer")
	return ""
}

// fatalf is what *testing.T and *rapid.T share.
type fatalf interface {
	Helper()
	Fatalf(format string, args ...any)
}

// ask sends all of input on a new connection, ends it, and returns all that the
// server says: to complete requests, and to a broken one. An incomplete one is
// answered by silence.
func ask(t fatalf, socket string, input []byte) []byte {
	t.Helper()
	return exchange(t, socket, input, func(c *net.UnixConn) { _ = c.CloseWrite() })
}

// askUntilClosed leaves the end to the server, for an input that ends in QUIT. At
// an end of ours, Redis drops what the socket's buffer did not take at once.
func askUntilClosed(t fatalf, socket string, input []byte) []byte {
	t.Helper()
	return exchange(t, socket, input, func(*net.UnixConn) {})
}

func exchange(t fatalf, socket string, input []byte, written func(*net.UnixConn)) []byte {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = c.Write(input) // fails if the server has had enough: so be it
		written(c.(*net.UnixConn))
	}()
	out, err := io.ReadAll(c)
	<-wrote
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read after %q: %v", input, err)
	}
	return out
}

// frames is what a scanner makes of a stream.
type frames struct {
	Args   [][]string
	Inline []bool
	Ends   []int // offsets in the stream
	Last   Status
	Err    string
}

// scanPieces gives the stream to s in pieces that end at the cuts, as a caller
// does. The bytes move with every piece, and those that the scanner has been
// through are spoilt, so that one that goes back to them is found out.
func scanPieces(t fatalf, s *RequestScanner, stream []byte, cuts []int) (f frames) {
	t.Helper()
	from := 0
	for _, to := range append(cuts, len(stream)) {
		for {
			buf := bytes.Clone(stream[from:to])
			if s.state != reqStart {
				for i := range s.pos {
					buf[i] = 0xff
				}
				for _, a := range s.spans { // these the caller gets to see
					copy(buf[a.from:a.to], stream[from+a.from:])
				}
			}
			n, st := s.Scan(buf)
			f.Last, f.Err = st, s.ErrText()
			if st != OK {
				if n != 0 {
					t.Fatalf("n = %d with status %d", n, st)
				}
				if st == Again && s.Need() < 1 {
					t.Fatalf("Need = %d", s.Need())
				}
				break
			}
			if n < 1 || n > len(buf) {
				t.Fatalf("n = %d of %d bytes", n, len(buf))
			}
			args := []string{}
			for _, a := range s.Args() {
				args = append(args, string(a))
			}
			from += n
			f.Args, f.Inline, f.Ends = append(f.Args, args), append(f.Inline, s.Inline()), append(f.Ends, from)
		}
		if f.Last == Invalid {
			return f
		}
	}
	return f
}

var malformed = []struct{ name, in, err string }{
	{"bulk length not a number", "*1\r\n$x\r\n", "invalid bulk length"},
	{"bulk length negative", "*1\r\n$-1\r\n", "invalid bulk length"},
	{"bulk length empty", "*1\r\n$\r\n", "invalid bulk length"},
	{"bulk length +", "*1\r\n$+4\r\nPING\r\n", "invalid bulk length"},
	{"bulk length leading zero", "*1\r\n$04\r\nPING\r\n", "invalid bulk length"},
	{"bulk length leading space", "*1\r\n$ 4\r\nPING\r\n", "invalid bulk length"},
	{"bulk length trailing space", "*1\r\n$4 \r\nPING\r\n", "invalid bulk length"},
	{"bulk length above limit", "*1\r\n$536870913\r\n", "invalid bulk length"},
	{"bulk length 2^63-1", "*1\r\n$9223372036854775807\r\n", "invalid bulk length"},
	{"bulk length 2^63", "*1\r\n$9223372036854775808\r\n", "invalid bulk length"},
	{"bulk length 2^64+1", "*1\r\n$18446744073709551617\r\n", "invalid bulk length"},
	{"bulk length 30 digits", "*1\r\n$" + strings.Repeat("9", 30) + "\r\n", "invalid bulk length"},
	{"second bulk length", "*2\r\n$4\r\nECHO\r\n$a\r\n", "invalid bulk length"},
	{"count not a number", "*x\r\n", "invalid multibulk length"},
	{"count empty", "*\r\n", "invalid multibulk length"},
	{"count +", "*+1\r\n", "invalid multibulk length"},
	{"count leading zero", "*01\r\n", "invalid multibulk length"},
	{"count minus zero", "*-0\r\n", "invalid multibulk length"},
	{"count minus", "*-\r\n", "invalid multibulk length"},
	{"count leading space", "* 1\r\n", "invalid multibulk length"},
	{"count 2^31", "*2147483648\r\n", "invalid multibulk length"},
	{"count 2^63", "*9223372036854775808\r\n", "invalid multibulk length"},
	{"count -2^63-1", "*-9223372036854775809\r\n", "invalid multibulk length"},
	{"no dollar", "*1\r\nxyz\r\n", "expected '$', got 'x'"},
	{"no dollar, nested count", "*1\r\n*1\r\n", "expected '$', got '*'"},
	{"no dollar, empty line", "*1\r\n\r\n", "expected '$', got ' '"},
	{"no dollar, LF", "*1\r\n\n\r\n", "expected '$', got ' '"},
	{"no dollar, high byte", "*1\r\n\xff\r\n", "expected '$', got '\xff'"},
	{"no dollar at second", "*2\r\n$4\r\nECHO\r\n:1\r\n", "expected '$', got ':'"},
	{"open double quote", "ECHO \"a\r\n", "unbalanced quotes in request"},
	{"open single quote", "ECHO 'a\r\n", "unbalanced quotes in request"},
	{"quote then text", "ECHO \"a\"b\r\n", "unbalanced quotes in request"},
	{"single quote then text", "ECHO 'a'b\r\n", "unbalanced quotes in request"},
	{"backslash at end of quote", "ECHO \"a\\\r\n", "unbalanced quotes in request"},
	{"endless inline", strings.Repeat("a", 200<<10), "too big inline request"},
	{"endless inline after NUL", "a\x00\r\n" + strings.Repeat("a", 200<<10), "too big inline request"},
	{"endless count", "*" + strings.Repeat("1", 200<<10), "too big mbulk count string"},
	{"endless count after NUL", "*1\x00\r\n" + strings.Repeat("1", 200<<10), "too big mbulk count string"},
	{"endless bulk length", "*1\r\n$" + strings.Repeat("1", 200<<10), "too big bulk count string"},
	{"endless bulk length after NUL", "*1\r\n\x00" + strings.Repeat("\r\n", 100<<10), "too big bulk count string"},
	{"long count", "*" + strings.Repeat("1", 60000) + "\r\n", "invalid multibulk length"},
}

func TestErrorTextsAreRedis(t *testing.T) {
	socket := redisAt(t)
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) { checkError(t, socket, &RequestScanner{}, c.in, c.err) })
	}
}

func TestUnauthenticatedLimitsAreRedis(t *testing.T) {
	socket := redisAt(t, "--requirepass", "secret")
	for _, c := range []struct{ in, err string }{
		{"*11\r\n", "unauthenticated multibulk length"},
		{"*2147483647\r\n", "unauthenticated multibulk length"},
		{"*2147483648\r\n", "invalid multibulk length"},
		{"*1\r\n$16385\r\n", "unauthenticated bulk length"},
		{"*1\r\n$536870912\r\n", "unauthenticated bulk length"},
		{"*1\r\n$536870913\r\n", "invalid bulk length"},
	} {
		checkError(t, socket, &RequestScanner{MaxBulk: UnauthMaxBulk, MaxArgs: UnauthMaxArgs}, c.in, c.err)
	}
	s := &RequestScanner{MaxBulk: UnauthMaxBulk, MaxArgs: UnauthMaxArgs}
	atLimit := AppendRequest(nil, bytes.Fields([]byte("SET 2 3 4 5 6 7 8 9 10"))...)
	atLimit = AppendRequest(atLimit, []byte("ECHO"), bytes.Repeat([]byte("x"), UnauthMaxBulk))
	if f := scanPieces(t, s, atLimit, nil); len(f.Args) != 2 || f.Last == Invalid {
		t.Errorf("at the limit: %d frames, status %d %s", len(f.Args), f.Last, f.Err)
	}
	if got := ask(t, socket, atLimit); bytes.Count(got, []byte("-NOAUTH")) != 2 {
		t.Errorf("Redis at the limit: %q", got)
	}
}

func checkError(t *testing.T, socket string, s *RequestScanner, in, text string) {
	t.Helper()
	n, st := s.Scan([]byte(in))
	for st == OK {
		in = in[n:]
		n, st = s.Scan([]byte(in))
	}
	if want := "ERR Protocol error: " + text; st != Invalid || s.ErrText() != want {
		t.Errorf("%.40q: status %d, %q; want %q", in, st, s.ErrText(), want)
	}
	if got, want := ask(t, socket, []byte(in)), AppendErr(nil, s.ErrText()); !bytes.Equal(got, want) {
		t.Errorf("%.40q: Redis says %q, we %q", in, got, want)
	}
	if _, st := s.Scan([]byte("PING\r\n")); st != Invalid {
		t.Errorf("%.40q: alive after Invalid", in)
	}
	s.Reset()
	if _, st := s.Scan([]byte("PING\r\n")); st != OK || s.ErrText() != "" {
		t.Errorf("%.40q: dead after Reset", in)
	}
}

// TestOwnLimits has those errors for which Redis's limits would have to be
// configured to ours.
func TestOwnLimits(t *testing.T) {
	for _, c := range []struct {
		s    RequestScanner
		in   string
		want Status
		err  string
	}{
		{RequestScanner{}, "*1048576\r\n", Again, ""},
		{RequestScanner{}, "*1048577\r\n", Invalid, "ERR Protocol error: invalid multibulk length"},
		{RequestScanner{}, "*1\r\n$536870912\r\n", Again, ""},
		{RequestScanner{MaxBulk: 3}, "*1\r\n$4\r\nPING\r\n", Invalid, "ERR Protocol error: invalid bulk length"},
		{RequestScanner{MaxBulk: 4}, "*1\r\n$4\r\nPING\r\n", OK, ""},
		{RequestScanner{MaxArgs: 1}, "*2\r\n", Invalid, "ERR Protocol error: invalid multibulk length"},
		{RequestScanner{}, strings.Repeat("a", maxLine) + "\n", OK, ""},
		{RequestScanner{}, strings.Repeat("a", maxLine+1) + "\n", Invalid, "ERR Protocol error: too big inline request"},
	} {
		if _, st := c.s.Scan([]byte(c.in)); st != c.want || c.s.ErrText() != c.err {
			t.Errorf("%.30q: %d %q, want %d %q", c.in, st, c.s.ErrText(), c.want, c.err)
		}
	}
}

func TestNeed(t *testing.T) {
	for _, c := range []struct {
		in   string
		need int
	}{{"", 1}, {"*", 1}, {"*2\r", 1}, {"*2\r\n", 1}, {"*1\r\n$5\r\n", 7}, {"*1\r\n$5\r\nhel", 4}, {"*1\r\n$5\r\nhello\r", 1}, {"PIN", 1}} {
		var s RequestScanner
		if _, st := s.Scan([]byte(c.in)); st != Again || s.Need() != c.need {
			t.Errorf("%q: status %d, Need %d, want %d", c.in, st, s.Need(), c.need)
		}
	}
}

// TestInlineTells that what other servers than Redis would stumble over is
// marked for re-encoding.
func TestInlineTells(t *testing.T) {
	for in, want := range map[string]bool{
		"PING\r\n": true, "*1\r\n$4\r\nPING\r\n": false, "*0\r\n": false,
		"*1\rx$4\r\nPING\r\n": true, "*1\r\n$4\rxPING\r\n": true, "*1\r\n$4\r\nPINGxx": true,
	} {
		var s RequestScanner
		if n, st := s.Scan([]byte(in)); st != OK || n != len(in) || s.Inline() != want {
			t.Errorf("%q: n %d status %d inline %v", in, n, st, s.Inline())
		}
	}
}

// genStream draws a stream of requests, a part of them bent or broken, out of
// commands that are safe to send to a server.
func genStream(t *rapid.T) []byte {
	var out []byte
	for range rapid.IntRange(1, 6).Draw(t, "frames") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1, 2, 3:
			out = AppendRequest(out, []byte("ECHO"), rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"))
		case 4:
			out = AppendRequest(out, []byte("PING"))
		case 5, 6:
			line := rapid.StringOfN(rapid.RuneFrom([]rune("ab'\"\\xn0F \t\v\f\r\x01\x00")), 0, 30, -1).Draw(t, "inline")
			out = append(out, "ECHO "+line+rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end")...)
		case 7:
			out = append(out, rapid.SampledFrom([]string{"*0\r\n", "*-1\r\n", "\r\n", "\n", " \r\n", "*-7\r\n"}).Draw(t, "empty")...)
		case 8:
			out = append(out, rapid.StringOfN(rapid.RuneFrom([]rune("*$123-\r\n\x00x")), 1, 12, -1).Draw(t, "noise")...)
		case 9:
			frame := AppendRequest(nil, []byte("ECHO"), []byte("bent"))
			i := rapid.IntRange(0, len(frame)-1).Draw(t, "at")
			frame[i] = rapid.Byte().Draw(t, "byte")
			out = append(out, frame...)
		}
	}
	if rapid.Bool().Draw(t, "truncate") {
		out = out[:rapid.IntRange(0, len(out)).Draw(t, "length")]
	}
	return out
}

func genCuts(t *rapid.T, n int) []int {
	cuts := rapid.SliceOfN(rapid.IntRange(0, n), 0, 12).Draw(t, "cuts")
	for i := 1; i < len(cuts); i++ { // running maximum: ordered, repeats welcome
		cuts[i] = max(cuts[i], cuts[i-1])
	}
	return cuts
}

func everyByte(n int) (cuts []int) {
	for i := range n {
		cuts = append(cuts, i)
	}
	return cuts
}

func TestPiecesAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := genStream(t)
		whole := scanPieces(t, &RequestScanner{}, stream, nil)
		for _, cuts := range [][]int{genCuts(t, len(stream)), everyByte(len(stream))} {
			pieces := scanPieces(t, &RequestScanner{}, stream, cuts)
			if diff := cmp.Diff(whole, pieces); diff != "" {
				t.Fatalf("%q: -whole +pieces\n%s", stream, diff)
			}
		}
	})
}

// TestStreamsAreRedis sends a stream to Redis as it is, and then what we
// understood of it, newly encoded. The answers must be the same, so the frames,
// the arguments, the errors and what is taken for incomplete are.
func TestStreamsAreRedis(t *testing.T) {
	socket := redisAt(t)
	rapid.Check(t, func(t *rapid.T) {
		stream := genStream(t)
		f := scanPieces(t, &RequestScanner{}, stream, nil)
		var clean []byte
		for _, args := range f.Args {
			if len(args) == 0 {
				continue
			}
			var b [][]byte
			for _, a := range args {
				b = append(b, []byte(a))
			}
			clean = AppendRequest(clean, b...)
		}
		want := ask(t, socket, clean)
		if f.Last == Invalid {
			want = AppendErr(want, f.Err)
		}
		if got := ask(t, socket, stream); !bytes.Equal(got, want) {
			t.Fatalf("%q\nRedis:  %q\nfrom us: %q", stream, got, want)
		}
	})
}

// TestInlineSplitIsRedis has Redis return the arguments themselves.
func TestInlineSplitIsRedis(t *testing.T) {
	socket := redisAt(t)
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringOfN(rapid.RuneFrom([]rune("ab'\"\\xntrbaF09 \t\v\f\r\x01é")), 0, 40, -1).Draw(t, "line")
		stream := []byte("EVAL 'return ARGV' 0 " + line + "\r\n")
		var s RequestScanner
		var want []byte
		if _, st := s.Scan(stream); st == OK {
			want = append(want, "*"+strconv.Itoa(len(s.Args())-3)+"\r\n"...)
			for _, a := range s.Args()[3:] {
				want = append(want, fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)...)
			}
		} else {
			want = AppendErr(nil, s.ErrText())
		}
		if got := ask(t, socket, stream); !bytes.Equal(got, want) {
			t.Fatalf("%q\nRedis: %q\nwe:    %q", line, got, want)
		}
	})
}

// untouchable is a request or reply with a body of size bytes on pages of its
// own. Reading the body faults. So does the header after hideHead.
type untouchable struct {
	all      []byte
	from, to int // of the frame within all
	page     int
}

func newUntouchable(t *testing.T, head string, size int) *untouchable {
	t.Helper()
	u := &untouchable{page: os.Getpagesize()}
	all, err := syscall.Mmap(-1, 0, size+2*u.page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(all) })
	u.all, u.from, u.to = all, u.page-len(head), u.page+size+2
	copy(all[u.from:], head)
	copy(all[u.to-2:], "\r\n")
	if err := syscall.Mprotect(all[u.page:u.page+size], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *untouchable) hideHead(t *testing.T) {
	if err := syscall.Mprotect(u.all[:u.page], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
}

// TestLargeValueIsNeverRead feeds a 64 MiB value in 4 KiB pieces. Its memory
// can't be read, nor its header once that has been scanned: so the work is that
// of one comparison a piece. (A fault would end the test program.)
func TestLargeValueIsNeverRead(t *testing.T) {
	const size = 64 << 20
	u := newUntouchable(t, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n", size)
	var s RequestScanner
	for to := u.page; to < u.to; to += 4096 {
		if n, st := s.Scan(u.all[u.from:to]); st != Again || n != 0 {
			t.Fatalf("n %d, status %d", n, st)
		}
		if want := u.to - to; s.Need() != want {
			t.Fatalf("Need %d, want %d", s.Need(), want)
		}
		if to == u.page {
			u.hideHead(t)
		}
	}
	n, st := s.Scan(u.all[u.from:u.to])
	if st != OK || n != u.to-u.from || len(s.Args()) != 3 || len(s.Args()[2]) != size {
		t.Fatalf("n %d, status %d, %d args", n, st, len(s.Args()))
	}
}

// TestManyArgsInPieces is the other way to be quadratic: going over the finished
// arguments with every piece. scanPieces spoils those bytes; here the bytes
// before pos are gone altogether.
func TestManyArgsInPieces(t *testing.T) {
	frame := []byte("*100000\r\n" + strings.Repeat("$1\r\nx\r\n", 100000))
	buf := bytes.Clone(frame)
	var s RequestScanner
	for to := 4096; to < len(buf); to += 4096 {
		if _, st := s.Scan(buf[:to]); st != Again {
			t.Fatalf("status %d at %d", st, to)
		}
		clear(buf[:s.pos])
	}
	if n, st := s.Scan(buf); st != OK || n != len(frame) || len(s.Args()) != 100000 {
		t.Fatalf("n %d status %d args %d", n, st, len(s.Args()))
	}
	if _, st := s.Scan([]byte("PING\r\n")); st != OK || cap(s.args) > keepArgs || cap(s.spans) > keepArgs {
		t.Errorf("keeps %d and %d slots", cap(s.args), cap(s.spans))
	}
}

func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	var before, after runtime.MemStats
	in := [][]byte{[]byte("*1048576\r\n$536870912\r\nab"), []byte("*1\r\n$536870912\r\n"), []byte("*1048576\r\n")}
	runtime.ReadMemStats(&before)
	for range 100 {
		for _, b := range in {
			var s RequestScanner
			if _, st := s.Scan(b); st != Again {
				t.Fatalf("%q: status %d", b, st)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 300*1024 {
		t.Errorf("%d bytes for 300 declared lengths", got)
	}
}

func TestScanAllocatesNothingOnceWarm(t *testing.T) {
	for name, in := range map[string]string{
		"whole":  "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
		"inline": "SET \"k\" 'v'\r\n",
	} {
		buf, s := []byte(in), &RequestScanner{}
		for piece, cut := range map[string]int{"": len(buf), " in pieces": 9} {
			scan := func() {
				if cut < len(buf) {
					s.Scan(buf[:cut])
				}
				if _, st := s.Scan(buf); st != OK || len(s.Args()) != 3 {
					t.Fatal("no frame")
				}
			}
			scan()
			if n := testing.AllocsPerRun(100, scan); n != 0 {
				t.Errorf("%s%s: %v allocations", name, piece, n)
			}
		}
	}
}

func TestResetLetsTheBufferGo(t *testing.T) {
	var s RequestScanner
	s.Scan([]byte("*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"))
	s.Reset()
	for _, a := range s.args[:cap(s.args)] {
		if a != nil {
			t.Fatal("an argument is kept after Reset")
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	value := strings.Repeat("v", 1024)
	for _, c := range []struct{ name, in string }{
		{"Get", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"},
		{"Set", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"},
		{"SetLongKey1K", "*3\r\n$3\r\nSET\r\n$21\r\nuser:0123456789:score\r\n$1024\r\n" + value + "\r\n"},
		{"Mget100", "*101\r\n$4\r\nMGET\r\n" + strings.Repeat("$5\r\nkey:1\r\n", 100)},
		{"Inline", "SET k v\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var s RequestScanner
			buf := []byte(c.in)
			b.ReportAllocs()
			for b.Loop() {
				if n, st := s.Scan(buf); st != OK || n != len(buf) {
					b.Fatal("no frame")
				}
			}
		})
	}
	b.Run("SetInTwoPieces", func(b *testing.B) {
		var s RequestScanner
		buf := []byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
		b.ReportAllocs()
		for b.Loop() {
			s.Scan(buf[:20])
			if _, st := s.Scan(buf); st != OK {
				b.Fatal("no frame")
			}
		}
	})
}
