package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/internal/resp"
	"keyferry/internal/testredis"
)

// party is a client of which a test sees every frame, in the order in which they come.
type party struct {
	t   *testing.T
	c   net.Conn
	buf []byte
}

// dialRaw is a connection without a client program, closed when the test ends.
func dialRaw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func meet(t *testing.T, addr string) *party {
	t.Helper()
	return &party{t: t, c: dialRaw(t, addr)}
}

// say sends commands, in one write, and waits for nothing.
func (w *party) say(lines ...string) {
	w.t.Helper()
	var out []byte
	for _, line := range lines {
		var args [][]byte
		for f := range strings.FieldsSeq(line) {
			args = append(args, []byte(f))
		}
		out = resp.AppendRequest(out, args...)
	}
	if _, err := w.c.Write(out); err != nil {
		w.t.Fatal(err)
	}
}

// frame is the next frame as it came; "" if none comes within that time.
func (w *party) frame(within time.Duration) string {
	w.t.Helper()
	_ = w.c.SetReadDeadline(time.Now().Add(within))
	for {
		var s resp.ReplyScanner
		n, st := s.Scan(w.buf)
		if st == resp.OK {
			f := string(w.buf[:n])
			w.buf = w.buf[n:]
			return f
		}
		chunk := make([]byte, 1<<16)
		n, err := w.c.Read(chunk)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return ""
		}
		if err != nil {
			w.t.Fatalf("%v; so far %.100q", err, w.buf)
		}
		w.buf = append(w.buf, chunk[:n]...)
	}
}

// next is the next frame as text: scalars as they are, aggregates as their words.
func (w *party) next() string {
	w.t.Helper()
	f := w.frame(20 * time.Second)
	if f == "" {
		w.t.Fatalf("nothing comes; so far %.100q", w.buf)
	}
	return wordsOf(parseReply([]byte(f)))
}

func wordsOf(r reply) string {
	if len(r.elems) == 0 {
		if r.null() {
			return "null"
		}
		return r.text
	}
	var words []string
	for _, e := range r.elems {
		words = append(words, wordsOf(e))
	}
	return strings.Join(words, " ")
}

// ask is say and the reply to the last of the commands.
func (w *party) ask(lines ...string) (last string) {
	w.t.Helper()
	w.say(lines...)
	for range lines {
		last = w.next()
	}
	return last
}

// expect is told the frames that come next.
func (w *party) expect(frames ...string) {
	w.t.Helper()
	for _, want := range frames {
		if got := w.next(); got != want {
			w.t.Fatalf("%q came, want %q", got, want)
		}
	}
}

// newSpread is a rig whose slots are half and half with two groups.
func newSpread(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, 2, "--set", "loops.count=3")
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	return r
}

// moving runs f twice: while slots stand still and while all of them move to and fro.
func moving(t *testing.T, r *rig, f func(t *testing.T)) {
	t.Run("still", f)
	t.Run("moving", func(t *testing.T) {
		r.proxy("MIGRATE", "0-8191", "TO", "g1")
		r.awaitDone()
		stop := r.KeepMoving()
		f(t)
		t.Logf("%d migrations", stop())
	})
}

const publishScript = `redis.call('publish',ARGV[1],ARGV[2])return(1)`

