package verb

import (
	"fmt"
	"strings"
)

// Given is one argument or option as somebody gave it. The words of RESP, the flags of
// keyferry and the fields of the API are all brought into this form, and only then looked
// at, so that a mistake is told in the same words everywhere.
type Given struct {
	Name   string   // of the argument or option, in any case; or a word that is no option's name
	Values []string // as many as there were; an option without a value has none
}

// Call is a verb with what it was given, checked by the grammar.
type Call struct {
	Row    *Row
	JSON   bool // the answer is wanted as JSON
	values map[string][]any
	words  []string
}

// Error is a mistake in what a verb was given.
type Error struct {
	Row  *Row   // nil: no verb was recognised
	Text string // names the argument, and says what is wanted
	// Usage says that the text alone does not tell how the verb is used.
	Usage bool
}

func (e *Error) Error() string {
	if e.Usage && e.Row != nil {
		return e.Text + "; usage: PROXY " + e.Row.Usage()
	}
	return e.Text
}

// Parse reads the words that follow PROXY. JSON as the last word asks for JSON, once the
// arguments that a verb must have are there: a key may have that name.
func Parse(words []string) (*Call, error) {
	row, rest, err := rowOf(words)
	if err != nil {
		return nil, err
	}
	if isHelp(row, rest) {
		return Find("HELP").Bind([]Given{{"verb", strings.Fields(row.Name)}}, false)
	}
	asJSON := false
	if n := len(rest); n > row.required() && strings.EqualFold(rest[n-1], "json") && !row.lacks(rest[:n-1]) {
		rest, asJSON = rest[:n-1], true
	}
	return row.Bind(row.split(rest), asJSON)
}

// lacks reports that words end with an option that has yet to get its value: what comes then is
// that, also where it is a group called json.
func (r *Row) lacks(words []string) bool {
	given := r.split(words)
	if len(given) == 0 {
		return false
	}
	last := given[len(given)-1]
	o := r.option(last.Name)
	return o != nil && r.arg(last.Name) == nil && o.Without == "" && len(last.Values) < len(o.Values)
}

// rowOf finds the verb that words begin with.
func rowOf(words []string) (*Row, []string, error) {
	if len(words) == 0 {
		return nil, nil, &Error{Text: "wrong number of arguments for 'proxy' command"}
	}
	name, rest := words[0], words[1:]
	if isContainer(name) {
		switch {
		case len(rest) == 0:
			return nil, nil, &Error{Text: fmt.Sprintf("%s needs a subcommand; usage: PROXY %s", strings.ToUpper(name), containerUsage(name))}
		case strings.EqualFold(rest[0], "help") && len(rest) == 1:
			return Find("HELP"), words[:1], nil
		}
		name, rest = name+" "+rest[0], rest[1:]
	}
	row := Find(name)
	if row == nil || row.Only == OnlyCLI {
		return nil, nil, unknownVerb(words)
	}
	return row, rest, nil
}

func unknownVerb(words []string) error {
	if isContainer(words[0]) {
		c := strings.ToUpper(words[0])
		return &Error{Text: fmt.Sprintf("unknown subcommand '%.128s' of %s. Try PROXY %s HELP.", words[1], c, c)}
	}
	return &Error{Text: fmt.Sprintf("unknown subcommand '%.128s'. Try PROXY HELP.", words[0])}
}

// isHelp is of MIGRATE HELP, where no key and no command can be meant.
func isHelp(r *Row, rest []string) bool {
	if len(rest) != 1 || !strings.EqualFold(rest[0], "help") || r.Name == "HELP" {
		return false
	}
	return len(r.Args) == 0 || r.Args[0].Kind == Ranges
}

// split cuts words into arguments, by position, and options with as many values as they
// take. It judges nothing: Bind does.
func (r *Row) split(words []string) []Given {
	var out []Given
	for _, a := range r.Args {
		if len(words) == 0 || a.Optional && r.option(words[0]) != nil {
			break
		}
		n := 1
		if a.Kind == Words {
			n = len(words)
		}
		out, words = append(out, Given{a.Name, words[:n]}), words[n:]
	}
	for len(words) > 0 {
		g := Given{Name: words[0]}
		words = words[1:]
		if o := r.option(g.Name); o != nil {
			n := min(len(o.Values), len(words))
			if o.Without != "" && n > 0 && r.option(words[0]) != nil { // FIX, and then another option
				n = 0
			}
			g.Values, words = words[:n], words[n:]
		}
		out = append(out, g)
	}
	return out
}

// Positional makes what was given of words of which none is an option's.
func (r *Row) Positional(words []string) (out []Given, err error) {
	for _, a := range r.Args {
		if len(words) == 0 {
			break
		}
		n := 1
		if a.Kind == Words {
			n = len(words)
		}
		out, words = append(out, Given{a.Name, words[:n]}), words[n:]
	}
	if len(words) > 0 {
		return nil, r.Unknown(words[0])
	}
	return out, nil
}

