package verb

import (
	"strings"
	"testing"
)

// TestTableIsSound: names are unique where somebody has to tell them apart.
func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for i := range Rows {
		r := &Rows[i]
		if seen[r.Name] || r.Name != strings.ToUpper(r.Name) || r.Short == "" || strings.HasSuffix(r.Short, ".") || !strings.HasSuffix(r.Help, ".") {
			t.Errorf("%s: twice, or not in capitals, or without its help", r.Name)
		}
		seen[r.Name] = true
		fields, flags := map[string]bool{"admin": true, "json": true, "help": true}, map[string]bool{"admin": true, "password": true, "json": true, "help": true}
		for _, a := range r.Args {
			if fields[a.Name] || a.Help == "" || a.Name != strings.ToLower(a.Name) {
				t.Errorf("%s: argument %s: twice, or without help", r.Name, a.Name)
			}
			fields[a.Name] = true
		}
		for j := range r.Options {
			o := &r.Options[j]
			if fields[o.Field()] || flags[o.FlagName()] || o.Help == "" || o.Name != strings.ToUpper(o.Name) {
				t.Errorf("%s: option %s: twice, or without help", r.Name, o.Name)
			}
			fields[o.Field()], flags[o.FlagName()] = true, true
			if o.Not != "" && r.Option(o.Not).Not != o.Name {
				t.Errorf("%s: %s excludes %s, but not the other way", r.Name, o.Name, o.Not)
			}
			for k := range o.Values {
				if v := &o.Values[k]; v.want() == "" {
					t.Errorf("%s: %s does not say what it wants", r.Name, o.Name)
				}
			}
			if o.None != "" {
				if _, err := o.Values[0].parse(o.None); err != nil {
					t.Errorf("%s: %s is not taken away by %s: %v", r.Name, o.Name, o.None, err)
				}
			}
		}
	}
}