// TestMessagesOfOneClient: what one client publishes, by PUBLISH, by scripts and in transactions that
// run at different groups, is heard in the order in which it was said.
func TestMessagesOfOneClient(t *testing.T) {
	r := newSpread(t)
	low, high := keyInSlots(0, 8191), keyInSlots(8192, 16383)
	moving(t, r, func(t *testing.T) {
		sub, all, pub := meet(t, r.listen), meet(t, r.listen), meet(t, r.listen)
		sub.ask("SUBSCRIBE ch")
		all.ask("PSUBSCRIBE ch*")
		sha := pub.ask("SCRIPT LOAD " + publishScript)
		for i := range 300 {
			pub.ask(fmt.Sprint("PUBLISH ch ", 6*i))
			pub.ask(fmt.Sprintf("EVAL %s 1 %s ch %d", publishScript, low, 6*i+1))
			pub.ask(fmt.Sprintf("EVALSHA %s 1 %s ch %d", sha, high, 6*i+2))
			// And without waiting for any reply.
			pub.say(fmt.Sprintf("EVALSHA %s 1 %s ch %d", sha, low, 6*i+3), "MULTI", "GET "+high, fmt.Sprint("PUBLISH ch ", 6*i+4), "EXEC", fmt.Sprint("PUBLISH ch ", 6*i+5))
			for range 6 {
				if got := pub.next(); strings.HasPrefix(got, "ERR") {
					t.Fatal(got)
				}
			}
		}
		for i := range 6 * 300 {
			sub.expect(fmt.Sprint("message ch ", i))
			all.expect(fmt.Sprint("pmessage ch* ch ", i))
		}
	})
}

// TestChannelsUnderOnePattern: a pattern joins channels, and the messages of all of them have one order.
func TestChannelsUnderOnePattern(t *testing.T) {
	r := newSpread(t)
	sub, pub := meet(t, r.listen), meet(t, r.listen)
	sub.ask("PSUBSCRIBE c*")
	const n = 2000
	for i := range n {
		pub.say(fmt.Sprintf("PUBLISH c%d %d", i%37, i))
		if i%2 == 0 { // one of two has been answered when the next is sent
			for range min(2, i+1) {
				pub.expect("1")
			}
		}
	}
	for i := range n {
		sub.expect(fmt.Sprintf("pmessage c* c%d %d", i%37, i))
	}
}

// TestMessageBehindWhatWasWritten: who hears a message finds written what its sender had written before,
// though that has waited for no reply; and what it has written behind it is not there before the message.
func TestMessageBehindWhatWasWritten(t *testing.T) {
	r := newSpread(t)
	low, high := keyInSlots(0, 8191), keyInSlots(8192, 16383)
	moving(t, r, func(t *testing.T) {
		sub, pub, look := meet(t, r.listen), meet(t, r.listen), meet(t, r.listen)
		sub.ask("HELLO 3", "SUBSCRIBE ch")
		const n = 500
		for i := range n {
			said := fmt.Sprint("PUBLISH ch ", i)
			if i%2 == 1 {
				said = fmt.Sprintf("EVAL %s 1 %s ch %d", publishScript, high, i)
			}
			pub.say(fmt.Sprint("SET ", low, " ", i), fmt.Sprint("SET ", high, " ", i), said, fmt.Sprint("SET behind ", i))
			if v := look.ask("GET behind"); v == fmt.Sprint(i) { // then the message is on its way to sub
				sub.say("PING")
				sub.expect(fmt.Sprint("message ch ", i), "PONG")
			} else {
				sub.expect(fmt.Sprint("message ch ", i))
			}
			for _, k := range []string{low, high} {
				if v := look.ask("GET " + k); v != fmt.Sprint(i) {
					t.Fatalf("%s is %s when message %d has come", k, v, i)
				}
			}
			for range 4 {
				pub.next()
			}
		}
	})
}

