package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"keyferry/internal/topology"
	"keyferry/migrator"
	"keyferry/migrator/job"
	"keyferry/router"
)

var proxyHelp = []any{
	status("PROXY <subcommand> [<arg> ...]. Every one that answers a list takes JSON as its last argument. Subcommands are:"),
	status(groupUsage),
	status("    The groups: one primary each. SET is for one that has another address, as after a failover,"),
	status("    or password; what is there has to be a primary, and to have the group's keys."),
	status("SLOT LIST | OF <key> | ASSIGN <first>-<last> <group> | CHECK [FIX [DROP|ADOPT]]"),
	status("    Which group serves which slot. ASSIGN is for slots that nobody owns. CHECK looks through"),
	status("    all keys for those that sit in a group that does not own them; FIX removes those that the"),
	status("    owner has as well, DROP the others too, ADOPT brings the others to the owner."),
	status("MIGRATE <first>-<last>[,<first>-<last>...] TO <group> [<limits>] [DURABILITY auto|none|replica|aof] [VERIFY sample=<n>%|full] [PURGE] [DRYRUN]"),
	status("    Move slots with their keys while clients go on. Answers the job's id, or an array of ids"),
	status("    when the slots come from several groups."),
	status("    DRYRUN checks both ends, changes nothing, and says what it finds. PURGE removes keys of the"),
	status("    slots that the target holds already, instead of refusing."),
	status("    DURABILITY is what the target must have done with a key before the source gives it up; auto"),
	status("    waits for a replica where there is one. VERIFY compares so many of the keys, deep, before."),
	status("    Limits: " + limitsUsage + "."),
	status("    MAXP99 makes the mover yield while the clients' p99 is above that; auto is 1.3 times"),
	status("    what it is without the job, and the default (migration.max-p99)."),
	status("    SLICE 1s/4s has the job work for a second and rest for four, by turns; clients don't"),
	status("    notice. What a slice ends with is stored: the next goes on from there."),
	status(rebalanceUsage),
	status("    Move slots so that every group has its share, by weights (1 where none is given; 0 empties"),
	status("    a group). Answers the ids of the jobs."),
	status("MIGRATION LIST | STATUS [<id>] | PAUSE <id> | RESUME <id> | CANCEL <id> [STAY|REVERT] | LOG <id>"),
	status("MIGRATION LIMIT <id> <limits> | VERIFY <id>"),
	status("    Jobs. CANCEL ends a job that has moved nothing; of another, STAY (the default) leaves it"),
	status("    paused as it is, and REVERT brings back what has moved while clients go on."),
	status("    VERIFY looks once more, at any later time, for keys that an ended job has left behind."),
	status("    LIMIT changes the limits of a job that runs; 0 takes one away."),
	status("    LOG is everything that happened to a job. SUBSCRIBE keyferry:migrations gives it as it"),
	status("    happens, with the progress, as JSON."),
	status("KEY <key> [DB <n>]"),
	status("    What the servers have under that name: type, size, time to live, and where."),
	status("EXPLAIN <command> [<arg> ...]"),
	status("    How a command would be routed, and why."),
	status("HOTKEYS [<count>] | BIGKEYS [<count>] | LOCKS [<count>]"),
	status("    Keys that are used most, by a sample; big values that came by; keys that are being moved."),
	status("INFO"),
	status("    The gateway's own sections of INFO."),
	status("EPOCH"),
	status("    The epoch of the topology, and the one that every loop routes by."),
	status("HELP"),
	status("    Prints this help."),
}

func usage(text string) error { return errors.New("usage: PROXY " + text) }

// Do runs PROXY args… for a caller in this process. The error is what a client would get;
// the value is a text, an integer or a list of these.
func (s *Server) Do(ctx context.Context, args []string) (any, error) {
	switch v := s.proxy(ctx, args).(type) {
	case error:
		return nil, v
	case status:
		return string(v), nil
	default:
		return v, nil
	}
}

func (s *Server) proxy(ctx context.Context, args []string) any {
	if len(args) == 0 {
		return errors.New("wrong number of arguments for 'proxy' command")
	}
	rest := args[1:]
	switch strings.ToUpper(args[0]) {
	case "GROUP":
		return s.group(ctx, rest)
	case "SLOT":
		return s.slot(ctx, rest)
	case "MIGRATE":
		return s.migrate(ctx, rest)
	case "REBALANCE":
		return s.rebalance(ctx, rest)
	case "MIGRATION":
		return s.migration(ctx, rest)
	case "KEY":
		return s.key(ctx, rest)
	case "EXPLAIN":
		return s.explain(rest)
	case "HOTKEYS":
		return s.hotKeys(ctx, rest)
	case "BIGKEYS":
		return s.bigKeys(ctx, rest)
	case "LOCKS":
		return s.locks(rest)
	case "INFO":
		want := map[string]bool{"gateway": true, "groups": true, "slots": true, "migration": true}
		return s.Info(want)
	case "EPOCH":
		return []any{"stored", int64(s.Manager.State().Epoch), "acknowledged", int64(s.Manager.Epoch())}
	case "HELP":
		return proxyHelp
	}
	//lint:ignore ST1005 Redis ends it so
	return fmt.Errorf("unknown subcommand '%.128s'. Try PROXY HELP.", args[0])
}

