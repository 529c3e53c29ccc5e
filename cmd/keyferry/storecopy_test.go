package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyferry/conf"
	"keyferry/internal/gateway"
	"keyferry/internal/testetcd"
	"keyferry/internal/topology"
)

func runKeyferry(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// inStore does something with a store that is open.
func inStore(t *testing.T, cfg conf.Config, name string, do func(archive)) {
	t.Helper()
	cfg, err := place(cfg, name)
	must(t, err)
	s, err := gateway.OpenStore(&cfg)
	must(t, err)
	do(s.(archive))
	must(t, s.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStoreCopy: from files to etcd and back all is the same; what is there is not overwritten, and what a
// gateway uses is not copied.
func TestStoreCopy(t *testing.T) {
	etcd := testetcd.StartT(t)
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	set := []string{"--set", "data-dir=" + one, "--set", "etcd.endpoints=" + etcd.URL(), "--set", "etcd.dial-timeout=1m", "--set", "etcd.request-timeout=1m"}
	cfg := conf.Default()
	cfg.DataDir, cfg.Etcd.Endpoints = one, conf.List{etcd.Addr}
	cfg.Etcd.DialTimeout, cfg.Etcd.RequestTimeout = conf.Duration(time.Minute), conf.Duration(time.Minute)
	copies := func(from, to string) (string, error) {
		t.Helper()
		return runKeyferry(t, append([]string{"store", "copy", from, to}, set...)...)
	}
	refused := func(from, to, why string) {
		t.Helper()
		if _, err := copies(from, to); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("copy %s %s: %v, want %s", from, to, err, why)
		}
	}
	refused("bolt", "etcd", one+" has no cluster in it")
	refused("etcd", "bolt", "etcd below /keyferry has no cluster in it")

	inStore(t, cfg, "bolt", func(s archive) {
		must(t, topology.Create(t.Context(), s, topology.NewState("redis", 16384, 16)))
		_, err := topology.Update(t.Context(), s, func(st *topology.State) error {
			return st.AddGroup(topology.Group{ID: "g1", Endpoint: topology.Endpoint{Addr: "127.0.0.1:1", Secret: topology.NewSecret("s")}})
		})
		must(t, err)
		must(t, s.SaveCheckpoint(t.Context(), topology.Checkpoint{Job: "m1", Cursor: 5}))
		must(t, s.AppendEvent(t.Context(), topology.JobEvent{Job: "m1", Event: "submitted"}))
		refused("bolt", "etcd", "stop the gateway first")
	})
	out, err := copies("bolt", "etcd")
	want := "copied from " + one + " to etcd below /keyferry: epoch 2, revision 2; groups: 1, jobs: 0, checkpoints: 1, events: 1\nstart gateways on one of the two only\n"
	if err != nil || out != want {
		t.Fatalf("%q, %v, want %q", out, err, want)
	}
	refused("bolt", "etcd", "etcd below /keyferry has a cluster in it already")
	refused("etcd", "bolt", one+" has a cluster in it already")
	refused("etcd", "etcd", "the same store")
	refused("bolt", "bolt:"+one+"/", "the same store")
	inStore(t, cfg, "etcd", func(s archive) {
		_, err := s.(topology.Members).Register(t.Context(), topology.Gateway{Name: "gw-1", Incarnation: 1}, time.Minute)
		must(t, err)
		refused("etcd", "bolt:"+two, "stop the gateways first: gw-1 is registered in etcd below /keyferry")
		must(t, s.(topology.Members).Unregister(t.Context()))
	})
	_, err = copies("etcd", "bolt:"+two)
	must(t, err)
	_, err = copies("etcd", "etcd:/other")
	must(t, err)
	var all []topology.Contents
	for _, name := range []string{"bolt", "etcd", "bolt:" + two, "etcd:/other"} {
		inStore(t, cfg, name, func(s archive) {
			c, err := s.Export(t.Context())
			must(t, err)
			all = append(all, c)
		})
	}
	for _, c := range all[1:] {
		if d := cmp.Diff(all[0], c); d != "" {
			t.Errorf("the first (-) and a copy (+):\n%s", d)
		}
	}
}

// TestStoreCopyUsage: words that can't be understood are told from copies that failed.
func TestStoreCopyUsage(t *testing.T) {
	for _, args := range [][]string{{"bolt"}, {"bolt", "redis"}, {"bolt:", "etcd"}, {"bolt", "etcd", "more"}, {"bolt", "etcd", "--set", "x"}, {"bolt", "etcd:/"}} {
		if _, err := runKeyferry(t, append([]string{"store", "copy"}, args...)...); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	out, err := runKeyferry(t, "__complete", "store", "copy", "bolt", "")
	if err != nil || !strings.Contains(out, "etcd\tthe cluster below etcd.prefix") {
		t.Errorf("completion: %q, %v", out, err)
	}
	out, err = runKeyferry(t, "store", "copy", "--help")
	if err != nil || !strings.Contains(out, "bolt:DIR") || !strings.Contains(out, "--config") {
		t.Errorf("help: %q, %v", out, err)
	}
}
