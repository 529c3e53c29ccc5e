package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyferry/internal/topology"
	"keyferry/internal/verb"
	"keyferry/migrator"
)

// verbCommands are the verbs of the table as commands: one for each row, below its
// container if it has one.
func verbCommands() (out []*cobra.Command) {
	type container struct {
		*cobra.Command
		r *remote
	}
	containers := map[string]container{}
	for _, c := range verb.Containers {
		x := container{&cobra.Command{Use: strings.ToLower(c.Name), Short: c.Short}, &remote{}}
		x.r.flags(x.Command)
		containers[c.Name] = x
		out = append(out, x.Command)
	}
	for i := range verb.Rows {
		row := &verb.Rows[i]
		if row.Only == verb.OnlyRESP {
			continue
		}
		if c := row.Container(); c != "" {
			containers[c].AddCommand(containers[c].r.command(row, nil))
			continue
		}
		r := &remote{}
		c := r.command(row, nil)
		r.flags(c)
		out = append(out, c)
		if row.Alias != nil {
			r := &remote{}
			c := r.command(row, row.Alias)
			r.flags(c)
			out = append(out, c)
		}
	}
	return out
}

// optionFlag is the flag of an option. It only collects what was given: the grammar judges
// it, in the same words as the gateway.
type optionFlag struct {
	o      *verb.Option
	values []string // one for each time that the flag was given
}

func (f *optionFlag) String() string        { return "" }
func (f *optionFlag) Set(text string) error { f.values = append(f.values, text); return nil }
func (f *optionFlag) Type() string          { return f.o.FlagType() }
func (f *optionFlag) given(row *verb.Row) (out []verb.Given) {
	for _, v := range f.values {
		if len(f.o.Values) > 0 {
			out = append(out, row.FromText(f.o.Name, v)...)
			continue
		}
		switch on, err := strconv.ParseBool(v); {
		case err != nil:
			out = append(out, verb.Given{Name: f.o.Name, Values: []string{v}})
		case on:
			out = append(out, verb.Given{Name: f.o.Name})
		}
	}
	return out
}

// optionFlags adds a flag for each option of a row but the fixed one.
func optionFlags(set *pflag.FlagSet, row *verb.Row, fixed string) (flags []*optionFlag) {
	for i := range row.Options {
		o := &row.Options[i]
		if o.Name == fixed {
			continue
		}
		f := &optionFlag{o: o}
		flags = append(flags, f)
		p := set.VarPF(f, o.FlagName(), "", o.Help)
		if len(o.Values) == 0 {
			p.NoOptDefVal = "true"
		}
	}
	return flags
}

// command is a row as a command. With an alias it has that one's name and option.
func (r *remote) command(row *verb.Row, alias *verb.Alias) *cobra.Command {
	use, short, fixed := row.CLIUsage(), row.Short, ""
	if alias != nil {
		use, short, fixed = strings.Replace(use, row.CLI(), alias.Name, 1), alias.Short, alias.Given
	}
	c := &cobra.Command{Use: use, Short: short, Long: row.LongHelp(alias), Args: cobra.ArbitraryArgs}
	flags := optionFlags(c.Flags(), row, fixed)
	follow := false
	if row.Waits && alias == nil {
		c.Flags().BoolVar(&follow, "wait", false, verb.WaitHelp)
	}
	if n := len(row.Args); n > 0 && row.Args[n-1].Kind == verb.Words {
		c.Flags().SetInterspersed(row.Args[n-1].Optional) // a command may have words that look like flags
	}
	r.complete(c, row, fixed)
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError(c, flagError(row, err)) })
	c.RunE = func(c *cobra.Command, words []string) error {
		given, err := row.Positional(words)
		if err != nil {
			return usageError(c, err)
		}
		if fixed != "" {
			given = append(given, verb.Given{Name: fixed})
		}
		for _, f := range flags {
			given = append(given, f.given(row)...)
		}
		call, err := row.Bind(given, r.json)
		if err != nil {
			return usageError(c, err)
		}
		if follow && call.Role() == verb.View {
			return usageError(c, &verb.Error{Row: row, Text: "WAIT and DRYRUN exclude each other"})
		}
		return r.do(c, call, words, follow)
	}
	return c
}

