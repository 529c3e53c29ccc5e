package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"keyferry/bench"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Load, check and compare Redis endpoints"}
	c.AddCommand(benchLoadCommand(), benchOracleCommand(), benchCompareCommand(), benchDrainCommand(), benchProfileCommand())
	return c
}

func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

func benchLoadCommand() *cobra.Command {
	cfg := bench.LoadConfig{Prefix: "bench:"}
	var seconds float64
	var asJSON bool
	c := &cobra.Command{Use: "load", Short: "Put load on an endpoint and measure it", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			if cfg.Requests == 0 {
				cfg.Duration = time.Duration(seconds * float64(time.Second))
			}
			r, err := bench.Load(ctx, cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d requests in %.1f s, %.0f per second, %d errors%s\nlatency ms: p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n",
				cfg.Ops, r.Ops, r.Seconds, r.OpsPerS, r.Errors, firstError(r.FirstError), r.Latency.P50MS, r.Latency.P99MS, r.Latency.P999MS, r.Latency.MaxMS)
			return nil
		}}
	f := c.Flags()
	f.StringVar(&cfg.Addr, "addr", "127.0.0.1:7380", "endpoint")
	f.StringVar(&cfg.Password, "auth", "", "password")
	f.StringVar(&cfg.Ops, "op", "mixed", "get, set, mixed (9 gets to 1 set) or mget (10 keys)")
	f.IntVar(&cfg.Clients, "clients", 50, "connections")
	f.IntVar(&cfg.Pipeline, "pipeline", 1, "requests in one write")
	f.Int64Var(&cfg.Requests, "requests", 0, "stop after so many (0: after --seconds)")
	f.Float64Var(&seconds, "seconds", 10, "how long")
	f.Float64Var(&cfg.Rate, "rate", 0, "requests per second (0: as fast as answered); latency then counts from when each was due")
	f.IntVar(&cfg.ValueBytes, "value-bytes", 100, "size of values")
	f.IntVar(&cfg.KeySpace, "key-space", 100000, "number of keys")
	f.Uint64Var(&cfg.Seed, "seed", 1, "of the choice of keys")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func benchOracleCommand() *cobra.Command {
	cfg := bench.OracleConfig{IncludeDeletes: true}
	var seconds float64
	var asJSON bool
	c := &cobra.Command{Use: "oracle", Short: "Read and write for a while, then prove that no acknowledged write is lost, stale or resurrected", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			if cfg.Prefix == "" {
				cfg.Prefix = fmt.Sprintf("oracle:%d", cfg.Seed)
			}
			return runOracle(ctx, cfg, seconds, cmd.OutOrStdout(), asJSON)
		}}
	f := c.Flags()
	f.StringVar(&cfg.Addr, "addr", "127.0.0.1:7380", "endpoint")
	f.StringVar(&cfg.Password, "auth", "", "password")
	f.IntVar(&cfg.Keys, "keys", 20000, "keys, of every type")
	f.IntVar(&cfg.Clients, "clients", 20, "connections")
	f.IntVar(&cfg.Pipeline, "pipeline", 4, "commands in one write")
	f.Float64Var(&cfg.Rate, "rate", 0, "commands per second (0: as fast as answered)")
	f.Float64Var(&seconds, "seconds", 10, "how long")
	f.Int64Var(&cfg.Seed, "seed", time.Now().UnixNano(), "of the random commands")
	f.StringVar(&cfg.Prefix, "prefix", "", "of every key (default from the seed)")
	f.BoolVar(&cfg.ReconnectOnError, "reconnect", false, "go on after connection losses and errors")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// runOracle writes and reads for a while, compares every key with what was acknowledged, and
// prints the verdict. An error: it could not be found out, or writes are lost or changed.
func runOracle(ctx context.Context, cfg bench.OracleConfig, seconds float64, out io.Writer, asJSON bool) error {
	o := bench.NewOracle(cfg)
	if err := o.Preload(ctx); err != nil {
		return err
	}
	o.Phase("run")
	run, cancel := context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
	defer cancel()
	if err := o.Run(run); err != nil {
		return err
	}
	v, err := o.Verify(ctx, cfg.Addr)
	if err != nil {
		return err
	}
	s := o.Snapshot()
	if asJSON {
		err = json.NewEncoder(out).Encode(map[string]any{"ops": s.Ops, "client_errors": s.Errors, "connection_losses": s.ConnErrors,
			"first_error": s.FirstError, "verdict": v, "latency": o.Phases()[0], "longest_stall_ms": s.LongestStallMS, "seed": cfg.Seed})
	} else {
		fmt.Fprintf(out, "%d commands, %d errors, %d connection losses%s\n%d keys compared: lost %d, stale %d, resurrected %d, wrong TTL %d, in doubt %d\nlongest stall %.2f ms; seed %d\n",
			s.Ops, s.Errors, s.ConnErrors, firstError(s.FirstError), v.KeysChecked, v.Lost, v.Stale, v.Resurrected, v.WrongTTL, v.InDoubt, s.LongestStallMS, cfg.Seed)
		for _, e := range v.Examples {
			fmt.Fprintln(out, "  ", e)
		}
	}
	if err == nil && !v.OK() {
		err = errors.New("the endpoint lost or changed acknowledged writes")
	}
	return err
}

func benchCompareCommand() *cobra.Command {
	cfg := bench.CompareConfig{Ops: []string{"get", "set"}}
	var loops int
	var out output
	var full, blind bool
	var before string
	c := &cobra.Command{Use: "compare", Short: "Side by side in one run: direct Redis, nutcracker (twemproxy) and keyferry over the same two servers", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			p, err := startComparePeers(ctx, loops, blind, before)
			defer p.stop()
			if err != nil {
				return err
			}
			cfg.Peers = p.list
			if full {
				cfg.Kinds = bench.FullSuite()
			}
			rep, err := bench.Compare(ctx, cfg, func(line string) { fmt.Fprintln(os.Stderr, line) })
			if err != nil {
				return err
			}
			return out.show(cmd.OutOrStdout(), rep)
		}}
	f := c.Flags()
	out.flags(c)
	f.BoolVar(&blind, "blind", false, "also a keyferry that measures nothing: no slow log, no hot keys, no HTTP; the other is scraped and watched meanwhile")
	f.StringVar(&before, "before", "", "path of another build of keyferry, to be measured beside this one")
	f.BoolVar(&full, "full", false, "every kind of load: small and large values, 50 and 1000 clients, mget; ops, pipelines, clients and value-bytes don't count then")
	f.StringVar(&cfg.HalfOf, "half-of", "nutcracker", "after each kind of load, the latency of all at half of this one's maximum (empty: without)")
	f.IntSliceVar(&cfg.Idle, "idle", nil, "also the memory with so many idle clients, as 0,1000,9000")
	f.IntVar(&cfg.Clients, "clients", 50, "connections")
	f.IntSliceVar(&cfg.Pipelines, "pipelines", []int{1, 16, 100}, "requests in one write")
	f.StringSliceVar(&cfg.Ops, "ops", cfg.Ops, "get, set, mixed, mget")
	f.IntVar(&cfg.Rounds, "rounds", 5, "rounds; each figure is the median")
	f.Float64Var(&cfg.SecondsPerRound, "seconds", 2, "of each load")
	f.IntVar(&cfg.ValueBytes, "value-bytes", 100, "size of values")
	f.IntVar(&cfg.KeySpace, "key-space", 100000, "number of keys")
	f.IntVar(&loops, "loops", 1, "event loops of keyferry; nutcracker has one")
	return c
}
