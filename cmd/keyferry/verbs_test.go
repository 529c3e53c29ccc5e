package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/tidwall/redcon"

	"keyferry/internal/verb"
	"keyferry/internal/verb/verbtest"
)

// recorder is an admin port that takes any verb and remembers the words.
type recorder struct {
	addr   string
	answer string // in JSON, to what is asked for as JSON
	jobs   string // in JSON, to MIGRATION LIST; "": as to the others

	mu   sync.Mutex // protects said
	said []string
}

func record(t *testing.T) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{addr: ln.Addr().String(), answer: "[]"}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = redcon.Serve(ln, func(c redcon.Conn, cmd redcon.Command) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !strings.EqualFold(string(cmd.Args[0]), "PROXY") { // what the client asks at its start
				c.WriteError("ERR unknown command")
				return
			}
			var said []string
			for _, a := range cmd.Args[1:] {
				said = append(said, string(a))
			}
			if strings.Join(said, " ") == "MIGRATION LIST JSON" && r.jobs != "" { // what comes behind another verb
				c.WriteBulkString(r.jobs)
				return
			}
			if r.said = said; r.said[len(r.said)-1] == "JSON" {
				c.WriteBulkString(r.answer)
			} else {
				c.WriteString("OK")
			}
		}, nil, nil)
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return r
}

// keyferry runs a command line and returns what it printed.
func keyferry(args ...string) (string, error) {
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(io.Discard)
	err := c.Execute()
	return out.String(), err
}

// commandLine says what was given as flags.
func commandLine(r *verb.Row, given []verb.Given) []string {
	var words []string
	for i := range r.Options {
		o := &r.Options[i]
		for _, g := range given {
			switch {
			case g.Name != o.Name:
			case len(o.Values) == 2:
				words = append(words, "--"+o.FlagName(), strings.Join(g.Values, "="))
			default:
				words = append(append(words, "--"+o.FlagName()), g.Values...)
			}
		}
	}
	for i := range r.Args {
		words = append(words, given[i].Values...)
	}
	return append(strings.Fields(r.CLI()), words...)
}

// TestEveryOptionIsAFlag: each verb is a command that says to the gateway what it was given.
func TestEveryOptionIsAFlag(t *testing.T) {
	gw := record(t)
	gw.jobs = `[{"id":"json","phase":"bulk","published":true}]` // the one that is resumed
	for i := range verb.Rows {
		r := &verb.Rows[i]
		if r.Only != "" {
			continue
		}
		for _, o := range verbtest.Options(r) {
			given := verbtest.Given(r, o)
			want, err := r.Bind(given, true)
			if err != nil {
				t.Fatal(err)
			}
			line := commandLine(r, given)
			args := append(slices.Clone(strings.Fields(r.CLI())), "--admin", gw.addr)
			if _, err := keyferry(append(args, line[len(strings.Fields(r.CLI())):]...)...); err != nil {
				t.Errorf("keyferry %q: %v", line, err)
			}
			if said := gw.said; r.Name != "MIGRATION LIST" && !slices.Equal(said, want.Words(false)) && !slices.Equal(said, want.Words(true)) {
				t.Errorf("keyferry %q says %q, want %q", line, said, want.Words(false))
			}
		}
	}
}

// TestEveryFlagIsAnOption: the reverse, and no command that is not a verb.
func TestEveryFlagIsAnOption(t *testing.T) {
	connection := map[string]bool{"admin": true, "password": true, "json": true, "help": true, "wait": true}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.HasSubCommands() {
			for _, sub := range c.Commands() {
				walk(sub)
			}
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
		if name == "store copy" { // it asks no gateway
			return
		}
		row, given := verb.Find(name), ""
		for i := range verb.Rows {
			if a := verb.Rows[i].Alias; a != nil && a.Name == name {
				row, given = &verb.Rows[i], a.Given
			}
		}
		if row == nil {
			t.Errorf("keyferry %s is not in the table", name)
			return
		}
		flags := map[string]bool{}
		for i := range row.Options {
			o := &row.Options[i]
			flags[o.FlagName()] = o.Name != given
			if o.Name != given && c.Flags().Lookup(o.FlagName()) == nil {
				t.Errorf("keyferry %s has no --%s", name, o.FlagName())
			}
		}
		c.InheritedFlags() // parses those of its parents into its own
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !flags[f.Name] && !connection[f.Name] {
				t.Errorf("keyferry %s has --%s, which is not in the table", name, f.Name)
			}
		})
	}
	r := root()
	for _, c := range verbCommands() {
		found, _, err := r.Find([]string{c.Name()})
		if err != nil || found == r {
			t.Fatalf("keyferry has no %s: %v", c.Name(), err)
		}
		walk(found)
	}
}

