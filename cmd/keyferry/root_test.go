package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestExitCodes: what scripts go by. Nothing listens at the address.
func TestExitCodes(t *testing.T) {
	for _, x := range []struct {
		args []string
		want int
	}{
		{[]string{"--version"}, 0}, {[]string{"help", "group"}, 0}, {[]string{"group"}, 0}, {nil, 0},
		{[]string{"group", "list", "--admin", "127.0.0.1:1"}, exitFailed},
		{[]string{"nosuch"}, exitUsage}, {[]string{"group", "nosuch"}, exitUsage}, {[]string{"bench", "nosuch"}, exitUsage},
		{[]string{"group", "add", "x"}, exitUsage}, {[]string{"group", "list", "--nosuch"}, exitUsage}, {[]string{"--nosuch"}, exitUsage},
	} {
		c := root()
		c.SetArgs(append([]string{}, x.args...))
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		got := 0
		if err := c.Execute(); err != nil {
			got = exitCode(err)
		}
		if got != x.want {
			t.Errorf("keyferry %q: exit code %d, want %d", x.args, got, x.want)
		}
	}
}

// TestHelpKeepsThePassword that the environment gives.
func TestHelpKeepsThePassword(t *testing.T) {
	t.Setenv("KEYFERRY_ADMIN_PASSWORD", "sekret")
	for _, verb := range []string{"group", "slot", "migrate", "migration", "rebalance", "check"} {
		var out bytes.Buffer
		c := root()
		c.SetArgs([]string{verb, "--help"})
		c.SetOut(&out)
		if err := c.Execute(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "sekret") {
			t.Errorf("keyferry %s --help shows the password:\n%s", verb, out.String())
		}
	}
}
