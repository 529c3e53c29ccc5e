package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"keyferry/bench"
	"keyferry/internal/testetcd"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// demoSilence is how long clients wait for a gateway that says nothing before they go to another: longer
// than a takeover lasts, which those who wait for a job's owner live through.
const demoSilence = 8 * time.Second

// demoGateway is a gateway of the demo.
type demoGateway struct {
	name, listen, admin, http string
	args                      []string // of keyferry serve
	log                       string   // the file
	child                     *testredis.Child
	client                    *redis.Client // of the admin address
	down                      atomic.Bool   // it was killed or frozen, and is asked nothing
}

// demoBreak is what was done to a gateway, and what clients saw of it.
type demoBreak struct {
	Gateway         string  `json:"gateway"`
	How             string  `json:"how"`
	Job             string  `json:"job"`
	Next            string  `json:"next"`                // the job's owner after it
	TakeoverS       float64 `json:"takeover_s"`          // until the job moved keys again
	LivingStallMS   float64 `json:"living_stall_ms"`     // longest stall of a client of another gateway
	LivingErrors    int64   `json:"living_errors"`       // errors of those, meanwhile
	DownedOutageMS  float64 `json:"downed_outage_ms"`    // longest that a client of its own was without replies
	BackIncarnation uint64  `json:"back_as_incarnation"` // as which it is back
}

func (d *demo) several() bool { return d.gateways > 1 }

func (d *demo) listens() (addrs []string) {
	for _, g := range d.fleet {
		addrs = append(addrs, g.listen)
	}
	return addrs
}