// TestMistakesInFlags: the same words as at the gateway, and the exit code of a command
// line that is wrong. Nothing listens at the address: a mistake needs no gateway.
func TestMistakesInFlags(t *testing.T) {
	for _, x := range []struct{ line, words string }{
		{"migrate", "MIGRATE"},
		{"migrate 0-5", "MIGRATE 0-5"},
		{"migrate 5- --to g2", "MIGRATE 5- TO g2"},
		{"migrate 0 --to g2 --nosuch 5", "MIGRATE 0 TO g2 NOSUCH"},
		{"migrate 0 --to g2 --rate", "MIGRATE 0 TO g2 RATE"},
		{"migrate 0 --to g2 --rate x", "MIGRATE 0 TO g2 RATE x"},
		{"migrate 0 --to g2 --rate 1 --rate 2", "MIGRATE 0 TO g2 RATE 1 RATE 2"},
		{"migrate 0 --to g2 --purge 1 --purge 2", "MIGRATE 0 TO g2 PURGE 1 PURGE 2"},
		{"migrate 0 --to g2 --purge x", "MIGRATE 0 TO g2 PURGE x"},
		{"check 0 --to g2 --durability x", "MIGRATE 0 TO g2 DURABILITY x"},
		{"migrate 0 --to g2 --parallel 65", "MIGRATE 0 TO g2 PARALLEL 65"},
		{"migrate 0 --to g2 --max-p99 -1", "MIGRATE 0 TO g2 MAXP99 -1"},
		{"migration limit m1", "MIGRATION LIMIT m1"},
		{"migration limit m1 --slice 5", "MIGRATION LIMIT m1 SLICE 5"},
		{"migration cancel m1 --stay --revert", "MIGRATION CANCEL m1 STAY REVERT"},
		{"rebalance --by x", "REBALANCE BY x"},
		{"rebalance --weight g1", "REBALANCE WEIGHT g1"},
		{"rebalance --weight g1=2,g2=x", "REBALANCE WEIGHT g1 2 WEIGHT g2 x"},
		{"hotkeys 0", "HOTKEYS 0"},
		{"hotkeys 1 2", "HOTKEYS 1 2"},
		{"key k --db x", "KEY k DB x"},
		{"slot check --fix all", "SLOT CHECK FIX all"},
		{"group set g1", "GROUP SET g1"},
	} {
		_, want := verb.Parse(strings.Fields(x.words))
		var e *verb.Error
		if !errors.As(want, &e) {
			t.Fatalf("PROXY %s is no mistake", x.words)
		}
		_, err := keyferry(append(strings.Fields(x.line), "--admin", "127.0.0.1:1")...)
		if x.line == "migrate 0 --to g2 --rate" { // the flag would eat the next word
			_, err = keyferry("migrate", "0", "--to", "g2", "--rate")
		}
		if err == nil || exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), e.Text) {
			t.Errorf("keyferry %s: %v, want %s", x.line, err, e.Text)
		}
	}
}