// Bind checks what was given and makes a call of it. It is the only place where the grammar
// is enforced.
func (r *Row) Bind(given []Given, asJSON bool) (*Call, error) {
	c := &Call{Row: r, JSON: asJSON, values: map[string][]any{}}
	for _, g := range given {
		var err error
		if a := r.arg(g.Name); a != nil {
			err = c.setArg(a, g.Values)
		} else if o := r.option(g.Name); o != nil {
			err = c.setOption(o, g.Values)
		} else {
			err = r.Unknown(g.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	c.words = append(strings.Fields(r.Name), r.order(given)...)
	return c, nil
}

// arg finds an argument by its name, which is never one of RESP's words.
func (r *Row) arg(name string) *Arg {
	for i := range r.Args {
		if strings.EqualFold(r.Args[i].Name, name) {
			return &r.Args[i]
		}
	}
	return nil
}

func (c *Call) setArg(a *Arg, values []string) error {
	switch {
	case c.has(a.Name):
		return &Error{c.Row, a.Name + " is given twice", true}
	case len(values) == 0:
		return c.Row.missing(a)
	case a.Kind == Words:
		c.values[a.Name] = []any{values}
		return nil
	case len(values) > 1:
		return &Error{c.Row, fmt.Sprintf("%s: want one value, got %d", a.Name, len(values)), true}
	}
	v, err := a.parse(values[0])
	if err != nil {
		return &Error{c.Row, a.Name + err.Error(), true}
	}
	c.values[a.Name] = []any{v}
	return nil
}

func (c *Call) setOption(o *Option, values []string) error {
	switch {
	case c.has(o.Name) && !o.Repeats:
		return &Error{c.Row, o.Name + " is given twice", false}
	case o.Not != "" && c.has(o.Not):
		return &Error{c.Row, fmt.Sprintf("%s and %s exclude each other", o.Not, o.Name), true}
	case len(values) == 0 && o.Without != "":
		values = []string{o.Without}
	case len(values) < len(o.Values):
		return c.Row.MissingValue(o)
	case len(values) > len(o.Values):
		return &Error{c.Row, fmt.Sprintf("%s: want %d values, got %d", o.Name, len(o.Values), len(values)), true}
	}
	name, list := o.Name, c.values[o.Name]
	if list == nil {
		list = []any{}
	}
	for i := range o.Values {
		v, err := o.Values[i].parse(values[i])
		if err != nil {
			return &Error{c.Row, name + err.Error(), false}
		}
		list = append(list, v)
		name += " " + values[i]
	}
	c.values[o.Name] = list
	return nil
}

// complete looks for what is missing, and fills in what has a default.
func (c *Call) complete() error {
	for i := range c.Row.Args {
		a := &c.Row.Args[i]
		switch {
		case c.has(a.Name):
		case !a.Optional:
			return c.Row.missing(a)
		case a.Default != "":
			v, err := a.parse(a.Default)
			if err != nil {
				panic("verb: the default of " + c.Row.Name + " " + a.Name + ": " + err.Error())
			}
			c.values[a.Name] = []any{v}
		}
	}
	any := false
	for i := range c.Row.Options {
		o := &c.Row.Options[i]
		any = any || c.has(o.Name)
		if o.Required && !c.has(o.Name) {
			return &Error{c.Row, fmt.Sprintf("%s is missing: %s", o.usage(), o.Values[0].Want), true}
		}
	}
	if c.Row.AnyOf && !any {
		return &Error{c.Row, "want at least one of " + c.Row.optionNames(), true}
	}
	return nil
}

func (c *Call) has(name string) bool { _, ok := c.values[name]; return ok }

// Unknown is the error of a word, flag or field that the verb does not have.
func (r *Row) Unknown(name string) error {
	text := fmt.Sprintf("unknown option '%.128s'", strings.ToUpper(name))
	if len(r.Options) == 0 {
		text += ": " + r.Name + " has none"
	} else {
		text += ": " + r.Name + " has " + r.optionNames()
	}
	return &Error{r, text, true}
}

// MissingValue is the error of an option that needs a value and has none.
func (r *Row) MissingValue(o *Option) error {
	var wants []string
	for i := range o.Values {
		wants = append(wants, o.Values[i].want())
	}
	return &Error{r, fmt.Sprintf("%s needs a value: %s", o.Name, strings.Join(wants, ", then ")), true}
}

func (r *Row) missing(a *Arg) error {
	return &Error{r, fmt.Sprintf("%s is missing: %s", a.meta(), a.Help), true}
}

func (r *Row) optionNames() string {
	names := make([]string, len(r.Options))
	for i := range r.Options {
		names[i] = r.Options[i].Name
	}
	return list(names, "and")
}

// list is "a, b and c".
func list(words []string, and string) string {
	n := len(words)
	if n < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n-1], ", ") + " " + and + " " + words[n-1]
}

// order is what was given as words of RESP: the arguments by position, then the options.
func (r *Row) order(given []Given) []string {
	var words []string
	for _, a := range r.Args {
		for _, g := range given {
			if strings.EqualFold(g.Name, a.Name) {
				words = append(words, g.Values...)
			}
		}
	}
	for _, g := range given {
		if o := r.option(g.Name); o != nil {
			words = append(append(words, o.Name), g.Values...)
		}
	}
	return words
}

// Words are those that say the call to a gateway, after PROXY. Where the last word happens
// to be JSON, as a password may, it is followed by another, since one would be taken for the wish.
func (c *Call) Words(asJSON bool) []string {
	words := c.words
	if last := words[len(words)-1]; asJSON || strings.EqualFold(last, "json") {
		words = append(words[:len(words):len(words)], "JSON")
	}
	return words
}

// Role is what the call needs: what the row says, unless an option says otherwise.
func (c *Call) Role() Role {
	role := c.Row.Role
	for i := range c.Row.Options {
		if o := &c.Row.Options[i]; o.Role != "" && c.has(o.Name) {
			role = o.Role
		}
	}
	return role
}
