package main

import (
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
			args := []string{"MIGRATE", a[0], "TO", to, "DRYRUN"}
			if purge {
				args = append(args, "PURGE")
			}
			var reports []migrator.Report
			if done, err := r.rows(cmd, &reports, args...); done || err != nil {
				return err
			}
			return printReports(cmd, reports)
		}}
	r.flags(c)
	c.Flags().StringVar(&to, "to", "", "group that is to get the slots")
	c.Flags().BoolVar(&purge, "purge", false, "as if keys of the slots that the target holds were to be removed")
	return c
}

func printReports(cmd *cobra.Command, reports []migrator.Report) error {
	out := cmd.OutOrStdout()
	refused := false
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
		refused = refused || !p.OK
	}
	if refused {
		return errRefused
	}
	return nil
}

func known(n int64) string {
	if n < 0 {
		return "?"
	}
	return strconv.FormatInt(n, 10)
}
