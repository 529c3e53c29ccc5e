package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"keyferry/internal/testrig"
	"keyferry/migrator"
)

func (r *rig) orphans(args ...any) map[string]migrator.Orphans {
	r.t.Helper()
	var rows []migrator.Orphans
	if err := json.Unmarshal([]byte(r.proxy(append(args, "JSON")...).(string)), &rows); err != nil {
		r.t.Fatal(err)
	}
	out := map[string]migrator.Orphans{}
	for _, row := range rows {
		out[row.Group] = row
	}
	return out
}

// TestOrphans: keys that sit in the wrong group are found, in all databases, and mended as
// the operator says; those that belong there are not touched.
func TestOrphans(t *testing.T) {
	ctx := context.Background()
	const keys = 3000
	r := newRig(t, 2)
	r.fill(keys, 10)
	id := r.proxy("MIGRATE", "0-8191", "TO", "g2").(string)
	r.awaitDone()
	for group, o := range r.orphans("MIGRATION", "VERIFY", id) {
		if o.Twins+o.Alone > 0 || o.Scanned == 0 {
			t.Errorf("%s after a job: %+v", group, o)
		}
	}
	twin, alone, other := "fill:0", keyInSlots(0, 8191), "db1"
	for i := 0; r.servers[1].Client().Exists(ctx, twin).Val() == 0; i++ {
		twin = fmt.Sprintf("fill:%d", i) // of those that have moved
	}
	src := r.servers[0].Client()
	for _, k := range []string{twin, alone} {
		if err := src.Set(ctx, k, "garbage", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	const expires = math.MaxInt64 - 1
	if err := src.Do(ctx, "PEXPIREAT", alone, int64(expires)).Err(); err != nil {
		t.Fatal(err)
	}
	wrong := r.servers[1]
	if s := keyInSlots(8192, 16383); wrong.ClientDB(1).Set(ctx, s, other, 0).Err() != nil {
		t.Fatal("SET in database 1")
	}
	check := func(args []any, g1, g2 migrator.Orphans) {
		t.Helper()
		got := r.orphans(append([]any{"SLOT", "CHECK"}, args...)...)
		for group, want := range map[string]migrator.Orphans{"g1": g1, "g2": g2} {
			o := got[group]
			if o.Twins != want.Twins || o.Alone != want.Alone || o.Removed != want.Removed || o.Adopted != want.Adopted {
				t.Errorf("CHECK %v, %s: %+v, want %+v", args, group, o, want)
			}
		}
	}
	type o = migrator.Orphans
	check(nil, o{Twins: 1, Alone: 1}, o{Alone: 1})
	if v := r.orphans("MIGRATION", "VERIFY", id)["g1"]; v.Twins != 1 || v.Alone != 1 {
		t.Errorf("VERIFY: %+v", v)
	}
	check([]any{"FIX"}, o{Twins: 1, Alone: 1, Removed: 1}, o{Alone: 1})
	check([]any{"FIX", "ADOPT"}, o{Alone: 1, Adopted: 1}, o{Alone: 1, Adopted: 1})
	check([]any{"FIX", "DROP"}, o{}, o{})
	c := r.client()
	if v := c.Get(ctx, twin).Val(); v == "garbage" {
		t.Error("the garbage has won over the owner's key")
	}
	if v := c.Get(ctx, alone).Val(); v != "garbage" {
		t.Errorf("the adopted key holds %q", v)
	}
	if at := c.Do(ctx, "PEXPIRETIME", alone).Val(); at != int64(expires) {
		t.Errorf("the adopted key expires at %v", at)
	}
	if n := testrig.KeysAt(t, r.servers[0]) + testrig.KeysAt(t, wrong); n != keys+1 {
		t.Errorf("%d keys in database 0, want %d", n, keys+1)
	}
	r.placesRight()
	if _, err := r.proxyErr("SLOT", "CHECK", "FIX", "ALL"); err == nil {
		t.Error("SLOT CHECK FIX ALL is taken")
	}
}
