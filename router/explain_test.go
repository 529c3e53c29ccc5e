package router

import (
	"strings"
	"testing"

	"keyferry/internal/topology"
	"keyferry/slotlock"
)

// TestExplain: one command for each outcome, on a table with stable, moving and free slots.
func TestExplain(t *testing.T) {
	st := topology.NewState("redis", 16384, 16)
	st.Epoch = 7
	for _, g := range []string{"a", "b"} {
		if err := st.AddGroup(topology.Group{ID: g, Endpoint: topology.Endpoint{Addr: g + ":1"}}); err != nil {
			t.Fatal(err)
		}
	}
	slot := func(key string) int { return Redis.Slot([]byte(key)) } // foo 12182, bar 5061, x 16287
	if err := st.AssignSlots(topology.Range{First: 0, Last: 16000}, "a"); err != nil {
		t.Fatal(err)
	}
	st.Moves = []topology.Move{{Job: "m1", Slots: []topology.Range{{First: slot("foo"), Last: slot("foo")}}, Source: "a", Target: "b", From: 1}}
	table, err := Build(st.Topology, View{Locks: func(string) (*slotlock.Table, *slotlock.Whole) { return slotlock.New(slotlock.Options{}), nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ cmd, outcome, group, target, why string }{
		{"GET bar", "serve", "a", "", "stable at a (epoch 7)"},
		{"GET foo", "resolve", "a", "b", "moves from a to b (job m1)"},
		{"GET x", "unserved", "", "", "CLUSTERDOWN"},
		{"MGET foo bar", "split", "", "", "slot 5061 at a: 1 key(s)"},
		{"BLPOP foo bar 0", "take-first", "", "", "one after the other"},
		{"LMPOP 2 foo bar LEFT", "take-first", "", "", "slot 5061 at a: 1 key(s)"},
		{"RENAME foo bar", "crossslot", "", "", "-CROSSSLOT"},
		{"PING", "local", "", "", "by itself"},
		{"EXEC", "transact", "", "", "one block"},
		{"PUBLISH c m", "hub", "", "", "channels"},
		{"DBSIZE", "all", "", "", "every group"},
		{"RANDOMKEY", "all", "", "", "every group"},
		{"BLPOP bar 0", "block", "a", "", "connection of the client's own"},
		{"EVAL s 0", "script", "", "", "any one group"},
		{"EVAL s 1 bar", "script", "a", "", "stable at a"},
		{"SORT bar", "sort", "a", "", "BY and GET"},
		{"SHUTDOWN", "refuse", "", "", "does not serve"},
		{"NOSUCH a", "refuse", "", "", "unknown command"},
		{"GET", "refuse", "", "", "wrong number of arguments"},
		{"EVAL s x", "refuse", "", "", "keys can't be told"},
	} {
		var args [][]byte
		for w := range strings.FieldsSeq(x.cmd) {
			args = append(args, []byte(w))
		}
		got := table.Explain(args)
		if got.Outcome != x.outcome || got.Group != x.group || got.Target != x.target || !strings.Contains(strings.Join(got.Why, "; "), x.why) {
			t.Errorf("%s: %+v", x.cmd, got)
		}
	}
	if got := table.Explain(nil); got.Outcome != "refuse" {
		t.Errorf("nothing: %+v", got)
	}
}
