package sim

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

// event is what one command did to one key.
type event struct {
	verb     string
	arg      int
	answered bool
	result   int // what was there
}

// linearizable checks one key's history as a register with delete. A command that was
// never answered may take effect at any later time, or never. Of a command with both keys each
// history sees its own half: that the halves belong together needs no check, since a server
// executes commands as a whole and a command goes to one server.
func linearizable(history []*op, key string, end int) bool {
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			v, e := state.(int), input.(event)
			switch e.verb {
			case "set":
				return true, e.arg
			case "del":
				if e.answered && (e.result != 0) != (v != 0) {
					return false, v
				}
				return true, 0
			}
			return !e.answered || e.result == v, v
		},
	}
	var ops []porcupine.Operation
	for i, o := range history {
		at := slices.Index(o.keys, key)
		if at < 0 || o.refused || o.verb == "get" && o.ret == 0 {
			continue
		}
		e := event{verb: o.verb, answered: o.ret != 0}
		if e.verb == "set" {
			e.arg = o.args[at]
		}
		ret := int64(end + 1 + i)
		if e.answered {
			e.result, ret = o.results[at], int64(o.ret)
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: e, Call: int64(o.call), Output: nil, Return: ret})
	}
	return porcupine.CheckOperations(model, ops)
}
