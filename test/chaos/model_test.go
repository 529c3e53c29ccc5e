package chaos

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestModelKnowsRightFromWrong: a checker that accepts anything proves nothing.
func TestModelKnowsRightFromWrong(t *testing.T) {
	at := time.Duration(0)
	seq := func(ops ...op) []op {
		for i := range ops {
			at += 2
			ops[i].call, ops[i].ret = at, at+1
		}
		return ops
	}
	for name, c := range map[string]struct {
		ops []op
		ok  bool
	}{
		"a value is read":                  {seq(op{verb: vSet, arg: "1"}, op{verb: vGet, text: "1"}), true},
		"a stale value is read":            {seq(op{verb: vSet, arg: "1"}, op{verb: vSet, arg: "2"}, op{verb: vGet, text: "1"}), false},
		"a lost value":                     {seq(op{verb: vSet, arg: "1"}, op{verb: vGet, null: true}), false},
		"a resurrected value":              {seq(op{verb: vSet, arg: "1"}, op{verb: vDel, num: 1}, op{verb: vGet, text: "1"}), false},
		"unknown, and was executed":        {seq(op{verb: vIncr, unknown: true}, op{verb: vIncr, num: 2}), true},
		"unknown, and was not":             {seq(op{verb: vIncr, unknown: true}, op{verb: vIncr, num: 1}), true},
		"unknown, and was later":           {seq(op{verb: vIncr, unknown: true}, op{verb: vIncr, num: 1}, op{verb: vGet, text: "2"}), true},
		"unknown, and was twice":           {seq(op{verb: vIncr, unknown: true}, op{verb: vIncr, num: 3}), false},
		"an increment twice":               {seq(op{verb: vIncr, num: 1}, op{verb: vIncr, num: 1}), false},
		"an append is lost":                {seq(op{verb: vAppend, arg: "ab", num: 2}, op{verb: vAppend, arg: "cd", num: 2}), false},
		"a transaction sees and appends":   {seq(op{verb: vSet, arg: "x"}, op{verb: vTx, arg: "y", text: "x", num: 2}, op{verb: vGet, text: "xy"}), true},
		"a transaction in two halves":      {seq(op{verb: vTx, arg: "y", text: "x", num: 1}), false},
		"a field":                          {seq(op{verb: vHSet, field: "f", arg: "1", num: 1}, op{verb: vHGetAll, text: "f=1"}, op{verb: vHDel, field: "f", num: 1}, op{verb: vHGet, field: "f", null: true}), true},
		"a field is lost":                  {seq(op{verb: vHSet, field: "f", arg: "1", num: 1}, op{verb: vHSet, field: "f", arg: "2", num: 1}), false},
		"set if absent, and it was absent": {seq(op{verb: vSetNX, arg: "1", text: "OK"}, op{verb: vSetNX, arg: "2", null: true}), true},
		"set if absent, twice":             {seq(op{verb: vSetNX, arg: "1", text: "OK"}, op{verb: vSetNX, arg: "2", text: "OK"}), false},
		"flushed":                          {seq(op{verb: vSet, arg: "1"}, op{verb: vFlush}, op{verb: vGet, null: true}), true},
		"flushed, and not":                 {seq(op{verb: vSet, arg: "1"}, op{verb: vFlush}, op{verb: vGet, text: "1"}), false},
		"flushed perhaps":                  {seq(op{verb: vSet, arg: "1"}, op{verb: vFlush, unknown: true}, op{verb: vGet, text: "1"}), true},
	} {
		if got := linearizable(c.ops, time.Minute) == porcupine.Ok; got != c.ok {
			t.Errorf("%s: linearizable %v, want %v\n%s", name, got, c.ok, transcript(c.ops))
		}
	}
}
