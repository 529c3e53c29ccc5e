package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func tomlFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "k.toml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRewrite: what is asked for changes, and nothing else of the file.
func TestRewrite(t *testing.T) {
	const before = `# mine
listen = ":7380" # all of it
name = 'a'

advertise = [
  "h:1", # one
  "h:2",
]

[clients] # limits
# so many
max-clients = 500   # for now
  query-buffer-limit = "1mb"

[slowlog]

[locks]
wait-deadline = "1s"`
	for _, x := range []struct {
		keys []string
		want *strings.Replacer
	}{
		{[]string{"clients.max-clients"}, strings.NewReplacer("= 500  ", "= 7  ")},
		{[]string{"password"}, strings.NewReplacer("\"h:2\",\n]\n", "\"h:2\",\n]\npassword = \"a\\\"b\\\\c\\u0007é\"\n")},
		{[]string{"clients.idle-timeout"}, strings.NewReplacer("limit = \"1mb\"\n", "limit = \"1mb\"\nidle-timeout = \"1m0s\"\n")},
		{[]string{"slowlog.max-len"}, strings.NewReplacer("[slowlog]\n", "[slowlog]\nmax-len = 3\n")},
		{[]string{"locks.max-parked"}, strings.NewReplacer("\"1s\"", "\"1s\"\nmax-parked = 9\n")},
		{[]string{"servers.in-flight-bytes"}, strings.NewReplacer("\"1s\"", "\"1s\"\n\n[servers]\nin-flight-bytes = \"3kb\"\n")},
		{[]string{"advertise"}, nil},
		{nil, strings.NewReplacer()},
	} {
		path := tomlFile(t, before)
		c, err := Load(path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Clients.MaxClients, c.Password, c.Clients.IdleTimeout, c.Slowlog.MaxLen = 7, "a\"b\\c\aé", Duration(time.Minute), 3
		c.Locks.MaxParked, c.Servers.InFlightBytes, c.Advertise = 9, 3<<10, List{"x:1"}
		err = c.Rewrite(x.keys)
		got, _ := os.ReadFile(path)
		if x.want == nil {
			if err == nil || string(got) != before {
				t.Errorf("%v: error %v, file\n%s", x.keys, err, got)
			}
			continue
		}
		if err != nil || string(got) != x.want.Replace(before) {
			t.Errorf("%v: error %v, file\n%s", x.keys, err, got)
		}
		if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
			t.Errorf("mode %v", st.Mode())
		}
		if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
			t.Errorf("left behind: %v", list)
		}
	}
}

// TestRewriteAnnotated: every key of the whole manual can be rewritten, and comes back.
func TestRewriteAnnotated(t *testing.T) {
	path := tomlFile(t, Annotated())
	c, err := Load(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, f := range c.fields() {
		if f.Kind().String() == "slice" {
			continue
		}
		if err := c.Rewrite([]string{key}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	got, _ := os.ReadFile(path)
	again, err := Load(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(got), "\n") != strings.Count(Annotated(), "\n") {
		t.Errorf("lines were added or lost:\n%s", got)
	}
	a, b := c.fields(), again.fields()
	for key := range a {
		if literal(a[key]) != literal(b[key]) {
			t.Errorf("%s: %s became %s", key, literal(a[key]), literal(b[key]))
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	c := Default()
	if err := c.Rewrite(nil); err == nil {
		t.Error("rewritten without a file")
	}
	c.File = tomlFile(t, "listen = ") // broken since it was read
	if err := c.Rewrite([]string{"listen"}); err == nil {
		t.Error("a broken file was rewritten")
	}
	c.Password, c.AdminPassword, c.HTTP.Token, c.Etcd.Password = "hush", "hush", "hush", "hush"
	texts := c.Texts()
	if len(texts) != len(c.fields())-4 {
		t.Errorf("%d of %d settings are shown", len(texts), len(c.fields()))
	}
	for key, text := range texts {
		if text == "hush" || shown(key, text) == "…" {
			t.Errorf("%s is shown", key)
		}
	}
}