// TestSubscribedBeforeTheReply: a SUBSCRIBE that was sent is in front of the PUBLISH that was sent later
// by another client, whoever waits for which reply.
func TestSubscribedBeforeTheReply(t *testing.T) {
	r := newSpread(t)
	key := keyInSlots(0, 8191)
	for name, f := range map[string]func(ch string) string{
		"PUBLISH":  func(ch string) string { return "PUBLISH " + ch + " m" },
		"SPUBLISH": func(ch string) string { return "SPUBLISH " + ch + " m" },
		"EVAL":     func(ch string) string { return fmt.Sprintf("EVAL %s 1 %s %s m", publishScript, key, ch) },
	} {
		verb, of := "SUBSCRIBE", "message"
		if name == "SPUBLISH" {
			verb, of = "SSUBSCRIBE", "smessage"
		}
		t.Run(name, func(t *testing.T) {
			const clients, each = 7, 60
			pub := meet(t, r.listen)
			pub.ask("PING")
			lost := 0
			for n := range clients {
				sub := meet(t, r.listen)
				sub.ask("PING")
				for i := range each {
					ch := fmt.Sprintf("%s%d-%d", name, n, i)
					sub.say(verb + " " + ch)
					pub.say(f(ch))
					if pub.next() != "1" {
						lost++
						sub.next()
						continue
					}
					sub.expect(strings.ToLower(verb)+fmt.Sprintf(" %s %d", ch, i+1-lost), fmt.Sprintf("%s %s m", of, ch))
				}
			}
			if lost > 0 {
				t.Errorf("%d messages of %d are lost", lost, clients*each)
			}
		})
	}
}

// TestSubscribedInARow: that holds for a SUBSCRIBE behind others of its client to which no server has
// answered yet, and the answers tell of one channel more each.
func TestSubscribedInARow(t *testing.T) {
	r := newSpread(t)
	for _, v := range []struct{ verb, pub, of string }{{"SUBSCRIBE", "PUBLISH", "message"}, {"PSUBSCRIBE", "PUBLISH", "pmessage"}, {"SSUBSCRIBE", "SPUBLISH", "smessage"}} {
		t.Run(v.verb, func(t *testing.T) {
			pub, sub, other := meet(t, r.listen), meet(t, r.listen), meet(t, r.listen)
			for _, w := range []*party{pub, sub, other} {
				w.ask("PING")
			}
			const channels = 300
			lost, heard := 0, make([]bool, channels)
			for i := range channels {
				ch := fmt.Sprint(v.pub, i)
				sub.say(v.verb+" "+ch, v.verb+" "+ch) // the second changes nothing
				other.ask("PING")
				heard[i] = pub.ask(v.pub+" "+ch+" m") == "1"
				if !heard[i] {
					lost++
				}
			}
			if lost > 0 {
				t.Fatalf("%d messages of %d are lost", lost, channels)
			}
			answers := 0
			for range 3 * channels {
				f := strings.Fields(sub.next())
				switch f[0] {
				case strings.ToLower(v.verb):
					if want := fmt.Sprintf("%s%d %d", v.pub, answers/2, answers/2+1); strings.Join(f[1:], " ") != want {
						t.Fatalf("answer %d is %q, want %s", answers, f, want)
					}
					answers++
				case v.of:
					if i, err := strconv.Atoi(f[len(f)-2][len(v.pub):]); err != nil || 2*i >= answers || !heard[i] {
						t.Fatalf("%q before its channel is there, or twice", f)
					} else {
						heard[i] = false
					}
				default:
					t.Fatalf("%q", f)
				}
			}
			sub.say("PING x")
			if got := sub.next(); !strings.HasSuffix(got, "x") {
				t.Errorf("behind all: %q", got)
			}
		})
	}
}

