package proxy

import (
	"slices"
	"testing"

	"keyferry/internal/resp"
)

// TestEveryCommandHasAHandler: each row of the table has one, with its subcommands and what
// a configuration may declare; and each handler by name is of a row that the gateway serves
// by itself, so that a misspelt name is no handler of nothing.
func TestEveryCommandHasAHandler(t *testing.T) {
	rows := allCommands()
	declared, err := resp.ParseExtensions([]string{
		"my.get 2 readonly keys=1,1,1", "my.join -4 write numkeys=2", "my.any -1 readonly route=any", "my.all -1 readonly route=all",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range declared {
		c.Index = len(rows)
		rows = append(rows, c)
	}
	for i, h := range handlersOf(rows) {
		if h == nil {
			t.Errorf("index %d has no handler", i)
		}
	}
	named := make(map[string]bool)
	for name := range atOnce {
		named[name] = true
	}
	for name := range inTurn {
		if named[name] {
			t.Errorf("%s has two handlers", name)
		}
		named[name] = true
	}
	for _, c := range rows {
		own := []resp.Serve{resp.Local, resp.Transaction, resp.Hub, resp.All, resp.Script}
		// HSCAN and its kin go where their key is as any other, and have their replies taken apart.
		if named[c.Name] && !slices.Contains(own, c.Serve) && c.Traits&resp.ScansElements == 0 {
			t.Errorf("%s has a handler by name, and is served as %d", c.Name, c.Serve)
		}
		delete(named, c.Name)
	}
	for name := range named {
		t.Errorf("%s has a handler, and is no command", name)
	}
}

// TestRowWithoutAHandler: such a table is not made.
func TestRowWithoutAHandler(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a command that nothing runs was let through")
		}
	}()
	handlersOf([]*resp.Command{{Name: "nosuch", Serve: resp.Local}})
}
