package admin

import (
	"reflect"
	"strings"
	"testing"

	"keyferry/internal/observe"
	"keyferry/internal/verb"
	"keyferry/internal/verb/verbtest"
	"keyferry/migrator"
	"keyferry/proxy/stats"
)

// TestEveryVerbIsBound: each row of the table has a function, with a field for each of its
// arguments and options that takes what the parser makes of it.
func TestEveryVerbIsBound(t *testing.T) {
	for i := range verb.Rows {
		r := &verb.Rows[i]
		b, ok := runners[r.Name]
		if ok == (r.Only == verb.OnlyCLI) {
			t.Errorf("%s: bound %v", r.Name, ok)
		}
		if !ok {
			continue
		}
		fields := map[string]bool{}
		tags(reflect.TypeOf(b.args()).Elem(), fields)
		for _, o := range verbtest.Options(r) {
			c, err := r.Bind(verbtest.Given(r, o), true)
			if err != nil {
				t.Fatal(err)
			}
			c.Decode(b.args()) // panics where types differ
			if o != nil && !fields[o.Name] {
				t.Errorf("%s: nothing takes %s", r.Name, o.Name)
			}
		}
		for _, a := range r.Args {
			if !fields[a.Name] {
				t.Errorf("%s: nothing takes %s", r.Name, a.Name)
			}
		}
	}
	for name := range runners {
		if verb.Find(name) == nil {
			t.Errorf("%s is not in the table", name)
		}
	}
}

func tags(t reflect.Type, into map[string]bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous {
			tags(f.Type, into)
		} else {
			into[f.Tag.Get("verb")] = true
		}
	}
}

// TestColumnsAreFields: a table that keyferry prints shows fields that the answer has.
func TestColumnsAreFields(t *testing.T) {
	answers := map[string]any{"GROUP LIST": GroupRow{}, "GATEWAY LIST": observe.Gateway{}, "SLOT LIST": SlotRow{}, "SLOT CHECK": migrator.Orphans{}, "MIGRATION VERIFY": migrator.Orphans{}, "MIGRATION LIST": migrator.Status{},
		"MIGRATE": migrator.Plan{}, "REBALANCE": migrator.Plan{}, "HOTKEYS": stats.HotKey{}, "BIGKEYS": BigKeyRow{}, "LOCKS": LockRow{}}
	for name, value := range answers {
		names := map[string]bool{}
		jsonNames(reflect.TypeOf(value), names)
		for _, c := range verb.Find(name).Columns {
			for _, f := range c.Fields() {
				if !names[f] {
					t.Errorf("%s: column %s shows %s, which is not in %T", name, c.Head, f, value)
				}
			}
		}
	}
	for i := range verb.Rows {
		if r := &verb.Rows[i]; (r.Show == verb.ShowTable) != (len(r.Columns) > 0 && answers[r.Name] != nil) {
			t.Errorf("%s: a table without columns, or columns without a table", r.Name)
		}
	}
}

func jsonNames(t reflect.Type, into map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			jsonNames(f.Type, into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		into[name] = true
	}
}
