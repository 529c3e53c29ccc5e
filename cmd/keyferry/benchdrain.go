package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"keyferry/bench"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

// host says where and of what a result was measured.
type host struct {
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Go     string    `json:"go"`
	Commit string    `json:"commit"`
	At     time.Time `json:"at"`
}

func thisHost() host {
	h := host{CPUs: runtime.NumCPU(), Go: runtime.Version(), At: time.Now().UTC().Truncate(time.Second)}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				h.Commit = s.Value + h.Commit
			case s.Key == "vcs.modified" && s.Value == "true":
				h.Commit += "+"
			}
		}
	}
	return h
}

// save writes a result and where it comes from to a file of JSON.
func save(path string, result any) error {
	b, err := json.MarshalIndent(struct {
		Host   host `json:"host"`
		Result any  `json:"result"`
	}{thisHost(), result}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// output is where the report of a comparison goes.
type output struct {
	path string
	json bool
}

func (o *output) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.path, "out", "", "also write the result as JSON to this file")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
}

func (o *output) show(w io.Writer, report interface{ Table() string }) error {
	if o.path != "" {
		if err := save(o.path, report); err != nil {
			return err
		}
	}
	if o.json {
		return json.NewEncoder(w).Encode(report)
	}
	_, err := fmt.Fprint(w, report.Table())
	return err
}

func benchDrainCommand() *cobra.Command {
	cfg := bench.DrainConfig{}
	var out output
	var settings []string
	var limits, build string
	c := &cobra.Command{Use: "drain", Short: "Move all keys from group to group, idle and under load, beside a bare loop of DUMP, RESTORE, UNLINK", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			p, admin, err := startDrainPeers(ctx, build, settings)
			defer p.stop()
			if err != nil {
				return err
			}
			cfg.Gateway, cfg.Ends = p.list[0], [2]bench.Peer{p.list[1], p.list[2]}
			cfg.Move = func(ctx context.Context, to int) error {
				return move(ctx, admin, "0-16383", drainGroups[to], strings.Fields(limits)...)
			}
			rep, err := bench.Drain(ctx, cfg, func(line string) { fmt.Fprintln(os.Stderr, line) })
			if err != nil {
				return err
			}
			return out.show(cmd.OutOrStdout(), rep)
		}}
	f := c.Flags()
	f.IntVar(&cfg.Keys, "keys", 1000000, "number of keys")
	f.IntVar(&cfg.ValueBytes, "value-bytes", 100, "size of values, or of each field")
	f.IntVar(&cfg.Fields, "fields", 0, "hashes of so many fields (0: strings)")
	f.IntVar(&cfg.Clients, "clients", 50, "connections")
	f.Float64Var(&cfg.Rate, "rate", 10000, "requests per second of all clients, 9 reads to 1 write")
	f.Float64Var(&cfg.Baseline, "seconds", 5, "of load before the job")
	f.IntVar(&cfg.Rounds, "rounds", 3, "rounds; each figure is the median")
	f.IntVar(&cfg.TryKeys, "try-keys", 200000, "keys with which each way of the bare loop is tried")
	f.BoolVar(&cfg.IdleOnly, "idle", false, "without clients: only the limit and the idle job")
	f.StringVar(&limits, "limits", "", "what the job is told besides, as \"RATE 5000 MAXP99 off\"")
	f.StringVar(&build, "build", "", "path of another build of keyferry, to be measured instead of this one")
	f.StringArrayVar(&settings, "set", nil, "a setting of the gateway, as migration.parallel=4; may be repeated")
	out.flags(c)
	return c
}

// drainGroups are the two groups between which the keys go to and fro.
var drainGroups = [2]string{"g1", "g2"}

// startDrainPeers starts two servers and a gateway, of another build if one is named, with all
// slots at the first.
func startDrainPeers(ctx context.Context, build string, settings []string) (*peers, *redis.Client, error) {
	p, err := newPeers(2)
	if err != nil {
		return p, nil, err
	}
	g, err := p.startGateway(ctx, build, "", settings)
	if err != nil {
		return p, nil, err
	}
	if err := g.serve(ctx, p.servers, "0-16383"); err != nil {
		return p, nil, err
	}
	p.list = []bench.Peer{
		{Name: "keyferry", Addr: g.addr, PID: g.child.PID()},
		{Name: drainGroups[0], Addr: p.servers[0].Addr, PID: p.servers[0].PID()},
		{Name: drainGroups[1], Addr: p.servers[1].Addr, PID: p.servers[1].PID()},
	}
	fmt.Fprintf(os.Stderr, "gateway %s, pid %d; logs and data in %s\n", g.addr, g.child.PID(), filepath.Clean(p.dir))
	return p, g.admin, nil
}

// move moves slots, with the limits that are said, and waits until the job is done.
func move(ctx context.Context, admin *redis.Client, slots, to string, limits ...string) error {
	args := []any{"PROXY", "MIGRATE", slots, "TO", to}
	for _, l := range limits {
		args = append(args, l)
	}
	if err := admin.Do(ctx, args...).Err(); err != nil {
		return err
	}
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for begun := time.Now(); ; {
		if time.Since(begun) > 2*time.Second {
			t.Reset(200 * time.Millisecond) // what is measured should not be the asking
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		text, err := admin.Do(ctx, "PROXY", "MIGRATION", "LIST", "JSON").Text()
		if err != nil {
			return err
		}
		var jobs []migrator.Status
		if err := json.Unmarshal([]byte(text), &jobs); err != nil {
			return err
		}
		switch j := jobs[len(jobs)-1]; j.Phase {
		case topology.Done:
			return nil
		case topology.Failed, topology.Paused:
			return fmt.Errorf("job %s is %s: %s", j.ID, j.Phase, j.Reason)
		}
	}
}
