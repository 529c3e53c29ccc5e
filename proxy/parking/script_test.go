package parking

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyferry/slotlock"
)

var update = flag.Bool("update", false, "write the transcripts anew; read the difference before you commit it")

// TestScripts runs the scripts in testdata. A line that is indented is what the line above
// it led to.
func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	var out strings.Builder
	r := newRig(strings.Contains(script, "\nopen\n"))
	r.say = func(format string, args ...any) { fmt.Fprintf(&out, "\t"+format+"\n", args...) }
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line)
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			r.do(t, words[0], words[1:])
			if r.armed {
				r.say("armed")
				r.armed = false
			}
		}
	}
	return out.String()
}

func (r *rig) do(t *testing.T, verb string, args []string) {
	switch verb {
	case "open": // the slot is moved in one piece; see play
	case "enter":
		flags := func(name string) bool {
			i := slices.Index(args, name)
			if i >= 0 {
				args = slices.Delete(slices.Clone(args), i, i+1)
			}
			return i >= 0
		}
		unnamed, pull, patient := flags("(unnamed)"), flags("(pull)"), flags("(patient)")
		r.enter(args[0], keysOf(args[1:]), unnamed, pull, patient)
	case "answer":
		r.commands[args[0]].Release()
	case "lose": // its connection
		r.say("holds %v", r.commands[args[0]].Holds())
		h := r.commands[args[0]].HandOver()
		r.say("%s", r.state())
		h.Release()
	case "withdraw":
		r.lot.Resume(r.lot.Withdraw(&r.commands[args[0]].Command))
	case "mail":
		for len(r.mail) > 0 {
			r.deliver()
		}
	case "after":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(d)
		r.lot.Expire(r.now)
	case "state":
		r.say("%s", r.state())
	default:
		if !r.move(verb, args) {
			r.control(t, verb, args)
		}
	}
}

// move is what the mover does. False: it does not know the verb.
func (r *rig) move(verb string, args []string) bool {
	for _, k := range keysOf(args) {
		switch verb {
		case "lock":
			r.say("%v", r.locks.TryLock(k))
		case "want":
			r.say("%v", r.locks.Want(k))
		case "commit":
			r.locks.Commit(k)
		case "abort":
			r.locks.Abort(k, false)
		case "stays":
			r.locks.Abort(k, true)
		default:
			return false
		}
	}
	if verb == "take" {
		for _, k := range r.locks.Take(10) {
			r.say("%s", k.Name)
		}
		return true
	}
	return len(args) > 0
}

// control is what the job as a whole does.
func (r *rig) control(t *testing.T, verb string, args []string) {
	switch strings.Join(append([]string{verb}, args...), " ") {
	case "resolve":
		r.locks.SetMode(slotlock.Resolve)
	case "all-target":
		r.locks.SetMode(slotlock.AllTarget)
	case "all-source":
		r.locks.SetMode(slotlock.AllSource)
	case "freeze":
		r.locks.Freeze()
	case "thaw":
		r.locks.Thaw()
	case "target-away":
		r.locks.SetAway(true)
	case "reverse":
		r.locks.Reverse(slotlock.Options{})
	case "slot closed":
		r.whole.Set(0, slotlock.Closed)
	case "slot open":
		r.whole.Set(0, slotlock.Open)
	case "slot moved":
		r.whole.Set(0, slotlock.Moved)
	case "slot per-key":
		r.whole.Set(0, slotlock.PerKey)
	case "settle":
		r.lot.Settle()
	default:
		r.tables(t, verb, args)
	}
}

// tables offers tables and answers marks.
func (r *rig) tables(t *testing.T, verb string, args []string) {
	switch verb {
	case "offer":
		table := &routes{job: args[0] != "without", back: args[0] == "reversed", rig: r}
		var marks []Mark
		for _, m := range args[1:] {
			marks = append(marks, mark{r, m})
		}
		r.lot.Offer(Offer{Table: table,
			Adopt:   func() []Mark { r.table = table; r.say("table %s adopted", args[0]); return marks },
			Drained: func() { r.say("table %s drained", args[0]) }})
	case "await":
		r.lot.Await([]Mark{mark{r, args[0]}}, func() { r.say("%s answered", args[0]) })
	case "answered":
		r.done[args[0]] = true
		r.lot.Settle()
	default:
		t.Fatalf("what is %s %v?", verb, args)
	}
}
