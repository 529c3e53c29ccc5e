package resp

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// extendForTest extends the table and puts it back when the test ends.
func extendForTest(t *testing.T, declarations ...string) {
	t.Helper()
	places, list, n := byName, slices.Clone(Commands), numCommands
	t.Cleanup(func() { byName, Commands, numCommands, extended = places, list, n, nil })
	if err := Extend(declarations); err != nil {
		t.Fatal(err)
	}
}

func TestExtend(t *testing.T) {
	before := NumCommands()
	declared := []string{
		"BF.EXISTS 3 readonly,fast keys=1,1,1",
		"JSON.MGET -3 readonly keys=1,-2,1",
		"json.mset -4 write,denyoom keys=1,-1,3",
		"TDIGEST.MERGE -4 write,denyoom keys=1,1,1 numkeys=2",
		"X.COUNT -3 readonly numkeys=1",
		"FT.CREATE -3 write,denyoom route=all",
		"FT.SEARCH -3 readonly route=any",
	}
	extendForTest(t, declared...)
	checkRows(t)
	if NumCommands() != before+len(declared) {
		t.Errorf("%d commands, were %d", NumCommands(), before)
	}
	for _, tc := range []struct {
		request string
		keys    []int
		bad     string
	}{
		{"bf.exists k x", []int{1}, ""},
		{"BF.Exists k", nil, "ERR wrong number of arguments for 'bf.exists' command"},
		{"JSON.MGET a b $", []int{1, 2}, ""},
		{"JSON.MSET a $ 1 b $ 2", []int{1, 4}, ""},
		{"JSON.MSET a $ 1 b", []int{1, 4}, ""}, // what the server makes of it is its affair
		{"TDIGEST.MERGE d 2 a b OVERRIDE", []int{1, 3, 4}, ""},
		{"X.COUNT 2 a b", []int{2, 3}, ""},
		{"FT.SEARCH i q", nil, ""},
	} {
		args := argv(strings.Fields(tc.request))
		c, bad := Resolve(args)
		if bad != tc.bad {
			t.Errorf("%s: %q, want %q", tc.request, bad, tc.bad)
		}
		if c == nil {
			continue
		}
		keys, err := c.AppendKeys(nil, args)
		if err != nil || !slices.Equal(keys, tc.keys) {
			t.Errorf("%s: keys %v, %v, want %v", tc.request, keys, err, tc.keys)
		}
		if len(tc.keys) > 0 {
			var want []any
			for _, k := range tc.keys {
				want = append(want, string(args[k]))
			}
			if diff := cmp.Diff(want, parse(t, AppendGetKeys(nil, args))); diff != "" {
				t.Errorf("COMMAND GETKEYS %s: -want +got\n%s", tc.request, diff)
			}
		}
	}
	for _, request := range []string{"X.COUNT 0 a", "X.COUNT 3 a b", "TDIGEST.MERGE d x a"} {
		args := argv(strings.Fields(request))
		c, _ := Resolve(args)
		if got, err := c.AppendKeys(nil, args); err == nil {
			t.Errorf("%s: keys %v, want an error", request, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Lookup([]byte("TDIGEST.MERGE")) }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
	if err := Extend(declared); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := Extend(declared[:1]); err == nil {
		t.Error("others were taken")
	}
}

// checkRows checks what every row of the table must hold.
func checkRows(t *testing.T) {
	if !slices.IsSortedFunc(Commands, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("Commands are not in order")
	}
	seen := make([]bool, NumCommands())
	eachRow(func(c *Command) {
		if seen[c.Index] {
			t.Errorf("%s: index %d is taken", c.Name, c.Index)
		}
		seen[c.Index] = true
		if top, sub, has := strings.Cut(c.Name, "|"); has && Lookup([]byte(top)).Sub([]byte(strings.ToUpper(sub))) != c {
			t.Errorf("%s is not found", c.Name)
		} else if !has && Lookup([]byte(strings.ToUpper(c.Name))) != c {
			t.Errorf("%s is not found", c.Name)
		}
	})
	if i := slices.Index(seen, false); i >= 0 {
		t.Errorf("no command has index %d", i)
	}
}

func TestExtensionInfo(t *testing.T) {
	extendForTest(t, "JSON.MGET -3 readonly keys=1,-2,1", "TD.MERGE -4 write,denyoom keys=1,1,1 numkeys=2", "FT.X -1 write route=any")
	spec := func(flags []any, index int64, kind string, limits ...any) any {
		return []any{"flags", flags, "begin_search", []any{"type", "index", "spec", []any{"index", index}},
			"find_keys", []any{"type", kind, "spec", limits}}
	}
	for name, want := range map[string][]any{
		"json.mget": {"json.mget", int64(-3), []any{status("readonly")}, int64(1), int64(-2), int64(1), []any{status("@read"), status("@slow")}, []any{},
			[]any{spec([]any{status("RO"), status("access")}, 1, "range", "lastkey", int64(-2), "keystep", int64(1), "limit", int64(0))}, []any{}},
		"td.merge": {"td.merge", int64(-4), []any{status("write"), status("denyoom"), status("movablekeys")}, int64(1), int64(1), int64(1),
			[]any{status("@write"), status("@slow")}, []any{},
			[]any{spec([]any{status("RW")}, 1, "range", "lastkey", int64(0), "keystep", int64(1), "limit", int64(0)),
				spec([]any{status("RW")}, 2, "keynum", "keynumidx", int64(0), "firstkey", int64(1), "keystep", int64(1))}, []any{}},
		"ft.x": {"ft.x", int64(-1), []any{status("write")}, int64(0), int64(0), int64(0), []any{status("@write"), status("@slow")}, []any{}, []any{}, []any{}},
	} {
		if diff := cmp.Diff(want, parse(t, written(func(w *Writer) { w.CommandInfo(Lookup([]byte(name))) })).([]any)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestExtensionsRefused(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for text, want := range map[string]string{
		"":                                  "want \"<name> <arity> <flags>",
		"X 2 readonly":                      "want \"<name> <arity> <flags>",
		"GET 2 readonly keys=1,1,1":         "a name that Redis does not have",
		"client 2 readonly keys=1,1,1":      "a name that Redis does not have",
		"x|y 2 readonly keys=1,1,1":         "want at most 64 letters",
		"é 2 readonly keys=1,1,1":           "want at most 64 letters",
		long + " 2 readonly keys=1,1,1":     "want at most 64 letters",
		"X 0 readonly keys=1,1,1":           "arity \"0\": want",
		"X two readonly keys=1,1,1":         "arity \"two\": want",
		"X 2 fast keys=1,1,1":               "want one of write and readonly",
		"X 2 readonly,write keys=1,1,1":     "want one of write and readonly",
		"X 2 readonly,blocking keys=1,1,1":  "flag \"blocking\": want write or readonly",
		"X 2 readonly,nonsense keys=1,1,1":  "flag \"nonsense\": want write or readonly",
		"X 2 readonly, keys=1,1,1":          "flag \"\": want write or readonly",
		"X 2 readonly keys=1,1":             "keys=1,1: want <first>,<last>,<step>",
		"X 2 readonly keys=0,0,0":           "want <first>,<last>,<step>",
		"X 3 readonly keys=2,1,1":           "want <first>,<last>,<step>",
		"X 3 readonly keys=1,1,0":           "want <first>,<last>,<step>",
		"X 3 readonly keys=a,1,1":           "want <first>,<last>,<step>",
		"X -2 readonly keys=2,2,1":          "keys that every request of arity -2 has",
		"X -2 readonly keys=1,-2,1":         "keys that every request of arity -2 has",
		"X -3 readonly numkeys=3":           "an argument that the arity makes certain",
		"X -3 readonly numkeys=0":           "an argument that the arity makes certain",
		"X -4 write keys=1,2,1 numkeys=3":   "one, before it: the destination",
		"X -4 write keys=3,3,1 numkeys=2":   "one, before it: the destination",
		"X -4 write keys=1,1,1 route=any":   "keys or a route, not both",
		"X -4 write route=any route=all":    "each once",
		"X -4 write keys=1,1,1 keys=1,1,1":  "each once",
		"X -4 write route=some":             "each once",
		"X -4 write route=any # a comment":  "each once",
		"X -4 readonly keys=1,1,1 numkeys=": "numkeys=: want",
	} {
		if _, err := ParseExtensions([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	_, err := ParseExtensions([]string{"X 2 readonly keys=1,1,1", "GET 2 readonly keys=1,1,1", "x 2 readonly keys=1,1,1"})
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "want each command once") {
		t.Errorf("want two errors, got %v", err)
	}
	if _, err := ParseExtensions(make([]string, maxExtensions+1)); err == nil || !strings.Contains(err.Error(), "want at most 256") {
		t.Errorf("too many: %v", err)
	}
}
