package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/topology"
)

// TestCommandTellsOfTheChecks: keyferry migrate succeeds when its job has begun, and not when it is
// only stored; and so does a job that is resumed.
func TestCommandTellsOfTheChecks(t *testing.T) {
	r := newRig(t, 2)
	key := keyInSlots(0, 100)
	if err := r.servers[1].Client().Set(context.Background(), key, "in the way", 0).Err(); err != nil {
		t.Fatal(err)
	}
	out, errs, code := r.Keyferry("migrate", "0-100", "--to", "g2")
	if code != 1 || strings.TrimSpace(out) != "m1" {
		t.Fatalf("exit code %d, %q %q; want 1 and the job's id", code, out, errs)
	}
	for _, want := range []string{"target-free", key, "SLOT CHECK", "has moved nothing", "migration resume m1"} {
		if !strings.Contains(errs, want) {
			t.Errorf("it does not say %q:\n%s", want, errs)
		}
	}
	for _, args := range [][]string{{"migration", "resume", "m1"}, {"migration", "resume", "m1", "--wait"}} {
		if _, errs, code := r.Keyferry(args...); code != 1 || !strings.Contains(errs, key) {
			t.Errorf("%q: exit code %d, %q", args, code, errs)
		}
	}
	if err := r.servers[1].Client().Del(context.Background(), key).Err(); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := r.Keyferry("migration", "resume", "m1", "--wait"); code != 0 || !strings.Contains(out, "done") {
		t.Errorf("resumed: exit code %d, %q %q", code, out, errs)
	}
	if out, errs, code := r.Keyferry("migrate", "0-100", "--to", "g1", "--wait", "--json"); code != 0 || !strings.HasPrefix(out, `["m2"]`) || !strings.Contains(out, `"phase":"done"`) {
		t.Errorf("as JSON: exit code %d, %q %q", code, out, errs)
	}

	// A target that is down is tried again, and so the job stays; but it has not begun.
	if err := r.servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := r.Keyferry("migrate", "0-100", "--to", "g2"); code != 1 || !strings.Contains(errs, "job m3 is backoff and has moved nothing") {
		t.Errorf("a target that is down: exit code %d, %q", code, errs)
	}
}

