package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keyferry/internal/resp"
	"keyferry/proxy"
)

// allowedDifferences is what the differential test takes for right although a plain Redis
// says something else.
const allowedDifferences = "test/integration/testdata/differences.tsv"

var (
	//go:embed notes.tsv
	notesTSV string
	//go:embed differences.tsv
	differencesTSV string
)

// rows cuts a table into its columns; lines with # are comments.
func rows(text string, columns int) ([][]string, error) {
	var out [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != columns {
			return nil, fmt.Errorf("%d columns, want %d: %s", len(f), columns, line)
		}
		out = append(out, f)
	}
	return out, nil
}

// way says how a kind of serving works and who answers.
type way struct {
	serve    resp.Serve
	name, by string
	meaning  string
}

var ways = []way{
	{resp.Keyed, "by key", "the group of its key", "The command goes as it came to the server that has its key, also while the key's slot moves. All its keys must be in one slot."},
	{resp.SplitMGet, "split", "the groups of its keys", "Cut by slot, each part sent to its group, the replies merged in the order of the keys. Keys may be in any slots; not atomic over several."},
	{resp.SplitMSet, "split", "the groups of its keys", ""},
	{resp.SplitSum, "split", "the groups of its keys", ""},
	{resp.Blocks, "blocking", "the group of its keys", "As by key, on a server connection of the client's own while it blocks (`servers.max-dedicated`). A client that blocks on a key that moves goes on waiting where the key is, with the time that it has left."},
	{resp.Script, "script", "the group of its keys", "By the group of the keys that it names, or, if it names none, by one group. Scripts are known to every group, and are loaded again where they got lost."},
	{resp.Sort, "by key", "the group of its key", ""},
	{resp.Transaction, "transaction", "the group of its keys", "Queued in the gateway, and sent as one block by EXEC. The keys of one transaction must be in one slot."},
	{resp.Hub, "pub/sub", "the gateway, with every group", "The gateway subscribes once for all its clients, at every group, and passes on what comes."},
	{resp.All, "everywhere", "every group", "Sent to every group, the replies merged. Not atomic over groups."},
	{resp.Any, "anywhere", "one group", "Any server would say the same, so one is asked."},
	{resp.Local, "gateway", "the gateway", "Answered by the gateway, about itself and its clients."},
	{resp.Refused, "refused", "–", "Answered with an error that says why."},
}

func wayOf(c *resp.Command) way {
	for _, w := range ways {
		if w.serve == c.Serve {
			return w
		}
	}
	panic("gendocs: no words for how " + c.Name + " is served") // a new kind of serving
}

