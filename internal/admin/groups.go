package admin

import (
	"context"

	"keyferry/internal/observe"
	"keyferry/internal/topology"
	"keyferry/internal/verb"
	"keyferry/migrator"
	"keyferry/router"
)

// GroupRow is one group in PROXY GROUP LIST JSON.
type GroupRow struct {
	ID     string `json:"id"`
	Addr   string `json:"addr"`
	Slots  int    `json:"slots"`
	Ranges string `json:"ranges"`
	State  string `json:"state"`           // observe.Up and so on
	Error  string `json:"error,omitempty"` // why it is not up
	DownMs int64  `json:"down_since_ms,omitempty"`
}

func (r GroupRow) fields() []any {
	return []any{"id", r.ID, "addr", r.Addr, "slots", r.Slots, "ranges", r.Ranges, "state", r.State, "error", r.Error}
}

func (s *Server) groupList(context.Context, noArgs) ([]GroupRow, error) {
	st := s.Control.State()
	reach := make(map[string]observe.Reach)
	for _, g := range s.Observer.Last().Groups {
		reach[g.ID+" "+g.Addr] = g.Reach
	}
	rows := []GroupRow{}
	for _, g := range st.Groups {
		rs := st.SlotsOf(g.ID)
		is, known := reach[g.ID+" "+g.Addr]
		if !known { // newer than the newest snapshot
			is.State = observe.Unknown
		}
		rows = append(rows, GroupRow{g.ID, g.Addr, topology.CountSlots(rs), topology.FormatRanges(rs), is.State, is.Error, is.DownMs})
	}
	return rows, nil
}

type groupAddArgs struct {
	ID       string `verb:"id"`
	Addr     string `verb:"addr"`
	Password string `verb:"PASSWORD"`
	Trust    bool   `verb:"UNCHECKED"`
	Take     bool   `verb:"TAKEOVER"`
}

func (s *Server) groupAdd(ctx context.Context, a groupAddArgs) (status, error) {
	g := topology.Group{ID: a.ID, Endpoint: topology.Endpoint{Addr: a.Addr, Secret: topology.NewSecret(a.Password)}}
	return ok, s.Control.AddGroup(ctx, g, a.Trust, a.Take)
}

type groupSetArgs struct {
	ID         string  `verb:"id"`
	Addr       *string `verb:"ADDR"`
	Password   *string `verb:"PASSWORD"`
	NoPassword bool    `verb:"NOPASSWORD"`
	Take       bool    `verb:"TAKEOVER"`
}

func (s *Server) groupSet(ctx context.Context, a groupSetArgs) (status, error) {
	if a.NoPassword {
		a.Password = new(string)
	}
	return ok, s.Control.SetGroup(ctx, a.ID, a.Addr, a.Password, a.Take)
}

type groupDelArgs struct {
	ID    string `verb:"id"`
	Trust bool   `verb:"UNCHECKED"`
}

func (s *Server) groupDel(ctx context.Context, a groupDelArgs) (status, error) {
	unknown, err := s.Control.DelGroup(ctx, a.ID, a.Trust)
	if err != nil || unknown == "" {
		return ok, err
	}
	return status("OK, but " + unknown), nil
}

func (s *Server) slotList(context.Context, noArgs) ([]SlotRow, error) {
	return SlotRows(s.Control.State()), nil
}

type keyArgs struct {
	Key string `verb:"key"`
}

// slotOfRow is where a key belongs.
type slotOfRow struct {
	Slot   int    `json:"slot"`
	Group  string `json:"group"`
	State  string `json:"state"`
	Target string `json:"target"`
	Job    string `json:"job"`
}

func (r slotOfRow) fields() []any {
	return []any{"slot", r.Slot, "group", r.Group, "state", r.State, "target", r.Target, "job", r.Job}
}

func (s *Server) slotOf(_ context.Context, a keyArgs) (slotOfRow, error) {
	st := s.Control.State()
	scheme, err := router.ParseScheme(st.Scheme)
	if err != nil {
		return slotOfRow{}, err
	}
	slot := scheme.Slot([]byte(a.Key))
	r := slotRow(st.SlotView(slot))
	return slotOfRow{slot, r.Group, r.State, r.Target, r.Job}, nil
}

type assignArgs struct {
	Slots verb.Slots `verb:"slots"`
	Group string     `verb:"group"`
	Trust bool       `verb:"UNCHECKED"`
}

func (s *Server) slotAssign(ctx context.Context, a assignArgs) (status, error) {
	rs, err := a.Slots.In(s.Control.State().SlotCount)
	if err != nil {
		return "", err
	}
	return ok, s.Control.AssignSlots(ctx, rs, a.Group, a.Trust)
}

type unassignArgs struct {
	Slots verb.Slots `verb:"slots"`
}

func (s *Server) slotUnassign(ctx context.Context, a unassignArgs) (status, error) {
	rs, err := a.Slots.In(s.Control.State().SlotCount)
	if err != nil {
		return "", err
	}
	return ok, s.Control.UnassignSlots(ctx, rs)
}

type slotCheckArgs struct {
	Fix string `verb:"FIX"`
}

// fixes are what SLOT CHECK may do about what it finds.
var fixes = map[string]migrator.Fix{"": migrator.FixNothing, "TWINS": migrator.FixTwins, "DROP": migrator.FixDrop, "ADOPT": migrator.FixAdopt}

// slotCheck looks for keys that sit where they do not belong.
func (s *Server) slotCheck(ctx context.Context, a slotCheckArgs) ([]migrator.Orphans, error) {
	return s.Manager.FindOrphans(ctx, nil, nil, fixes[a.Fix])
}

func orphanFields(r migrator.Orphans) []any {
	row := []any{"group", r.Group, "keys_scanned", r.Scanned, "twins", r.Twins, "alone", r.Alone, "removed", r.Removed, "adopted", r.Adopted}
	if row = append(row, "keys_unserved", r.Unserved); r.Unserved > 0 {
		row = append(row, "unserved", r.UnservedText)
	}
	for _, k := range r.Sample {
		row = append(row, "key", k)
	}
	return row
}