// TestCommandFollowsToTheEnd: what watch says and how it ends, with the gateway restarted under it.
func TestCommandFollowsToTheEnd(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	for i := range 300 {
		if err := c.Set(context.Background(), fmt.Sprintf("k%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.proxy("MIGRATE", "0-16383", "TO", "g2", "RATE", "50")
	r.awaitMoved(20)

	cmd := r.Command("migration", "watch")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "m1 ") {
		t.Fatalf("it begins with %q", lines.Text())
	}
	r.kill()
	r.start("")
	r.unlimited()
	said := 1
	for lines.Scan() {
		said++
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("a watch over a restart: %v, %s", err, &errs)
	}
	if said > 20 { // one for each phase and attempt, and one every ten seconds
		t.Errorf("%d lines", said)
	}

	r.proxy("MIGRATE", "0-16383", "TO", "g1", "RATE", "20")
	r.awaitMoved(5)
	r.proxy("MIGRATION", "PAUSE", "m2")
	r.unlimited()
	out, text, code := r.Keyferry("migration", "watch", "m2")
	if code != 3 || strings.Count(out, "\n") != 1 || !strings.Contains(text, "migration resume m2") {
		t.Errorf("a paused job: exit code %d, %q %q", code, out, text)
	}
	if _, text, code := r.Keyferry("migration", "cancel", "m2", "--wait"); code != 3 {
		t.Errorf("cancelled and left: exit code %d, %q", code, text)
	}
	if out, text, code := r.Keyferry("migration", "cancel", "m2", "--revert", "--wait"); code != 0 || !strings.Contains(out, string(topology.Reverted)) {
		t.Errorf("reverted: exit code %d, %q %q", code, out, text)
	}
	if _, text, code := r.Keyferry("migration", "watch", "m9"); code != 1 || !strings.Contains(text, "no such job") {
		t.Errorf("a job that is not there: exit code %d, %q", code, text)
	}
	if out, _, code := r.Keyferry("migration", "watch"); code != 0 || !strings.Contains(out, "no job is open") {
		t.Errorf("no job is open: exit code %d, %q", code, out)
	}
}

// TestCommandFailsForOrphans: where keys are in the wrong place and stay there, and only then.
func TestCommandFailsForOrphans(t *testing.T) {
	r := newRig(t, 2)
	ctx := context.Background()
	r.client().Set(ctx, "twin", "x", 0)
	for _, k := range []string{"twin", "alone"} {
		if err := r.servers[1].Client().Set(ctx, k, "y", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		line string
		code int
	}{{"slot check --json", 1}, {"slot check --fix twins", 1}, {"slot check --fix adopt", 0}} {
		if out, errs, code := r.Keyferry(strings.Fields(x.line)...); code != x.code || (code == 1) != strings.Contains(errs, "that no client of the gateway can see") {
			t.Errorf("%s: exit code %d, want %d\n%s%s", x.line, code, x.code, out, errs)
		}
	}
	if _, errs, code := r.Keyferry("migrate", "0-16383", "--to", "g2", "--wait"); code != 0 {
		t.Fatalf("migrate: %d %s", code, errs)
	}
	if err := r.servers[0].Client().Set(ctx, "left", "y", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := r.Keyferry("migration", "verify", "m1"); code != 1 {
		t.Errorf("migration verify: exit code %d, %s%s", code, out, errs)
	}
}

// TestCommandCompletes what only the gateway knows.
func TestCommandCompletes(t *testing.T) {
	r := newRig(t, 2)
	r.proxy("MIGRATE", "0-100", "TO", "g2")
	r.awaitDone()
	if _, err := r.proxyErr("MIGRATE", "200-300", "TO", "g2", "RATE", "1"); err != nil {
		t.Fatal(err)
	}
	r.await("the job to begin", func() bool { return r.job().Phase != topology.Queued })
	r.proxy("MIGRATION", "PAUSE", "m2")
	for _, x := range []struct {
		line      string
		want, not []string
	}{
		{"migrate 0-5 --to ", []string{"g1\t", "g2\t"}, nil},
		{"migrate ", []string{"0-100\tg2 stable"}, nil},
		{"migration resume ", []string{"m2\tg1→g2 paused"}, []string{"m1"}},
		{"group set ", []string{"g1\t"}, nil},
		{"rebalance --weight ", []string{"g1="}, nil},
		{"", []string{"explain", "hotkeys", "key"}, nil},
	} {
		words := strings.Split(x.line, " ")
		out, _, code := r.Keyferry(append([]string{"__complete"}, words...)...)
		for _, w := range x.want {
			if code != 0 || !strings.Contains("\n"+out, "\n"+w) {
				t.Errorf("%s<tab>: %d\n%swant %q", x.line, code, out, w)
			}
		}
		for _, w := range x.not {
			if strings.Contains("\n"+out, "\n"+w) {
				t.Errorf("%s<tab> offers %q", x.line, w)
			}
		}
	}
}

// TestDryRunHeedsLimits: what a job is thought to take is what its limits let it.
func TestDryRunHeedsLimits(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	for i := range 500 {
		c.Set(context.Background(), fmt.Sprintf("k%d", i), i, 0)
	}
	seconds := func(limits ...any) (s int) {
		t.Helper()
		plan := r.proxy(append([]any{"MIGRATE", "0-16383", "TO", "g2", "DRYRUN"}, limits...)...).([]any)[0].([]any)
		for i := 0; i+1 < len(plan); i += 2 {
			if plan[i] == "estimated_s" {
				return int(plan[i+1].(int64))
			}
		}
		t.Fatalf("no estimate in %v", plan)
		return 0
	}
	free := seconds()
	if free > 10 {
		t.Fatalf("without a limit: %d s", free)
	}
	for _, x := range []struct {
		limits []any
		least  int
	}{{[]any{"RATE", "10"}, 50}, {[]any{"BYTES", "1000"}, 20}, {[]any{"RATE", "10", "SLICE", "1s/4s"}, 250}} {
		if s := seconds(x.limits...); s < x.least || s > 100*x.least {
			t.Errorf("%v: %d s, want at least %d", x.limits, s, x.least)
		}
	}
}