// document is the text of docs/commands.md; root is that of the repository.
func document(root string) (string, error) {
	noteRows, err := rows(notesTSV, 2)
	if err != nil {
		return "", fmt.Errorf("notes.tsv: %w", err)
	}
	notes := make(map[string]string)
	for _, r := range noteRows {
		notes[r[0]] = r[1]
	}
	differences, err := rows(differencesTSV, 4)
	if err != nil {
		return "", fmt.Errorf("differences.tsv: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(root, allowedDifferences))
	if err != nil {
		return "", err
	}
	allowed, err := rows(string(text), 4)
	if err != nil {
		return "", fmt.Errorf("%s: %w", allowedDifferences, err)
	}
	var b strings.Builder
	b.WriteString(intro)
	writeWays(&b)
	for _, group := range groups() {
		writeGroup(&b, group, notes)
	}
	writeDifferences(&b, differences, allowed)
	return b.String(), nil
}

const intro = `# Commands

<!-- Written by go run ./internal/resp/gendocs > docs/commands.md; a test compares. Change the
command table (internal/resp/commands.tsv), the reasons (proxy/refusal.go) or the tables next to
the generator instead of this file. -->

Every command of Redis 7.4, and how it is served through keyferry. "Since" is the version of
Redis that has it first: servers that are older answer that they do not know it. "MULTI" tells
whether it can be part of a transaction. Commands of modules are served when they are declared
(` + "`passthrough`" + ` in keyferry.toml).

A command on a key that is being moved waits for that key, a few milliseconds as a rule. If it
could not have it within ` + "`locks.wait-deadline`" + ` it is answered ` + "`-TRYAGAIN`" + ` and was not executed.
Slots in which scripts run, or SORT with patterns of keys, are moved in one piece: there a command
waits for all keys of the slot, and up to ten times that long.
An error ` + "`connection to the server was lost`" + ` (or ` + "`to the gateway that moves the key's slot`" + `) says that the outcome is not known, as it would
if the client had lost the connection itself.

`

// all visits what can be called: commands without subcommands, and subcommands.
func all(visit func(*resp.Command)) {
	for _, c := range resp.Commands {
		if len(c.Subs) == 0 {
			visit(c)
		}
		for _, s := range c.Subs {
			visit(s)
		}
	}
}

func writeWays(b *strings.Builder) {
	count := make(map[string]int)
	all(func(c *resp.Command) { count[wayOf(c).name]++ })
	b.WriteString("## Ways to serve\n\n| way | commands | how |\n|---|---|---|\n")
	for _, w := range ways {
		if w.meaning != "" {
			fmt.Fprintf(b, "| %s | %d | %s |\n", w.name, count[w.name], w.meaning)
		}
	}
	b.WriteByte('\n')
}

// groups are those of COMMAND DOCS; the ones about data come first.
func groups() []string {
	last := []string{"connection", "server", "cluster"}
	var out []string
	all(func(c *resp.Command) {
		if !slices.Contains(out, c.Group) && !slices.Contains(last, c.Group) {
			out = append(out, c.Group)
		}
	})
	slices.Sort(out)
	return append(out, last...)
}

func writeGroup(b *strings.Builder, group string, notes map[string]string) {
	fmt.Fprintf(b, "## %s\n\n| command | since | way | by | MULTI | limits |\n|---|---|---|---|---|---|\n", strings.ToUpper(group[:1])+group[1:])
	all(func(c *resp.Command) {
		if c.Group != group {
			return
		}
		w := wayOf(c)
		multi := "no"
		if proxy.InMulti(c) {
			multi = "yes"
		}
		name := strings.ToUpper(strings.ReplaceAll(c.Name, "|", " "))
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", name, c.Since, w.name, w.by, multi, limits(c, notes))
	})
	b.WriteByte('\n')
}

// limits is what to know of one command.
func limits(c *resp.Command, notes map[string]string) string {
	var out []string
	if c.Serve == resp.Refused {
		out = append(out, sentence(proxy.Refusals()[c.Name]))
	}
	several := c.FirstKey != c.LastKey || c.Flags&resp.MovableKeys != 0
	switch {
	case c.TakesFirst():
		out = append(out, "Keys of several slots are asked one after the other, from the first; in MULTI all in one slot.")
	case several && c.Serve.ByKey() && !c.Serve.Splits():
		out = append(out, "All keys in one slot.")
	}
	if c.Group == "cluster" && c.Serve == resp.Local && c.Name != "cluster|keyslot" {
		out = append(out, "With `cluster-facade = on`; else as a Redis that is not in cluster mode.")
	}
	if c.Name == "config|set" {
		out = append(out, "Of "+strings.Join(proxy.LiveSettings(), ", ")+".")
	}
	if n := notes[c.Name]; n != "" {
		out = append(out, n)
	}
	return strings.Join(out, " ")
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func writeDifferences(b *strings.Builder, differences, allowed [][]string) {
	b.WriteString("## Differences to a plain Redis\n\n| what | a plain Redis | through keyferry | reason |\n|---|---|---|---|\n")
	for _, d := range differences {
		fmt.Fprintf(b, "| %s |\n", strings.Join(d, " | "))
	}
	fmt.Fprintf(b, "| SENTINEL | is not known, but to a sentinel | is refused | %s |\n", sentence(proxy.Refusals()["sentinel"]))
	b.WriteString("\nThe differential test sends random requests to the gateway, while slots move, and to a plain Redis,\n" +
		"and allows these differences alone:\n\n| request (pattern) | the gateway's reply | a plain Redis's | reason |\n|---|---|---|---|\n")
	for _, d := range allowed {
		for i := range 3 {
			d[i] = "`" + strings.ReplaceAll(d[i], "|", "\\|") + "`"
		}
		d[3] = sentence(d[3])
		fmt.Fprintf(b, "| %s |\n", strings.Join(d, " | "))
	}
}
