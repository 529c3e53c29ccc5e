package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// oracleClient is one client of an oracle: the only writer of its keys. Its
// goroutine owns it and their models.
type oracleClient struct {
	oracle *Oracle
	index  int
	db     int
	rng    *rand.Rand
	keys   []*key // all, for Verify
	active []*key // those in use
	big    []*key // those of active that are big
	seq    uint32 // last sequence number given to a value

	route     route
	conn      *wire // nil while not connected
	deadline  time.Time
	undrain   func() bool
	timer     *time.Timer
	encoder   encoder
	ops       []op
	latencies []time.Duration
	reply     reply

	lastReply    time.Time    // before the connection was lost; zero while all is well
	waitingSince atomic.Int64 // on the oracle's clock, ns; 0 when nothing is outstanding
}

func newOracleClient(o *Oracle, index int) *oracleClient {
	home := index / len(o.cfg.DBs) % len(o.endpoints)
	return &oracleClient{
		oracle: o, index: index, db: o.cfg.DBs[index%len(o.cfg.DBs)],
		route:   route{home: home, at: home},
		rng:     rand.New(rand.NewPCG(uint64(o.cfg.Seed), uint64(index))),
		encoder: encoder{valueBytes: o.cfg.ValueBytes},
	}
}

// addKey gives the client another key, absent as yet. Clients in different
// databases have keys of the same names: whoever mixes up databases is found out
// by the client in the value.
func (c *oracleClient) addKey(kind kind, size int) *key {
	cfg := &c.oracle.cfg
	n := len(c.keys)
	name := fmt.Sprintf("%s:%d:%s:%d", cfg.Prefix, c.index/len(cfg.DBs), kindNames[kind], n)
	k := newKey(name, kind, c.index, size)
	k.life = c.lifespan(kind, n, c.isBig(k))
	k.pos = len(c.active)
	c.keys = append(c.keys, k)
	c.active = append(c.active, k)
	if c.isBig(k) {
		c.big = append(c.big, k)
	}
	return k
}

func (c *oracleClient) isBig(k *key) bool {
	return c.oracle.cfg.BigKeys > 0 && k.kind >= kindHash && k.size == c.oracle.cfg.BigElements
}

// retire takes a key out of use and puts a fresh one in its place.
func (c *oracleClient) retire(k *key) {
	if k.pos < 0 {
		return
	}
	fresh := c.addKey(k.kind, k.size)
	last := len(c.active) - 1
	c.active[k.pos], fresh.pos = fresh, k.pos
	c.active = c.active[:last]
	k.pos = -1
	for i := range c.big {
		if c.big[i] == k { // addKey has put the fresh one at the end
			c.big[i] = fresh
			c.big = c.big[:len(c.big)-1]
			break
		}
	}
	if k.inDoubt() {
		c.oracle.doubts.Add(1)
	}
}

func (c *oracleClient) dial(ctx context.Context) error {
	cfg := &c.oracle.cfg
	ups := c.endpoint().ups.Load()
	conn, err := dial(ctx, c.endpoint().addr, cfg.Password, c.db, min(dialTimeout, cfg.Endpoints.Silence))
	if err != nil {
		return err
	}
	c.conn, c.deadline, c.route.dialed = conn, time.Time{}, ups
	c.undrain = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(drainTimeout)) })
	return nil
}

func (c *oracleClient) close() {
	if c.conn != nil {
		c.undrain()
		c.conn.Close()
		c.conn = nil
	}
}

// extendDeadline works like that of a loadClient; it comes before ctx is asked,
// so that the drain deadline comes last.
func (c *oracleClient) extendDeadline() {
	now, silence := time.Now(), c.oracle.cfg.Endpoints.Silence
	if c.deadline.Sub(now) <= silence*3/4 {
		c.deadline = now.Add(silence)
		_ = c.conn.SetDeadline(c.deadline)
	}
}

// clock is the model's time.
func (c *oracleClient) clock() int64 { return int64(time.Since(c.oracle.start)) }

