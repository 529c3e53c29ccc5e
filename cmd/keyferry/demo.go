package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"keyferry/bench"
	"keyferry/internal/testetcd"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

type demo struct {
	keys, clients, pipeline, big int
	gateways                     int
	seconds, rate                float64
	seed                         uint64
	json                         bool

	mu  sync.Mutex // protects out
	out io.Writer

	dir     string
	servers []*testredis.Server
	fleet   []*demoGateway
	etcd    *testetcd.Server // nil: there is one gateway
	breaks  []demoBreak      // what was done to gateways
}

func demoCommand() *cobra.Command {
	d := &demo{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "The main job on this machine: real servers, live clients, a rebalance, and a proof that nothing was lost",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			d.out = cmd.OutOrStdout()
			defer d.cleanUp()
			err := d.run(ctx)
			if ctx.Err() != nil {
				return errors.New("interrupted; everything that was started has been stopped")
			}
			return err
		},
	}
	c.Flags().IntVar(&d.keys, "keys", 200000, "keys to load, of every type")
	c.Flags().IntVar(&d.big, "big-keys", 0, "keys of 50,000 elements")
	c.Flags().Float64Var(&d.seconds, "seconds", 30, "how long clients run, at least")
	c.Flags().IntVar(&d.clients, "clients", 32, "client connections")
	c.Flags().IntVar(&d.pipeline, "pipeline", 4, "commands in one write")
	c.Flags().Float64Var(&d.rate, "rate", 20000, "commands per second of all clients; 0: no limit")
	c.Flags().Uint64Var(&d.seed, "seed", uint64(time.Now().UnixNano()), "of the random commands")
	c.Flags().IntVar(&d.gateways, "gateways", 1, "gateways; with more than one they share an etcd, and two of them are killed and frozen while keys move")
	c.Flags().BoolVar(&d.json, "json", false, "end with one line of JSON")
	return c
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

func (d *demo) run(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	d.say("clients connect to %s as if it were one Redis; slots are on g1 and g2; seed %d", strings.Join(d.listens(), ", "), d.seed)
	o := bench.NewOracle(bench.OracleConfig{Endpoints: bench.Endpoints{Addrs: d.listens(), Silence: demoSilence}, DBs: []int{0, 1}, Keys: d.keys,
		Clients: d.clients, Pipeline: d.pipeline, Rate: d.rate, Seed: int64(d.seed), Prefix: "demo", IncludeDeletes: true, BigKeys: d.big,
		ReconnectOnError: d.several()})
	t := time.Now()
	if err := o.Preload(ctx); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	d.say("loaded %d keys (strings, TTLs, counters, hashes, lists, sets, sorted sets, streams; 2 databases) in %.1f s", d.keys, time.Since(t).Seconds())

	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	o.Phase("before")
	begin := time.Now()
	go func() { ended <- o.Run(run) }()
	quarter := time.Duration(d.seconds / 4 * float64(time.Second))
	if err := d.watch(ctx, o, ended, func() bool { return time.Since(begin) > quarter }, nil); err != nil {
		return err
	}

	d.say("adding an empty third group and rebalancing, while clients go on")
	o.Phase("during")
	moveBegin := time.Now()
	if err := d.proxy(ctx, "GROUP", "ADD", "g3", d.servers[2].Addr).Err(); err != nil {
		return err
	}
	if err := d.proxy(ctx, "REBALANCE").Err(); err != nil {
		return err
	}
	breaking, err := d.breakGateways(ctx, o)
	if err != nil {
		return err
	}
	jobs, err := d.follow(ctx, o, ended, breaking)
	if err != nil {
		return err
	}
	moveSeconds := time.Since(moveBegin).Seconds()

	d.say("moved; clients go on")
	o.Phase("after")
	after := time.Now()
	if err := d.watch(ctx, o, ended, func() bool {
		return time.Since(after) > quarter && time.Since(begin).Seconds() > d.seconds
	}, nil); err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	v, err := d.verify(ctx, o)
	if err != nil {
		return err
	}
	left, err := d.leftBehind(ctx)
	if err != nil {
		return err
	}
	return d.report(o, v, jobs, moveSeconds, left)
}

