package admin

import (
	"context"
	"strconv"
	"strings"
	"unicode/utf8"

	"keyferry/internal/observe"
	"keyferry/internal/verb"
	"keyferry/proxy/stats"
	"keyferry/router"
)

// shown is a key as JSON can have it: its bytes where they are UTF-8, else quoted.
func shown(key string) string {
	if utf8.ValidString(key) {
		return key
	}
	return strconv.QuoteToASCII(key)
}

func (s *Server) hotKeys(ctx context.Context, a countArgs) ([]stats.HotKey, error) {
	list := s.Plane.HotKeys(ctx, a.Count)
	for i := range list {
		list[i].Key = shown(list[i].Key)
	}
	return orEmpty(list), nil
}

// orEmpty is a list that JSON shows as one, also when there is nothing in it.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func hotKeyFields(k stats.HotKey) []any {
	return []any{"key", k.Key, "db", k.DB, "slot", k.Slot, "commands_per_s", int64(k.PerSecond + 0.5), "writes_percent", int64(100*k.Writes + 0.5)}
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
func (s *Server) bigKeys(ctx context.Context, a countArgs) ([]BigKeyRow, error) {
	list := []BigKeyRow{}
	for _, b := range s.Plane.BigValues(ctx) {
		list = append(list, BigKeyRow{b.DB, shown(b.Key), b.Bytes, b.Command, b.At.UnixMilli()})
	}
	for _, j := range s.Manager.Jobs() {
		for _, b := range j.BigKeyList {
			list = append(list, BigKeyRow{DB: b.DB, Key: shown(b.Key), Bytes: b.Bytes, By: "job " + j.ID})
		}
	}
	return list[:min(a.Count, len(list))], nil
}

func (b BigKeyRow) fields() []any {
	return []any{"key", b.Key, "db", b.DB, "bytes", b.Bytes, "by", b.By}
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

func (s *Server) locks(_ context.Context, a countArgs) ([]LockRow, error) {
	list := []LockRow{}
	for _, l := range s.Manager.Locks(a.Count) {
		list = append(list, LockRow{l.Job, l.Key.DB, shown(l.Key.Name), l.State, l.Shared, l.Waiters, l.Client})
	}
	return list, nil
}

func (l LockRow) fields() []any {
	return []any{"key", l.Key, "db", l.DB, "job", l.Job, "state", l.State, "commands_in_flight", l.Shared, "loops_waiting", l.Waiters}
}

type explainArgs struct {
	Command []string `verb:"arg"`
}

// explain says how a command would be routed, and why. It runs nothing.
func (s *Server) explain(_ context.Context, a explainArgs) (router.Explanation, error) {
	raw := make([][]byte, len(a.Command))
	for i, w := range a.Command {
		raw[i] = []byte(w)
	}
	x := s.Control.Table().Explain(raw)
	for i := range x.Keys {
		x.Keys[i].Key = shown(x.Keys[i].Key)
	}
	return x, nil
}

func explainShape(_ explainArgs, x router.Explanation) any {
	out := []any{"command", x.Command, "outcome", x.Outcome}
	if x.Slot >= 0 {
		out = append(out, "slot", x.Slot, "group", x.Group)
	}
	if x.Target != "" {
		out = append(out, "target", x.Target, "job", x.Job)
	}
	if x.Gateway != "" {
		out = append(out, "gateway", x.Gateway)
	}
	return append(out, "why", strings.Join(x.Why, "; "))
}

type lookUpArgs struct {
	Key string `verb:"key"`
	DB  int    `verb:"DB"`
}

// key asks the servers what they have under a name.
func (s *Server) key(ctx context.Context, a lookUpArgs) (observe.Key, error) {
	k, err := s.Observer.Look(ctx, a.DB, a.Key)
	k.Key = shown(k.Key)
	return k, err
}

func keyShape(_ lookUpArgs, k observe.Key) any {
	at := []any{}
	for _, f := range k.At {
		at = append(at, []any{"group", f.Group, "role", f.Role, "exists", strconv.FormatBool(f.Exists), "type", f.Type, "encoding", f.Encoding,
			"ttl_ms", f.TTLMs, "bytes", f.Bytes, "elements", f.Elements, "error", f.Error})
	}
	return []any{"slot", k.Slot, "state", k.State, "job", k.Job, "at", at}
}

// info gives the gateway's own sections.
func (s *Server) info(context.Context, noArgs) (string, error) {
	return s.Info(map[string]bool{"gateway": true, "groups": true, "slots": true, "migration": true}), nil
}

// epochs are the topology's: what is stored, and what every loop routes by.
type epochs struct {
	Stored       int64 `json:"stored"`
	Acknowledged int64 `json:"acknowledged"`
}

func (e epochs) fields() []any { return []any{"stored", e.Stored, "acknowledged", e.Acknowledged} }

func (s *Server) epoch(context.Context, noArgs) (epochs, error) {
	return epochs{int64(s.Control.State().Epoch), int64(s.Control.Epoch())}, nil
}

type helpArgs struct {
	Verb []string `verb:"verb"`
}

func (s *Server) help(_ context.Context, a helpArgs) ([]string, error) { return verb.Help(a.Verb) }

// helpShape is one status a line, as Redis has it.
func helpShape(_ helpArgs, lines []string) any {
	out := []any{}
	for _, l := range lines {
		out = append(out, status(l))
	}
	return out
}
