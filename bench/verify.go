package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	verifyWorkers      = 8
	verifyKeysMax      = 500    // of one batch
	verifyElementsMax  = 20_000 // of one batch, about
	verifyCommandsEach = 2      // the whole key, and its TTL
)

// Verdict is the result of reading every key back. A key counts once per class,
// however many of its elements are concerned; it includes the keys that were
// found wrong while running.
type Verdict struct {
	KeysChecked int `json:"keys_checked"`
	Lost        int `json:"lost"`        // an acknowledged write, or the key, is missing
	Stale       int `json:"stale"`       // an older acknowledged value is there
	Resurrected int `json:"resurrected"` // a key or element that was deleted is there
	WrongTTL    int `json:"wrong_ttl"`   // expired too early or not, or a TTL that should not be
	Wrong       int `json:"wrong"`       // a value never written to this key, or a write done twice
	// InDoubt counts keys with a write of unknown outcome, where either state
	// is right.
	InDoubt      int      `json:"in_doubt"`
	WhileRunning int      `json:"while_running"` // how many keys of these were found during Run
	Examples     []string `json:"examples"`      // up to 20 of each class
}

// OK tells whether nothing was found.
func (v Verdict) OK() bool {
	return v.Lost+v.Stale+v.Resurrected+v.WrongTTL+v.Wrong == 0
}

// String is a line with all counts, and then the examples, a line each.
func (v Verdict) String() string {
	text := fmt.Sprintf("%d keys checked: %d lost, %d stale, %d resurrected, %d with a wrong TTL, %d wrong; %d in doubt",
		v.KeysChecked, v.Lost, v.Stale, v.Resurrected, v.WrongTTL, v.Wrong, v.InDoubt)
	return strings.Join(append([]string{text}, v.Examples...), "\n  ")
}

// Verify reads every key back from addr ("" is the config's) and compares it with
// the model. Nobody else may write meanwhile. It can be called again, and for
// another address.
func (o *Oracle) Verify(ctx context.Context, addr string) (Verdict, error) {
	if err := o.lock(); err != nil {
		return Verdict{}, err
	}
	defer o.busy.Unlock()
	if addr == "" {
		addr = o.cfg.Addr
	}
	verifier := &verifier{oracle: o, addr: addr, work: make(chan *oracleClient)}
	err := verifier.run(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	verifier.addRunning(&o.violations)
	return verifier.verdict(), err
}

// verifier is one run of Verify.
type verifier struct {
	oracle *Oracle
	addr   string
	work   chan *oracleClient // their keys are read back by one worker each

	mu         sync.Mutex // guards what follows
	violations violations
	checked    int
	inDoubt    int
	running    int
	err        error
}

func (v *verifier) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range min(verifyWorkers, len(v.oracle.clients)) {
		wg.Go(func() {
			for c := range v.work {
				if err := v.client(ctx, c); err != nil {
					v.fail(err)
					cancel()
				}
			}
		})
	}
	for _, c := range v.oracle.clients {
		v.work <- c
	}
	close(v.work)
	wg.Wait()
	return v.err
}

func (v *verifier) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err = fmt.Errorf("bench: verify at %s: %w", v.addr, err)
	}
}

// client reads back the keys of one client, over its usual machinery.
func (v *verifier) client(ctx context.Context, c *oracleClient) error {
	var err error
	if c.conn, err = dial(ctx, v.addr, v.oracle.cfg.Password, c.db, dialTimeout); err != nil {
		return err
	}
	c.deadline = time.Time{}
	conn := c.conn
	c.undrain = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer c.close()
	elements := 0
	for i, k := range c.keys {
		c.ops = append(c.ops, op{code: opReadAll, key: k, group: 1}, op{code: opPTTL, key: k, group: 1})
		elements += k.size
		if i < len(c.keys)-1 && len(c.ops) < verifyKeysMax*verifyCommandsEach && elements < verifyElementsMax {
			continue
		}
		if err := v.batch(ctx, c); err != nil {
			return err
		}
		elements = 0
	}
	return nil
}

// batch reads back the keys in c.ops, which has two ops for each.
func (v *verifier) batch(ctx context.Context, c *oracleClient) error {
	defer c.resetBatch()
	for i := range c.ops {
		c.encoder.command(&c.ops[i])
	}
	c.extendDeadline()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	at := span{send: c.clock()}
	if err := c.write(); err != nil {
		return err
	}
	for i := 0; i < len(c.ops); i += verifyCommandsEach {
		inDoubt := c.ops[i].key.inDoubt()
		var all finding
		for j := range c.ops[i : i+verifyCommandsEach] {
			if err := c.readReply(); err != nil {
				return err
			}
			at.reply = c.clock()
			o := &c.ops[i+j]
			f, err := v.judge(o, &c.reply, at)
			if err != nil {
				return err
			}
			all = all.join(f)
		}
		v.count(c.db, &c.ops[i], all, inDoubt)
	}
	return nil
}

// judge compares one reply with the model of its key.
func (v *verifier) judge(o *op, r *reply, at span) (finding, error) {
	switch {
	case o.key.broken:
		return finding{}, nil // counted already
	case r.kind == '-' && isWrongType(r.text):
		return found(classWrong, "a "+kindNames[o.key.kind], describe(r)), nil
	case r.kind == '-':
		return finding{}, fmt.Errorf("key %s: %s", o.key.name, r.text)
	}
	return o.key.observe(o, r, at, v.oracle.tolerance), nil
}

// join combines what was found about one key. That a key is gone, or is there and
// should not be, shows in both commands; it is described by the first.
func (f finding) join(g finding) finding {
	if g.classes&^f.classes == 0 {
		return f
	}
	if f.ok() {
		return g
	}
	return finding{classes: f.classes | g.classes, want: f.want + " and " + g.want, got: f.got + " and " + g.got}
}

func (v *verifier) count(db int, o *op, f finding, inDoubt bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checked++
	if inDoubt {
		v.inDoubt++
	}
	v.violations.add(db, o, f)
}

// addRunning adds the keys that were found wrong during Run.
func (v *verifier) addRunning(while *violations) {
	v.running = while.keys
	for c, n := range while.count {
		v.violations.count[c] += n
	}
	v.violations.examples = slices.Concat(while.examples, v.violations.examples)
}

func (v *verifier) verdict() Verdict {
	count := &v.violations.count
	return Verdict{
		KeysChecked: v.checked, Lost: count[classLost], Stale: count[classStale],
		Resurrected: count[classResurrected], WrongTTL: count[classWrongTTL], Wrong: count[classWrong],
		InDoubt: v.inDoubt, WhileRunning: v.running, Examples: v.violations.examples,
	}
}
