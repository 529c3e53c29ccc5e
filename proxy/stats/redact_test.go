package stats

import (
	"strings"
	"testing"
)

// TestSecrets: what neither the slow log nor MONITOR shows.
func TestSecrets(t *testing.T) {
	for _, x := range []struct {
		cmd  string
		want string
	}{
		{"AUTH p", "AUTH -"}, {"AUTH u p", "AUTH - -"}, {"HELLO 3 AUTH u p SETNAME n", "HELLO 3 AUTH - - SETNAME n"}, {"HELLO 3 AUTH u", "HELLO 3 AUTH -"},
		{"config set maxclients 5 requirepass p", "config set maxclients 5 requirepass -"}, {"CONFIG SET password p timeout 5", "CONFIG SET password - - -"},
		{"CONFIG SET http.token t", "CONFIG SET http.token -"}, {"CONFIG SET timeout 5", "CONFIG SET timeout 5"}, {"CONFIG GET requirepass", "CONFIG GET requirepass"}, {"ACL SETUSER u >p", "ACL SETUSER - -"},
		{"MIGRATE h 1 k 0 10 AUTH2 u p", "MIGRATE h 1 k 0 10 AUTH2 - -"}, {"SET auth p", "SET auth p"}, {"CONFIG SET requirepass", "CONFIG SET requirepass"},
	} {
		args := strings.Fields(x.cmd)
		from, to := Secret(args)
		for i := from; i < to; i++ {
			args[i] = "-"
		}
		if got := strings.Join(args, " "); got != x.want {
			t.Errorf("%s: %s, want %s", x.cmd, got, x.want)
		}
	}
}
