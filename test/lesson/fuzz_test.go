package lesson

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
	"keyferry/internal/upstream"
)

// pair speaks the same commands to the gateway and to a Redis of its own.
type pair struct {
	conn  [2]net.Conn
	read  [2]*bufio.Reader
	calls int
}

func newPair(gateway, plain string) (*pair, error) {
	p := &pair{}
	for i, addr := range []string{gateway, plain} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		p.conn[i], p.read[i] = c, bufio.NewReader(c)
	}
	return p, nil
}

func (p *pair) close() {
	for _, c := range p.conn {
		_ = c.Close()
	}
}

// say gives what both answered.
func (p *pair) say(args []string) (got, want []byte, err error) {
	bs := make([][]byte, len(args))
	for i, a := range args {
		bs[i] = []byte(a)
	}
	frame := resp.AppendRequest(nil, bs...)
	for i, c := range p.conn {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(frame); err != nil {
			return nil, nil, err
		}
		reply, err := upstream.ReadReply(p.read[i])
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", args, err)
		}
		if i == 0 {
			got = reply
		} else {
			want = reply
		}
	}
	p.calls++
	return got, want, nil
}

// templates are commands; K is a key, L another of the same slot, V a value, N a number, F
// a field. What answers in an order of its own choice is not among them.
var templates = strings.Split(strings.TrimSpace(`
GET K|SET K V|SET K V NX|SET K V XX GET|SETNX K V|GETSET K V|GETDEL K|APPEND K V|STRLEN K|GETRANGE K 0 N|SETRANGE K N V
INCR K|DECRBY K N|INCRBYFLOAT K 0.5|BITCOUNT K|SETBIT K N 1|GETBIT K N|BITPOS K 1|TYPE K|EXISTS K L K|DEL K|UNLINK K L|TOUCH K L
MSET K V L V|MGET K L K|MSETNX K V L V|RENAME K L|RENAMENX K L|COPY K L REPLACE|PERSIST K|EXPIRE K 1000|TTL L
LPUSH K V V|RPUSH K V|LPOP K|RPOP K 2|LLEN K|LRANGE K 0 -1|LINDEX K N|LSET K 0 V|LREM K 0 V|LTRIM K 0 5|LINSERT K BEFORE V F|LMOVE K L LEFT RIGHT|LPOS K V
HSET K F V|HGET K F|HDEL K F|HLEN K|HEXISTS K F|HINCRBY K F N|HSETNX K F V|HSTRLEN K F|HMGET K F a b
SADD K N|SREM K N|SCARD K|SISMEMBER K N|SMISMEMBER K N V|SMOVE K L N|SINTERCARD 2 K L|SUNIONSTORE L K L
ZADD K N V|ZADD K XX GT CH N V|ZREM K V|ZCARD K|ZSCORE K V|ZRANK K V|ZRANGE K 0 -1 WITHSCORES|ZINCRBY K N V|ZCOUNT K 0 N|ZPOPMIN K|ZRANGESTORE L K 0 -1
XADD K N-1 f V|XLEN K|XRANGE K - + COUNT 3|XDEL K N-1|XTRIM K MAXLEN 3|PFADD K V|PFCOUNT K|PFMERGE L K|GEOADD K 1 2 V|GEOPOS K V
GET|SET K|HSET K F|EXPIRE K x|INCRBY K V|LINDEX K x|NOSUCH K V|ZADD K x V|SETRANGE K -1 V|GETEX K EX 0|BITFIELD K GET u8 N INCRBY i5 1 2
`), "|")

func init() {
	var out []string
	for _, t := range templates {
		out = append(out, strings.Split(t, "\n")...)
	}
	templates = out
}

// someCommand fills a template in.
func someCommand(rng *rand.Rand, client int) []string {
	tag := fmt.Sprintf("{f%d.%d}", client, rng.IntN(12))
	args := strings.Fields(templates[rng.IntN(len(templates))])
	for i, a := range args[1:] {
		n := strconv.Itoa(1 + rng.IntN(40))
		switch a {
		case "K":
			a = tag + strconv.Itoa(rng.IntN(3))
		case "L":
			a = tag + strconv.Itoa(3+rng.IntN(3))
		case "V":
			a = []string{"v" + n, n, "x\r\n\x00" + n, ""}[rng.IntN(4)]
		case "F":
			a = "f" + strconv.Itoa(rng.IntN(4))
		case "N":
			a = n
		case "N-1":
			a = n + "-1"
		}
		args[i+1] = a
	}
	return args
}

// fiftyMigrationsUnderFuzz: S3.1. While fifty migrations come and go, every reply to every
// command, right or wrong, is byte for byte that of a Redis alone. -TRYAGAIN, which would
// be allowed after a while, does not happen.
func fiftyMigrationsUnderFuzz(t *testing.T) {
	const migrations, clients = 50, 4
	r := newRig(t, 2, patient)
	plain := testredis.StartT(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	calls, wrong := 0, []string{}
	for i := range clients {
		p, err := newPair(r.Listen, plain.Addr)
		r.must(err)
		wg.Go(func() {
			defer p.close()
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var said []string
			for ctx.Err() == nil {
				args := someCommand(rng, i)
				said = append(said, fmt.Sprintf("%q", args))
				got, want, err := p.say(args)
				if err == nil && (bytes.Equal(got, want) || isTTL(args, got, want)) {
					continue
				}
				mu.Lock()
				wrong = append(wrong, fmt.Sprintf("%q: %q, a Redis says %q; %v; before it: %s", args, got, want, err, strings.Join(said[max(0, len(said)-12):], " ")))
				mu.Unlock()
				break
			}
			mu.Lock()
			calls += p.calls
			mu.Unlock()
		})
	}
	for i := range migrations / 2 {
		to := fmt.Sprintf("g%d", 2-i%2)
		r.Proxy("MIGRATE", "0-8191", "TO", to)
		r.Proxy("MIGRATE", "8192-16383", "TO", to)
		r.AwaitDone()
	}
	stop()
	wg.Wait()
	for _, w := range wrong {
		t.Error(w)
	}
	t.Logf("%d migrations, %d commands", migrations, calls)
	if calls < 1000 {
		t.Errorf("only %d commands", calls)
	}
	r.PlacesRight()
}

// isTTL reports that the replies are times to live that differ by what comes between the two
// servers' hearing of a command.
func isTTL(args []string, got, want []byte) bool {
	a, okA := resp.ParseInt(got)
	b, okB := resp.ParseInt(want)
	return args[0] == "TTL" && okA && okB && a > 0 && b > 0 && max(a, b)-min(a, b) < 60
}
