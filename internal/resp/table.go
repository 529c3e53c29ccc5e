package resp

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed commands.tsv
var commandsTSV string

// Commands are the top-level commands in the order of their names.
var Commands []*Command

var (
	byName      [nameSlots]*Command // by nameHash or the next free place
	numCommands int
)

// NumCommands is the number of rows, subcommands included.
func NumCommands() int { return numCommands }

// The table is data that is compiled in, so a mistake in it is a mistake in the program:
// it panics at start and no test passes.
func init() {
	for line := range strings.Lines(commandsTSV) {
		if line[0] == '#' {
			continue
		}
		c := parseRow(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		c.Index = numCommands
		numCommands++
		if top, _, sub := strings.Cut(c.Name, "|"); sub {
			parent := Lookup([]byte(top))
			parent.Subs = append(parent.Subs, c)
			c.Parent = parent
			continue
		}
		enter(c)
	}
	setTraits()
}

// enter makes a top-level command known.
func enter(c *Command) {
	if len(c.Name) > maxName {
		panic("resp: command name longer than maxName: " + c.Name)
	}
	if Commands = append(Commands, c); 4*len(Commands) > nameSlots {
		panic("resp: too many commands for nameSlots")
	}
	i := nameHash(c.Name)
	for byName[i%nameSlots] != nil {
		i++
	}
	byName[i%nameSlots] = c
}

func parseRow(f []string) *Command {
	if len(f) != 12 {
		panic(fmt.Sprintf("resp: commands.tsv: %d columns in row %q", len(f), f[0]))
	}
	c := &Command{Name: f[0], Arity: number(f[1]), flags: strings.Fields(f[2]), acl: strings.Fields(f[4]),
		Doc: Doc{Since: f[8], Group: f[9], Summary: f[10], Complexity: f[11]}}
	for _, name := range c.flags {
		flag, ok := flagNames[name]
		if !ok {
			panic("resp: commands.tsv: unknown flag " + name)
		}
		c.Flags |= flag
	}
	keys := strings.Split(f[3], ",")
	c.FirstKey, c.LastKey, c.KeyStep = number(keys[0]), number(keys[1]), number(keys[2])
	if f[5] != "" {
		c.tips = strings.Split(f[5], "|")
	}
	if f[6] != "" {
		for _, s := range strings.Split(f[6], "|") {
			c.specs = append(c.specs, parseSpec(s))
		}
	}
	serve, ok := serveNames[f[7]]
	if !ok {
		panic("resp: commands.tsv: unknown way to serve " + f[7])
	}
	c.Serve = serve
	c.find, c.counted = finderFor(c)
	c.pairs = c.find == fixedKeys && c.KeyStep == 2
	return c
}

func parseSpec(text string) keySpec {
	p := strings.SplitN(text, ";", 4)
	s := keySpec{flags: strings.Fields(p[0]), notes: p[3]}
	switch p[1][0] {
	case 'i':
		s.index = number(p[1][1:])
	case 'k':
		word, from, _ := strings.Cut(p[1][1:], ",")
		s.keyword, s.startFrom = word, number(from)
	default:
		s.unknown = true
	}
	if p[2] != "u" {
		n := strings.Split(p[2][1:], ",")
		s.keynum = p[2][0] == 'n'
		s.a, s.b, s.c = number(n[0]), number(n[1]), number(n[2])
	}
	return s
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("resp: commands.tsv: " + err.Error())
	}
	return n
}
