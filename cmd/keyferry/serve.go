package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keyferry/conf"
	"keyferry/internal/gateway"
)

func serveCommand() *cobra.Command {
	var s settings
	flags := map[string]*string{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var more []string
			for key, v := range flags {
				if cmd.Flags().Changed(key) {
					more = append(more, strings.Replace(key, "http", "http.listen", 1)+"="+*v)
				}
			}
			cfg, err := s.load(more...)
			if err != nil {
				return err
			}
			return serve(cfg)
		},
	}
	for key, text := range map[string]string{"listen": "host:port for clients (default :7380)", "admin": "host:port for admin commands (default 127.0.0.1:7381)",
		"http":     "host:port of the dashboard and /metrics (default 127.0.0.1:7382; empty: none)",
		"data-dir": "where topology and jobs are kept (default ./keyferry-data)", "name": "name of this gateway (default from the host's)"} {
		flags[key] = c.Flags().String(key, "", text)
	}
	s.flags(c)
	return c
}

func configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print every setting with its default and what it is for",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), conf.Annotated())
			return err
		},
	}
}

// drainTimeout is how long a stopping gateway waits for commands in flight.
const drainTimeout = 10 * time.Second

func serve(cfg conf.Config) error {
	log, err := logger(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for {
		err := serveOnce(cfg, log, stop)
		if !errors.Is(err, gateway.ErrFenced) {
			tellLeaks()
			return err
		}
		log.Warn("others took this gateway for dead and went on with its jobs; it joins the cluster again, as a new one of its name")
	}
}

// serveOnce runs one incarnation of the gateway. One that is fenced does not wait for commands in flight:
// their servers are told to hang up on it.
func serveOnce(cfg conf.Config, log *zap.Logger, stop <-chan os.Signal) error {
	g, err := gateway.Start(cfg, log)
	if err != nil {
		return err
	}
	patience := drainTimeout
	select {
	case s := <-stop:
		log.Info("stopping: commands in flight are answered first", zap.String("signal", s.String()))
	case err = <-g.Ended():
		log.Error("the control plane ended", zap.Error(err))
		if errors.Is(err, gateway.ErrFenced) {
			patience = 0
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		select {
		case <-stop: // a second signal ends the patience
			cancel()
		case <-ctx.Done():
		}
	}()
	if e := g.Stop(ctx); err == nil {
		err = e
	}
	log.Info("stopped", zap.Bool("every_client_had_its_replies", ctx.Err() == nil))
	return err
}

func logger(cfg conf.Config) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, err
	}
	zc := zap.NewProductionConfig()
	zc.Level = zap.NewAtomicLevelAt(level)
	zc.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	zc.DisableCaller, zc.DisableStacktrace = true, true
	if cfg.Log.Format == "console" {
		zc.Encoding = "console"
		zc.EncoderConfig.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
	}
	return zc.Build()
}
