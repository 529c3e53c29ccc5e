package resp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A declaration of a command that is not Redis's own:
//
//	JSON.MGET  -3  readonly  keys=1,-2,1
//	name       arity flags   where its keys are, or route=any | route=all
//
// It becomes a row of the table like every other.

// maxExtensions leaves byName mostly free.
const maxExtensions = 256

// extensionFlags are the flags that a declaration may have. Left out are those that change
// how the gateway treats a connection: a blocking command would hold up everybody's, and
// it does not know what a module's publishing would need.
const extensionFlags = Write | Readonly | DenyOOM | Admin | NoScript | Loading | Stale | Fast | MayReplicate

// extended is what Extend has been given.
var extended []string

// Extend makes declared commands known. It must have returned before the first Lookup that
// may run at the same time, since Lookup takes no lock: call it once, before the data
// plane starts. To call it again is an error but with the same declarations, which changes
// nothing. Errors are those of ParseExtensions.
func Extend(declarations []string) error {
	if len(declarations) == 0 || slices.Equal(declarations, extended) {
		return nil
	}
	if extended != nil {
		return errors.New("resp: the command table has been extended already")
	}
	list, err := ParseExtensions(declarations)
	if err != nil {
		return err
	}
	extended = slices.Clone(declarations)
	for _, c := range list {
		c.Index = numCommands
		numCommands++
		enter(c)
	}
	slices.SortFunc(Commands, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// ParseExtensions reads declarations without making them known. The error names each that
// is wrong, and what it should be.
func ParseExtensions(declarations []string) ([]*Command, error) {
	var errs []error
	if len(declarations) > maxExtensions {
		errs = append(errs, fmt.Errorf("%d commands: want at most %d", len(declarations), maxExtensions))
	}
	var list []*Command
	seen := make(map[string]bool)
	for _, text := range declarations {
		c, err := parseExtension(text)
		if err == nil && seen[c.Name] {
			err = errors.New("want each command once")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", text, err))
			continue
		}
		seen[c.Name] = true
		list = append(list, c)
	}
	return list, errors.Join(errs...)
}

func parseExtension(text string) (*Command, error) {
	words := strings.Fields(text)
	if len(words) < 4 {
		return nil, errors.New("want \"<name> <arity> <flags> keys=… or numkeys=… or route=…\"")
	}
	c := &Command{Name: strings.ToLower(words[0]), Doc: Doc{Group: "module", Summary: "Declared in this gateway's configuration."}, Serve: Keyed}
	if err := checkExtensionName(c.Name); err != nil {
		return nil, err
	}
	var err error
	if c.Arity, err = strconv.Atoi(words[1]); err != nil || c.Arity == 0 || c.Arity > 1<<20 || c.Arity < -1<<20 {
		return nil, fmt.Errorf("arity %q: want the number of words with the name, negative for at least so many", words[1])
	}
	if err := c.setFlags(words[2]); err != nil {
		return nil, err
	}
	return c, c.setKeys(words[3:])
}

func checkExtensionName(name string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	}
	if len(name) > maxName || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("name %q: want at most %d letters, digits, dots, dashes and underscores", name, maxName)
	}
	if c := Lookup([]byte(name)); c != nil && c.Group != "module" {
		return fmt.Errorf("name %q: want a name that Redis does not have: how its own commands are served is fixed", name)
	}
	return nil
}

func (c *Command) setFlags(text string) error {
	for _, name := range strings.Split(text, ",") {
		flag := flagNames[name]
		if flag&extensionFlags == 0 {
			return fmt.Errorf("flag %q: want %s", name, strings.Join(flagList(extensionFlags), " or "))
		}
		if c.Flags&flag == 0 {
			c.flags = append(c.flags, name)
		}
		c.Flags |= flag
	}
	switch c.Flags & (Write | Readonly) {
	case Write:
		c.acl = []string{"@write"}
	case Readonly:
		c.acl = []string{"@read"}
	default:
		return fmt.Errorf("flags %q: want one of write and readonly", text)
	}
	speed := "@slow"
	if c.Flags&Fast != 0 {
		speed = "@fast"
	}
	c.acl = append(c.acl, speed)
	return nil
}

// flagList are the names of flags in their order.
func flagList(flags Flag) []string {
	var names []string
	for f := Flag(1); f != 0 && f <= Sentinel; f <<= 1 {
		for name, flag := range flagNames {
			if flag == f && flags&f != 0 {
				names = append(names, name)
			}
		}
	}
	return names
}

// setKeys reads where the keys are. What it lets pass has at least one key in every
// request of the right arity, or a route.
func (c *Command) setKeys(words []string) error {
	numkeys := 0
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		var err error
		switch {
		case name == "keys" && c.FirstKey == 0:
			err = c.setRange(value)
		case name == "numkeys" && numkeys == 0:
			if numkeys, err = strconv.Atoi(value); err != nil || numkeys < 1 || numkeys >= c.minArgs() {
				err = fmt.Errorf("numkeys=%s: want the place of an argument that the arity makes certain", value)
			}
		case w == "route=any" && c.Serve == Keyed:
			c.Serve = Any
		case w == "route=all" && c.Serve == Keyed:
			c.Serve = All
		default:
			err = fmt.Errorf("%q: want keys=<first>,<last>,<step>, numkeys=<n>, route=any or route=all, each once", w)
		}
		if err != nil {
			return err
		}
	}
	if c.Serve != Keyed {
		if c.FirstKey > 0 || numkeys > 0 {
			return errors.New("want keys or a route, not both: keys say where a command goes")
		}
		return nil
	}
	return c.finishKeys(numkeys)
}

// finishKeys makes the key specifications of what was declared.
func (c *Command) finishKeys(numkeys int) error {
	access := "RW"
	if c.Flags&Readonly != 0 {
		access = "RO access"
	}
	add := func(s keySpec) {
		s.flags = strings.Fields(access)
		c.specs = append(c.specs, s)
	}
	if c.FirstKey > 0 {
		last := c.LastKey
		if last > 0 {
			last -= c.FirstKey
		}
		add(keySpec{index: c.FirstKey, a: last, b: c.KeyStep})
	}
	if numkeys > 0 {
		if c.FirstKey != c.LastKey || c.FirstKey >= numkeys {
			return errors.New("want keys beside numkeys to be one, before it: the destination")
		}
		add(keySpec{index: numkeys, keynum: true, a: 0, b: 1, c: 1})
		c.Flags |= MovableKeys
		c.flags = append(c.flags, "movablekeys")
	}
	c.find, c.counted = finderFor(c)
	return nil
}

// minArgs is the least number of words of a request, the name included.
func (c *Command) minArgs() int { return max(c.Arity, -c.Arity) }

func (c *Command) setRange(text string) error {
	var n [3]int
	parts := strings.Split(text, ",")
	ok := len(parts) == len(n)
	for i := 0; ok && i < len(n); i++ {
		var err error
		n[i], err = strconv.Atoi(parts[i])
		ok = err == nil
	}
	first, last, step := n[0], n[1], n[2]
	least := last // the last key in the shortest request
	if last < 0 {
		least += c.minArgs()
	}
	switch {
	case !ok || first < 1 || step < 1 || last == 0 || last > 0 && last < first:
		return fmt.Errorf("keys=%s: want <first>,<last>,<step>: 1 or more, no less than that or counted from the end (-1), 1 or more", text)
	case least < first || last > 0 && last >= c.minArgs():
		return fmt.Errorf("keys=%s: want keys that every request of arity %d has", text, c.Arity)
	}
	c.FirstKey, c.LastKey, c.KeyStep = first, last, step
	return nil
}
