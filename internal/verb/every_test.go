package verb_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"keyferry/internal/verb"
	"keyferry/internal/verb/verbtest"
)

// wordsOf says what was given in words of RESP.
func wordsOf(r *verb.Row, given []verb.Given) []string {
	words := strings.Fields(strings.ToLower(r.Name))
	for i, g := range given {
		if i >= len(r.Args) {
			words = append(words, strings.ToLower(g.Name))
		}
		words = append(words, g.Values...)
	}
	return words
}

// TestEveryOption: the parser takes each of them with JSON behind it, what it makes of it can
// be said again, and help, usage and page name it.
func TestEveryOption(t *testing.T) {
	page := verb.Markdown()
	for i := range verb.Rows {
		r := &verb.Rows[i]
		if r.Only == verb.OnlyCLI {
			continue
		}
		help, err := verb.Help(strings.Fields(r.Name))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range verbtest.Options(r) {
			words := wordsOf(r, verbtest.Given(r, o))
			c, err := verb.Parse(append(words, "JSON"))
			if err != nil {
				t.Errorf("%q: %v", words, err)
				continue
			}
			if c.Row != r || !c.JSON || o != nil && !slices.Contains(c.Words(false), o.Name) {
				t.Errorf("%q is read as %q, JSON %v", words, c.Words(false), c.JSON)
			}
			again, err := verb.Parse(c.Words(true))
			if err != nil || !slices.Equal(again.Words(false), c.Words(false)) {
				t.Errorf("%q is said again as %q: %v", words, c.Words(true), err)
			}
			if o == nil {
				continue
			}
			for where, text := range map[string]string{"usage": r.Usage(), "help": strings.Join(help, "\n"), "page": page} {
				if !strings.Contains(text, o.Name) {
					t.Errorf("%s %s is not in the %s", r.Name, o.Name, where)
				}
			}
		}
	}
}

// TestPage: docs/admin.md is what the table says. make docs writes it.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != verb.Markdown() {
		t.Error("docs/admin.md is out of date: make docs")
	}
}
