package admin

import "keyferry/internal/topology"

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
