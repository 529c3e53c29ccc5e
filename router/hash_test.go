package router

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"keyferry/internal/testredis"
)

// clusterRedis connects to a real redis-server in cluster mode.
func clusterRedis(t *testing.T) net.Conn {
	t.Helper()
	bus, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := testredis.StartT(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus))
	c, err := net.Dial("tcp", server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func randomKey(r *rand.Rand) []byte {
	key := make([]byte, r.IntN(40))
	for i := range key {
		switch r.IntN(8) {
		case 0:
			key[i] = '{'
		case 1:
			key[i] = '}'
		default:
			key[i] = byte(r.Uint32())
		}
	}
	return key
}

func TestRedisSlotIsClusterKeyslot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	keys := [][]byte{nil, {0}, bytes.Repeat([]byte("long"), 1000)}
	for _, k := range tagged {
		keys = append(keys, []byte(k.key))
	}
	for len(keys) < 20000 {
		keys = append(keys, randomKey(r))
	}
	c := clusterRedis(t)
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	go func() {
		var out []byte
		for _, k := range keys {
			out = redcon.AppendArray(out, 3)
			out = redcon.AppendBulkString(out, "CLUSTER")
			out = redcon.AppendBulkString(out, "KEYSLOT")
			out = redcon.AppendBulk(out, k)
		}
		_, _ = c.Write(out)
	}()
	in := bufio.NewReader(c)
	for _, k := range keys {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(":%d\r\n", Redis.Slot(k)); line != want {
			t.Fatalf("%q: Redis says %q, we %q", k, line, want)
		}
	}
}

// tagged are keys with what each scheme hashes of them.
var tagged = []struct{ key, redis, codis string }{
	{"plain", "plain", "plain"},
	{"{user}.a", "user", "user"},
	{"a{user}b{other}", "user", "user"},
	{"a{}b{user}", "a{}b{user}", ""},
	{"{}", "{}", ""},
	{"{{x}}", "{x", "{x"},
	{"a{b", "a{b", "a{b"},
	{"a}b{c", "a}b{c", "a}b{c"},
	{"}{x}", "x", "x"},
	{"", "", ""},
}

func TestTags(t *testing.T) {
	for _, c := range tagged {
		if got := redisTag([]byte(c.key)); string(got) != c.redis {
			t.Errorf("redis: %q hashes %q, want %q", c.key, got, c.redis)
		}
		if got := codisTag([]byte(c.key)); string(got) != c.codis {
			t.Errorf("codis: %q hashes %q, want %q", c.key, got, c.codis)
		}
	}
}

// TestPatternSlot: whatever takes the place of the "*", the key is in that slot.
func TestPatternSlot(t *testing.T) {
	for _, c := range []struct {
		pattern      string
		redis, codis bool
	}{
		{"{t}w_*", true, true}, {"a{t}b*c{u}->f", true, true}, {"{t}*", true, true}, {"{{t}*", true, true},
		{"w_*", false, false}, {"w_*{t}", false, false}, {"{t*}", false, false}, {"{*}", false, false},
		{"{}*{t}", false, true}, {"a}b{*", false, false}, {"{t", false, false}, {"*", false, false},
	} {
		for scheme, want := range map[Scheme]bool{Redis: c.redis, Codis: c.codis} {
			slot := scheme.PatternSlot([]byte(c.pattern))
			for _, x := range []string{"", "7", "x{u}", "}", "{", "{u", "u}", "{}", "a}{b}"} {
				key := []byte(strings.Replace(c.pattern, "*", x, 1))
				if slot >= 0 && scheme.Slot(key) != slot {
					t.Errorf("%s: %q is not in the slot of %q", scheme, key, c.pattern)
				}
			}
			if (slot >= 0) != want {
				t.Errorf("%s: the slot of %q is %d", scheme, c.pattern, slot)
			}
		}
	}
}

// TestCodisSlot has vectors from another CRC-32: Python's zlib.crc32(key) % 1024.
func TestCodisSlot(t *testing.T) {
	for key, want := range map[string]int{
		"":                    0,
		"a":                   579,
		"key":                 937,
		"user:1000":           995,
		"{user}:a":            585,
		"x{user}y{z}":         585,
		"a{}b":                0,
		"a{b":                 76,
		"{{x}}":               972,
		"The quick brown fox": 222,
		"\x00\xff":            370,
	} {
		if got := Codis.Slot([]byte(key)); got != want {
			t.Errorf("%q: slot %d, want %d", key, got, want)
		}
	}
}

// TestCheckValues are the algorithms' published check values.
func TestCheckValues(t *testing.T) {
	check := []byte("123456789")
	if got := crc16(check); got != 0x31c3 {
		t.Errorf("CRC-16/XMODEM %#x, want 0x31c3", got)
	}
	if got := Codis.Slot(check); got != 0xcbf43926%1024 {
		t.Errorf("CRC-32 slot %d", got)
	}
}

// TestCRC16IsBitwise compares with the definition, at every length around the
// eight bytes that one turn takes.
func TestCRC16IsBitwise(t *testing.T) {
	key := []byte(strings.Repeat("\x00\xff{keyferry}\x80\x01", 4))
	for n := range key {
		var want uint16
		for _, b := range key[:n] {
			want ^= uint16(b) << 8
			for range 8 {
				carry := want&0x8000 != 0
				if want <<= 1; carry {
					want ^= 0x1021
				}
			}
		}
		if got := crc16(key[:n]); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func TestScheme(t *testing.T) {
	for name, c := range map[string]struct {
		scheme Scheme
		slots  int
	}{"redis": {Redis, 16384}, "codis": {Codis, 1024}} {
		s, err := ParseScheme(name)
		if err != nil || s != c.scheme || s.String() != name || s.Slots() != c.slots {
			t.Errorf("%s: %v %v %d", name, s, err, s.Slots())
		}
	}
	for _, name := range []string{"", "Redis", "crc16", "redis "} {
		if _, err := ParseScheme(name); err == nil || !strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSlotAllocatesNothing(t *testing.T) {
	key := []byte("{user:1}:name")
	for _, s := range []Scheme{Redis, Codis} {
		if n := testing.AllocsPerRun(100, func() { s.Slot(key) }); n != 0 {
			t.Errorf("%v: %v allocations", s, n)
		}
	}
}

func BenchmarkSlot(b *testing.B) {
	for _, s := range []Scheme{Redis, Codis} {
		for _, key := range []string{"k", "user:12345678:nm", "{user:1}:profile", strings.Repeat("k", 64)} {
			b.Run(fmt.Sprintf("%v/%d", s, len(key)), func(b *testing.B) {
				k := []byte(key)
				b.ReportAllocs()
				for b.Loop() {
					s.Slot(k)
				}
			})
		}
	}
}