// start brings up three servers and the gateways, with the slots on the first two.
func (d *demo) start(ctx context.Context) error {
	var err error
	if d.dir, err = os.MkdirTemp("", "keyferry-demo-"); err != nil {
		return err
	}
	for range 3 {
		s, err := testredis.Start(testredis.Options{})
		if err != nil {
			return err
		}
		d.servers = append(d.servers, s)
	}
	if err := d.startGateways(ctx); err != nil {
		return err
	}
	for _, cmd := range [][]any{{"GROUP", "ADD", "g1", d.servers[0].Addr}, {"GROUP", "ADD", "g2", d.servers[1].Addr},
		{"SLOT", "ASSIGN", "0-8191", "g1"}, {"SLOT", "ASSIGN", "8192-16383", "g2"}} {
		if err := d.proxy(ctx, cmd...).Err(); err != nil {
			return err
		}
	}
	if err := d.awaitSlots(ctx); err != nil {
		return err
	}
	d.say("started redis-server on %s, %s and %s", d.servers[0].Addr, d.servers[1].Addr, d.servers[2].Addr)
	for _, g := range d.fleet {
		d.say("watch %s at http://%s/", g.name, g.http)
	}
	return nil
}

// watch prints a line each half second until done says so.
func (d *demo) watch(ctx context.Context, o *bench.Oracle, ended chan error, done func() bool, more func() string) error {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	last := o.Snapshot()
	at := time.Now()
	for !done() {
		select {
		case <-t.C:
		case err := <-ended:
			if err == nil {
				err = errors.New("clients ended before their time")
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		s := o.Snapshot()
		line := fmt.Sprintf("%8.0f ops/s  p99 %6.2f ms  errors %d  wrong %d", float64(s.Ops-last.Ops)/time.Since(at).Seconds(), s.P99MS,
			s.Living.Errors+s.Living.ConnErrors, s.Lost+s.Stale+s.Resurrected+s.WrongTTL+s.Wrong)
		if more != nil {
			line += "  " + more()
		}
		d.say("%s", line)
		last, at = s, time.Now()
	}
	return nil
}

func (d *demo) jobs(ctx context.Context) ([]migrator.Status, error) {
	text, err := d.proxy(ctx, "MIGRATION", "LIST", "JSON").Text()
	if err != nil {
		return nil, err
	}
	var jobs []migrator.Status
	return jobs, json.Unmarshal([]byte(text), &jobs)
}

// follow shows the jobs until all are done, and what is done to gateways.
func (d *demo) follow(ctx context.Context, o *bench.Oracle, ended, breaking chan error) ([]migrator.Status, error) {
	var jobs []migrator.Status
	var jobErr error
	broken := breaking == nil
	refresh := func() {
		select {
		case jobErr = <-breaking:
			broken = true
		default:
		}
		if list, err := d.jobs(ctx); err == nil {
			jobs = list
		} else if !d.several() { // another gateway is asked the next time
			jobErr = err
		}
	}
	done := func() bool {
		refresh()
		if !broken || jobErr != nil {
			return jobErr != nil
		}
		for _, j := range jobs {
			if j.Phase == topology.Failed {
				jobErr = fmt.Errorf("job %s failed: %s", j.ID, j.Reason)
			}
			if j.Phase != topology.Done {
				return jobErr != nil
			}
		}
		return true
	}
	err := d.watch(ctx, o, ended, done, func() string {
		var lines []string
		for _, j := range jobs {
			line := "\n   " + progressLine(j)
			if d.several() && !j.Phase.Ended() {
				line += "  by " + j.Owner
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "")
	})
	return jobs, errors.Join(err, jobErr)
}

// leftBehind counts keys that sit in a group that does not own them. They are counted at one place after the
// other, and some expire meanwhile: what is left behind is so each time.
func (d *demo) leftBehind(ctx context.Context) (left int64, err error) {
	for range 10 {
		if left, err = d.countLeft(ctx); left == 0 || err != nil {
			break
		}
	}
	return left, err
}

func (d *demo) countLeft(ctx context.Context) (int64, error) {
	gw := testredis.NewClient(d.fleet[0].listen, "", 0)
	defer gw.Close()
	n, err := keysOf(ctx, gw)
	total := -n
	for _, s := range d.servers {
		if err == nil {
			var own int64 // the mark by which a gateway knows its servers again
			n, err = keysOf(ctx, s.Client())
			own, _ = s.Client().Exists(ctx, "__keyferry__:cluster").Result()
			total += n - own
		}
	}
	return total, err
}

// keysOf counts the keys of the databases that the demo uses.
func keysOf(ctx context.Context, c *redis.Client) (total int64, err error) {
	for db := range 2 {
		conn := c.Conn()
		defer conn.Close()
		if err := conn.Select(ctx, db).Err(); err != nil {
			return 0, err
		}
		n, err := conn.DBSize(ctx).Result()
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// demoReport is the line of JSON.
type demoReport struct {
	KeysMoved     int64              `json:"keys_moved"`
	KeysPerS      float64            `json:"keys_per_s"`
	MoveSeconds   float64            `json:"move_seconds"`
	Ops           int64              `json:"ops"`
	ClientErrors  int64              `json:"client_errors"`
	KeysChecked   int                `json:"keys_checked"`
	Lost          int                `json:"lost"`
	Stale         int                `json:"stale"`
	Resurrected   int                `json:"resurrected"`
	WrongTTL      int                `json:"wrong_ttl"`
	Wrong         int                `json:"wrong"`
	LongestStall  float64            `json:"longest_stall_ms"`
	Phases        []bench.PhaseStats `json:"phases"`
	LockHoldP50us int64              `json:"lock_hold_p50_us"`
	LockHoldP99us int64              `json:"lock_hold_p99_us"`
	LockHoldMaxUs int64              `json:"lock_hold_max_us"`
	Gateways      int                `json:"gateways"`
	Breaks        []demoBreak        `json:"breaks,omitempty"`
	Seed          uint64             `json:"seed"`
	OK            bool               `json:"ok"`
}

func (d *demo) report(o *bench.Oracle, v bench.Verdict, jobs []migrator.Status, seconds float64, left int64) error {
	s := o.Snapshot()
	r := demoReport{Ops: s.Ops, ClientErrors: s.Living.Errors + s.Living.ConnErrors, Gateways: d.gateways, Breaks: d.breaks, KeysChecked: v.KeysChecked, Lost: v.Lost, Stale: v.Stale,
		Resurrected: v.Resurrected, WrongTTL: v.WrongTTL, LongestStall: s.LongestStallMS, Wrong: v.Wrong, Phases: o.Phases(), MoveSeconds: seconds, Seed: d.seed}
	for _, j := range jobs {
		r.KeysMoved += j.KeysMoved
		r.LockHoldP50us = max(r.LockHoldP50us, j.HoldP50us)
		r.LockHoldP99us = max(r.LockHoldP99us, j.HoldP99us)
		r.LockHoldMaxUs = max(r.LockHoldMaxUs, j.HoldMaxUs)
	}
	r.KeysPerS = float64(r.KeysMoved) / seconds
	r.OK = v.OK() && r.ClientErrors == unknownOutcomes(s.Living) && r.KeysMoved > 0 && left == 0
	d.say("")
	d.say("keys moved       %d in %.1f s (%.0f keys/s) by %d jobs", r.KeysMoved, seconds, r.KeysPerS, len(jobs))
	d.say("client commands  %d, errors %d%s", r.Ops, r.ClientErrors, firstError(s.FirstError))
	d.say("keys compared    %d: lost %d, stale %d, resurrected %d, wrong TTL %d, wrong %d, in doubt %d; on the wrong server %d", v.KeysChecked, v.Lost, v.Stale, v.Resurrected, v.WrongTTL, v.Wrong, v.InDoubt, left)
	d.reportSides(s)
	for _, e := range v.Examples {
		d.say("   %s", e)
	}
	d.say("latency, ms           p50      p99    p99.9      max")
	for _, p := range r.Phases {
		l := p.Latency
		d.say("  %-12s %10.2f %8.2f %8.2f %8.2f", p.Name, l.P50MS, l.P99MS, l.P999MS, l.MaxMS)
	}
	d.say("longest stall    %.2f ms of any client", r.LongestStall)
	if r.LockHoldMaxUs > 0 { // else the jobs have ended at gateways that were not asked
		d.say("locks on a key   p50 %.2f ms, p99 %.2f ms, max %.2f ms", float64(r.LockHoldP50us)/1000, float64(r.LockHoldP99us)/1000, float64(r.LockHoldMaxUs)/1000)
	}
	if d.json {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		d.say("%s", b)
	}
	if !r.OK {
		return errors.New("the demo found something wrong: see above")
	}
	return nil
}

func firstError(text string) string {
	if text == "" {
		return ""
	}
	return " (first: " + text + ")"
}

// cleanUp ends what start has started, in whatever state it is.
func (d *demo) cleanUp() {
	d.stopGateways()
	for _, s := range d.servers {
		_ = s.Stop()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
