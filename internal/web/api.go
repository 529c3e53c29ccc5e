package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/admin"
	"keyferry/internal/observe"
	"keyferry/internal/verb"
)

// api adds /api/v1. docs/api.md describes every route; a test holds them together.
func (s *Server) api(mux *http.ServeMux) {
	for _, r := range s.apiRoutes() {
		h := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			v, err := r.answer(q)
			if err != nil {
				fail(w, codeOf(err), err.Error())
				return
			}
			reply(w, v)
		})
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) {
			bound := r.bound
			if row := rowOf(q); row != nil && row.Long {
				bound = longBound
			}
			bounded(bound, h).ServeHTTP(w, q)
		})
	}
	mux.HandleFunc("GET /api/v1/events", s.events)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "no such resource: see docs/api.md")
	})
}

type route struct {
	pattern string
	bound   time.Duration
	answer  func(*http.Request) (any, error)
}

func (s *Server) apiRoutes() []route {
	return []route{
		{"GET /api/v1/overview", readBound, s.overview},
		{"GET /api/v1/history", readBound, s.history},
		{"GET /api/v1/groups", readBound, func(*http.Request) (any, error) { return s.Observer.Last().Groups, nil }},
		{"GET /api/v1/gateways", readBound, func(*http.Request) (any, error) { return s.Observer.Last().Peers, nil }},
		{"GET /api/v1/slots", readBound, func(*http.Request) (any, error) { return admin.SlotRows(s.Observer.Last().State), nil }},
		{"GET /api/v1/migrations", readBound, func(*http.Request) (any, error) { return orEmpty(s.Observer.Last().Jobs), nil }},
		{"GET /api/v1/migrations/{id}", readBound, s.job},
		{"GET /api/v1/slowlog", readBound, s.slowlog},
		{"GET /api/v1/hotkeys", readBound, s.query("HOTKEYS")},
		{"GET /api/v1/bigkeys", readBound, s.query("BIGKEYS")},
		{"GET /api/v1/locks", readBound, s.query("LOCKS")},
		{"GET /api/v1/key", 2 * readBound, s.lookUp},
		{"GET /api/v1/explain", readBound, s.query("EXPLAIN")},
		{"GET /api/v1/verbs", readBound, func(*http.Request) (any, error) { return verb.Rows, nil }},
		{"POST /api/v1/verbs/{verb...}", actionBound, s.runVerb},
		{"POST /api/v1/command", actionBound, s.command},
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// apiError is an error with the HTTP status that it is answered with.
type apiError struct {
	code int
	text string
}

func (e *apiError) Error() string { return e.text }

func codeOf(err error) int {
	if e, ok := err.(*apiError); ok {
		return e.code
	}
	return http.StatusBadRequest
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text})
}

func reply(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

func (s *Server) overview(*http.Request) (any, error) {
	last := s.Observer.Last()
	return map[string]any{"name": s.Name, "version": s.Version, "started_ms": s.Observer.Started().UnixMilli(), "at_ms": last.At.UnixMilli(),
		"now": last.Now, "plane": last.Plane.Counts, "epoch": last.State.Epoch, "epoch_acknowledged": last.Acked, "writes_refused": last.Refusal, "blocked_clients": last.Plane.Blocked,
		"groups_down": groupsDown(last.Groups), "gateways": last.Peers, "errors": last.Plane.Errors, "scheme": last.State.Scheme, "slots": last.State.SlotCount, "databases": last.State.Databases}, nil
}

// groupsDown are the groups with a server that is down or refuses connections.
func groupsDown(groups []observe.Group) []map[string]any {
	out := []map[string]any{}
	for _, g := range groups {
		if g.State == observe.Down || g.State == observe.Refuses {
			out = append(out, map[string]any{"id": g.ID, "addr": g.Addr, "state": g.State, "error": g.Error, "down_since_ms": g.DownMs, "slots": g.Slots})
		}
	}
	return out
}

func (s *Server) history(*http.Request) (any, error) {
	return map[string]any{"points": orEmpty(s.Observer.History())}, nil
}

func (s *Server) job(r *http.Request) (any, error) {
	id := r.PathValue("id")
	points, ok := s.Observer.Story(id)
	for _, j := range s.Observer.Last().Jobs {
		if ok && j.ID == id {
			answer := map[string]any{"job": j, "points": orEmpty(points)}
			events, err := s.Admin.Manager.History(r.Context(), id)
			if err != nil { // the job is told of all the same
				answer["events_error"] = err.Error()
			}
			answer["events"] = orEmpty(events)
			return answer, nil
		}
	}
	return nil, &apiError{http.StatusNotFound, "no such job"}
}

// slowEntry is stats.SlowEntry with its times in µs.
type slowEntry struct {
	ID       int64    `json:"id"`
	AtMs     int64    `json:"at_ms"`
	Total    int64    `json:"total_us"`
	Queue    int64    `json:"queue_us"`
	LockWait int64    `json:"lock_wait_us"`
	Backend  int64    `json:"backend_us"`
	Write    int64    `json:"write_us"`
	Args     []string `json:"args"`
	Client   string   `json:"client"`
	Name     string   `json:"client_name,omitempty"`
	Group    string   `json:"group,omitempty"`
}

func (s *Server) slowlog(r *http.Request) (any, error) {
	n, err := number(r, "n", 100)
	if err != nil {
		return nil, err
	}
	out := []slowEntry{}
	for _, e := range s.Plane.SlowLog(r.Context(), n) {
		args := make([]string, len(e.Args))
		for i, a := range e.Args {
			args[i] = strings.ToValidUTF8(a, "�")
		}
		out = append(out, slowEntry{e.ID, e.At.UnixMilli(), e.Total.Microseconds(), e.Queue.Microseconds(), e.LockWait.Microseconds(),
			e.Backend.Microseconds(), e.Write.Microseconds(), args, e.ClientAddr, e.ClientName, e.Group})
	}
	return out, nil
}

func number(r *http.Request, name string, otherwise int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s = %q: want a number", name, text)
	}
	return n, nil
}