// flagError says what pflag says in the words of the grammar.
func flagError(row *verb.Row, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return row.Unknown(unknown.GetSpecifiedName())
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		for i := range row.Options {
			if o := &row.Options[i]; o.FlagName() == missing.GetFlag().Name {
				return row.MissingValue(o)
			}
		}
	}
	return err
}

// usageError is a mistake in a command line. How the verb is used is said as keyferry has it.
func usageError(c *cobra.Command, err error) error {
	var e *verb.Error
	if errors.As(err, &e) {
		err = errors.New(e.Text)
		if e.Usage {
			err = fmt.Errorf("%s\nusage: %s\nsee %s --help", e.Text, c.UseLine(), c.CommandPath())
		}
	}
	return errUsage{err}
}

var errRefused = errors.New("the migration would be refused")

// errFound is of a look for keys in the wrong place: in a group that does not own their slot, or in a
// database that is not served.
var errFound = errors.New("there are keys that no client of the gateway can see")

// do says a call to the gateway, prints what it answers, and judges it: the exit code says
// whether what was asked for came about.
func (r *remote) do(c *cobra.Command, call *verb.Call, words []string, follow bool) error {
	row := call.Row
	if row.Name == "MIGRATION WATCH" {
		return r.watch(c, words, toTheEnd())
	}
	wait := patience
	if row.Long {
		wait = lookPatience
	}
	v, err := r.ask(c.Context(), wait, call.Words(r.json || row.Show == verb.ShowTable)...)
	if err != nil {
		return err
	}
	if err := r.print(c, call, v); err != nil {
		return err
	}
	text, _ := v.(string)
	switch row.Name {
	case "MIGRATE", "REBALANCE":
		if call.Role() == verb.View {
			if refuses(text) {
				return errRefused
			}
			return nil
		}
		var ids []string
		_ = json.Unmarshal([]byte(text), &ids)
		return r.started(c, ids, follow)
	case "MIGRATION RESUME":
		if strings.EqualFold(words[0], "all") {
			if follow {
				return r.watch(c, nil, toTheEnd())
			}
			return nil
		}
		if slices.Contains(call.Words(false), "FORWARD") && follow {
			return r.watch(c, words, toTheEnd(topology.Done))
		}
		return r.started(c, words, follow)
	case "MIGRATION CANCEL":
		if follow {
			return r.watch(c, words, toTheEnd(topology.Cancelled, topology.Reverted))
		}
	case "SLOT CHECK", "MIGRATION VERIFY":
		if orphansLeft(text) > 0 {
			return errFound
		}
	}
	return nil
}

// started waits for jobs that have been told to begin: until they do, or until they end.
func (r *remote) started(c *cobra.Command, ids []string, follow bool) error {
	switch {
	case len(ids) == 0:
		return nil
	case follow:
		return r.watch(c, ids, toTheEnd())
	}
	return r.begun(c, ids)
}

// orphansLeft is how many keys a look has found and not mended. Those in databases that are not served count:
// whoever goes by the exit code gives the server up.
func orphansLeft(text string) (n int64) {
	var found []migrator.Orphans
	_ = json.Unmarshal([]byte(text), &found)
	for _, o := range found {
		n += o.Twins + o.Alone - o.Removed - o.Adopted + o.Unserved
	}
	return n
}

func (r *remote) print(c *cobra.Command, call *verb.Call, v any) error {
	if !r.json {
		return call.WriteText(c.OutOrStdout(), v)
	}
	if text, ok := v.(string); ok && json.Valid([]byte(text)) {
		_, err := fmt.Fprintln(c.OutOrStdout(), text)
		return err
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(v) // a text that is no JSON, as OK
}

// refuses reports whether one of the reports of a check says no.
func refuses(text string) bool {
	var reports []struct {
		OK *bool `json:"ok"`
	}
	if json.Unmarshal([]byte(text), &reports) != nil {
		return false
	}
	for _, p := range reports {
		if p.OK != nil && !*p.OK {
			return true
		}
	}
	return false
}
