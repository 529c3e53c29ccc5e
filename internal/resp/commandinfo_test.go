package resp

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sortRows sorts subcommands, which a server lists in the order of its hash table.
func sortRows(rows []any) {
	slices.SortFunc(rows, func(a, b any) int { return strings.Compare(a.([]any)[0].(string), b.([]any)[0].(string)) })
}

// without70 takes out the subcommands that 7.0 does not have.
func without70(rows []any) []any {
	return slices.DeleteFunc(rows, func(v any) bool { _, later := after70[v.([]any)[0].(string)]; return later })
}

func TestCommandInfoIsRedis(t *testing.T) {
	o := newOracle(t)
	for _, c := range Commands {
		ours := parse(t, written(func(w *Writer) { w.CommandInfo(c) })).([]any)
		if _, later := after70[c.Name]; later {
			if len(ours) != 10 || ours[0] != c.Name {
				t.Errorf("%s: %v", c.Name, ours)
			}
			continue
		}
		theirs := o.do(t, "COMMAND", "INFO", c.Name).([]any)[0].([]any)
		arity72(theirs)
		for _, sub := range theirs[9].([]any) {
			arity72(sub.([]any))
		}
		sortRows(theirs[9].([]any))
		ours[9] = without70(ours[9].([]any))
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%s: -redis +ours\n%s", c.Name, diff)
		}
	}
}

// docsOf makes the flat map of one command's documentation comparable: argument trees and
// histories, which we don't have, are left out, subcommands are sorted.
func docsOf(t *testing.T, flat []any) map[string]any {
	docs := map[string]any{}
	for i := 0; i < len(flat); i += 2 {
		switch key := flat[i].(string); key {
		case "summary", "since", "group", "complexity":
			docs[key] = flat[i+1]
		case "subcommands":
			subs := map[string]any{}
			list := flat[i+1].([]any)
			for j := 0; j < len(list); j += 2 {
				if name := list[j].(string); after70[name] == "" {
					subs[name] = docsOf(t, list[j+1].([]any))
				}
			}
			docs[key] = subs
		}
	}
	return docs
}

func TestCommandDocsAreRedis(t *testing.T) {
	o := newOracle(t)
	for _, c := range Commands {
		if _, later := after70[c.Name]; later {
			continue
		}
		theirs := o.do(t, "COMMAND", "DOCS", c.Name).([]any)
		ours := parse(t, written(func(w *Writer) { w.CommandDocs(c) })).([]any)
		if diff := cmp.Diff(docsOf(t, theirs[1].([]any)), docsOf(t, ours)); diff != "" {
			t.Errorf("%s: -redis +ours\n%s", c.Name, diff)
		}
	}
}

// written is what f writes, in RESP2.
func written(f func(*Writer)) []byte {
	w := Writer{Proto: 2}
	f(&w)
	return w.B
}
