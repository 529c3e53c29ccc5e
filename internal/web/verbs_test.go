package web_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/verb"
	"keyferry/internal/verb/verbtest"
)

// unknown is a word at which a verb is refused when all before it has been taken, so that
// nothing is done.
const unknown = "NOSUCH"

// post runs a verb over HTTP and gives the status and the body.
func (r *rig) post(path, body string) (int, string) {
	r.t.Helper()
	code, text, _ := r.do(r.request("POST", "/api/v1/verbs/"+path, body, "X-Keyferry", "1"))
	return code, text
}

// fieldsOf says what was given as fields of JSON, and one more that is unknown.
func fieldsOf(given []verb.Given) string {
	var parts []string
	quoted := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	for _, g := range given {
		value := "true"
		switch len(g.Values) {
		case 1:
			value = quoted(g.Values[0])
		case 2:
			value = quoted(map[string]string{g.Values[0]: g.Values[1]})
		}
		parts = append(parts, quoted(strings.ToLower(g.Name))+":"+value)
	}
	return "{" + strings.Join(append(parts, `"`+strings.ToLower(unknown)+`":1`), ",") + "}"
}

// TestEveryOptionIsAField: each option of each verb is taken as a field of the API and as
// a word over RESP, and nothing else is; both say so in the same words.
func TestEveryOptionIsAField(t *testing.T) {
	r := newRig(t, "")
	a := testredis.NewClient(r.g.Admin.Addr(), "", 0)
	defer a.Close()
	for i := range verb.Rows {
		row := &verb.Rows[i]
		for _, o := range verbtest.Options(row) {
			given := verbtest.Given(row, o)
			code, text := r.post(row.Path(), fieldsOf(given))
			if row.Only != "" {
				if code != 404 {
					t.Errorf("%s: %d %s", row.Path(), code, text)
				}
				continue
			}
			_, err := row.Bind(append(given, verb.Given{Name: unknown}), true)
			want := err.Error()
			if body := decodeError(t, text); code != 400 || body != want {
				t.Errorf("%s %s: %d %s, want %s", row.Path(), fieldsOf(given), code, body, want)
			}
			if n := len(row.Args); n > 0 && row.Args[n-1].Kind == verb.Words {
				continue // it takes every word
			}
			words := []any{"PROXY"}
			for _, w := range strings.Fields(row.Name) {
				words = append(words, w)
			}
			for j, g := range given {
				if j >= len(row.Args) {
					words = append(words, g.Name)
				}
				for _, v := range g.Values {
					words = append(words, v)
				}
			}
			if err := a.Do(context.Background(), append(words, unknown)...).Err(); err == nil || err.Error() != "ERR "+want {
				t.Errorf("%q: %v, want %s", words, err, want)
			}
		}
	}
}

func decodeError(t *testing.T, body string) string {
	t.Helper()
	var e struct{ Error string }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return e.Error
}

