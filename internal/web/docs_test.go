package web

import (
	"os"
	"strings"
	"testing"

	"keyferry/internal/verb"
)

// TestDocs: docs/api.md has every route, and none that does not exist.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"/api/v1/events": true}
	for _, r := range (&Server{}).apiRoutes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		known[path] = true
		if !strings.Contains(string(text), "`"+method+" "+path) {
			t.Errorf("%s is not in docs/api.md", r.pattern)
		}
	}
	for i := range verb.Rows { // examples name verbs
		known["/api/v1/verbs/"+verb.Rows[i].Path()] = verb.Rows[i].Only == ""
	}
	for part := range strings.SplitSeq(string(text), "/api/v1/") {
		path, _, _ := strings.Cut("/api/v1/"+part, "`")
		path = strings.FieldsFunc(path, func(r rune) bool { return r == '?' || r == ' ' || r == '\n' || r == ',' })[0]
		if !known[path] && part != strings.Split(string(text), "/api/v1/")[0] {
			t.Errorf("docs/api.md tells of %s", path)
		}
	}
}

// TestAllJobs: the overview's buttons say ALL where a job's id stands, which these verbs must understand.
func TestAllJobs(t *testing.T) {
	for _, name := range []string{"MIGRATION PAUSE", "MIGRATION RESUME"} {
		if a := verb.Find(name).Args[0]; a.Name != "id" || !strings.HasSuffix(a.Meta, "|ALL") {
			t.Errorf("%s takes %q", name, a.Meta)
		}
	}
}
