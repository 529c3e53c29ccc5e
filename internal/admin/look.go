package admin

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"keyferry/proxy/stats"
)

// maxRows bounds the lists of HOTKEYS, BIGKEYS and LOCKS.
const maxRows = 1000

// count reads the number of rows that a verb is asked for.
func count(args []string, verb string) (int, error) {
	if len(args) == 0 {
		return 20, nil
	}
	n, err := strconv.Atoi(args[0])
	if len(args) > 1 || err != nil || n < 1 || n > maxRows {
		return 0, usage(fmt.Sprintf("%s [<count>, up to %d]", verb, maxRows))
	}
	return n, nil
}

// shown is a key as JSON can have it: its bytes where they are UTF-8, else quoted.
func shown(key string) string {
	if utf8.ValidString(key) {
		return key
	}
	return strconv.QuoteToASCII(key)
}

// rows answers a list of objects in either form. Fields come in the order of the struct.
func rows[T any](list []T, asJ bool, fields func(T) []any) any {
	if asJ {
		if list == nil {
			list = []T{}
		}
		return asJSON(list)
	}
	out := []any{}
	for _, x := range list {
		out = append(out, fields(x))
	}
	return out
}

func (s *Server) hotKeys(ctx context.Context, args []string) any {
	args, asJ := wantsJSON(args)
	n, err := count(args, "HOTKEYS")
	if err != nil {
		return err
	}
	list := s.Plane.HotKeys(ctx, n)
	for i := range list {
		list[i].Key = shown(list[i].Key)
	}
	return rows(list, asJ, func(k stats.HotKey) []any {
		return []any{"key", k.Key, "db", k.DB, "slot", k.Slot, "commands_per_s", int64(k.PerSecond + 0.5), "writes_percent", int64(100*k.Writes + 0.5)}
	})
}

// BigKeyRow is one row of PROXY BIGKEYS.
type BigKeyRow struct {
	DB    int    `json:"db"`
	Key   string `json:"key"`
	Bytes int    `json:"bytes"`
	By    string `json:"by"` // the command, or the job, that met it
	AtMs  int64  `json:"at_ms,omitempty"`
}

// bigKeys are the values that came by on the wire and those that jobs have met.
func (s *Server) bigKeys(ctx context.Context, args []string) any {
	args, asJ := wantsJSON(args)
	n, err := count(args, "BIGKEYS")
	if err != nil {
		return err
	}
	var list []BigKeyRow
	for _, b := range s.Plane.BigValues(ctx) {
		list = append(list, BigKeyRow{b.DB, shown(b.Key), b.Bytes, b.Command, b.At.UnixMilli()})
	}
	for _, j := range s.Manager.Jobs() {
		for _, b := range j.BigKeyList {
			list = append(list, BigKeyRow{DB: b.DB, Key: shown(b.Key), Bytes: b.Bytes, By: "job " + j.ID})
		}
	}
	return rows(list[:min(n, len(list))], asJ, func(b BigKeyRow) []any {
		return []any{"key", b.Key, "db", b.DB, "bytes", b.Bytes, "by", b.By}
	})
}

// LockRow is one row of PROXY LOCKS.
type LockRow struct {
	Job     string `json:"job"`
	DB      int    `json:"db"`
	Key     string `json:"key"`
	State   string `json:"state"`
	Shared  int    `json:"commands_in_flight"`
	Waiters int    `json:"loops_waiting"`
	Client  bool   `json:"for_a_client"`
}

func (s *Server) locks(args []string) any {
	args, asJ := wantsJSON(args)
	n, err := count(args, "LOCKS")
	if err != nil {
		return err
	}
	var list []LockRow
	for _, l := range s.Manager.Locks(n) {
		list = append(list, LockRow{l.Job, l.Key.DB, shown(l.Key.Name), l.State, l.Shared, l.Waiters, l.Client})
	}
	return rows(list, asJ, func(l LockRow) []any {
		return []any{"key", l.Key, "db", l.DB, "job", l.Job, "state", l.State, "commands_in_flight", l.Shared, "loops_waiting", l.Waiters}
	})
}

// explain answers PROXY EXPLAIN <command…>. A JSON at the end is taken as the form that is
// asked for: a command whose last argument is so has to be given with two.
func (s *Server) explain(args []string) any {
	args, asJ := wantsJSON(args)
	if len(args) == 0 {
		return usage("EXPLAIN <command> [<arg> ...] [JSON]")
	}
	table, err := s.Manager.Table()
	if err != nil {
		return err
	}
	raw := make([][]byte, len(args))
	for i, a := range args {
		raw[i] = []byte(a)
	}
	x := table.Explain(raw)
	for i := range x.Keys {
		x.Keys[i].Key = shown(x.Keys[i].Key)
	}
	if asJ {
		return asJSON(x)
	}
	out := []any{"command", x.Command, "outcome", x.Outcome}
	if x.Slot >= 0 {
		out = append(out, "slot", x.Slot, "group", x.Group)
	}
	if x.Target != "" {
		out = append(out, "target", x.Target, "job", x.Job)
	}
	return append(out, "why", strings.Join(x.Why, "; "))
}

// key answers PROXY KEY <key> [DB <n>] [JSON]: what the servers have under that name.
func (s *Server) key(ctx context.Context, args []string) any {
	asJ := false
	if len(args) == 2 || len(args) == 4 { // the key itself may be "json"
		if args, asJ = wantsJSON(args); !asJ {
			return usage(keyUsage)
		}
	}
	db, err := 0, error(nil)
	switch {
	case len(args) == 3 && word(args, 1, "db"):
		if db, err = strconv.Atoi(args[2]); err != nil {
			return usage(keyUsage)
		}
	case len(args) != 1:
		return usage(keyUsage)
	}
	k, err := s.Observer.Look(ctx, db, args[0])
	if err != nil {
		return err
	}
	if asJ {
		k.Key = shown(k.Key)
		return asJSON(k)
	}
	at := []any{}
	for _, f := range k.At {
		at = append(at, []any{"group", f.Group, "role", f.Role, "exists", strconv.FormatBool(f.Exists), "type", f.Type, "encoding", f.Encoding,
			"ttl_ms", f.TTLMs, "bytes", f.Bytes, "elements", f.Elements, "error", f.Error})
	}
	return []any{"slot", k.Slot, "state", k.State, "job", k.Job, "at", at}
}

const keyUsage = "KEY <key> [DB <n>] [JSON]"
