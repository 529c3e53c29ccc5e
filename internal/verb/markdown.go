package verb

import (
	"fmt"
	"strings"
)

const docHead = `# Verbs

What an operator can tell a gateway. This page is made of the table of verbs by ` + "`make docs`" + `; a test
fails when it is out of date. The same verbs, with the same options, are offered by

- **RESP**: ` + "`PROXY <verb> …`" + ` on the admin address (` + "`admin.listen`" + `, 127.0.0.1:7381), from redis-cli or any client.
  JSON as the last word answers as JSON. ` + "`PROXY HELP [<verb>]`" + ` prints this page's texts.
- **the keyferry command**: ` + "`keyferry <verb> … [--flags]`" + `; ` + "`--json`" + ` prints JSON. Exit code 1: it failed;
  2: the command line is wrong; 3: a job that is followed is paused. ` + "`keyferry completion <shell>`" + ` completes verbs,
  flags and the names of groups, jobs and slots.
- **HTTP**: ` + "`POST /api/v1/verbs/<verb>`" + ` with a JSON object whose fields are the arguments and options in
  small letters. It always answers JSON. See [api.md](api.md).
- **the dashboard**, whose forms are made of ` + "`GET /api/v1/verbs`" + `.

A mistake in an argument is told in the same words everywhere: the argument's name, what was given, what
is wanted. No option may be given twice.

The role is what the three levels of access are about: *view* looks, *operate* moves slots and steers
jobs, *administer* changes groups and the ownership of slots.
`

// Markdown is docs/admin.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(docHead)
	b.WriteString("\n| verb | role | what it does |\n|---|---|---|\n")
	for i := range Rows {
		r := &Rows[i]
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", r.Name, strings.ReplaceAll(r.CLI(), " ", "-"), r.Role, cellText(r.Short))
	}
	for i := range Rows {
		Rows[i].markdown(&b)
	}
	return b.String()
}

func (r *Row) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s. %s\n\n", r.Name, r.Short, r.Help)
	b.WriteString("| at | as |\n|---|---|\n")
	if r.Only != OnlyCLI {
		fmt.Fprintf(b, "| RESP | `PROXY %s` |\n", cellText(r.Usage()))
	}
	if r.Only != OnlyRESP {
		fmt.Fprintf(b, "| keyferry | `keyferry %s` |\n", cellText(r.CLI()+r.cliRest()))
		if a := r.Alias; a != nil {
			fmt.Fprintf(b, "| keyferry | `keyferry %s` is the same with `--%s`: %s |\n", cellText(a.Name+r.cliRest()), strings.ToLower(a.Given), cellText(a.Short))
		}
	}
	if r.Only == "" {
		fmt.Fprintf(b, "| HTTP | `POST /api/v1/verbs/%s` |\n", r.Path())
	}
	if len(r.Args) > 0 {
		b.WriteString("\n| argument | field | meaning |\n|---|---|---|\n")
		for _, a := range r.Args {
			fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", cellText(a.usage()), a.Name, cellText(a.Help))
		}
	}
	if len(r.Options) > 0 {
		b.WriteString("\n| option | flag | field | meaning |\n|---|---|---|---|\n")
		for i := range r.Options {
			o := &r.Options[i]
			fmt.Fprintf(b, "| `%s` | `--%s` | `%s` | %s |\n", cellText(o.usage()), o.FlagName(), o.Field(), cellText(r.notes(o)))
		}
	}
	if r.Waits {
		fmt.Fprintf(b, "\n`keyferry %s --wait`: %s.\n", r.CLI(), WaitHelp)
	}
}

// notes are an option's help, and what else its use depends on.
func (r *Row) notes(o *Option) string {
	text := o.Help
	if o.Required {
		text += "; required"
	}
	if o.Repeats {
		text += "; may be given many times"
	}
	if o.Role != "" && o.Role != r.Role {
		text += "; role with it: " + string(o.Role)
	}
	return text
}

// cellText escapes what would end a cell of a table.
func cellText(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
