package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"keyferry/migrator"
)

var errRefused = errors.New("the migration would be refused")

func checkCommand() *cobra.Command {
	r := &remote{}
	var to string
	var purge bool
	c := &cobra.Command{Use: "check <first>-<last>[,<first>-<last>...] --to <group>", Short: "Check both ends of a migration and change nothing. Exit code 1 if it would be refused", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if to == "" {
				return errUsage{errors.New("--to <group> is needed")}
			}
			args := []string{"MIGRATE", a[0], "TO", to}
			if purge {
				args = append(args, "PURGE")
			}
			return r.check(cmd, args...)
		}}
	r.flags(c)
	c.Flags().StringVar(&to, "to", "", "group that is to get the slots")
	c.Flags().BoolVar(&purge, "purge", false, "as if keys of the slots that the target holds were to be removed")
	return c
}

// check prints what stands against a migration; errRefused if that is enough to refuse it.
func (r *remote) check(cmd *cobra.Command, args ...string) error {
	var reports []migrator.Report
	v, err := r.ask(cmd.Context(), append(args, "DRYRUN", "JSON")...)
	if err != nil {
		return err
	}
	text, _ := v.(string)
	if err := json.Unmarshal([]byte(text), &reports); err != nil {
		return err
	}
	if r.json {
		fmt.Fprintln(cmd.OutOrStdout(), text)
	} else {
		printReports(cmd, reports)
	}
	for _, p := range reports {
		if !p.OK {
			return errRefused
		}
	}
	return nil
}

func printReports(cmd *cobra.Command, reports []migrator.Report) {
	out := cmd.OutOrStdout()
	for _, p := range reports {
		fmt.Fprintf(out, "%s → %s: about %s keys, %s bytes, %s s\n", p.Source, p.Target, known(p.Keys), known(p.Bytes), known(p.Seconds))
		for _, f := range p.Findings {
			fmt.Fprintf(out, "  %-8s %s, %s: %s\n", f.Severity, f.What, f.Where, f.Text)
			if f.Advice != "" {
				fmt.Fprintf(out, "           → %s\n", f.Advice)
			}
		}
		if len(p.Findings) == 0 {
			fmt.Fprintln(out, "  nothing stands against it")
		}
	}
}

func known(n int64) string {
	if n < 0 {
		return "?"
	}
	return strconv.FormatInt(n, 10)
}
