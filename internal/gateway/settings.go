package gateway

import (
	"errors"
	"path/filepath"

	"keyferry/conf"
	"keyferry/proxy"
)

// configure lets clients read and change settings (CONFIG GET, SET and REWRITE).
func configure(opt *proxy.Options, c conf.Config) {
	opt.Settings = c.Texts()
	opt.Check = func(o *proxy.Options) error {
		now := withOptions(c, o)
		return errors.Join(now.Validate(), checkFiles(filesMax(), &now))
	}
	if c.File != "" {
		opt.ConfigFile, _ = filepath.Abs(c.File)
		opt.Rewrite = func(o *proxy.Options, keys []string) error {
			now := withOptions(c, o)
			return now.Rewrite(keys)
		}
	}
}

// withOptions is c with what can be changed while the gateway runs as it is in o: the
// inverse of proxyOptions.
func withOptions(c conf.Config, o *proxy.Options) conf.Config {
	c.Password = o.Password
	x := &c.Clients
	x.MaxClients, x.MaxBulk, x.QueryBufferLimit = o.MaxClients, conf.Size(o.MaxBulk), conf.Size(o.QueryLimit)
	x.OutputBufferHard, x.OutputBufferSoft, x.OutputBufferSoftFor = conf.Size(o.Output.Hard), conf.Size(o.Output.Soft), conf.Duration(o.Output.SoftFor)
	x.PubSubBufferHard, x.PubSubBufferSoft, x.PubSubBufferSoftFor = conf.Size(o.OutputPubSub.Hard), conf.Size(o.OutputPubSub.Soft), conf.Duration(o.OutputPubSub.SoftFor)
	x.MemoryTotal, x.MaxInFlight, x.IdleTimeout = conf.Size(o.MemoryTotal), o.MaxInFlight, conf.Duration(o.IdleTimeout)
	c.Slowlog.SlowerThan, c.Slowlog.MaxLen, c.Slowlog.LatencyThreshold = conf.Duration(o.SlowerThan), o.SlowMax, conf.Duration(o.LatencyThreshold)
	c.Servers.RequestTimeout, c.Servers.MaxDedicated = conf.Duration(o.RequestTimeout), o.MaxDedicated
	c.Locks.WaitDeadline, c.Locks.MaxParked = conf.Duration(o.LockDeadline), o.MaxParked
	return c
}
