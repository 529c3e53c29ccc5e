package web

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"keyferry/internal/admin"
	"keyferry/internal/metrics"
	"keyferry/internal/observe"
)

// events streams what changes, as server-sent events. The first of each kind has
// everything, the others what has changed since:
//
//	point   one second of the history
//	groups  {id: {field: value, …}, …}, null for a group that is gone
//	jobs    the same
//	slots   runs of slots as in /api/v1/slots, only those that changed
//	heat    with ?heat=1: base64 of (slot uint16, level uint8) …, big-endian
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		fail(w, http.StatusServiceUnavailable, "too many streams of events are open")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	st := &stream{w: w, control: http.NewResponseController(w), heat: r.URL.Query().Get("heat") != ""}
	_ = st.control.SetReadDeadline(time.Time{})
	for quiet := 0; ; quiet++ {
		changed := s.Observer.Changed()
		last := s.Observer.Last()
		if st.delta(last, s.rowsOf(last)) {
			quiet = 0
		}
		if quiet >= 20 { // so that a client that is gone is noticed
			st.buf.WriteString(": still here\n\n")
			quiet = 0
		}
		if !st.flush() {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// stream is one reader of events, with what it has been told.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
	heat    bool

	began  bool
	point  int64
	epoch  uint64
	slots  []slotIs
	groups map[string]row
	jobs   map[string]row
	levels []byte
}

// row is an object by its fields.
type row map[string]json.RawMessage

// slotIs is what is told of one slot.
type slotIs struct{ group, state, target, job string }

func (t *stream) send(event string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	fmt.Fprintf(&t.buf, "event: %s\ndata: %s\n\n", event, b)
}

func (t *stream) flush() bool {
	if t.buf.Len() == 0 {
		return true
	}
	_ = t.control.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := t.w.Write(t.buf.Bytes())
	t.buf.Reset()
	return err == nil && t.control.Flush() == nil
}

// delta queues what s, whose rows are told, has that the reader does not know.
func (t *stream) delta(s *observe.Snapshot, told rowsTold) bool {
	before := t.buf.Len()
	if s.Now.T != t.point {
		t.point = s.Now.T
		t.send("point", s.Now)
	}
	if s.State.Epoch != t.epoch || !t.began {
		t.epoch = s.State.Epoch
		t.slotDelta(admin.SlotRows(s.State), s.State.SlotCount)
	}
	t.rows("groups", &t.groups, told.groups)
	t.rows("jobs", &t.jobs, told.jobs)
	if t.heat && s.Heat != nil {
		t.heatDelta(s.Heat)
	}
	t.began = true
	return t.buf.Len() > before
}

// rowsTold is what streams tell of the groups and jobs of one snapshot. Its maps are never
// changed: every stream keeps them until the next.
type rowsTold struct {
	at           *observe.Snapshot
	groups, jobs map[string]row
}

// rowsOf makes the rows of a snapshot once for all streams: there may be a thousand jobs.
func (s *Server) rowsOf(last *observe.Snapshot) rowsTold {
	s.toldMu.Lock()
	defer s.toldMu.Unlock()
	if s.told.at == last {
		return s.told
	}
	s.told = rowsTold{last, make(map[string]row, len(last.Groups)), make(map[string]row, len(last.Jobs))}
	for _, g := range last.Groups {
		g.Ranges = cut(g.Ranges)
		s.told.groups[g.ID] = fieldsOf(g)
	}
	for _, j := range last.Jobs {
		// Every second slot of 16,384 would be 200 KB a job. GET /api/v1/migrations/{id} has them.
		j.Slots, j.SlotsText = nil, cut(j.SlotsText)
		f := fieldsOf(j)
		delete(f, "at_ms")
		delete(f, "slots")
		s.told.jobs[j.ID] = f
	}
	return s.told
}

// rangesShown is how much of a list of slots streams tell, in bytes.
const rangesShown = 200

// cut shortens a list of ranges at a comma, and says so.
func cut(ranges string) string {
	if len(ranges) <= rangesShown {
		return ranges
	}
	return ranges[:strings.LastIndexByte(ranges[:rangesShown], ',')+1] + "…"
}

func fieldsOf(v any) row {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var r row
	_ = json.Unmarshal(b, &r)
	return r
}

// rows tells which fields of which objects differ from those in have, and keeps now there.
func (t *stream) rows(event string, have *map[string]row, now map[string]row) {
	diff := make(map[string]row)
	for id, r := range now {
		old, known := (*have)[id]
		d := make(row)
		for k, v := range r {
			if !known || !bytes.Equal(old[k], v) {
				d[k] = v
			}
		}
		for k := range old {
			if _, still := r[k]; !still {
				d[k] = json.RawMessage("null")
			}
		}
		if len(d) > 0 || !known {
			diff[id] = d
		}
	}
	for id := range *have {
		if _, still := now[id]; !still {
			diff[id] = nil
		}
	}
	if *have = now; len(diff) > 0 || !t.began {
		t.send(event, diff)
	}
}

func (t *stream) slotDelta(rows []admin.SlotRow, count int) {
	now := make([]slotIs, count)
	for _, r := range rows {
		for i := r.First; i <= r.Last; i++ {
			now[i] = slotIs{r.Group, r.State, r.Target, r.Job}
		}
	}
	var changed []admin.SlotRow
	for i, x := range now {
		if len(t.slots) == count && t.slots[i] == x {
			continue
		}
		if n := len(changed); n > 0 && changed[n-1].Last == i-1 && now[i-1] == x {
			changed[n-1].Last = i
			continue
		}
		changed = append(changed, admin.SlotRow{First: i, Last: i, Group: x.group, State: x.state, Target: x.target, Job: x.job})
	}
	t.slots = now
	if len(changed) > 0 {
		t.send("slots", changed)
	}
}

// heatDelta tells the levels that changed. A level that would change by one only does so
// when the rate is well over the edge, so that noise is not news.
func (t *stream) heatDelta(heat []float32) {
	if len(t.levels) != len(heat) {
		t.levels = make([]byte, len(heat))
	}
	var out []byte
	for i, r := range heat {
		level := metrics.HeatLevel(float64(r))
		was := int(t.levels[i])
		if level == was || level == was+1 && metrics.HeatLevel(float64(r)*0.7) == was || level == was-1 && metrics.HeatLevel(float64(r)*1.4) == was {
			continue
		}
		t.levels[i] = byte(level)
		out = append(binary.BigEndian.AppendUint16(out, uint16(i)), byte(level))
	}
	if len(out) > 0 {
		t.send("heat", base64.StdEncoding.EncodeToString(out))
	}
}