// TestMistakesSoundTheSame over HTTP, as fields, and over RESP.
func TestMistakesSoundTheSame(t *testing.T) {
	r := newRig(t, "")
	a := testredis.NewClient(r.g.Admin.Addr(), "", 0)
	defer a.Close()
	for _, x := range []struct{ words, path, body string }{
		{"MIGRATE 0 TO g2 RATE", "migrate", `{"slots":0,"to":"g2","rate":null}`},
		{"MIGRATE 0 TO g2 RATE -5", "migrate", `{"slots":0,"to":"g2","rate":-5}`},
		{"MIGRATE 0 TO g2 PARALLEL 99", "migrate", `{"slots":0,"to":"g2","parallel":99}`},
		{"MIGRATE 0 TO g2 SLICE 1s SLICE 2s", "migrate", `{"slots":0,"to":"g2","slice":"1s","slice":"2s"}`},
		{"MIGRATE 0", "migrate", `{"slots":0}`},
		{"MIGRATE 99999 TO g2", "migrate", `{"slots":99999,"to":"g2"}`},
		{"REBALANCE WEIGHT g1 x", "rebalance", `{"weight":{"g1":"x"}}`},
		{"MIGRATION LIMIT m1", "migration/limit", `{"id":"m1"}`},
		{"MIGRATION PAUSE m77", "migration/pause", `{"id":"m77"}`},
		{"GROUP SET g1 NOPASSWORD PASSWORD x", "group/set", `{"id":"g1","nopassword":true,"password":"x"}`},
		{"LOCKS 1001", "locks", `{"count":1001}`},
	} {
		words := []any{"PROXY"}
		for _, w := range strings.Fields(x.words) {
			words = append(words, w)
		}
		said := a.Do(context.Background(), words...).Err()
		code, body := r.post(x.path, x.body)
		if got := decodeError(t, body); said == nil || code != 400 || "ERR "+got != said.Error() {
			t.Errorf("%s: RESP says %v, HTTP %d %s", x.words, said, code, got)
		}
	}
	for path, want := range map[string]string{
		"/api/v1/hotkeys?count=0":         `count "0": want 1 to 1000; usage: PROXY HOTKEYS [<count>]`,
		"/api/v1/locks?nosuch=1":          "unknown option 'NOSUCH': LOCKS has none; usage: PROXY LOCKS [<count>]",
		"/api/v1/key":                     "<key> is missing: the key; usage: PROXY KEY <key> [DB <n>]",
		"/api/v1/key?key=k&key=l":         "key is given twice; usage: PROXY KEY <key> [DB <n>]",
		"/api/v1/key?key=k&db=x":          `DB "x": want the number of a database`,
		"/api/v1/explain?arg=GET&nosuch=": "unknown option 'NOSUCH': EXPLAIN has none; usage: PROXY EXPLAIN <command> [<arg> ...]",
	} {
		code, body, _ := r.do(r.request("GET", path, ""))
		if got := decodeError(t, body); code != 400 || got != want {
			t.Errorf("%s: %d %s, want %s", path, code, got, want)
		}
	}
}

// TestVerbsOverHTTP do what they do over RESP, and answer in JSON.
func TestVerbsOverHTTP(t *testing.T) {
	r := newRig(t, "")
	for _, x := range []struct{ path, body, want string }{
		{"migrate", `{"slots":"0-99","to":"g2","dryrun":true,"durability":"none","verify":"full","slice":"1s/1s"}`, `{"result":[{"source":"g1","target":"g2","slots":[{"first":0,"last":99}],`},
		{"rebalance", `{"by":"slots","weight":{"g1":1,"g2":3},"dryrun":true}`, `"slots":[{"first":4096,"last":16383}]`},
		{"migrate", `{"slots":"0-99","to":"g2","rate":1,"purge":false}`, `{"result":["m1"]}`},
		{"migration/limit", `{"id":"m1","rate":0,"maxp99":"off"}`, `{"result":"OK"}`},
		{"migration/status", `{"id":"m1"}`, `"max_p99_ms":-1`},
		{"migration/list", ``, `"id":"m1"`},
		{"slot/of", `{"key":"k"}`, `{"result":{"slot":7629,"group":"g1","state":"stable"`},
		{"slot/check", `{"fix":true}`, `"keys_scanned"`},
		{"epoch", `{}`, `{"result":{"stored":`},
		{"explain", `{"arg":["GET","k"]}`, `"outcome":"serve"`},
		{"group/list", `{}`, `"id":"g2"`},
		{"info", ``, `{"result":"# Gateway`},
	} {
		if code, got := r.post(x.path, x.body); code != 200 || !strings.Contains(got, x.want) {
			t.Errorf("%s %s: %d %.300s, want %s", x.path, x.body, code, got, x.want)
		}
	}
	if table := r.get("/api/v1/verbs"); !strings.Contains(table, `{"name":"MIGRATION LIMIT","role":"operate","args":[{"name":"id","kind":"job"`) {
		t.Errorf("the table: %.300s", table)
	}
}
