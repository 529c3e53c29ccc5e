package proxy

import (
	"context"
	"strings"
	"testing"

	"keyferry/internal/testredis"
)

// TestShebang: what a body declares is read as a server reads it.
func TestShebang(t *testing.T) {
	for body, want := range map[string]scriptFlags{
		"return 1":                        {},
		"":                                {},
		"#!":                              {},
		"#!lua":                           {false, true},
		"#!lua\nreturn 1":                 {false, true},
		"#!lua flags=no-writes\nreturn 1": {true, true},
		"#!lua flags=allow-stale,no-writes\nreturn 1": {true, true},
		"#!lua  flags=no-writes \r\nreturn 1":         {true, true},
		"#!lua flags=\nreturn 1":                      {false, true},
		"#!lua flags=allow-oom\nreturn 'no-writes'":   {false, true},
		"#!lua flags=no-writes,x\nreturn 1":           {},
		"#!lua name=x flags=no-writes\nreturn 1":      {},
		"#!js flags=no-writes\nreturn 1":              {},
		" #!lua flags=no-writes\nreturn 1":            {},
	} {
		if got := shebang([]byte(body)); got != want {
			t.Errorf("%q: %v, want %v", body, got, want)
		}
	}
}

// TestPauseOfWritesLetsReadingScriptsRun: a server and the gateway hold up the same scripts and
// functions, by themselves and in a transaction, which was begun before the pause or is in it.
func TestPauseOfWritesLetsReadingScriptsRun(t *testing.T) {
	plain, behind := testredis.StartT(t), testredis.StartT(t)
	s, addr := startProxyWith(t, func(o *Options) { o.Loops = 2 }, behind)
	const reading, writing = "#!lua flags=no-writes\\nreturn 1", "#!lua\\nreturn 1"
	const library = "#!lua name=l\\nredis.register_function{function_name='r', callback=function() return 1 end, flags={'no-writes'}}\\nredis.register_function('w', function() return 1 end)"
	ctx := context.Background()
	var shas []string
	for _, c := range []string{reading, writing} {
		for _, to := range []string{addr, plain.Addr} {
			l := dialLine(t, to)
			l.send("SCRIPT LOAD \"" + c + "\"\n")
			l.expect("$40")
			shas = append(shas, l.line())
		}
	}
	for _, to := range []string{addr, plain.Addr} {
		l := dialLine(t, to)
		l.send("FUNCTION LOAD \"" + library + "\"\n")
		l.expect("$1", "l")
	}
	for _, x := range []struct {
		command string
		held    bool
	}{
		{"EVAL \"" + reading + "\" 1 k", false},
		{"EVAL \"" + writing + "\" 1 k", true},
		{"EVAL \"return 1\" 1 k", true},
		{"EVAL_RO \"" + reading + "\" 1 k", false},
		{"EVAL_RO \"return 1\" 1 k", false},
		{"EVALSHA " + shas[0] + " 1 k", false},
		{"EVALSHA " + shas[2] + " 1 k", true},
		{"FCALL r 1 k", false},
		{"FCALL w 1 k", true},
		{"FCALL_RO r 1 k", false},
		{"FCALL nothing 1 k", true},
	} {
		for _, to := range []string{plain.Addr, addr} {
			boss, c, tx := dialLine(t, to), dialLine(t, to), dialLine(t, to)
			tx.send("MULTI\nGET k\n" + x.command + "\n")
			tx.expect("+OK", "+QUEUED", "+QUEUED")
			boss.send("CLIENT PAUSE 3600000 WRITE\n")
			boss.expect("+OK")
			c.send("ECHO before\n" + x.command + "\n")
			c.expect("$6", "before")
			tx.send("EXEC\n")
			if x.held {
				held := func() bool {
					if to == plain.Addr {
						n, _ := plain.Client().Do(ctx, "CLIENT", "LIST").Text()
						return strings.Count(n, " flags=b ")+strings.Count(n, " flags=xb ") == 2
					}
					n := 0
					s.each(ctx, func(l *loop) {
						for c := range l.clients.all {
							if c.isHeld() {
								n++
							}
						}
					})
					return n == 2
				}
				eventually(t, x.command+" is held up at "+to, held)
				boss.send("CLIENT UNPAUSE\n")
				boss.expect("+OK")
				c.line()
				tx.expect("*2")
				continue
			}
			c.expect(":1")
			tx.expect("*2", "$-1", ":1")
			boss.send("CLIENT UNPAUSE\n")
			boss.expect("+OK")
		}
	}
}