// lookUp is PROXY KEY, and how a GET of the key is routed.
func (s *Server) lookUp(r *http.Request) (any, error) {
	row := verb.Find("KEY")
	c, err := row.Bind(row.FromQuery(r.URL.Query()), true)
	if err != nil {
		return nil, err
	}
	var a struct {
		Key string `verb:"key"`
		DB  int    `verb:"DB"`
	}
	c.Decode(&a)
	k, err := s.Observer.Look(r.Context(), a.DB, a.Key)
	if err != nil {
		return nil, err
	}
	why, err := s.Admin.Do(r.Context(), []string{"EXPLAIN", "GET", a.Key, "JSON"})
	if err != nil {
		why = nil
	}
	return struct {
		observe.Key
		Explain any `json:"explain"`
	}{k, why}, nil
}

// query answers a verb that changes nothing, with its arguments as the query's fields.
func (s *Server) query(name string) func(*http.Request) (any, error) {
	row := verb.Find(name)
	return func(r *http.Request) (any, error) {
		return s.run(r.Context(), row, row.FromQuery(r.URL.Query()))
	}
}

// run runs a verb with what it was given and answers its typed value.
func (s *Server) run(ctx context.Context, row *verb.Row, given []verb.Given) (any, error) {
	c, err := row.Bind(given, true)
	if err != nil {
		return nil, err
	}
	a, err := s.Admin.Run(ctx, c)
	if err != nil {
		return nil, err
	}
	return a.Value, nil
}

// rowOf is the verb that a path names; nil if there is none.
func rowOf(r *http.Request) *verb.Row {
	row := verb.Find(strings.ReplaceAll(r.PathValue("verb"), "/", " "))
	if row == nil || row.Only != "" {
		return nil
	}
	return row
}

// runVerb runs the verb of the path with the body's fields as its arguments and options.
// What it answers is {"result": …}.
func (s *Server) runVerb(r *http.Request) (any, error) {
	row := rowOf(r)
	if row == nil {
		return nil, &apiError{http.StatusNotFound, "no such verb: GET /api/v1/verbs lists them"}
	}
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	given, err := row.FromJSON(body)
	if err != nil {
		return nil, err
	}
	v, err := s.run(r.Context(), row, given)
	if err != nil {
		return nil, err
	}
	return map[string]any{"result": v}, nil
}

func bodyOf(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, &apiError{http.StatusRequestEntityTooLarge, err.Error()}
	}
	return body, nil
}

// command runs any PROXY verb: {"args": ["MIGRATION", "PAUSE", "m1"]}. What it answers is
// {"result": …}; with JSON as the last argument, that of the verb itself.
func (s *Server) command(r *http.Request) (any, error) {
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	var q struct {
		Args []string `json:"args"`
	}
	if err := json.Unmarshal(body, &q); err != nil || len(q.Args) == 0 {
		return nil, fmt.Errorf(`want {"args": ["MIGRATION", "LIST"]}`)
	}
	v, err := s.Admin.Do(r.Context(), q.Args)
	if err != nil {
		return nil, err
	}
	return map[string]any{"result": v}, nil
}
