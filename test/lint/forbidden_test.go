package lint

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule forbids a pattern in the code of some packages; tests may do as they like.
type rule struct {
	pattern *regexp.Regexp
	in      []string // path prefixes that it holds for, "proxy/" say; none: everywhere
	except  []string // path prefixes within those that it doesn't hold for
	instead string   // what to do instead
}

// forbidden is what no line of the code may say. Whoever takes the last use of something
// away adds it here, so that it does not come back.
var forbidden = []rule{
	{re(`time\.Sleep\(`), nil, []string{"internal/failpoint/"}, "wait for what you wait for, or use a timer and a context"},
	{re(`redis\.NewClient|net\.Dialer`), []string{"proxy/", "migrator/", "internal/observe/"}, nil, "connect through upstream.Dialer, so that the connection has a name that can be fenced"},
	{re(`fmt\.Print(ln|f)?\(|log\.Fatal`), nil, nil, "use the logger, or the writer that the command was given"},
	{re(`\.Published\b`), []string{"internal/admin/", "internal/observe/", "internal/gateway/", "internal/web/", "internal/control/"}, nil, "ask topology's SlotView where slots are served"},
	{re(`router\.Build\(`), nil, []string{"internal/control/"}, "look at control's Table: only the control plane makes tables, and has lock tables made for them"},
}

func re(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

func (r *rule) covers(path string) bool {
	under := func(prefix string) bool { return strings.HasPrefix(path, prefix) }
	return (len(r.in) == 0 || slices.ContainsFunc(r.in, under)) && !slices.ContainsFunc(r.except, under)
}

func (r *rule) check(t *testing.T, path, src string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(src) {
		n++
		if found := r.pattern.FindString(line); found != "" {
			t.Errorf("%s:%d: %q: %s", path, n, found, r.instead)
		}
	}
}

// TestRules makes sure that a rule of the table finds what it is there to find.
func TestRules(t *testing.T) {
	r := rule{re(`\bfoo\(`), []string{"a/", "b/"}, []string{"a/c/"}, ""}
	for path, want := range map[string]bool{"a/x.go": true, "b/d/x.go": true, "a/c/x.go": false, "c/x.go": false, "ab/x.go": false} {
		if r.covers(path) != want {
			t.Errorf("%s: want %v", path, want)
		}
	}
	all := rule{pattern: re(`x`), except: []string{"a/"}}
	if !all.covers("b/x.go") || all.covers("a/x.go") {
		t.Error("a rule without paths is one for all but its exceptions")
	}
}
