package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/spf13/cobra"

	"keyferry/internal/admin"
	"keyferry/migrator"
)

// remote is a running gateway's admin port.
type remote struct {
	addr, password string
	json           bool
	patience       time.Duration // with the answer to one command
}

func (r *remote) flags(c *cobra.Command) {
	def := os.Getenv("KEYFERRY_ADMIN")
	if def == "" {
		def = "127.0.0.1:7381"
	}
	c.PersistentFlags().StringVar(&r.addr, "admin", def, "admin address of the gateway")
	c.PersistentFlags().StringVar(&r.password, "password", os.Getenv("KEYFERRY_ADMIN_PASSWORD"), "admin password (better: KEYFERRY_ADMIN_PASSWORD)")
	c.PersistentFlags().Lookup("password").DefValue = "" // which --help would show
	c.PersistentFlags().BoolVar(&r.json, "json", false, "print JSON")
	r.patience = 15 * time.Second
}

// ask sends PROXY args and returns the reply.
func (r *remote) ask(ctx context.Context, args ...string) (any, error) {
	c := redis.NewClient(&redis.Options{Addr: r.addr, Password: r.password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: 3 * time.Second, ReadTimeout: r.patience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer c.Close()
	cmd := []any{"PROXY"}
	for _, a := range args {
		cmd = append(cmd, a)
	}
	v, err := c.Do(ctx, cmd...).Result()
	if err != nil && !isServerError(err) {
		return nil, fmt.Errorf("gateway at %s: %w", r.addr, err)
	}
	return v, err
}

func isServerError(err error) bool {
	var e redis.Error
	return errors.As(err, &e)
}

// rows asks for JSON and decodes it; with --json it prints it and reports true.
func (r *remote) rows(cmd *cobra.Command, into any, args ...string) (printed bool, err error) {
	v, err := r.ask(cmd.Context(), append(args, "JSON")...)
	if err != nil {
		return false, err
	}
	text, _ := v.(string)
	if r.json {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
		return true, err
	}
	return false, json.Unmarshal([]byte(text), into)
}

// say asks and prints a short answer.
func (r *remote) say(cmd *cobra.Command, args ...string) error {
	v, err := r.ask(cmd.Context(), args...)
	if err != nil {
		return err
	}
	if r.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), v)
	return err
}

func table(w io.Writer, head string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

func groupCommand() *cobra.Command {
	r := &remote{}
	c := &cobra.Command{Use: "group", Short: "List, add, change and remove groups"}
	r.flags(c)
	var serverPassword string
	add := &cobra.Command{Use: "add <id> <host:port>", Short: "Add a group without slots", Args: exactly(2),
		RunE: func(cmd *cobra.Command, a []string) error {
			args := []string{"GROUP", "ADD", a[0], a[1]}
			if serverPassword != "" {
				args = append(args, "PASSWORD", serverPassword)
			}
			return r.say(cmd, args...)
		}}
	add.Flags().StringVar(&serverPassword, "server-password", "", "password of the server")
	c.AddCommand(add, groupSetCommand(r),
		&cobra.Command{Use: "del <id>", Short: "Remove a group that owns no slots", Args: exactly(1),
			RunE: func(cmd *cobra.Command, a []string) error { return r.say(cmd, "GROUP", "DEL", a[0]) }},
		&cobra.Command{Use: "list", Short: "Groups with their slots", Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				var list []admin.GroupRow
				if done, err := r.rows(cmd, &list, "GROUP", "LIST"); done || err != nil {
					return err
				}
				var rows [][]string
				for _, g := range list {
					rows = append(rows, []string{g.ID, g.Addr, strconv.Itoa(g.Slots), g.Ranges})
				}
				return table(cmd.OutOrStdout(), "GROUP\tADDRESS\tSLOTS\tRANGES", rows)
			}})
	return c
}

func groupSetCommand(r *remote) *cobra.Command {
	var addr, password string
	c := &cobra.Command{Use: "set <id>", Short: "Change the address or the password of a group's server", Args: exactly(1)}
	c.Flags().StringVar(&addr, "addr", "", "host:port of the primary that has the group's keys now")
	c.Flags().StringVar(&password, "server-password", "", "password of the server; empty: none")
	c.RunE = func(cmd *cobra.Command, a []string) error {
		args := []string{"GROUP", "SET", a[0]}
		if cmd.Flags().Changed("addr") {
			args = append(args, "ADDR", addr)
		}
		switch {
		case password != "":
			args = append(args, "PASSWORD", password)
		case cmd.Flags().Changed("server-password"):
			args = append(args, "NOPASSWORD")
		}
		return r.say(cmd, args...)
	}
	return c
}

func slotCommand() *cobra.Command {
	r := &remote{}
	c := &cobra.Command{Use: "slot", Short: "Show and assign slots"}
	r.flags(c)
	c.AddCommand(
		&cobra.Command{Use: "assign <first>-<last> <group>", Short: "Give slots that nobody owns to a group", Args: exactly(2),
			RunE: func(cmd *cobra.Command, a []string) error { return r.say(cmd, "SLOT", "ASSIGN", a[0], a[1]) }},
		&cobra.Command{Use: "of <key>", Short: "Slot and group of a key", Args: exactly(1),
			RunE: func(cmd *cobra.Command, a []string) error {
				v, err := r.ask(cmd.Context(), "SLOT", "OF", a[0])
				if err != nil {
					return err
				}
				return printFields(cmd.OutOrStdout(), v, r.json)
			}},
		&cobra.Command{Use: "list", Short: "Which group serves which slot", Args: exactly(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				var list []admin.SlotRow
				if done, err := r.rows(cmd, &list, "SLOT", "LIST"); done || err != nil {
					return err
				}
				var rows [][]string
				for _, s := range list {
					rows = append(rows, []string{fmt.Sprintf("%d-%d", s.First, s.Last), s.Group, s.State, s.Target, s.Job})
				}
				return table(cmd.OutOrStdout(), "SLOTS\tGROUP\tSTATE\tTARGET\tJOB", rows)
			}}, slotCheckCommand(r))
	return c
}

