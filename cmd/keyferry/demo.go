package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"keyferry/bench"
	"keyferry/internal/testredis"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

type demo struct {
	keys, clients, pipeline, big int
	seconds, rate                float64
	seed                         uint64
	json                         bool
	out                          io.Writer

	dir     string
	servers []*testredis.Server
	gateway *testredis.Child
	listen  string
	admin   *redis.Client
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
	c.Flags().BoolVar(&d.json, "json", false, "end with one line of JSON")
	return c
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	d.say("clients connect to %s as if it were one Redis; slots are on g1 and g2; seed %d", d.listen, d.seed)
	o := bench.NewOracle(bench.OracleConfig{Addr: d.listen, DBs: []int{0, 1}, Keys: d.keys, Clients: d.clients, Pipeline: d.pipeline,
		Rate: d.rate, Seed: int64(d.seed), Prefix: "demo", IncludeDeletes: true, BigKeys: d.big})
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
	jobs, err := d.follow(ctx, o, ended)
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
	d.say("comparing every key with what was acknowledged")
	v, err := o.Verify(ctx, d.listen)
	if err != nil {
		return err
	}
	left, err := d.leftBehind(ctx)
	if err != nil {
		return err
	}
	return d.report(o, v, jobs, moveSeconds, left)
}

// start brings up three servers and a gateway with the slots on the first two.
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
	var ports [3]int
	for i := range ports {
		if ports[i], err = testredis.FreePort(); err != nil {
			return err
		}
	}
	d.listen = fmt.Sprintf("127.0.0.1:%d", ports[0])
	adminAddr, httpAddr := fmt.Sprintf("127.0.0.1:%d", ports[1]), fmt.Sprintf("127.0.0.1:%d", ports[2])
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(d.dir, "gateway.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	gateway := exec.Command(self, "serve", "--listen", d.listen, "--admin", adminAddr, "--http", httpAddr, "--data-dir", filepath.Join(d.dir, "data"), "--name", "demo")
	gateway.Stdout, gateway.Stderr = logFile, logFile
	if d.gateway, err = testredis.StartChild(gateway); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := bench.AwaitPort(wait, adminAddr); err != nil {
		return fmt.Errorf("gateway: %w (log: %s)", err, logFile.Name())
	}
	d.admin = testredis.NewClient(adminAddr, "", 0)
	for _, cmd := range [][]any{{"GROUP", "ADD", "g1", d.servers[0].Addr}, {"GROUP", "ADD", "g2", d.servers[1].Addr},
		{"SLOT", "ASSIGN", "0-8191", "g1"}, {"SLOT", "ASSIGN", "8192-16383", "g2"}} {
		if err := d.proxy(ctx, cmd...).Err(); err != nil {
			return err
		}
	}
	d.say("started redis-server on %s, %s and %s", d.servers[0].Addr, d.servers[1].Addr, d.servers[2].Addr)
	d.say("watch it at http://%s/", httpAddr)
	return nil
}

func (d *demo) proxy(ctx context.Context, args ...any) *redis.Cmd {
	return d.admin.Do(ctx, append([]any{"PROXY"}, args...)...)
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
			s.Errors+s.ConnErrors, s.Lost+s.Stale+s.Resurrected+s.WrongTTL+s.Wrong)
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

// follow shows the jobs until all are done.
func (d *demo) follow(ctx context.Context, o *bench.Oracle, ended chan error) ([]migrator.Status, error) {
	var jobs []migrator.Status
	var jobErr error
	refresh := func() {
		if list, err := d.jobs(ctx); err == nil {
			jobs = list
		} else {
			jobErr = err
		}
	}
	done := func() bool {
		refresh()
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
			lines = append(lines, "\n   "+progressLine(j))
		}
		return strings.Join(lines, "")
	})
	return jobs, errors.Join(err, jobErr)
}

// leftBehind counts keys that sit in a group that does not own them.
func (d *demo) leftBehind(ctx context.Context) (int64, error) {
	gw := testredis.NewClient(d.listen, "", 0)
	defer gw.Close()
	n, err := keysOf(ctx, gw)
	total := -n
	for _, s := range d.servers {
		if err == nil {
			n, err = keysOf(ctx, s.Client())
			total += n
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
	Seed          uint64             `json:"seed"`
	OK            bool               `json:"ok"`
}

func (d *demo) report(o *bench.Oracle, v bench.Verdict, jobs []migrator.Status, seconds float64, left int64) error {
	s := o.Snapshot()
	r := demoReport{Ops: s.Ops, ClientErrors: s.Errors + s.ConnErrors, KeysChecked: v.KeysChecked, Lost: v.Lost, Stale: v.Stale,
		Resurrected: v.Resurrected, WrongTTL: v.WrongTTL, LongestStall: s.LongestStallMS, Wrong: v.Wrong, Phases: o.Phases(), MoveSeconds: seconds, Seed: d.seed}
	for _, j := range jobs {
		r.KeysMoved += j.KeysMoved
		r.LockHoldP50us = max(r.LockHoldP50us, j.HoldP50us)
		r.LockHoldP99us = max(r.LockHoldP99us, j.HoldP99us)
		r.LockHoldMaxUs = max(r.LockHoldMaxUs, j.HoldMaxUs)
	}
	r.KeysPerS = float64(r.KeysMoved) / seconds
	r.OK = v.OK() && r.ClientErrors == 0 && r.KeysMoved > 0 && left == 0
	d.say("")
	d.say("keys moved       %d in %.1f s (%.0f keys/s) by %d jobs", r.KeysMoved, seconds, r.KeysPerS, len(jobs))
	d.say("client commands  %d, errors %d%s", r.Ops, r.ClientErrors, firstError(s.FirstError))
	d.say("keys compared    %d: lost %d, stale %d, resurrected %d, wrong TTL %d, wrong %d, in doubt %d; on the wrong server %d", v.KeysChecked, v.Lost, v.Stale, v.Resurrected, v.WrongTTL, v.Wrong, v.InDoubt, left)
	for _, e := range v.Examples {
		d.say("   %s", e)
	}
	d.say("latency, ms           p50      p99    p99.9      max")
	for _, p := range r.Phases {
		l := p.Latency
		d.say("  %-12s %10.2f %8.2f %8.2f %8.2f", p.Name, l.P50MS, l.P99MS, l.P999MS, l.MaxMS)
	}
	d.say("longest stall    %.2f ms of any client", r.LongestStall)
	d.say("locks on a key   p50 %.2f ms, p99 %.2f ms, max %.2f ms", float64(r.LockHoldP50us)/1000, float64(r.LockHoldP99us)/1000, float64(r.LockHoldMaxUs)/1000)
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
	if d.admin != nil {
		_ = d.admin.Close()
	}
	if d.gateway != nil {
		_ = d.gateway.Terminate(15 * time.Second)
	}
	for _, s := range d.servers {
		_ = s.Stop()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