// TestAnswersAsText: what scripts and people read.
func TestAnswersAsText(t *testing.T) {
	gw := record(t)
	gw.jobs = `[{"id":"m1","phase":"bulk","published":true},{"id":"m2","phase":"done"}]` // after migrate
	for _, x := range []struct{ line, answer, want string }{
		{"group list", `[{"id":"g1","addr":"a:1","slots":5,"ranges":"0-4","state":"down","error":"refused"}]`, "GROUP  ADDRESS  STATE  SLOTS  RANGES  ERROR\ng1     a:1      down   5      0-4     refused\n"},
		{"slot list", `[{"first":0,"last":16383,"group":"g1","state":"stable"}]`, "SLOTS    GROUP  STATE   TARGET  JOB\n0-16383  g1     stable          \n"},
		{"migrate 0 --to g2", `["m1","m2"]`, "m1\nm2\n"},
		{"rebalance", `[]`, ""},
		{"rebalance --dryrun", `[{"source":"g1","target":"g2","slots":[{"first":0,"last":9},{"first":20,"last":20}],"estimated_keys":7,"estimated_bytes":-1,"estimated_seconds":0,"ok":true,"findings":[]}]`,
			"g1 → g2: 11 slots (0-9,20-20), about 7 keys, ? bytes, 0 s\n  no findings\n"},
		{"check 0 --to g2", `[{"source":"g1","target":"g2","estimated_keys":7,"estimated_bytes":9,"estimated_seconds":-1,"ok":true,"findings":[]}]`,
			"g1 → g2: about 7 keys, 9 bytes, ? s\n  no findings\n"},
		{"hotkeys", `[{"key":"k","db":0,"slot":5,"per_s":10.6,"writes":0.25}]`, "KEY  DB  SLOT  COMMANDS/S  WRITES\nk    0   5     11          25%\n"},
		{"slot check", `[{"group":"g1","keys_scanned":5,"twins":1,"alone":0,"removed":0,"adopted":0,"keys_unserved":4,"sample":["0/k"]}]`,
			"GROUP  KEYS  TWINS  ALONE  REMOVED  ADOPTED  NOT SERVED  SUCH AS\ng1     5     1      0      0        0        4           [\"0/k\"]\n"},
		{"migration pause m1", "", "OK\n"},
		{"migration pause m1 --json", "OK", "\"OK\"\n"},
		{"group list --json", `[{"id":"g1"}]`, "[{\"id\":\"g1\"}]\n"},
	} {
		gw.answer = x.answer
		got, err := keyferry(append(strings.Fields(x.line), "--admin", gw.addr)...)
		if found := x.line == "slot check"; found != errors.Is(err, errFound) || !found && err != nil || got != x.want {
			t.Errorf("keyferry %s: %v\n%q, want\n%q", x.line, err, got, x.want)
		}
	}
	for answer, want := range map[string]error{`[{"group":"g1","keys_unserved":4}]`: errFound, `[{"group":"g1","twins":2,"removed":2}]`: nil} {
		gw.answer = answer
		for _, line := range []string{"slot check", "migration verify m1"} {
			if _, err := keyferry(append(strings.Fields(line), "--admin", gw.addr)...); !errors.Is(err, want) {
				t.Errorf("keyferry %s, answered %s: %v, want %v", line, answer, err, want)
			}
		}
	}
	gw.answer = `[{"source":"g1","target":"g2","ok":false,"findings":[{"severity":"error","what":"role","where":"g2","text":"is a replica","advice":"name its primary"}]}]`
	for _, line := range []string{"check 0 --to g2", "migrate 0 --to g2 --dryrun", "check 0 --to g2 --json", "rebalance --dryrun"} {
		got, err := keyferry(append(strings.Fields(line), "--admin", gw.addr)...)
		if !errors.Is(err, errRefused) || !strings.Contains(got, "is a replica") || !strings.Contains(got, "name its primary") {
			t.Errorf("keyferry %s: %v %s", line, err, fmt.Sprint(got))
		}
	}
}

// TestCompletion of what the table knows, with no gateway there.
func TestCompletion(t *testing.T) {
	for _, x := range []struct{ line, want string }{
		{"migrate 0 --durability ", "auto\nnone\nreplica\naof\n"}, {"slot check --fix ", "twins\ndrop\nadopt\n"}, {"migrate 0 --verify ", "full\n"},
		{"migrate 0 --max-p99 ", "auto\noff\n"}, {"migrate 0 --slice ", "off\n"}, {"migrate 0 --to ", ":4\n"}, {"key ", ":4\n"}, {"migrate 0 g1 ", ":4\n"},
	} {
		got, err := keyferry(append([]string{"__complete", "--admin", "127.0.0.1:1"}, strings.Split(x.line, " ")...)...)
		if x.line = strings.TrimSuffix(x.line, " "); err != nil || !strings.HasPrefix(got, x.want) {
			t.Errorf("%s <tab>: %v\n%s, want %s", x.line, err, got, x.want)
		}
	}
}
