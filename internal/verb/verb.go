// Package verb is the table of what an operator can tell a gateway: every verb once, with
// its arguments, its options and its help.
//
// Everything that offers verbs derives from the table, so that no two of them can differ:
//
//	words of RESP ──────┐                       ┌─► run (internal/admin)
//	flags of keyferry ──┼─► []Given ─► Bind ─► Call ─► Words: PROXY … to a gateway
//	fields of the API ──┘      │
//	                           └─► Error: one text wherever the mistake was made
//	Rows ─► Help, Markdown, the commands and flags of keyferry, the dashboard's forms
//
// The package is pure: it has no connection, clock or state, and a client may use it
// without the server.
package verb

import "strings"

// Role is what someone must be allowed to do. The roles include one another, in order.
type Role string

const (
	View       Role = "view"       // look; changes nothing
	Operate    Role = "operate"    // move slots and steer what moves
	Administer Role = "administer" // say which servers and slots there are
)

// Where limits a verb to one place. The zero value is everywhere.
type Where string

const (
	OnlyRESP Where = "resp" // the others have something of their own for it
	OnlyCLI  Where = "cli"  // made of other verbs by the keyferry command
)

// Show is how the keyferry command prints an answer.
type Show int

const (
	ShowText   Show = iota // a line or a text, as it is
	ShowFields             // names and values, one a line; of several objects a block each
	ShowLines              // a list of texts, one a line
	ShowTable              // a table by the row's Columns, made of the answer in JSON; of texts one a line
)

// Row is one verb.
type Row struct {
	Name    string   `json:"name"` // in capitals: "MIGRATE", or with its container "GROUP ADD"
	Role    Role     `json:"role"` // an option can change it: see Call.Role
	Args    []Arg    `json:"args"` // by position, before all options
	Options []Option `json:"options"`
	AnyOf   bool     `json:"any_of,omitempty"` // at least one option must be given
	Short   string   `json:"short"`            // one line, without a full stop
	Help    string   `json:"help"`             // whole sentences
	Only    Where    `json:"only,omitempty"`

	Long    bool     `json:"long,omitempty"` // looks at every key: may take up to an hour
	Waits   bool     `json:"-"`              // keyferry has --wait for it: see WaitHelp
	Show    Show     `json:"-"`
	Columns []Column `json:"columns,omitempty"` // of ShowTable
	Alias   *Alias   `json:"-"`
}

// WaitHelp is what keyferry's --wait does, for verbs that set jobs going.
const WaitHelp = "follow the jobs until they end, as migration watch does, with its exit codes"

// Alias is a command of keyferry that is a verb with an option given already.
type Alias struct {
	Name, Short, Help string
	Given             string // the option
}

// Kind says what an argument's text means. Text, Key, Group, Job, Address, Secret and Words
// are taken as they are; the dashboard offers each kind its own field.
type Kind string

const (
	Text    Kind = "text"
	Key     Kind = "key"     // string
	Group   Kind = "group"   // string: the name of a group
	Job     Kind = "job"     // string: the id of a job
	Address Kind = "address" // string: host:port
	Secret  Kind = "secret"  // string; never shown
	Words   Kind = "words"   // []string: all that is left
	Ranges  Kind = "slots"   // Slots
	Integer Kind = "integer" // int, from Min to Max
	Number  Kind = "number"  // float64, from Min to Max
	Size    Kind = "size"    // float64 bytes; kb, mb and gb are understood
	Choice  Kind = "choice"  // string, one of Choices, as it stands there
	P99     Kind = "p99"     // Bound
	Pattern Kind = "slice"   // topology.Slice
	Share   Kind = "share"   // float64, above 0 up to 1
)

// Arg is one argument of a verb, or one value of an option.
type Arg struct {
	Name     string   `json:"name"`           // in small letters; the field of the API
	Meta     string   `json:"meta,omitempty"` // how a usage shows it; "": <name>
	Kind     Kind     `json:"kind"`
	Choices  []string `json:"choices,omitempty"`
	Min      float64  `json:"min,omitempty"`
	Max      float64  `json:"max,omitempty"`
	Want     string   `json:"want,omitempty"` // what a wrong one is told: "want " + Want
	Optional bool     `json:"optional,omitempty"`
	Default  string   `json:"default,omitempty"` // of an optional argument
	Help     string   `json:"help,omitempty"`

	Of Kind `json:"-"` // of Words: what each of them is, where that is not a Text
}

// Option is a word that may follow the arguments, in any order.
type Option struct {
	Name     string `json:"name"`             // in capitals; in small letters the field of the API
	Flag     string `json:"flag,omitempty"`   // of keyferry, where it is not the name
	Values   []Arg  `json:"values,omitempty"` // none: the word is all
	Without  string `json:"without,omitempty"`
	Not      string `json:"not,omitempty"`  // the option that it can't be given with
	None     string `json:"none,omitempty"` // the value that takes it away again
	Role     Role   `json:"role,omitempty"` // what the verb needs with it; "": as the row
	Required bool   `json:"required,omitempty"`
	Repeats  bool   `json:"repeats,omitempty"`
	Help     string `json:"help"`
}

// Container is the first word of a name of two, or "".
func (r *Row) Container() string {
	c, _, two := strings.Cut(r.Name, " ")
	if !two {
		return ""
	}
	return c
}

// Word is the last word of the name.
func (r *Row) Word() string { return r.Name[strings.LastIndexByte(r.Name, ' ')+1:] }

// CLI is the name as keyferry has it.
func (r *Row) CLI() string { return strings.ToLower(r.Name) }

// Path is the name as the API has it: migration/limit.
func (r *Row) Path() string { return strings.ReplaceAll(r.CLI(), " ", "/") }

// FlagName is the option's flag of keyferry, without dashes.
func (o *Option) FlagName() string {
	if o.Flag != "" {
		return o.Flag
	}
	return o.Field()
}

// Field is the option's field in the API.
func (o *Option) Field() string { return strings.ToLower(o.Name) }

// required is how many arguments can't be left out.
func (r *Row) required() (n int) {
	for _, a := range r.Args {
		if !a.Optional {
			n++
		}
	}
	return n
}

// option finds an option by its name, in any case.
func (r *Row) option(name string) *Option {
	for i := range r.Options {
		if strings.EqualFold(r.Options[i].Name, name) {
			return &r.Options[i]
		}
	}
	return nil
}

// Option is the option of that name, which must be in the table.
func (r *Row) Option(name string) *Option {
	o := r.option(name)
	if o == nil {
		panic("verb: " + r.Name + " has no option " + name)
	}
	return o
}

// Find is the row with that name, in any case; nil if there is none.
func Find(name string) *Row {
	for i := range Rows {
		if strings.EqualFold(Rows[i].Name, name) {
			return &Rows[i]
		}
	}
	return nil
}

// isContainer reports whether verbs of two words begin with it.
func isContainer(word string) bool {
	for i := range Rows {
		if c := Rows[i].Container(); c != "" && strings.EqualFold(c, word) {
			return true
		}
	}
	return false
}
