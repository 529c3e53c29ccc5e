package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"keyferry/bench"
)

func benchProfileCommand() *cobra.Command {
	var out string
	var seconds float64
	c := &cobra.Command{Use: "profile", Short: "Profile the CPU of one event loop under every kind of small command, and while slots move: what make build compiles by", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			profile, err := takeProfile(ctx, time.Duration(seconds*float64(time.Second)))
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, profile, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes\n", out, len(profile))
			return err
		}}
	c.Flags().StringVar(&out, "out", "", "where it goes; needed")
	c.Flags().Float64Var(&seconds, "seconds", 2.5, "of each kind of load")
	_ = c.MarkFlagRequired("out")
	return c
}

// profileToken opens /debug/pprof of the gateway that is profiled.
const profileToken = "profile"

// takeProfile profiles a gateway of two servers while everyLoad runs.
func takeProfile(ctx context.Context, each time.Duration) ([]byte, error) {
	p, err := newPeers(2)
	defer p.stop()
	if err != nil {
		return nil, err
	}
	web, err := freeAddr()
	if err != nil {
		return nil, err
	}
	g, err := p.startGateway(ctx, "", web, []string{"loops.count=1", "http.token=" + profileToken})
	if err != nil {
		return nil, err
	}
	if err := g.serve(ctx, p.servers, "0-8191", "8192-16383"); err != nil {
		return nil, err
	}
	if err := g.load(ctx, "set", 100, each); err != nil { // what is read later is there
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var profile []byte
	var profileErr error
	var wg sync.WaitGroup
	wg.Go(func() { profile, profileErr = fetchProfile(ctx, web, 15*each) })
	if err = g.everyLoad(ctx, each); err != nil {
		cancel()
	}
	wg.Wait()
	return profile, errors.Join(err, profileErr)
}

// everyLoad puts each kind of load on the gateway for so long, and then one three times as
// long while half of the slots go to the other server and back.
func (g *benchGateway) everyLoad(ctx context.Context, each time.Duration) error {
	for _, op := range []string{"mixed", "get", "set", "mget"} {
		for _, pipeline := range []int{1, 16, 100} {
			if err := g.load(ctx, op, pipeline, each); err != nil {
				return err
			}
		}
	}
	var moveErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		if moveErr = move(ctx, g.admin, "0-8191", "g2"); moveErr == nil {
			moveErr = move(ctx, g.admin, "0-8191", "g1")
		}
	})
	err := g.load(ctx, "mixed", 16, 3*each)
	wg.Wait()
	return errors.Join(err, moveErr)
}

func (g *benchGateway) load(ctx context.Context, op string, pipeline int, d time.Duration) error {
	r, err := bench.Load(ctx, bench.LoadConfig{Addr: g.addr, Ops: op, Pipeline: pipeline, Duration: d, ValueBytes: 100})
	if err == nil && r.Errors > 0 {
		err = errors.New(r.FirstError)
	}
	return err
}

// fetchProfile asks a gateway for a CPU profile of so long.
func fetchProfile(ctx context.Context, web string, d time.Duration) ([]byte, error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", web, int(math.Ceil(d.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+profileToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}