// word reports whether args has the word at i, in any case.
func word(args []string, i int, w string) bool { return i < len(args) && strings.EqualFold(args[i], w) }

// wantsJSON cuts a trailing JSON off.
func wantsJSON(args []string) ([]string, bool) {
	if n := len(args); n > 0 && strings.EqualFold(args[n-1], "json") {
		return args[:n-1], true
	}
	return args, false
}

func asJSON(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return string(b)
}

// GroupRow is one group in PROXY GROUP LIST JSON.
type GroupRow struct {
	ID     string `json:"id"`
	Addr   string `json:"addr"`
	Slots  int    `json:"slots"`
	Ranges string `json:"ranges"`
}

const groupUsage = "GROUP LIST | ADD <id> <host:port> [PASSWORD <p>] | SET <id> [ADDR <host:port>] [PASSWORD <p>|NOPASSWORD] | DEL <id>"

func (s *Server) group(ctx context.Context, args []string) any {
	args, asJ := wantsJSON(args)
	switch {
	case word(args, 0, "list") && len(args) == 1:
		st := s.Manager.State()
		rows := []GroupRow{}
		out := []any{}
		for _, g := range st.Groups {
			rs := st.SlotsOf(g.ID)
			row := GroupRow{g.ID, g.Addr, topology.CountSlots(rs), topology.FormatRanges(rs)}
			rows = append(rows, row)
			out = append(out, []any{"id", row.ID, "addr", row.Addr, "slots", row.Slots, "ranges", row.Ranges})
		}
		if asJ {
			return asJSON(rows)
		}
		return out
	case word(args, 0, "add") && (len(args) == 3 || len(args) == 5 && word(args, 3, "password")):
		g := topology.Group{ID: args[1], Endpoint: topology.Endpoint{Addr: args[2]}}
		if len(args) == 5 {
			g.Secret = topology.NewSecret(args[4])
		}
		return done(s.Manager.Change(ctx, func(st *topology.State) error { return st.AddGroup(g) }))
	case word(args, 0, "set") && len(args) > 2:
		return s.setGroup(ctx, args[1], args[2:])
	case word(args, 0, "del") && len(args) == 2:
		return done(s.Manager.Change(ctx, func(st *topology.State) error { return st.DelGroup(args[1]) }))
	case word(args, 0, "help"):
		return []any{status("PROXY " + groupUsage)}
	}
	return usage(groupUsage)
}

func (s *Server) setGroup(ctx context.Context, id string, args []string) any {
	var addr, password *string
	for len(args) > 0 {
		switch {
		case word(args, 0, "addr") && len(args) > 1 && addr == nil:
			addr, args = &args[1], args[2:]
		case word(args, 0, "password") && len(args) > 1 && password == nil:
			password, args = &args[1], args[2:]
		case word(args, 0, "nopassword") && password == nil:
			password, args = new(string), args[1:]
		default:
			return usage(groupUsage)
		}
	}
	return done(s.Manager.SetGroup(ctx, id, addr, password))
}

func done(err error) any {
	if err != nil {
		return err
	}
	return status("OK")
}

// SlotRow is one run of slots in PROXY SLOT LIST JSON.
type SlotRow struct {
	First  int    `json:"first"`
	Last   int    `json:"last"`
	Group  string `json:"group"`            // the owner; "": nobody
	State  string `json:"state"`            // stable, moving (to the target), returning (from it), unassigned
	Target string `json:"target,omitempty"` // the job's
	Job    string `json:"job,omitempty"`
}

// SlotRows describes every slot, in order, equal neighbours merged.
func SlotRows(st topology.State) []SlotRow {
	views := st.SlotViews()
	rows := make([]SlotRow, len(views))
	for i, v := range views {
		rows[i] = slotRow(v)
	}
	return rows
}

func slotRow(v topology.SlotView) SlotRow {
	return SlotRow{First: v.First, Last: v.Last, Group: v.Owner, State: string(v.State), Target: v.Other(), Job: v.Job}
}

func (r SlotRow) fields() []any {
	return []any{"first", r.First, "last", r.Last, "group", r.Group, "state", r.State, "target", r.Target, "job", r.Job}
}

const slotUsage = "SLOT LIST | OF <key> | ASSIGN <first>-<last> <group> | CHECK [FIX [DROP|ADOPT]]"

