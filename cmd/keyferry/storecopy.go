package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"keyferry/conf"
	"keyferry/internal/gateway"
	"keyferry/internal/topology"
)

// withStoreCopy adds it to the verbs that are about the store.
func withStoreCopy(verbs []*cobra.Command) []*cobra.Command {
	for _, c := range verbs {
		if c.Name() == "store" {
			c.AddCommand(storeCopyCommand())
		}
	}
	return verbs
}

func storeCopyCommand() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy a cluster from one store into another, while no gateway runs",
		Long: `Copies all that is stored of a cluster: groups, slots, jobs with their histories and how far
they have come. FROM and TO are each one of

  bolt          the files in data-dir
  bolt:DIR      the files in another directory
  etcd          the cluster below etcd.prefix
  etcd:PREFIX   the cluster below another prefix

where the settings are those of "keyferry serve". A cluster that is there already is never
overwritten, and FROM is left as it is. Start gateways on one of the two only, from then on:
two that know nothing of each other would lose keys.`,
		Example: "  keyferry store copy bolt etcd --config keyferry.toml\n  keyferry store copy etcd:/keyferry bolt:./copy",
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			return copyStore(cmd.Context(), cmd.OutOrStdout(), cfg, args[0], args[1])
		},
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(given) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"bolt\tthe files in data-dir", "bolt:\tthe files in another directory", "etcd\tthe cluster below etcd.prefix", "etcd:\tthe cluster below another prefix"},
				cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
	}
	s.flags(c)
	return c
}

// settings are those of a file, of the environment and of flags.
type settings struct {
	path string
	sets []string
}

func (s *settings) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "config", "", "settings that differ from the defaults (see: keyferry config)")
	c.Flags().StringArrayVar(&s.sets, "set", nil, "any setting, as clients.max-clients=500; may be repeated")
}

// load takes more settings, which come last.
func (s *settings) load(more ...string) (conf.Config, error) {
	set := map[string]string{}
	for _, kv := range append(s.sets, more...) {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return conf.Config{}, errUsage{fmt.Errorf("--set %s: want key=value", kv)}
		}
		set[k] = v
	}
	cfg, err := conf.Load(s.path, os.Environ(), set)
	if err != nil {
		return cfg, errUsage{err}
	}
	return cfg, nil
}

// place is a Config whose store is the one that is named.
func place(cfg conf.Config, name string) (conf.Config, error) {
	kind, which, given := strings.Cut(name, ":")
	switch {
	case kind == "bolt" && (!given || which != ""):
		if given {
			cfg.DataDir = which
		}
	case kind == "etcd" && (!given || which != ""):
		if given {
			cfg.Etcd.Prefix = which
		}
	default:
		return cfg, errUsage{fmt.Errorf("%q: want bolt, bolt:DIR, etcd or etcd:PREFIX", name)}
	}
	cfg.Store = kind
	if err := cfg.Validate(); err != nil {
		return cfg, errUsage{err}
	}
	return cfg, nil
}

func copyStore(ctx context.Context, out io.Writer, cfg conf.Config, fromName, toName string) (err error) {
	from, err := place(cfg, fromName)
	if err != nil {
		return err
	}
	to, err := place(cfg, toName)
	if err != nil {
		return err
	}
	if gateway.StoredIn(&from) == gateway.StoredIn(&to) {
		return errUsage{fmt.Errorf("%s and %s are the same store", fromName, toName)}
	}
	if _, err := os.Stat(filepath.Join(from.DataDir, "topology.db")); from.Store == "bolt" && errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s has no cluster in it", gateway.StoredIn(&from)) // and opening it would make the files
	}
	source, err := openUnused(ctx, &from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := openUnused(ctx, &to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if err := source.Lost(ctx); err != nil {
		return err
	}
	c, err := source.Export(ctx)
	if errors.Is(err, topology.ErrNotFound) {
		return fmt.Errorf("%s has no cluster in it", gateway.StoredIn(&from))
	}
	if err != nil {
		return err
	}
	if err := target.Import(ctx, c); errors.Is(err, topology.ErrConflict) {
		return fmt.Errorf("%s has a cluster in it already, which is left as it is: nothing has been copied", gateway.StoredIn(&to))
	} else if err != nil {
		return fmt.Errorf("the copy is not whole, and can be made again: %w", err)
	}
	st := &c.State
	_, err = fmt.Fprintf(out, "copied from %s to %s: epoch %d, revision %d; groups: %d, jobs: %d, checkpoints: %d, events: %d\nstart gateways on one of the two only\n",
		gateway.StoredIn(&from), gateway.StoredIn(&to), st.Epoch, st.Revision, len(st.Groups), len(st.Jobs), len(c.Checkpoints), len(c.Events))
	return err
}

// archive is a store that can be copied.
type archive interface {
	gateway.Store
	topology.Archive
}

// openUnused opens a store that no gateway uses, as far as that can be known: files are locked by the one that
// does, in etcd it is registered.
func openUnused(ctx context.Context, c *conf.Config) (archive, error) {
	s, err := gateway.OpenStore(c)
	if errors.Is(err, topology.ErrLocked) {
		return nil, fmt.Errorf("stop the gateway first: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if m, ok := s.(topology.Members); ok {
		var there []topology.Registered
		if there, err = m.Registered(ctx); err == nil && len(there) > 0 {
			err = fmt.Errorf("stop the gateways first: %s is registered in %s, or has been until a few seconds ago", there[0].Name, gateway.StoredIn(c))
		}
	}
	a, ok := s.(archive)
	if err == nil && !ok {
		err = fmt.Errorf("%s can't be copied", gateway.StoredIn(c))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return a, nil
}