// TestMistakes: what each is told, as words, and as fields where these can say it.
func TestMistakes(t *testing.T) {
	for _, x := range []struct{ words, fields, want string }{
		{"", "", "wrong number of arguments for 'proxy' command"},
		{"NOSUCH x", "", "unknown subcommand 'NOSUCH'. Try PROXY HELP."},
		{"GROUP", "", "GROUP needs a subcommand; usage: PROXY GROUP LIST | ADD <id> <host:port> [PASSWORD <password>] [UNCHECKED|TAKEOVER] | SET"},
		{"SLOT NOSUCH", "", "unknown subcommand 'NOSUCH' of SLOT. Try PROXY SLOT HELP."},
		{"MIGRATION WATCH", "", "unknown subcommand 'WATCH' of MIGRATION. Try PROXY MIGRATION HELP."},
		{"MIGRATE", "{}", "<first>-<last>[,<first>-<last>...] is missing: the slots, as 0-1023,5000; usage: PROXY MIGRATE <first>"},
		{"MIGRATE 0-5", `{"slots":"0-5"}`, "TO <group> is missing: the group that gets the slots; usage"},
		{"MIGRATE 5- TO g2", `{"slots":"5-","to":"g2"}`, `slots "5-": want <first>-<last>[,<first>-<last>...]; usage`},
		{"MIGRATE 0 TO g2 nosuch 5", `{"slots":0,"to":"g2","nosuch":5}`, "unknown option 'NOSUCH': MIGRATE has TO, RATE, BYTES"},
		{"MIGRATE 0 TO g2 RATE", `{"slots":0,"to":"g2","rate":null}`, "RATE needs a value: keys per second, or 0 for no limit"},
		{"MIGRATE 0 TO g2 RATE x", `{"slots":0,"to":"g2","rate":"x"}`, `RATE "x": want keys per second, or 0 for no limit`},
		{"MIGRATE 0 TO g2 RATE -1", `{"slots":0,"to":"g2","rate":-1}`, `RATE "-1": want keys per second`},
		{"MIGRATE 0 TO g2 BYTES 5tb", `{"slots":0,"to":"g2","bytes":"5tb"}`, `BYTES "5tb": want bytes per second`},
		{"MIGRATE 0 TO g2 PARALLEL 65", `{"slots":0,"to":"g2","parallel":65}`, `PARALLEL "65": want 0 (as configured) to 64`},
		{"MIGRATE 0 TO g2 MAXP99 60001", `{"slots":0,"to":"g2","maxp99":60001}`, `MAXP99 "60001": want milliseconds up to 60000, auto`},
		{"MIGRATE 0 TO g2 SLICE 5", `{"slots":0,"to":"g2","slice":5}`, `SLICE "5": want 100ms to 24h of work`},
		{"MIGRATE 0 TO g2 DURABILITY x", `{"slots":0,"to":"g2","durability":"x"}`, `DURABILITY "x": want auto, none, replica or aof`},
		{"MIGRATE 0 TO g2 VERIFY 0%", `{"slots":0,"to":"g2","verify":"0%"}`, `VERIFY "0%": want full, or a share of the keys as sample=1%`},
		{"MIGRATE 0 TO g2 VERIFY 5", `{"slots":0,"to":"g2","verify":5}`, `VERIFY "5": want full`},
		{"MIGRATE 0 TO g2 RATE 1 RATE 2", `{"slots":0,"to":"g2","rate":1,"RATE":2}`, "RATE is given twice"},
		{"MIGRATE 0 TO g2 PURGE PURGE", `{"slots":0,"to":"g2","purge":true,"purge":true}`, "PURGE is given twice"},
		{"MIGRATE 0 TO g2 PURGE x", `{"slots":0,"to":"g2","purge":"x"}`, `PURGE "x": want the number of keys that it will remove`},
		{"MIGRATE 0 TO g2 PURGE -1", `{"slots":0,"to":"g2","purge":-1}`, `PURGE "-1": want the number of keys`},
		{"", `{"id":"m1","nosuch":true}`, "unknown option 'NOSUCH'"},
		{"REBALANCE BY X", `{"by":"X"}`, `BY "X": want SLOTS, KEYS, MEMORY or OPS`},
		{"REBALANCE WEIGHT g1 x", `{"weight":{"g1":"x"}}`, `WEIGHT g1 "x": want a number from 0, which empties the group, to 1000000`},
		{"REBALANCE WEIGHT g1 nan", `{"weight":"g1=nan"}`, `WEIGHT g1 "nan": want`},
		{"REBALANCE WEIGHT g1", `{"weight":"g1"}`, `WEIGHT needs a value: a group, then a number from 0`},
		{"MIGRATION LIMIT m1", `{"id":"m1"}`, "want at least one of RATE, BYTES, PARALLEL, MAXP99 and SLICE; usage"},
		{"MIGRATION CANCEL m1 STAY REVERT", `{"id":"m1","stay":true,"revert":true}`, "STAY and REVERT exclude each other; usage: PROXY MIGRATION CANCEL <id> [STAY|REVERT]"},
		{"GROUP SET g1 NOPASSWORD PASSWORD x", `{"id":"g1","nopassword":true,"password":"x"}`, "NOPASSWORD and PASSWORD exclude each other"},
		{"HOTKEYS 0", `{"count":0}`, `count "0": want 1 to 1000; usage: PROXY HOTKEYS [<count>]`},
		{"HOTKEYS 1 2", `{"count":1,"2":true}`, "unknown option '2': HOTKEYS has none; usage"},
		{"HOTKEYS JSON JSON", `{"count":"JSON"}`, `count "JSON": want`},
		{"KEY k DB", `{"key":"k","db":null}`, "DB needs a value: the number of a database"},
		{"SLOT CHECK FIX ALL", `{"fix":"ALL"}`, `FIX "ALL": want TWINS, DROP or ADOPT`},
		{"", `{"id":"m1","id":"m2"}`, "id is given twice"},
		{"", `[]`, "want a JSON object"},
		{"", `{"id":`, "want a JSON object"},
		{"", `{"id":"m1"} x`, "want a JSON object"},
		{"", `{"id":{"a":1}}`, "id: want a text, a number or true"},
		{"", `{"id":["m1","m2"]}`, "id: want one value, got 2"},
	} {
		words := strings.Fields(x.words)
		if x.words != "" || x.fields == "" {
			if _, err := Parse(words); err == nil || !strings.HasPrefix(err.Error(), x.want) {
				t.Errorf("%q: %v, want %s", words, err, x.want)
			}
		}
		if x.fields == "" {
			continue
		}
		row := Find("MIGRATION PAUSE")
		if len(words) > 0 {
			row, _, _ = rowOf(words)
		}
		given, err := row.FromJSON([]byte(x.fields))
		if err == nil {
			_, err = row.Bind(given, true)
		}
		if err == nil || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%s %s: %v, want %s", row.Name, x.fields, err, x.want)
		}
	}
}

