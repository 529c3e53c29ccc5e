package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"keyferry/internal/gateway"
)

// Exit codes: 0 it was done; 1 it failed; 2 it was asked for in a way that can't be
// understood; 3 a job that is waited for is paused.
const (
	exitFailed = 1
	exitUsage  = 2
	exitPaused = 3
)

// errUsage marks errors in the words of a command line.
type errUsage struct{ error }

// errPaused is of jobs that need an operator to go on.
type errPaused struct{ error }

func exitCode(err error) int {
	var usage errUsage
	var paused errPaused
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &paused):
		return exitPaused
	}
	return exitFailed
}

// quiet drops go-redis's own lines: every error that they tell of comes back from the
// call as well, and is logged once, by whoever knows what it means.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func root() *cobra.Command {
	redis.SetLogger(quiet{})
	c := &cobra.Command{
		Use:           "keyferry",
		Short:         "A gateway that moves keys between Redis servers one at a time while clients go on",
		Version:       gateway.Version,
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errUsage{err} })
	c.AddCommand(serveCommand(), demoCommand(), benchCommand(), configCommand())
	c.AddCommand(withStoreCopy(verbCommands())...)
	for _, sub := range append(c.Commands(), c) {
		if sub.HasSubCommands() {
			sub.Args, sub.RunE = oneOf, func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	return c
}

// oneOf is for commands that only have others below them: it says which one is not there,
// where cobra would show the help and call it a success.
func oneOf(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return errUsage{fmt.Errorf("unknown command %q for %q\nsee %s --help", args[0], c.CommandPath(), c.CommandPath())}
}

// exactly is cobra.ExactArgs with the usage exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return errUsage{fmt.Errorf("%s: want %d arguments, got %d\nusage: %s", c.CommandPath(), n, len(args), c.UseLine())}
		}
		return nil
	}
}
