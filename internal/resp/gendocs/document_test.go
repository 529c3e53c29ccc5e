package main

import (
	"os"
	"strings"
	"testing"

	"keyferry/internal/resp"
)

const root = "../../.."

// TestUpToDate: docs/commands.md is what the tables say.
func TestUpToDate(t *testing.T) {
	want, err := document(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(root + "/docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	a, b := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("docs/commands.md is out of date (go run ./internal/resp/gendocs > docs/commands.md), line %d:\n%s\nwant\n%s", i+1, a[i], b[i])
		}
	}
	t.Fatalf("docs/commands.md has %d lines, want %d", len(a), len(b))
}

// TestEveryCommandOnce, each row with as many cells as its heading, and each note about
// something that there is.
func TestEveryCommandOnce(t *testing.T) {
	text, err := document(root)
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	all(func(c *resp.Command) {
		known[c.Name] = true
		name := strings.ToUpper(strings.ReplaceAll(c.Name, "|", " "))
		if n := strings.Count(text, "\n| "+name+" | "+c.Since+" | "); n != 1 {
			t.Errorf("%s is there %d times", name, n)
		}
	})
	notes, err := rows(notesTSV, 2)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, n := range notes {
		if !known[n[0]] || seen[n[0]] || n[1] == "" {
			t.Errorf("notes.tsv: %s: known %v, seen before %v, %q", n[0], known[n[0]], seen[n[0]], n[1])
		}
		seen[n[0]] = true
	}
	cells := 0
	for i, line := range strings.Split(text, "\n") {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		switch {
		case n == 0:
			cells = 0
		case cells == 0:
			cells = n
		case n != cells:
			t.Errorf("line %d has %d cells, want %d: %s", i+1, n-1, cells-1, line)
		}
	}
}

func TestRows(t *testing.T) {
	got, err := rows("# x\n\na\tb\nc\t\n", 2)
	if err != nil || len(got) != 2 || got[1][1] != "" {
		t.Error(got, err)
	}
	if _, err := rows("a\tb\tc\n", 2); err == nil {
		t.Error("three columns are taken for two")
	}
}