func (s *Server) slot(ctx context.Context, args []string) any {
	st := s.Manager.State()
	switch {
	case word(args, 0, "of") && len(args) == 2: // before JSON is cut off: the key may be "json"
		scheme, err := router.ParseScheme(st.Scheme)
		if err != nil {
			return err
		}
		slot := scheme.Slot([]byte(args[1]))
		return append([]any{"slot", slot}, slotRow(st.SlotView(slot)).fields()[4:]...)
	case word(args, 0, "assign") && len(args) == 3:
		rs, err := topology.ParseRanges(args[1], st.SlotCount)
		if err != nil {
			return err
		}
		return done(s.Manager.Change(ctx, func(st *topology.State) error {
			for _, r := range rs {
				if err := st.AssignSlots(r, args[2]); err != nil {
					return err
				}
			}
			return nil
		}))
	case word(args, 0, "help"):
		return []any{status("PROXY " + slotUsage)}
	}
	args, asJ := wantsJSON(args)
	if word(args, 0, "check") {
		return s.orphans(args[1:], asJ)
	}
	if !word(args, 0, "list") || len(args) != 1 {
		return usage(slotUsage)
	}
	rows := SlotRows(st)
	if asJ {
		return asJSON(rows)
	}
	out := []any{}
	for _, r := range rows {
		out = append(out, r.fields())
	}
	return out
}

const migrateUsage = "MIGRATE <first>-<last>[,<first>-<last>...] TO <group> " + limitsUsage + " [DURABILITY auto|none|replica|aof] [VERIFY sample=<n>%|full] [PURGE] [DRYRUN]"

func (s *Server) migrate(ctx context.Context, args []string) any {
	if word(args, 0, "help") {
		return []any{status("PROXY " + migrateUsage)}
	}
	args, asJ := wantsJSON(args)
	if len(args) < 3 || !word(args, 1, "to") {
		return usage(migrateUsage)
	}
	st := s.Manager.State()
	rs, err := topology.ParseRanges(args[0], st.SlotCount)
	if err != nil {
		return err
	}
	q := migrator.MoveRequest{Slots: rs, Target: args[2]}
	dry := false
	for i := 3; i < len(args); i++ {
		switch {
		case word(args, i, "dryrun"):
			dry = true
		case word(args, i, "purge"):
			q.Purge = true
		case word(args, i, "verify") && i+1 < len(args):
			i++
			if q.VerifyShare, err = job.ParseVerify(args[i]); err != nil {
				return err
			}
		case word(args, i, "durability") && i+1 < len(args):
			i++
			if q.Durability, err = job.ParseDurability(args[i]); err != nil {
				return err
			}
		default:
			next, err := takeLimit(&q.Limits, args, i)
			if err != nil {
				return err
			}
			if next == i {
				return usage(migrateUsage)
			}
			i = next
		}
	}
	plans, err := migrator.PlanMove(st, q)
	if err != nil {
		return err
	}
	if dry {
		return s.check(ctx, plans, q, asJ)
	}
	return s.submit(ctx, plans, q, false, asJ, false)
}

// submit shows plans or makes jobs of them. list: always answer an array.
func (s *Server) submit(ctx context.Context, plans []migrator.Plan, q migrator.MoveRequest, dry, asJ, list bool) any {
	if dry {
		s.Manager.Estimate(ctx, plans)
		if asJ {
			return asJSON(plans)
		}
		out := []any{}
		for _, p := range plans {
			out = append(out, planFields(p))
		}
		return out
	}
	ids, err := s.Manager.Submit(ctx, plans, q)
	switch {
	case err != nil:
		return err
	case asJ:
		return asJSON(ids)
	case len(ids) == 1 && !list:
		return ids[0]
	}
	out := []any{}
	for _, id := range ids {
		out = append(out, id)
	}
	return out
}

const rebalanceUsage = "REBALANCE [BY SLOTS|KEYS|MEMORY|OPS] [WEIGHT <group> <n> ...] [DRYRUN]"

func (s *Server) rebalance(ctx context.Context, args []string) any {
	if word(args, 0, "help") {
		return []any{status("PROXY " + rebalanceUsage)}
	}
	args, asJ := wantsJSON(args)
	by, dry := migrator.BySlots, false
	weights := make(map[string]float64)
	for i := 0; i < len(args); i++ {
		switch {
		case word(args, i, "dryrun"):
			dry = true
		case word(args, i, "by") && i+1 < len(args):
			i++
			by = migrator.Measure(strings.ToUpper(args[i]))
			if by != migrator.BySlots && by != migrator.ByKeys && by != migrator.ByMemory && by != migrator.ByOps {
				return usage(rebalanceUsage)
			}
		case word(args, i, "weight") && i+2 < len(args):
			w, err := strconv.ParseFloat(args[i+2], 64)
			if err != nil || !(w >= 0 && w <= 1e6) {
				return fmt.Errorf("WEIGHT %s %q: want a number from 0, which empties the group, to 1000000", args[i+1], args[i+2])
			}
			weights[args[i+1]] = w
			i += 2
		default:
			return usage(rebalanceUsage)
		}
	}
	plans, err := s.Manager.PlanRebalance(ctx, by, weights)
	if err != nil {
		return err
	}
	return s.submit(ctx, plans, migrator.MoveRequest{}, dry, asJ, true)
}
