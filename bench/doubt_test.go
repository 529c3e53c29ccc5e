package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

const second = int64(time.Second)

// see has the model of k judge a reply to a command executed at now.
func see(k *key, o op, v reply, now int64) finding {
	o.key = k
	return k.observe(&o, &v, span{now, now}, time.Second)
}

func lose(k *key, o op, now int64) {
	o.key = k
	k.lose(&o, span{now, now}, time.Second)
}

func bulk(text string) reply         { return reply{kind: '$', text: []byte(text)} }
func integer(n int64) reply          { return reply{kind: ':', n: n} }
func holds(k *key, seq uint32) reply { return bulk(string(appendValue(nil, k, seq, 0))) }

var okReply = reply{kind: '+', text: []byte("OK")}

func TestALostWriteMayOrMayNotBeThere(t *testing.T) {
	for name, test := range map[string]struct {
		acked, lost []uint32 // SETs, in this order
		read        uint32   // 0 is nothing
		want        class
	}{
		"executed":            {[]uint32{1}, []uint32{2}, 2, 0},
		"not executed":        {[]uint32{1}, []uint32{2}, 1, 0},
		"neither":             {[]uint32{1, 2}, []uint32{3}, 1, classStale},
		"gone":                {[]uint32{1}, []uint32{2}, 0, classLost},
		"never written":       {[]uint32{1}, []uint32{2}, 9, classWrong},
		"first of two":        {[]uint32{1}, []uint32{2, 3}, 2, 0},
		"second of two":       {[]uint32{1}, []uint32{2, 3}, 3, 0},
		"none before":         {nil, []uint32{1}, 0, 0},
		"none before, but it": {nil, []uint32{1}, 1, 0},
	} {
		k := newKey("k", kindString, 0, 1)
		for _, seq := range test.acked {
			if f := see(k, op{code: opPut, seq: seq}, okReply, 0); !f.ok() {
				t.Fatal(f)
			}
		}
		for _, seq := range test.lost {
			lose(k, op{code: opPut, seq: seq}, 0)
		}
		v := reply{}
		if test.read != 0 {
			v = holds(k, test.read)
		}
		if f := see(k, op{code: opReadAll}, v, second); f.classes != test.want {
			t.Errorf("%s: %+v, want class %d", name, f, test.want)
		}
	}
}

// The connection to a server was lost with SET 2 in it; SET 3 took a new one and
// was answered; then the server came to read the old one.
func TestALostWriteMayBeExecutedAfterALaterOne(t *testing.T) {
	k := newKey("k", kindString, 0, 1)
	lose(k, op{code: opPut, seq: 2}, 0)
	if f := see(k, op{code: opPut, seq: 3}, okReply, 0); !f.ok() {
		t.Fatal(f)
	}
	if f := see(k, op{code: opReadAll}, holds(k, 3), second); !f.ok() {
		t.Error(f)
	}
	if f := see(k, op{code: opReadAll}, holds(k, 2), 2*second); !f.ok() {
		t.Error(f)
	}
	// It was executed now, and cannot be again.
	if f := see(k, op{code: opReadAll}, holds(k, 3), 3*second); f.ok() {
		t.Error("2 overwrote 3, and 3 came back unnoticed")
	}
}

func TestALostIncrementCountsOnceAtMost(t *testing.T) {
	for sum, want := range map[string]class{"10": 0, "11": 0, "12": classWrong, "9": classStale} {
		k := newKey("k", kindCounter, 0, 1)
		if f := see(k, op{code: opPut, n: 10}, integer(10), 0); !f.ok() {
			t.Fatal(f)
		}
		lose(k, op{code: opPut, n: 1}, 0)
		if f := see(k, op{code: opReadAll}, bulk(sum), second); f.classes != want {
			t.Errorf("sum %s: %+v, want class %d", sum, f, want)
		}
	}
}

func TestAnExpiringKeyMayBeThereOrNotForAWhile(t *testing.T) {
	for name, test := range map[string]struct {
		at    int64 // of the reads, in tenths of a second after SET PX 5000
		first bool  // what they find
		then  bool
		want  class
	}{
		"before":               {30, true, true, 0},
		"before, gone":         {30, false, false, classLost},
		"around, there":        {48, true, true, 0},
		"around, gone":         {48, false, false, 0},
		"around, gone, back":   {48, false, true, classWrongTTL},
		"around, just expired": {48, true, false, 0},
		"after":                {70, false, false, 0},
		"after, there":         {70, true, true, classWrongTTL},
	} {
		k := newKey("k", kindTTL, 0, 1)
		if f := see(k, op{code: opPut, seq: 1, ttl: 5 * time.Second}, okReply, 0); !f.ok() {
			t.Fatal(f)
		}
		var worst class
		for i, there := range []bool{test.first, test.then} {
			v := reply{}
			if there {
				v = holds(k, 1)
			}
			worst |= see(k, op{code: opReadAll}, v, test.at*second/10+int64(i)).classes
		}
		if worst != test.want {
			t.Errorf("%s: class %d, want %d", name, worst, test.want)
		}
	}
}

func TestTooManyLostWritesAreGivenUp(t *testing.T) {
	k := newKey("k", kindList, 0, 8)
	for seq := range uint32(lateMax + 1) {
		lose(k, op{code: opPut, seq: seq + 1}, 0)
	}
	if !k.unknown || !k.inDoubt() {
		t.Errorf("%d candidates are followed", len(k.cands))
	}
	if f := see(k, op{code: opReadAll}, reply{}, 0); !f.ok() {
		t.Errorf("a key that was given up was judged: %+v", f)
	}
}

// A relay that cuts connections anywhere, in the middle of requests and of
// replies, makes real doubt: part of every cut pipeline has been executed.
func TestOracleThroughARelayThatCutsConnections(t *testing.T) {
	server := testredis.StartT(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	addr := startCuttingRelay(t, server.Addr, seed)
	o := NewOracle(OracleConfig{
		Addr: addr, Clients: 8, Keys: 400, Pipeline: 16, Seed: seed,
		IncludeDeletes: true, ReconnectOnError: true,
	})
	cutOften := func(s OracleStats) bool { return s.ConnErrors >= 20 && s.InDoubt >= 20 && s.Ops >= 1000 }
	runUntil(t, o, 3*time.Second, cutOften)
	v, err := o.Verify(context.Background(), server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() {
		t.Error(v)
	}
	if stats := o.Snapshot(); !cutOften(stats) || int64(v.InDoubt) != stats.InDoubt {
		t.Errorf("the relay cut too little: %+v, %d in doubt", stats, v.InDoubt)
	}
}

// startCuttingRelay forwards to target, and cuts each connection after a random
// number of bytes in either direction.
func startCuttingRelay(t *testing.T, target string, seed int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			toServer, toClient := rng.Int64N(200_000), rng.Int64N(200_000)
			var cut sync.Once
			forward := func(dst, src net.Conn, limit int64) {
				_, _ = io.CopyN(dst, src, limit)
				cut.Do(func() {
					client.Close()
					server.Close()
				})
			}
			wg.Go(func() { forward(server, client, toServer) })
			wg.Go(func() { forward(client, server, toClient) })
		}
	})
	return fmt.Sprint(listener.Addr())
}