// lookPatience is how long a verb that looks at every key may take.
const lookPatience = time.Hour

func slotCheckCommand(r *remote) *cobra.Command {
	var fix string
	c := &cobra.Command{Use: "check", Short: "Look through all keys for those that sit in a group that does not own them", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := []string{"SLOT", "CHECK"}
			switch fix {
			case "":
			case "twins":
				args = append(args, "FIX")
			case "drop", "adopt":
				args = append(args, "FIX", fix)
			default:
				return errUsage{fmt.Errorf("--fix %s: want twins, drop or adopt", fix)}
			}
			return r.orphans(cmd, args...)
		}}
	c.Flags().StringVar(&fix, "fix", "", "twins: remove those that the owner has as well; drop: the others too; adopt: bring the others to the owner")
	return c
}

// orphans prints the answer of a verb that looks for keys where they do not belong.
func (r *remote) orphans(cmd *cobra.Command, args ...string) error {
	r.patience = lookPatience
	var list []migrator.Orphans
	if done, err := r.rows(cmd, &list, args...); done || err != nil {
		return err
	}
	var rows [][]string
	for _, o := range list {
		row := []string{o.Group}
		for _, n := range []int64{o.Scanned, o.Twins, o.Alone, o.Removed, o.Adopted} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, append(row, fmt.Sprintf("%q", o.Sample)))
	}
	return table(cmd.OutOrStdout(), "GROUP\tKEYS\tTWINS\tALONE\tREMOVED\tADOPTED\tSUCH AS", rows)
}

// printFields prints a flat list of names and values.
func printFields(w io.Writer, v any, asJSON bool) error {
	list, _ := v.([]any)
	if asJSON {
		m := map[string]any{}
		for i := 0; i+1 < len(list); i += 2 {
			m[fmt.Sprint(list[i])] = list[i+1]
		}
		return json.NewEncoder(w).Encode(m)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(list); i += 2 {
		fmt.Fprintf(t, "%v\t%v\n", list[i], list[i+1])
	}
	return t.Flush()
}

func migrateCommand() *cobra.Command {
	r := &remote{}
	var to string
	var l limitFlags
	var dry, purge bool
	var durability, verify string
	c := &cobra.Command{Use: "migrate <first>-<last>[,<first>-<last>...] --to <group>", Short: "Move slots with their keys while clients go on", Args: exactly(1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if to == "" {
				return errUsage{errors.New("--to <group> is needed")}
			}
			args := append([]string{"MIGRATE", a[0], "TO", to}, l.args(cmd)...)
			if purge {
				args = append(args, "PURGE")
			}
			if durability != "" {
				args = append(args, "DURABILITY", durability)
			}
			if verify != "" {
				args = append(args, "VERIFY", verify)
			}
			if dry {
				return r.check(cmd, args...)
			}
			return r.plansOrIDs(cmd, args, false)
		}}
	r.flags(c)
	c.Flags().StringVar(&to, "to", "", "group that gets the slots")
	l.flags(c)
	c.Flags().StringVar(&durability, "durability", "", "what the target must have done with a key before the source gives it up: auto, none, replica or aof")
	c.Flags().StringVar(&verify, "verify", "", "compare keys before the source gives them up: sample=1% or full")
	c.Flags().BoolVar(&purge, "purge", false, "remove keys of the slots that the target holds already")
	c.Flags().BoolVar(&dry, "dryrun", false, "check both ends, as keyferry check does, and move nothing")
	return c
}

func rebalanceCommand() *cobra.Command {
	r := &remote{}
	var by string
	var dry bool
	var weights map[string]string
	c := &cobra.Command{Use: "rebalance", Short: "Move slots so that every group has its share", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := []string{"REBALANCE", "BY", by}
			for _, g := range slices.Sorted(maps.Keys(weights)) {
				args = append(args, "WEIGHT", g, weights[g])
			}
			return r.plansOrIDs(cmd, args, dry)
		}}
	r.flags(c)
	c.Flags().StringVar(&by, "by", "slots", "slots, keys, memory or ops")
	c.Flags().StringToStringVar(&weights, "weight", nil, "the part that a group is to have, as g1=2,g2=0.5; 1 where none is given, 0 empties it")
	c.Flags().BoolVar(&dry, "dryrun", false, "show what would move, and move nothing")
	return c
}

func (r *remote) plansOrIDs(cmd *cobra.Command, args []string, dry bool) error {
	if dry {
		var plans []migrator.Plan
		if done, err := r.rows(cmd, &plans, append(args, "DRYRUN")...); done || err != nil {
			return err
		}
		var rows [][]string
		for _, p := range plans {
			n := 0
			var parts []string
			for _, s := range p.Slots {
				n += s.Last - s.First + 1
				parts = append(parts, fmt.Sprintf("%d-%d", s.First, s.Last))
			}
			rows = append(rows, []string{p.Source, p.Target, strconv.Itoa(n), known(p.Keys), known(p.Bytes), known(p.Seconds), strings.Join(parts, ",")})
		}
		return table(cmd.OutOrStdout(), "FROM\tTO\tSLOTS\tKEYS (ESTIMATE)\tBYTES\tSECONDS\tRANGES", rows)
	}
	var ids []string
	if done, err := r.rows(cmd, &ids, args...); done || err != nil {
		return err
	}
	for _, id := range ids {
		fmt.Fprintln(cmd.OutOrStdout(), id)
	}
	return nil
}
