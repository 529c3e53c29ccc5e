package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/spf13/cobra"
)

// remote is a running gateway's admin port. One is made for each command of the first
// level, whose flags fill it in; it lives as long as the process.
type remote struct {
	addr, password string
	json           bool
}

// How long the answer to one verb may take: lookPatience is for those that look at every key.
const (
	patience     = 15 * time.Second
	lookPatience = time.Hour
)

func (r *remote) flags(c *cobra.Command) {
	def := os.Getenv("KEYFERRY_ADMIN")
	if def == "" {
		def = "127.0.0.1:7381"
	}
	c.PersistentFlags().StringVar(&r.addr, "admin", def, "admin address of the gateway")
	c.PersistentFlags().StringVar(&r.password, "password", os.Getenv("KEYFERRY_ADMIN_PASSWORD"), "admin password (better: KEYFERRY_ADMIN_PASSWORD)")
	c.PersistentFlags().Lookup("password").DefValue = "" // which --help would show
	c.PersistentFlags().BoolVar(&r.json, "json", false, "print JSON")
}

// ask sends PROXY args and returns the reply.
func (r *remote) ask(ctx context.Context, patience time.Duration, args ...string) (any, error) {
	c := redis.NewClient(&redis.Options{Addr: r.addr, Password: r.password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: 3 * time.Second, ReadTimeout: patience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer c.Close()
	cmd := []any{"PROXY"}
	for _, a := range args {
		cmd = append(cmd, a)
	}
	v, err := c.Do(ctx, cmd...).Result()
	if err != nil && !isServerError(err) {
		return nil, errGone{fmt.Errorf("gateway at %s: %w", r.addr, err)}
	}
	return v, err
}

// errGone is of a gateway that has not answered.
type errGone struct{ error }

func (e errGone) Unwrap() error { return e.error }

func isServerError(err error) bool {
	var e redis.Error
	return errors.As(err, &e)
}
