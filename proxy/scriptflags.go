package proxy

import (
	"bytes"
	"strings"

	"keyferry/internal/resp"
)

// Whether a script writes its command does not say. CLIENT PAUSE WRITE goes by what the script itself
// declares, as a server does: a body that begins with #!lua has flags, of which no-writes lets it run,
// also by EVAL; without that line it may write. What functions declare only servers know, which are
// asked when a pause begins. Nothing can be loaded through the gateway while it lasts.

// scriptFlags is whether a script declares that it writes nothing; not known: it declares nothing that
// could be understood.
type scriptFlags struct{ noWrites, known bool }

// shebangFlags are those that a script may have. A server refuses a script with any other.
var shebangFlags = map[string]bool{"no-writes": true, "allow-oom": true, "allow-stale": true, "no-cluster": true, "allow-cross-slot-keys": true}

// shebang reads the first line of a script's body, as in "#!lua flags=no-writes,allow-stale".
//
// An unknown word is the server's to refuse. Until then nothing is believed of such a script, and it
// is held up like one without flags.
func shebang(body []byte) scriptFlags {
	line, is := bytes.CutPrefix(body, []byte("#!"))
	if !is {
		return scriptFlags{}
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 || words[0] != "lua" {
		return scriptFlags{}
	}
	out := scriptFlags{known: true}
	for _, w := range words[1:] {
		flags, is := strings.CutPrefix(w, "flags=")
		if !is {
			return scriptFlags{}
		}
		for f := range strings.SplitSeq(flags, ",") {
			if f != "" && !shebangFlags[f] {
				return scriptFlags{}
			}
			out.noWrites = out.noWrites || f == "no-writes"
		}
	}
	return out
}

// declares is what the script of a command declares. A function is known while a pause lasts.
//
// A body that the gateway has not seen, since it was loaded past it, is not known either: EVALSHA of it
// is held up, which is on the safe side of a pause.
func (s *Server) declares(cmd *resp.Command, args [][]byte) scriptFlags {
	switch {
	case cmd.Serve != resp.Script || len(args) < 2:
	case cmd.Traits&resp.HasBody != 0:
		return shebang(args[1])
	case cmd.Traits&resp.HasSHA != 0:
		if body, ok := s.scripts.body(args[1]); ok {
			return shebang(body)
		}
	default:
		return s.functionFlags(string(args[1]))
	}
	return scriptFlags{}
}

// functionFlags: without a pause nothing is known, and every function may write.
func (s *Server) functionFlags(name string) scriptFlags {
	if known := s.pauses.functions.Load(); known != nil {
		noWrites, ok := (*known)[name]
		return scriptFlags{noWrites, ok}
	}
	return scriptFlags{}
}

// learnFunctions asks the groups what their functions declare. A function that groups differ about may
// write. When a group does not answer nothing is known.
func (s *Server) learnFunctions() {
	known := make(map[string]bool)
	for _, p := range s.askOnce(2, resp.AppendRequest(nil, []byte("FUNCTION"), []byte("LIST"))) {
		if !addFunctions(known, p) {
			return
		}
	}
	s.pauses.mu.Lock()
	defer s.pauses.mu.Unlock()
	if s.pauses.now.mode != pauseWrite {
		return // it has ended meanwhile
	}
	s.pauses.functions.Store(&known)
	for _, l := range s.allLoops() {
		l.post(func() { // who was held up because nothing was known
			for c := range l.clients.all {
				c.wantResume()
			}
		})
	}
}

// addFunctions takes a reply of FUNCTION LIST: libraries, each of which has functions, each of which
// has a name and flags.
//
// A function that one group only has counts by what it declares there: FCALL elsewhere fails anyway.
func addFunctions(known map[string]bool, list []byte) bool {
	libraries, ok := resp.SplitArray(list, nil)
	if !ok {
		return false
	}
	for _, library := range libraries {
		functions, _ := resp.SplitArray(fieldOf(library, "functions"), nil)
		for _, f := range functions {
			body, _ := resp.BulkBody(fieldOf(f, "name"))
			name := string(body)
			before, has := known[name]
			known[name] = bytes.Contains(fieldOf(f, "flags"), []byte("no-writes")) && (!has || before)
		}
	}
	return true
}

// fieldOf finds a field in an array of names and values.
func fieldOf(fields []byte, name string) []byte {
	all, _ := resp.SplitArray(fields, nil)
	for i := 0; i+1 < len(all); i += 2 {
		if b, _ := resp.BulkBody(all[i]); string(b) == name {
			return all[i+1]
		}
	}
	return nil
}
