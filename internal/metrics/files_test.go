package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var (
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?`)
	matcher   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)
	grouping  = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	functions = map[string]bool{"sum": true, "by": true, "on": true, "and": true, "or": true, "rate": true, "increase": true, "time": true, "absent": true,
		"histogram_quantile": true, "topk": true, "count": true, "max": true, "vector": true}
)

// checkExpr demands that what an expression selects exists, with labels that it has. That
// it is PromQL is for promtool, which is asked where it is installed.
func checkExpr(t *testing.T, where, expr string) {
	t.Helper()
	known := make(map[string]*Series)
	for _, s := range Table {
		known[s.Name] = s
		if s.Kind == Durations {
			known[s.Name+"_bucket"], known[s.Name+"_sum"], known[s.Name+"_count"] = s, s, s
		}
	}
	if bare := quoted.ReplaceAllString(expr, ""); strings.Count(bare, "(") != strings.Count(bare, ")") || strings.Count(bare, "{") != strings.Count(bare, "}") {
		t.Errorf("%s: brackets: %s", where, expr)
	}
	var of []*Series
	for _, m := range selector.FindAllStringSubmatch(grouping.ReplaceAllString(expr, ""), -1) {
		s := known[m[1]]
		switch {
		case s != nil:
			of = append(of, s)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				checkLabel(t, where, s, l[1])
			}
		case functions[m[1]] && m[2] == "", len(m[1]) == 1: // "m" of 5m
		default:
			t.Errorf("%s: there is no series %q: %s", where, m[1], expr)
		}
	}
	if len(of) == 0 {
		t.Errorf("%s selects nothing: %s", where, expr)
		return
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			checkLabel(t, where, of[0], strings.TrimSpace(l))
		}
	}
}

// promtool checks a file of rules with Prometheus's own parser, if it is there.
func promtool(t *testing.T, file string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed: series and labels were checked, the grammar was not")
		return
	}
	if out, err := exec.Command(path, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func checkLabel(t *testing.T, where string, s *Series, label string) {
	t.Helper()
	has := label == "__name__" || label == "instance" || label == "job" || label == "le" && s.Kind == Durations
	for _, l := range s.Labels {
		has = has || l == label
	}
	if !has {
		t.Errorf("%s: %s has no label %s", where, s.Name, label)
	}
}

// TestAlerts: every alert parses, refers to what exists and tells what to do.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../conf/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			n++
			checkExpr(t, r.Alert, r.Expr)
			if r.Alert == "" || r.For == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s is not complete: %+v", r.Alert, r)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d alerts", n)
	}
	promtool(t, "../../conf/prometheus/alerts.yml")
}

// TestGrafana: every panel of the dashboard shows what exists.
func TestGrafana(t *testing.T) {
	text, err := os.ReadFile("../../conf/grafana/keyferry.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	ids := make(map[int]bool)
	for i, p := range d.Panels {
		if len(p.Targets) == 0 || ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %s: %+v", p.Title, p)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			checkExpr(t, p.Title, q.Expr)
		}
		for _, o := range d.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %s and %s overlap", p.Title, o.Title)
			}
		}
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: panels\n  rules:\n")
	for i, p := range d.Panels {
		for k, q := range p.Targets {
			fmt.Fprintf(&rules, "  - record: panel:%d_%d\n    expr: %q\n", i, k, strings.ReplaceAll(q.Expr, "$instance", ".*"))
		}
	}
	file := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, file)
	if len(d.Panels) < 10 {
		t.Errorf("%d panels", len(d.Panels))
	}
}