// startGateways starts them, and etcd if they are several.
func (d *demo) startGateways(ctx context.Context) error {
	var err error
	if d.several() {
		if d.etcd, err = testetcd.Start(testetcd.Options{}); err != nil {
			return err
		}
		d.say("started etcd on %s: what %d gateways share", d.etcd.Addr, d.gateways)
	}
	for i := range max(d.gateways, 1) {
		g, err := d.newGateway(i)
		if err != nil {
			return err
		}
		d.fleet = append(d.fleet, g)
		if err := g.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) newGateway(i int) (*demoGateway, error) {
	g := &demoGateway{name: "demo"}
	if d.several() {
		g.name = fmt.Sprint("gw", i+1)
	}
	var addrs [4]string
	for i := range addrs {
		port, err := testredis.FreePort()
		if err != nil {
			return nil, err
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	g.listen, g.admin, g.http = addrs[0], addrs[1], addrs[2]
	g.log = filepath.Join(d.dir, g.name+".log")
	g.args = []string{"serve", "--listen", g.listen, "--admin", g.admin, "--http", g.http, "--data-dir", filepath.Join(d.dir, g.name), "--name", g.name}
	if d.several() {
		for _, set := range []string{"store=etcd", "etcd.endpoints=" + d.etcd.URL(), "peers.listen=" + addrs[3], "peers.secret=" + fmt.Sprintf("demo-%016x", d.seed)} {
			g.args = append(g.args, "--set", set)
		}
	}
	g.client = testredis.NewClient(g.admin, "", 0)
	return g, nil
}

// start runs the gateway, also again after it was killed.
func (g *demoGateway) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(self, g.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if g.child, err = testredis.StartChild(cmd); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := bench.AwaitPort(wait, g.admin); err != nil {
		return fmt.Errorf("gateway: %w (log: %s)", err, g.log)
	}
	return nil
}

// awaitSlots waits until every gateway serves all slots: one of them was told.
func (d *demo) awaitSlots(ctx context.Context) error {
	for _, g := range d.fleet {
		c := testredis.NewClient(g.listen, "", 0)
		defer c.Close()
		if err := d.await(ctx, g.name+" to serve all slots", func() bool {
			for i := range 20 {
				if err := c.Get(ctx, fmt.Sprint("slot of ", i)).Err(); !errors.Is(err, redis.Nil) {
					return false
				}
			}
			return true
		}); err != nil {
			return err
		}
	}
	return nil
}

// stopGateways ends what startGateways has started, in whatever state it is.
func (d *demo) stopGateways() {
	for _, g := range d.fleet {
		_ = g.client.Close()
		if g.child != nil {
			_ = g.child.Terminate(15 * time.Second)
		}
	}
	if d.etcd != nil {
		_ = d.etcd.Stop()
	}
}

// proxy asks the first gateway that is up.
func (d *demo) proxy(ctx context.Context, args ...any) *redis.Cmd {
	g := d.fleet[max(0, slices.IndexFunc(d.fleet, func(g *demoGateway) bool { return !g.down.Load() }))]
	return g.client.Do(ctx, append([]any{"PROXY"}, args...)...)
}

func (d *demo) member(name string) *demoGateway {
	i := slices.IndexFunc(d.fleet, func(g *demoGateway) bool { return g.name == name })
	if i < 0 {
		return nil
	}
	return d.fleet[i]
}

// demoRow is a gateway in PROXY GATEWAY LIST JSON.
type demoRow struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Incarnation uint64 `json:"incarnation"`
}

// rows are the gateways as one that is up knows them.
func (d *demo) rows(ctx context.Context) (map[string]demoRow, error) {
	text, err := d.proxy(ctx, "GATEWAY", "LIST", "JSON").Text()
	if err != nil {
		return nil, err
	}
	var list []demoRow
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	rows := make(map[string]demoRow)
	for _, r := range list {
		rows[r.Name] = r
	}
	return rows, nil
}

// demoMiddle is what part of what is left a job has moved when it is in its middle; there has to be
// enough left for two takeovers.
const demoMiddle = 6

// demoJobSeconds is how long a job is made to last, so that there is a middle to kill its owner in.
const demoJobSeconds = 25

// breakGateways, if there are several, makes the jobs slow, and begins to kill the owner of one and to freeze
// that of another. What it returns is signalled when that is over; nil: nothing is done.
func (d *demo) breakGateways(ctx context.Context, o *bench.Oracle) (chan error, error) {
	if !d.several() {
		return nil, nil
	}
	jobs, err := d.jobs(ctx)
	if err != nil {
		return nil, err
	}
	rate := max(50, d.keys/3/max(len(jobs), 1)/demoJobSeconds)
	for _, j := range jobs {
		if err := d.proxy(ctx, "MIGRATION", "LIMIT", j.ID, "RATE", rate).Err(); err != nil {
			return nil, err
		}
		d.say("%s runs job %s, %s to %s, slowed down to %d keys/s", j.Owner, j.ID, j.Source, j.Target, rate)
	}
	done := make(chan error, 1)
	go func() { done <- d.breakTwo(ctx, o) }()
	return done, nil
}

func (d *demo) breakTwo(ctx context.Context, o *bench.Oracle) error {
	kill := func(g *demoGateway) error { return g.child.Kill() }
	first, err := d.breakOwner(ctx, o, "", "kill -9", kill, func(g *demoGateway) error {
		d.say("starting %s again", g.name)
		return g.start(ctx)
	})
	if err != nil {
		return err
	}
	stop := func(g *demoGateway) error { return g.child.Signal(syscall.SIGSTOP) }
	_, err = d.breakOwner(ctx, o, first, "SIGSTOP", stop, func(g *demoGateway) error {
		d.say("waking %s, which knows nothing of it yet (SIGCONT)", g.name)
		return g.child.Signal(syscall.SIGCONT)
	})
	return err
}

// breakOwner takes down the owner of a job in the middle of it, waits until others have taken over and its
// clients have gone to them, brings it back and waits until it is part of the cluster again. It
// returns its name.
func (d *demo) breakOwner(ctx context.Context, o *bench.Oracle, but, how string, down, up func(*demoGateway) error) (string, error) {
	job, err := d.awaitMiddle(ctx, but)
	if err != nil {
		return "", err
	}
	g := d.member(job.Owner)
	rows, err := d.rows(ctx)
	if err != nil {
		return "", err
	}
	b := demoBreak{Gateway: g.name, How: how, Job: job.ID}
	before := o.Snapshot()
	d.say("%s of %s, in the middle of its job %s: %d keys moved, about %d left", how, g.name, job.ID, job.KeysMoved, job.KeysLeft)
	g.down.Store(true)
	o.Down(g.listen)
	at := time.Now()
	if err := down(g); err != nil {
		return "", err
	}
	first := int64(-1) // what the next owner had moved when it was first asked: it begins at a checkpoint
	if err := d.await(ctx, "another gateway to go on with "+job.ID, func() bool {
		j, ok := d.job(ctx, job.ID)
		if !ok || j.Owner == g.name {
			return false
		}
		if b.Next != j.Owner {
			b.Next, first = j.Owner, j.KeysMoved
		}
		return j.KeysMoved > first || j.Phase.Ended()
	}); err != nil {
		return "", err
	}
	b.TakeoverS = time.Since(at).Seconds()
	d.say("%s goes on with %s, %.1f s later", b.Next, b.Job, b.TakeoverS)
	gone := before.Downed.ConnErrors + int64(d.clients/len(d.fleet))
	if err := d.await(ctx, "its clients to go to other gateways", func() bool { return o.Snapshot().Downed.ConnErrors >= gone }); err != nil {
		return "", err
	}
	if err := up(g); err != nil {
		return "", err
	}
	if err := d.await(ctx, g.name+" to be part of the cluster again", func() bool {
		now, err := d.rows(ctx)
		b.BackIncarnation = now[g.name].Incarnation
		return err == nil && now[g.name].State == "serving" && b.BackIncarnation > rows[g.name].Incarnation && g.client.Ping(ctx).Err() == nil
	}); err != nil {
		return "", err
	}
	s := o.Snapshot()
	b.LivingStallMS, b.DownedOutageMS = s.Living.LongestStallMS, s.Downed.LongestOutageMS
	b.LivingErrors = s.Living.Errors + s.Living.ConnErrors - before.Living.Errors - before.Living.ConnErrors
	g.down.Store(false)
	o.Up(g.listen)
	d.say("%s is part of the cluster again, as incarnation %d; its clients come back to it", g.name, b.BackIncarnation)
	d.breaks = append(d.breaks, b)
	return g.name, nil
}

// awaitMiddle waits until a job of another gateway than but has moved some of its keys.
func (d *demo) awaitMiddle(ctx context.Context, but string) (job migrator.Status, err error) {
	ended := false
	err = d.await(ctx, "a job to be in the middle", func() bool {
		list, err := d.jobs(ctx)
		ended = err == nil
		for _, j := range list {
			ended = ended && j.Phase.Ended()
			if j.Owner != but && j.Phase == topology.Bulk && j.KeysMoved > max(100, j.KeysLeft/demoMiddle) {
				job = j
				return true
			}
		}
		return ended
	})
	if err == nil && ended {
		err = errors.New("the jobs ended too soon to take down the owner of one: give the demo more --keys")
	}
	return job, err
}

func (d *demo) job(ctx context.Context, id string) (migrator.Status, bool) {
	list, err := d.jobs(ctx)
	i := slices.IndexFunc(list, func(j migrator.Status) bool { return j.ID == id })
	if err != nil || i < 0 {
		return migrator.Status{}, false
	}
	return list[i], true
}

// await polls until cond holds, for a minute.
func (d *demo) await(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for !cond() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
	return nil
}

// verify compares every key with what was acknowledged, as each gateway has it.
func (d *demo) verify(ctx context.Context, o *bench.Oracle) (worst bench.Verdict, err error) {
	for i, g := range d.fleet {
		d.say("comparing every key with what was acknowledged, through %s", g.name)
		v, err := o.Verify(ctx, g.listen)
		if err != nil {
			return v, err
		}
		if i == 0 || worst.OK() && !v.OK() {
			worst = v
		}
	}
	return worst, nil
}

// outcomeUnknown are in errors that leave open whether a command, or a part of it, was executed.
var outcomeUnknown = []string{"may or may not have been executed", "perhaps executed"}

// unknownOutcomes counts errors of writes that were on their way through a gateway when that died: nobody can
// know what became of them.
func unknownOutcomes(s bench.Side) (n int64) {
	for text, times := range s.Texts {
		if slices.ContainsFunc(outcomeUnknown, func(x string) bool { return strings.Contains(text, x) }) {
			n += times
		}
	}
	return n
}

// reportSides shows what was done to gateways, and what clients saw of it.
func (d *demo) reportSides(s bench.OracleStats) {
	if !d.several() {
		return
	}
	for _, b := range d.breaks {
		d.say("%-16s of %s: %s goes on with %s after %.1f s; longest stall of other gateways' clients %.0f ms, with %d errors; its own were without replies for %.0f ms at most",
			b.How, b.Gateway, b.Next, b.Job, b.TakeoverS, b.LivingStallMS, b.LivingErrors, b.DownedOutageMS)
	}
	for _, x := range []struct {
		whose string
		side  bench.Side
	}{{"clients of gateways that lived", s.Living}, {"clients of the killed and the frozen", s.Downed}} {
		d.say("%s: %d error replies, %d connections lost", x.whose, x.side.Errors, x.side.ConnErrors)
		for _, text := range slices.Sorted(maps.Keys(x.side.Texts)) {
			d.say("   %6d times: %s", x.side.Texts[text], text)
		}
	}
}