func (c *oracleClient) preload(ctx context.Context) error {
	if err := c.dial(ctx); err != nil {
		return err
	}
	defer c.close()
	const batchBytes = 64 << 10
	for i, k := range c.active {
		c.composePreload(k)
		if len(c.encoder.out) < batchBytes && i < len(c.active)-1 {
			continue
		}
		c.extendDeadline()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.preloadBatch(); err != nil {
			return err
		}
	}
	return nil
}

// preloadBatch sends what was composed; any reply but the expected is an error.
func (c *oracleClient) preloadBatch() error {
	defer c.resetBatch()
	at := span{send: c.clock()}
	if err := c.write(); err != nil {
		return err
	}
	for i := range c.ops {
		if err := c.readReply(); err != nil {
			return err
		}
		at.reply = c.clock()
		o := &c.ops[i]
		if c.reply.kind == '-' {
			return fmt.Errorf("%w: key %s: %s", ErrDirty, o.key.name, c.reply.text)
		}
		if f := o.key.observe(o, &c.reply, at, c.oracle.tolerance); !f.ok() {
			return fmt.Errorf("%w: key %s: expected %s, got %s", ErrDirty, o.key.name, f.want, f.got)
		}
	}
	return nil
}

// write sends the batch. It reads nothing meanwhile, so a pipeline must not be
// larger than what the endpoint takes before its replies are read.
func (c *oracleClient) write() error {
	_, err := c.conn.Write(c.encoder.out)
	return err
}

// readReply reads the next reply into c.reply.
func (c *oracleClient) readReply() error {
	for {
		err := c.conn.next(&c.reply)
		if !errors.Is(err, errNeedMore) {
			return err
		}
		if err := c.conn.fill(); err != nil {
			return err
		}
	}
}

func (c *oracleClient) resetBatch() {
	c.ops = c.ops[:0]
	c.encoder.reset()
}

