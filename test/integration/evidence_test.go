package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testrig"
)

// TestServerOfAnotherGateway: a server that another gateway is connected to is not taken for a group, and
// may be when that one has gone.
func TestServerOfAnotherGateway(t *testing.T) {
	r := newRig(t, 2)
	r.await("the gateway to be connected", func() bool {
		return strings.Contains(r.servers[0].Client().ClientList(context.Background()).Val(), "name=keyferry:test:")
	})
	other := testrig.Bare(t)
	other.Start("")
	if _, err := other.ProxyErr("GROUP", "ADD", "x", r.servers[0].Addr); err == nil || !strings.Contains(err.Error(), "in use by another gateway, test") {
		t.Errorf("GROUP ADD: %v", err)
	}
	third := testrig.Bare(t, "--name", "third")
	third.Start("")
	third.Proxy("GROUP", "ADD", "x", r.servers[0].Addr, "UNCHECKED") // by somebody who knows better
	if _, err := third.ProxyErr("SLOT", "ASSIGN", "0-16383", "x"); err == nil || !strings.Contains(err.Error(), "in use by another gateway, test") {
		t.Errorf("SLOT ASSIGN: %v", err)
	}
	third.Kill()
	r.kill()
	other.Proxy("GROUP", "ADD", "x", r.servers[0].Addr, "TAKEOVER") // its stamp stays
}

const stopWait = 10 * time.Second

// copyTree copies the files of a directory.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	names, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		in, err := os.Open(filepath.Join(from, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(to, n.Name()))
		if err == nil {
			_, err = io.Copy(out, in)
		}
		_ = in.Close()
		_ = out.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDataDirectoryFromACopy: one that was put back from before a migration is refused where the rest of
// the directory shows it, and told of where only the servers do.
func TestDataDirectoryFromACopy(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, 2)
	c := r.client()
	for i := range 400 {
		if err := c.Set(ctx, fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.child.Terminate(stopWait); err != nil {
		t.Fatal(err)
	}
	data, before := r.Data(), t.TempDir()
	copyTree(t, data, before)
	r.start("")
	r.proxy("MIGRATE", "0-8191", "TO", "g2")
	r.awaitDone()
	if err := r.child.Terminate(stopWait); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(filepath.Join(data, "topology.db"))
	if err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(filepath.Join(before, "topology.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "topology.db"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := r.Refuses(); !strings.Contains(out, "is older than what this gateway has served") {
		t.Errorf("the gateway says %q", out)
	}

	copyTree(t, before, data)
	r.start("")
	r.await("the log to tell", func() bool {
		return strings.Contains(r.log.String(), "keys are at a group that does not own their slots")
	})
	if err := r.child.Terminate(stopWait); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(data, "topology.db"), newest, 0o600); err != nil { // as it says
		t.Fatal(err)
	}
	r.start("")
	c = r.client()
	for i := range 400 {
		if v, err := c.Get(ctx, fmt.Sprintf("k%d", i)).Int(); err != nil || v != i {
			t.Errorf("k%d is %d, %v", i, v, err)
		}
	}
}

// TestEmptyDataDirectory: a gateway whose topology.db has gone does not come up as a new one.
func TestEmptyDataDirectory(t *testing.T) {
	r := newRig(t, 1)
	r.kill()
	if err := os.Truncate(filepath.Join(r.Data(), "topology.db"), 0); err != nil {
		t.Fatal(err)
	}
	if out := r.Refuses(); !strings.Contains(out, "topology.db is empty (0 bytes)") || !strings.Contains(out, "put the newest sound copy") {
		t.Errorf("the gateway says %q", out)
	}
}