// TestDecode: values come out with their types.
func TestDecode(t *testing.T) {
	type Limits struct {
		Rate  *float64 `verb:"RATE"`
		Bytes *float64 `verb:"BYTES"`
		P99   Bound    `verb:"MAXP99"`
	}
	var a struct {
		Slots Slots  `verb:"slots"`
		To    string `verb:"TO"`
		Limits
		Share float64 `verb:"VERIFY"`
		Purge *int    `verb:"PURGE"`
		Dry   bool    `verb:"DRYRUN"`
	}
	c, err := Parse(strings.Fields("migrate 0-5 RATE 1e3 to json PURGE 7 maxp99 OFF verify 5% json"))
	if err != nil {
		t.Fatal(err)
	}
	c.Decode(&a)
	if a.Slots != "0-5" || a.To != "json" || *a.Rate != 1000 || a.Bytes != nil || !a.P99.Off || a.Share != 0.05 || *a.Purge != 7 || a.Dry || !c.JSON {
		t.Errorf("%+v, JSON %v", a, c.JSON)
	}
	var w struct {
		Weights map[string]float64 `verb:"WEIGHT"`
	}
	row := Find("REBALANCE")
	given, err := row.FromJSON([]byte(`{"weight": {"g1": 2, "g2": 0.5}, "dryrun": false}`))
	if err != nil {
		t.Fatal(err)
	}
	if c, err = row.Bind(given, false); err != nil {
		t.Fatal(err)
	}
	c.Decode(&w)
	if w.Weights["g1"] != 2 || w.Weights["g2"] != 0.5 || c.Role() != Operate {
		t.Errorf("%v, role %s", w, c.Role())
	}
}

// TestJSONIsAKeyToo: the word asks for JSON only where nothing else can be meant.
func TestJSONIsAKeyToo(t *testing.T) {
	for words, want := range map[string]bool{"KEY json": false, "KEY json json": true, "SLOT OF JSON": false, "GROUP LIST JSON": true,
		"HOTKEYS JSON": true, "HOTKEYS 5 json": true, "EXPLAIN GET k JSON": true, "MIGRATION STATUS JSON": true} {
		c, err := Parse(strings.Fields(words))
		if err != nil || c.JSON != want {
			t.Errorf("%s: %v %v", words, c, err)
		}
	}
	c, err := Find("GROUP SET").Bind([]Given{{"id", []string{"g1"}}, {"password", []string{"json"}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(c.Words(false))
	if err != nil || again.values["PASSWORD"][0] != "json" {
		t.Errorf("%q: %v", c.Words(false), err)
	}
}

// TestRoles: an option may need more than its verb, or less.
func TestRoles(t *testing.T) {
	for words, want := range map[string]Role{"MIGRATE 0 TO g": Operate, "MIGRATE 0 TO g DRYRUN": View, "SLOT CHECK": View, "SLOT CHECK FIX": Operate, "GROUP DEL g": Administer} {
		if c, err := Parse(strings.Fields(words)); err != nil || c.Role() != want {
			t.Errorf("%s needs %v, want %s: %v", words, c.Role(), want, err)
		}
	}
}

// TestHelp is of one verb, of a container's, and of all.
func TestHelp(t *testing.T) {
	all, err := Help(nil)
	if err != nil || !strings.Contains(strings.Join(all, "\n"), "SLOT CHECK [FIX [TWINS|DROP|ADOPT]]") {
		t.Errorf("%v: %q", err, all)
	}
	for _, words := range []string{"HELP MIGRATION LIMIT", "MIGRATION HELP", "HELP migration", "MIGRATE HELP", "REBALANCE HELP"} {
		c, err := Parse(strings.Fields(words))
		if err != nil || c.Row.Name != "HELP" {
			t.Fatalf("%s: %v", words, err)
		}
		var a struct {
			Verb []string `verb:"verb"`
		}
		c.Decode(&a)
		if lines, err := Help(a.Verb); err != nil || !strings.HasPrefix(lines[0], "PROXY MIGRAT") && !strings.HasPrefix(lines[0], "PROXY REB") {
			t.Errorf("%s: %v, %q", words, err, lines)
		}
	}
	if _, err := Help([]string{"nosuch"}); err == nil {
		t.Error("help of a verb that there is not")
	}
}