// run sends batches until ctx is done, and then waits for outstanding replies
// within drainTimeout.
func (c *oracleClient) run(ctx context.Context) error {
	cfg := &c.oracle.cfg
	pace := newPacer(time.Now(), cfg.Rate, cfg.Pipeline, c.index, cfg.Clients)
	defer c.close()
	for ctx.Err() == nil {
		c.goHome()
		if c.conn == nil {
			if err := c.connect(ctx); err != nil {
				return err
			}
			if c.conn == nil {
				continue
			}
			pace.reset()
		}
		since := pace.wait(ctx)
		c.extendDeadline()
		if ctx.Err() != nil {
			break
		}
		c.compose()
		err := c.exchange(since)
		c.finishBatch()
		if err != nil {
			if err := c.lostConn(ctx, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// lostConn counts a connection that was lost or not to be had, and decides whether that ends the
// run; if not, the client goes to the next endpoint. When the run is over anyway, it says nothing
// about the endpoint.
func (c *oracleClient) lostConn(ctx context.Context, err error) error {
	side := c.side()
	if c.conn != nil {
		c.route.lost = side
	}
	c.close()
	if ctx.Err() != nil {
		return nil
	}
	c.oracle.connErrors.Add(1)
	c.oracle.noteError(err.Error())
	c.noteSide(side, func(s *Side) { s.ConnErrors++; s.note(connText(err)) })
	c.leave()
	if !c.oracle.cfg.ReconnectOnError {
		return err
	}
	return nil
}

// exchange sends the batch and brings every reply into the model. If it returns
// an error, the commands without a reply are in doubt.
func (c *oracleClient) exchange(since time.Time) error {
	at := span{send: c.clock()}
	c.waitingSince.Store(at.send)
	defer c.waitingSince.Store(0)
	err := c.write()
	var stall time.Duration
	waiting := time.Now()
	done := 0
	for err == nil && done < len(c.ops) {
		err = c.conn.fill()
		now := time.Now()
		stall = max(stall, now.Sub(waiting))
		waiting = now
		at.reply = int64(now.Sub(c.oracle.start))
		c.waitingSince.Store(at.reply)
		if err == nil {
			done, err = c.take(done, at, now.Sub(since))
		}
	}
	if len(c.latencies) > 0 {
		c.endOutage(waiting)
	}
	c.noteStall(stall)
	if err != nil && c.lastReply.IsZero() {
		c.lastReply = waiting
		if len(c.latencies) == 0 {
			c.lastReply = since
		}
	}
	at.reply = c.clock()
	c.loseRest(done, at)
	c.oracle.recorder.add(waiting, c.latencies, stall)
	c.latencies = c.latencies[:0]
	return err
}

// endOutage notes how long this client was without replies.
func (c *oracleClient) endOutage(now time.Time) {
	if c.lastReply.IsZero() {
		return
	}
	outage := int64(now.Sub(c.lastReply))
	c.noteSide(c.route.lost, func(s *Side) { s.LongestOutageMS = max(s.LongestOutageMS, milliseconds(time.Duration(outage))) })
	for {
		longest := c.oracle.outage.Load()
		if outage <= longest || c.oracle.outage.CompareAndSwap(longest, outage) {
			break
		}
	}
	c.lastReply = time.Time{}
}

// take handles the replies that have arrived, from the op with index done on.
func (c *oracleClient) take(done int, at span, latency time.Duration) (int, error) {
	for done < len(c.ops) {
		err := c.conn.next(&c.reply)
		if errors.Is(err, errNeedMore) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
		group := c.ops[done : done+c.ops[done].group]
		c.settle(group, &c.reply, at)
		done += len(group)
		c.latencies = append(c.latencies, latency)
	}
	return done, nil
}

// settle brings the reply to one command into the model.
func (c *oracleClient) settle(group []op, v *reply, at span) {
	switch {
	case v.kind == '-':
		c.settleError(group, v, at)
		return
	case len(group) == 1:
		c.observe(&group[0], v, at)
		return
	case group[0].code.writes(): // MSET: one OK for all
		for i := range group {
			c.observe(&group[i], v, at)
		}
		return
	}
	if v.kind != '*' || len(v.elems) != len(group) {
		c.violate(&group[0], found(classWrong, fmt.Sprintf("%d values", len(group)), describe(v)))
		return
	}
	for i := range group {
		c.observe(&group[i], &v.elems[i], at)
	}
}

// observe has the key's model judge a reply.
func (c *oracleClient) observe(o *op, v *reply, at span) {
	if o.key.broken {
		return
	}
	if f := o.key.observe(o, v, at, c.oracle.tolerance); !f.ok() {
		c.violate(o, f)
	}
}

// violate counts a key that was found wrong, and gives it up.
func (c *oracleClient) violate(o *op, f finding) {
	o.key.broken = true
	c.oracle.noteViolation(c.db, o, f)
}

// settleError handles an error reply: the command was refused, or it is in doubt.
func (c *oracleClient) settleError(group []op, v *reply, at span) {
	c.oracle.errors.Add(1)
	c.oracle.noteError(string(v.text))
	c.noteSide(c.side(), func(s *Side) { s.Errors++; s.note(string(v.text)) })
	if isWrongType(v.text) {
		c.violate(&group[0], found(classWrong, "a "+kindNames[group[0].key.kind], describe(v)))
		return
	}
	// A refusal of several keys may come from some of them only.
	if refused(v.text) && len(group) == 1 {
		return
	}
	for i := range group {
		group[i].key.lose(&group[i], at, c.oracle.tolerance)
	}
}

// loseRest puts the ops without a reply in doubt.
func (c *oracleClient) loseRest(done int, at span) {
	for i := range c.ops[done:] {
		o := &c.ops[done+i]
		o.key.lose(o, at, c.oracle.tolerance)
	}
}

// finishBatch counts the batch, and replaces the keys that it leaves in doubt or
// broken.
func (c *oracleClient) finishBatch() {
	reads, commands := int64(0), int64(0)
	for i := range c.ops {
		o := &c.ops[i]
		if o.group > 0 {
			commands++
			if !o.code.writes() {
				reads++
			}
		}
		if o.key.broken || o.key.inDoubt() {
			c.retire(o.key)
		}
	}
	c.oracle.ops.Add(commands)
	c.oracle.reads.Add(reads)
	c.oracle.writes.Add(commands - reads)
	c.resetBatch()
}
