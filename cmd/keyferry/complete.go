package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyferry/internal/admin"
	"keyferry/internal/verb"
	"keyferry/migrator"
)

// completePatience is how long a shell waits for the gateway's names; then it has none.
const completePatience = 2 * time.Second

// complete lets a shell complete the arguments and the flags' values of a verb, by what each of
// them means. The names are the gateway's.
func (r *remote) complete(c *cobra.Command, row *verb.Row, fixed string) {
	c.ValidArgsFunction = func(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch n := len(row.Args); {
		case len(given) < n:
			return r.names(row, &row.Args[len(given)])
		case n > 0 && row.Args[n-1].Kind == verb.Words:
			return r.names(row, &row.Args[n-1])
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for i := range row.Options {
		o := &row.Options[i]
		if o.Name == fixed || len(o.Values) == 0 {
			continue
		}
		_ = c.RegisterFlagCompletionFunc(o.FlagName(), func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			names, how := r.names(row, &o.Values[0])
			if len(o.Values) == 2 { // g1=2,g2=0.5
				for i, n := range names {
					name, _, _ := strings.Cut(n, "\t")
					names[i] = name + "="
				}
				how |= cobra.ShellCompDirectiveNoSpace
			}
			return names, how
		})
	}
}

// names are what an argument may be, each with what it is behind a tab. A gateway that does not
// answer has none.
func (r *remote) names(row *verb.Row, a *verb.Arg) (names []string, how cobra.ShellCompDirective) {
	how = cobra.ShellCompDirectiveNoFileComp
	kind := a.Kind
	if kind == verb.Words && a.Of != "" {
		kind = a.Of
	}
	switch kind {
	case verb.Group:
		return list(r, []string{"GROUP", "LIST"}, func(g admin.GroupRow) string { return fmt.Sprintf("%s\t%s, %d slots", g.ID, g.Addr, g.Slots) }), how
	case verb.Job:
		ended := row.Role == verb.View // who steers jobs has no use for one that has ended
		if strings.HasSuffix(a.Meta, "|ALL") {
			names = []string{"all\tevery job"}
		}
		return append(names, list(r, []string{"MIGRATION", "LIST"}, func(j migrator.Status) string {
			if j.Phase.Ended() && !ended {
				return ""
			}
			return fmt.Sprintf("%s\t%s→%s %s", j.ID, j.Source, j.Target, j.Phase)
		})...), how
	case verb.Ranges:
		return list(r, []string{"SLOT", "LIST"}, func(s admin.SlotRow) string {
			return fmt.Sprintf("%d-%d\t%s %s", s.First, s.Last, s.Group, s.State)
		}), how
	case verb.Choice:
		for _, c := range a.Choices {
			names = append(names, strings.ToLower(c))
		}
	case verb.P99:
		names = []string{"auto", "off"}
	case verb.Pattern:
		names = []string{"off"}
	case verb.Share:
		names = []string{"full", "sample=1%"}
	}
	return names, how
}

// list asks the gateway for a list and names what is in it; "" is left out.
func list[T any](r *remote, words []string, name func(T) string) (names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), completePatience)
	defer cancel()
	v, err := r.ask(ctx, completePatience, append(words, "JSON")...)
	if err != nil {
		return nil
	}
	text, _ := v.(string)
	var all []T
	_ = json.Unmarshal([]byte(text), &all)
	for _, x := range all {
		if n := name(x); n != "" {
			names = append(names, n)
		}
	}
	return names
}
