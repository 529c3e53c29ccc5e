package sim

import "github.com/anishathalye/porcupine"

// linearizable checks one key's history as a register with delete. A command that was
// never answered may take effect at any later time, or never.
func linearizable(history []*op, key string, end int) bool {
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, output any) (bool, any) {
			v, o := state.(int), input.(*op)
			switch o.verb {
			case "set":
				return true, o.arg
			case "del":
				if o.ret != 0 && (o.result != 0) != (v != 0) {
					return false, v
				}
				return true, 0
			}
			return o.ret == 0 || o.result == v, v
		},
	}
	var ops []porcupine.Operation
	for i, o := range history {
		if o.key != key || o.refused {
			continue
		}
		ret := int64(o.ret)
		if o.ret == 0 {
			ret = int64(end + 1 + i)
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: o, Call: int64(o.call), Output: o, Return: ret})
	}
	return porcupine.CheckOperations(model, ops)
}
