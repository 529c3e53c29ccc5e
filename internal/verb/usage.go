package verb

import (
	"slices"
	"strings"
)

// Usage is the verb as RESP has it, after PROXY.
func (r *Row) Usage() string {
	words := []string{r.Name}
	for i := range r.Args {
		words = append(words, r.Args[i].usage())
	}
	for i := range r.Options {
		if o := &r.Options[i]; !r.second(o) {
			words = append(words, r.optionUsage(o))
		}
	}
	return strings.Join(words, " ")
}

// second reports whether an option is shown with the one that it excludes.
func (r *Row) second(o *Option) bool {
	if o.Not == "" {
		return false
	}
	at := func(name string) int {
		return slices.IndexFunc(r.Options, func(x Option) bool { return x.Name == name })
	}
	return at(o.Not) < at(o.Name)
}

// optionUsage is [RATE <keys/s>], or [STAY|REVERT] of two that exclude each other.
func (r *Row) optionUsage(o *Option) string {
	text := o.usage()
	if o.Not != "" {
		text += "|" + r.Option(o.Not).usage()
	}
	if o.Repeats {
		text += " ..."
	}
	if o.Required {
		return text
	}
	return "[" + text + "]"
}

// usage is the option's word with its values.
func (o *Option) usage() string {
	text := o.Name
	for i := range o.Values {
		v := o.Values[i].meta()
		if o.Without != "" {
			v = "[" + v + "]"
		}
		text += " " + v
	}
	return text
}

func (a *Arg) meta() string {
	if a.Meta != "" {
		return a.Meta
	}
	return "<" + a.Name + ">"
}

func (a *Arg) usage() string {
	if a.Optional {
		return "[" + a.meta() + "]"
	}
	return a.meta()
}

// CLIUsage is the verb as the keyferry command has it, without its flags but for those that
// are needed.
func (r *Row) CLIUsage() string {
	text := r.CLI()
	if f := strings.Fields(text); len(f) > 1 {
		text = f[1]
	}
	return text + r.cliRest()
}

func (r *Row) cliRest() (text string) {
	for i := range r.Args {
		text += " " + r.Args[i].usage()
	}
	for i := range r.Options {
		if o := &r.Options[i]; o.Required {
			text += " --" + o.FlagName() + " " + o.Values[0].meta()
		}
	}
	return text
}

// FlagType is what an option's flag wants, as --help shows it.
func (o *Option) FlagType() string {
	switch len(o.Values) {
	case 0:
		return "bool"
	case 1:
		text := o.Values[0].meta()
		if strings.LastIndexByte(text, '<') == 0 && strings.IndexByte(text, '>') == len(text)-1 {
			return text[1 : len(text)-1]
		}
		return text
	}
	return "g1=2,g2=0.5"
}

// LongHelp is what keyferry --help says of the verb above its flags.
func (r *Row) LongHelp(alias *Alias) string {
	short, help := r.Short, r.Help
	if alias != nil {
		short, help = alias.Short, alias.Help
	}
	lines := append([]string{short + ".", ""}, wrap(help, 90)...)
	if len(r.Args) > 0 {
		lines = append(lines, "", "Arguments:")
	}
	for i := range r.Args {
		lines = append(lines, "  "+r.Args[i].meta()+": "+r.Args[i].Help)
	}
	return strings.Join(lines, "\n")
}

// containerUsage is that of every verb of a container: GROUP LIST | ADD <id> ….
func containerUsage(container string) string {
	text := strings.ToUpper(container)
	sep := " "
	for i := range Rows {
		if r := &Rows[i]; strings.EqualFold(r.Container(), container) && r.Only != OnlyCLI {
			text += sep + strings.TrimPrefix(r.Usage(), r.Container()+" ")
			sep = " | "
		}
	}
	return text
}

// Help is what PROXY HELP answers: of one verb, of those of a container, or of all.
func Help(words []string) ([]string, error) {
	name := strings.Join(words, " ")
	out := []string{"PROXY <subcommand> [<arg> ...]. JSON as the last argument answers as JSON. Subcommands are:"}
	if name != "" {
		out = nil
	}
	for i := range Rows {
		r := &Rows[i]
		if r.Only == OnlyCLI || name != "" && !strings.EqualFold(r.Name, name) && !strings.EqualFold(r.Container(), name) {
			continue
		}
		usage := r.Usage()
		if name != "" {
			usage = "PROXY " + usage
		}
		out = append(out, usage)
		for _, line := range wrap(r.Short+". "+r.Help, 90) {
			out = append(out, "    "+line)
		}
		for j := range r.Options {
			o := &r.Options[j]
			for k, line := range wrap(o.usage()+": "+o.Help, 80) {
				indent := "      "
				if k > 0 {
					indent += "  "
				}
				out = append(out, indent+line)
			}
		}
	}
	if len(out) == 0 {
		return nil, unknownVerb(append(slices.Clone(words), ""))
	}
	return out, nil
}

// wrap breaks a text into lines.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}