// TestCountedIsDelivered: what PUBLISH counts is delivered, and who has left is not counted.
func TestCountedIsDelivered(t *testing.T) {
	r := newSpread(t)
	moving(t, r, func(t *testing.T) {
		sub, pub := meet(t, r.listen), meet(t, r.listen)
		for i := range 200 {
			sub.ask("SUBSCRIBE ch")
			if n := pub.ask(fmt.Sprint("PUBLISH ch ", i)); n != "1" {
				t.Fatalf("%s clients", n)
			}
			sub.say("UNSUBSCRIBE ch")
			sub.expect(fmt.Sprint("message ch ", i), "unsubscribe ch 0")
			if n := pub.ask("PUBLISH ch gone"); n != "0" {
				t.Fatalf("message %d is counted by %s clients that have left", i, n)
			}
		}
		// The same with nobody waiting for anybody: what was counted comes to what was delivered.
		var counted, delivered atomic.Int64
		stop := make(chan struct{})
		var subs, pubs sync.WaitGroup
		for n := range 4 {
			subs.Go(func() {
				w := meet(t, r.listen)
				verb, name := "SUBSCRIBE", "busy"
				if n%2 == 1 {
					verb, name = "PSUBSCRIBE", "bus*"
				}
				for {
					w.say(verb + " " + name)
					w.expect(strings.ToLower(verb) + " " + name + " 1")
					w.say(strings.Replace(verb, "SUB", "UNSUB", 1))
					for !strings.Contains(w.next(), "unsubscribe ") {
						delivered.Add(1)
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for range 3 {
			pubs.Go(func() {
				w := meet(t, r.listen)
				for i := range 500 {
					var n int64
					fmt.Sscan(w.ask(fmt.Sprint("PUBLISH busy ", i)), &n)
					counted.Add(n)
				}
			})
		}
		pubs.Wait()
		close(stop)
		subs.Wait()
		t.Logf("%d counted, %d delivered", counted.Load(), delivered.Load())
		if counted.Load() != delivered.Load() || counted.Load() == 0 {
			t.Errorf("%d counted, %d delivered", counted.Load(), delivered.Load())
		}
	})
}

// TestInvalidationBeforeLaterReplies: when a write has been answered, who has read the key has the news
// of it in front of whatever else it asks for.
func TestInvalidationBeforeLaterReplies(t *testing.T) {
	bg := context.Background()
	r := newSpread(t)
	c := r.client()
	keys := []string{keyInSlots(0, 8191), keyInSlots(8192, 16383)}
	moving(t, r, func(t *testing.T) {
		reader := meet(t, r.listen)
		reader.ask("HELLO 3", "CLIENT TRACKING ON")
		for i := range 300 {
			k := keys[i%2]
			reader.ask("GET " + k)
			writes := []func() error{
				func() error { return c.Set(bg, k, i, 0).Err() },
				func() error { return c.Del(bg, keys...).Err() },
				func() error { return c.Eval(bg, "return redis.call('set',KEYS[1],1)", []string{k}).Err() },
				func() error {
					_, err := c.TxPipelined(bg, func(p redis.Pipeliner) error { return p.Set(bg, k, i, 0).Err() })
					return err
				},
				func() error { return c.MSet(bg, keys[0], i, keys[1], i).Err() },
			}
			if i%5 == 1 {
				c.Set(bg, k, "there", 0)
				reader.expect("invalidate " + k)
				reader.ask("GET " + k)
			}
			if err := writes[i%len(writes)](); err != nil {
				t.Fatal(err)
			}
			reader.say("PING")
			if got := reader.next(); got != "invalidate "+k {
				t.Fatalf("write %d: %q came before the invalidation of %s", i, got, k)
			}
			for got := reader.next(); got != "PONG"; got = reader.next() {
				if got != "invalidate "+k { // of a move
					t.Fatalf("write %d: %q", i, got)
				}
			}
		}
		c.FlushDB(bg)
	})
}

// TestRedirectedNews: a client that tracks has the news sent to another one, of either version of the
// protocol and on whatever loop, in front of what that asks for later; as a plain Redis does.
func TestRedirectedNews(t *testing.T) {
	r := newSpread(t)
	both := map[string]string{"gateway": r.listen, "plain": testredis.StartT(t).Addr}
	for name, addr := range both {
		t.Run(name, func(t *testing.T) {
			for i := range 6 {
				old, new, reader, writer := meet(t, addr), meet(t, addr), meet(t, addr), meet(t, addr)
				for range 1 + i%2 { // so that clients come to all loops
					meet(t, addr)
				}
				redirectedNews(t, old, new, reader, writer)
			}
		})
	}
	t.Run("moving", func(t *testing.T) {
		r.proxy("MIGRATE", "0-8191", "TO", "g1")
		r.awaitDone()
		stop := r.KeepMoving()
		to, reader, writer := meet(t, r.listen), meet(t, r.listen), meet(t, r.listen)
		to.ask("SUBSCRIBE __redis__:invalidate")
		reader.ask("CLIENT TRACKING ON REDIRECT " + idOf(t, writer, to))
		for i := range 300 {
			reader.ask("GET k")
			writer.ask(fmt.Sprint("SET k ", i))
			to.say("PING")
			to.expect("message __redis__:invalidate k")
			for got := to.next(); got != "pong "; got = to.next() {
				if got != "message __redis__:invalidate k" { // of a move
					t.Fatal(got)
				}
			}
		}
		t.Logf("%d migrations", stop())
	})
}

// idOf is the id of a client that can't be asked itself, by its address.
func idOf(t *testing.T, asks, of *party) string {
	t.Helper()
	for line := range strings.Lines(asks.ask("CLIENT LIST")) {
		if strings.Contains(line, "addr="+of.c.LocalAddr().String()+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			return id
		}
	}
	t.Fatal("no such client")
	return ""
}

func redirectedNews(t *testing.T, old, new, reader, writer *party) {
	t.Helper()
	oldID, newID := old.ask("CLIENT ID"), new.ask("CLIENT ID")
	new.ask("HELLO 3")
	old.ask("SUBSCRIBE __redis__:invalidate")
	expect := func(command, want string) {
		t.Helper()
		if got := reader.ask(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	const none = "ERR The client ID you want redirect to does not exist"
	expect("CLIENT TRACKING ON REDIRECT 12345678", none)
	expect("CLIENT TRACKING ON REDIRECT 0", none)
	expect("CLIENT TRACKING ON REDIRECT x", "ERR value is not an integer or out of range")
	expect("CLIENT TRACKING ON REDIRECT", "ERR syntax error")
	expect("CLIENT TRACKING ON REDIRECT "+oldID+" REDIRECT "+newID, "ERR A client can only redirect to a single other client")
	expect("CLIENT GETREDIR", "-1")
	for range 50 {
		expect("CLIENT TRACKING ON REDIRECT "+oldID, "OK")
		reader.ask("GET k")
		writer.ask("SET k v")
		old.say("PING")
		old.expect("message __redis__:invalidate k", "pong ")
		expect("CLIENT TRACKING ON REDIRECT "+newID, "OK")
		reader.ask("GET k", "GET j")
		writer.ask("SET j v")
		new.say("PING")
		new.expect("invalidate j", "PONG")
		writer.ask("DEL k")
		new.say("PING")
		new.expect("invalidate k", "PONG")
	}
	expect("CLIENT GETREDIR", newID)
	expect("CLIENT TRACKINGINFO", "flags on redirect "+newID+" prefixes ")
	expect("CLIENT TRACKING ON REDIRECT "+oldID, "OK")
	reader.ask("GET k")
	writer.ask("FLUSHALL")
	old.expect("message __redis__:invalidate null")
	reader.ask("HELLO 3", "CLIENT TRACKING OFF")
	expect("CLIENT TRACKING ON BCAST PREFIX u: REDIRECT "+newID, "OK")
	writer.ask("MSET {u}v 1 u:k 1")
	new.expect("invalidate u:k")
	_ = new.c.Close()
	for strings.Contains(writer.ask("CLIENT LIST"), "id="+newID+" ") {
	}
	writer.ask("SET u:k 2")
	expect("PING", "tracking-redir-broken "+newID)
	reader.expect("PONG")
	expect("CLIENT TRACKINGINFO", "flags on bcast broken_redirect redirect "+newID+" prefixes u:")
	expect("CLIENT TRACKING OFF", "OK")
}
