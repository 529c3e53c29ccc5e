package admin

import (
	"context"
	"encoding/json"
	"time"

	"keyferry/internal/verb"
)

// runner runs one verb of the table for a call.
type runner struct {
	run  func(*Server, context.Context, *verb.Call) (Answer, error)
	args func() any // an empty struct of its arguments, for the test of the binding
}

// Answer is what a verb answers: a value with a type, which JSON shows as it is, and the
// shape that RESP has for it.
type Answer struct {
	Value any
	shape func() any
}

// plain is the answer for RESP: status, string, int, int64 or a list of these.
func (a Answer) plain() any { return a.shape() }

// on binds a verb to a function of typed arguments. shape makes of its result what RESP
// shows: names and values in lists.
func on[A, R any](run func(*Server, context.Context, A) (R, error), shape func(A, R) any) runner {
	return runner{
		run: func(s *Server, ctx context.Context, c *verb.Call) (Answer, error) {
			var a A
			c.Decode(&a)
			r, err := run(s, ctx, a)
			return Answer{Value: r, shape: func() any { return shape(a, r) }}, err
		},
		args: func() any { return new(A) },
	}
}

// as shows a result as it is.
func as[A, R any](_ A, r R) any { return r }

// each shows a list of objects by the fields of each.
func each[A, T any](fields func(T) []any) func(A, []T) any {
	return func(_ A, list []T) any {
		out := []any{}
		for _, x := range list {
			out = append(out, fields(x))
		}
		return out
	}
}

// noArgs are those of a verb that has none.
type noArgs struct{}

type jobArgs struct {
	ID string `verb:"id"`
}

type countArgs struct {
	Count int `verb:"count"`
}

// runners binds every row of the table to what it does.
var runners = map[string]runner{
	"GROUP LIST":    on((*Server).groupList, each[noArgs](GroupRow.fields)),
	"GROUP ADD":     on((*Server).groupAdd, as[groupAddArgs, status]),
	"GROUP SET":     on((*Server).groupSet, as[groupSetArgs, status]),
	"GROUP DEL":     on((*Server).groupDel, as[groupDelArgs, status]),
	"STORE STATUS":  on((*Server).storeStatus, storeShape),
	"STORE ACCEPT":  on((*Server).storeAccept, as[noArgs, status]),
	"SLOT LIST":     on((*Server).slotList, each[noArgs](SlotRow.fields)),
	"SLOT OF":       on((*Server).slotOf, func(_ keyArgs, r slotOfRow) any { return r.fields() }),
	"SLOT ASSIGN":   on((*Server).slotAssign, as[assignArgs, status]),
	"SLOT UNASSIGN": on((*Server).slotUnassign, as[unassignArgs, status]),
	"SLOT CHECK":    on((*Server).slotCheck, each[slotCheckArgs](orphanFields)),

	"GATEWAY LIST":   on((*Server).gatewayList, each[noArgs](gatewayFields)),
	"GATEWAY DRAIN":  on((*Server).gatewayDrain, as[gatewayArgs, status]),
	"GATEWAY REMOVE": on((*Server).gatewayRemove, as[gatewayArgs, status]),

	"MIGRATE":          on((*Server).migrate, func(_ migrateArgs, m moves) any { return m.one() }),
	"REBALANCE":        on((*Server).rebalance, func(_ rebalanceArgs, m moves) any { return m.all() }),
	"MIGRATION LIST":   on((*Server).jobList, each[noArgs](jobFields)),
	"MIGRATION STATUS": on((*Server).jobStatus, jobStatusShape),
	"MIGRATION PAUSE":  on((*Server).jobPause, as[jobArgs, status]),
	"MIGRATION RESUME": on((*Server).jobResume, as[resumeArgs, status]),
	"MIGRATION CANCEL": on((*Server).jobCancel, as[cancelArgs, status]),
	"MIGRATION LIMIT":  on((*Server).jobLimit, as[limitArgs, status]),
	"MIGRATION LOG":    on((*Server).jobLog, jobLogShape),
	"MIGRATION VERIFY": on((*Server).jobVerify, each[jobArgs](orphanFields)),

	"KEY":     on((*Server).key, keyShape),
	"EXPLAIN": on((*Server).explain, explainShape),
	"HOTKEYS": on((*Server).hotKeys, each[countArgs](hotKeyFields)),
	"BIGKEYS": on((*Server).bigKeys, each[countArgs](BigKeyRow.fields)),
	"LOCKS":   on((*Server).locks, each[countArgs](LockRow.fields)),
	"INFO":    on((*Server).info, as[noArgs, string]),
	"EPOCH":   on((*Server).epoch, func(_ noArgs, e epochs) any { return e.fields() }),
	"HELP":    on((*Server).help, helpShape),
}

// lookTimeout bounds verbs that look at every key. Their caller's bound, which is for
// others, does not count; that the server stops does.
const lookTimeout = time.Hour

// Run does what a call says. The error is what a client is to be told.
func (s *Server) Run(ctx context.Context, c *verb.Call) (Answer, error) {
	if c.Row.Long {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
		defer cancel()
		if s.ctx != nil { // nil: never started
			defer context.AfterFunc(s.ctx, cancel)()
		}
	}
	return runners[c.Row.Name].run(s, ctx, c)
}

// Do runs PROXY args… for a caller in this process: with JSON as the last word it gives the
// typed value, else what RESP shows, a text, a number or a list of these.
func (s *Server) Do(ctx context.Context, args []string) (any, error) {
	c, err := verb.Parse(args)
	if err != nil {
		return nil, err
	}
	a, err := s.Run(ctx, c)
	switch {
	case err != nil:
		return nil, err
	case c.JSON:
		return a.Value, nil
	}
	return a.plain(), nil
}

// proxy answers PROXY args… over RESP: an error, or what write can write.
func (s *Server) proxy(ctx context.Context, args []string) any {
	c, err := verb.Parse(args)
	if err != nil {
		return err
	}
	a, err := s.Run(ctx, c)
	if err != nil {
		return err
	}
	switch a.Value.(type) {
	case status, string: // JSON or not, these are one line
		return a.Value
	}
	if c.JSON {
		return asJSON(a.Value)
	}
	return a.plain()
}

func asJSON(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return string(b)
}
