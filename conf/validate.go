package conf

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/resp"
)

// bound is what a number may be, both ends included.
type bound[T cmp.Ordered] struct {
	key             string
	value, min, max T
}

// Validate checks what types can't say. Its error names every key that is wrong, with the
// value and what is allowed.
func (c *Config) Validate() error {
	return errors.Join(slices.Concat(c.checkTexts(), check(c.counts()), check(c.sizes()), check(c.times()), c.checkPairs(), c.checkEtcd())...)
}

// maxAdvertise bounds the reply to CLUSTER SLOTS.
const maxAdvertise = 256

func check[T cmp.Ordered](bounds []bound[T]) (errs []error) {
	for _, b := range bounds {
		if b.value < b.min || b.value > b.max {
			errs = append(errs, fmt.Errorf("%s = %v: want %v to %v", b.key, b.value, b.min, b.max))
		}
	}
	return errs
}

func (c *Config) checkTexts() (errs []error) {
	need := func(ok bool, key, value, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s = %q: want %s", key, value, want))
		}
	}
	oneOf := func(key, value string, allowed ...string) {
		need(slices.Contains(allowed, value), key, value, strings.Join(allowed, " or "))
	}
	need(isAddr(c.Listen), "listen", c.Listen, "host:port or :port")
	need(isAddr(c.Admin), "admin", c.Admin, "host:port or :port")
	need(!isAddr(c.Admin) || loopback(c.Admin) || c.AdminPassword != "", "admin", c.Admin,
		"a loopback address, as 127.0.0.1:7381, or admin-password set")
	need(c.HTTP.Listen == "" || isAddr(c.HTTP.Listen), "http.listen", c.HTTP.Listen, "host:port, :port or nothing")
	need(!isAddr(c.HTTP.Listen) || loopback(c.HTTP.Listen) || c.HTTP.Token != "", "http.listen", c.HTTP.Listen,
		"a loopback address, as 127.0.0.1:7382, or http.token set")
	for _, h := range c.HTTP.Hosts {
		need(h != "" && !strings.ContainsAny(h, " /:"), "http.hosts", h, "a host name without a port")
	}
	need(c.DataDir != "", "data-dir", c.DataDir, "a directory")
	// CLIENT SETNAME takes nothing else, and colons part the name from what follows it.
	need(!strings.ContainsFunc(c.Name, func(r rune) bool { return r < '!' || r > '~' || r == ':' }), "name", c.Name,
		"printable ASCII without spaces and colons")
	need(c.Peers.Listen == "" || isAddr(c.Peers.Listen), "peers.listen", c.Peers.Listen, "host:port, :port or nothing")
	need(c.Peers.Advertise == "" || isAddr(c.Peers.Advertise) && hasHost(c.Peers.Advertise), "peers.advertise", c.Peers.Advertise, "host:port or nothing")
	need(c.Peers.Listen == "" || c.PeersAddr() != "", "peers.listen", c.Peers.Listen, "a host that other gateways reach it by, or peers.advertise set")
	need(c.Peers.Secret == "" || len(c.Peers.Secret) >= 16, "peers.secret", "***", "16 characters or more")
	need(c.Peers.Listen == "" || loopback(c.Peers.Listen) || c.Peers.Secret != "", "peers.listen", c.Peers.Listen, "a loopback address, as 127.0.0.1:7383, or peers.secret set")
	oneOf("store", c.Store, "bolt", "etcd")
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "console", "json")
	oneOf("loops.transport", c.Loops.Transport, "auto", "epoll", "gnet")
	oneOf("migration.max-p99", c.Migration.MaxP99, "auto", "off")
	oneOf("cluster.scheme", c.Cluster.Scheme, "redis", "codis")
	oneOf("cluster-facade", c.ClusterFacade, "on", "off")
	return append(errs, c.checkFacade()...)
}

// checkFacade checks what the cluster façade and the passthrough need.
func (c *Config) checkFacade() (errs []error) {
	if c.ClusterFacade == "on" && c.Cluster.Scheme == "codis" {
		errs = append(errs, errors.New(`cluster-facade = "on": want "off" with cluster.scheme = "codis": `+
			`clients of a Redis Cluster hash keys by CRC16 to 16384 slots, a Codis by CRC32 to 1024`))
	}
	seen := make(map[string]bool)
	for _, a := range c.Advertise {
		switch host, port, _ := net.SplitHostPort(a); {
		case !isAddr(a) || host == "" || net.ParseIP(host).IsUnspecified() || port == "0" || strings.ContainsAny(host, " ,\"@"):
			errs = append(errs, fmt.Errorf("advertise = %q: want host:port, as clients are to connect to it", a))
		case seen[a]:
			errs = append(errs, fmt.Errorf("advertise = %q: want each address once", a))
		}
		seen[a] = true
	}
	if n := len(c.Advertise); n > maxAdvertise {
		errs = append(errs, fmt.Errorf("advertise: %d addresses: want at most %d", n, maxAdvertise))
	}
	if _, err := resp.ParseExtensions(c.Passthrough); err != nil {
		errs = append(errs, fmt.Errorf("passthrough: %w", err))
	}
	return errs
}

func (c *Config) counts() []bound[int] {
	return []bound[int]{
		{"cluster.databases", c.Cluster.Databases, 1, 1024},
		{"loops.count", c.Loops.Count, 0, 1024},
		{"clients.max-clients", c.Clients.MaxClients, 1, 1 << 20},
		{"clients.max-in-flight", c.Clients.MaxInFlight, 1, 1 << 24},
		{"servers.max-dedicated", c.Servers.MaxDedicated, 1, 1 << 20},
		{"hotkeys.sample-every", c.Hotkeys.SampleEvery, 0, 1 << 20},
		{"slowlog.max-len", c.Slowlog.MaxLen, 0, 1 << 20},
		{"locks.max-parked", c.Locks.MaxParked, 1, 1 << 24},
		{"locks.max-keys-waiting", c.Locks.MaxKeysWaiting, 1, 1 << 24},
		{"migration.parallel", c.Migration.Parallel, 1, 64},
		{"migration.group-parallel", c.Migration.GroupParallel, 1, 1024},
		{"migration.batch-max-keys", c.Migration.BatchMaxKeys, 1, 100000},
		{"migration.scan-count", c.Migration.ScanCount, 1, 100000},
		{"migration.max-attempts", c.Migration.MaxAttempts, 0, 1 << 30},
	}
}

func (c *Config) sizes() []bound[Size] {
	const kb, mb, tb = 1 << 10, 1 << 20, 1 << 40
	return []bound[Size]{
		{"loops.read-buffer", c.Loops.ReadBuffer, 4 * kb, 64 * mb},
		{"clients.max-bulk", c.Clients.MaxBulk, mb, 1024 * mb},
		{"clients.query-buffer-limit", c.Clients.QueryBufferLimit, mb, tb},
		{"clients.output-buffer-hard", c.Clients.OutputBufferHard, mb, tb},
		{"clients.output-buffer-soft", c.Clients.OutputBufferSoft, 64 * kb, tb},
		{"clients.pubsub-buffer-hard", c.Clients.PubSubBufferHard, 64 * kb, tb},
		{"clients.pubsub-buffer-soft", c.Clients.PubSubBufferSoft, 64 * kb, tb},
		{"clients.memory-total", c.Clients.MemoryTotal, mb, 16 * tb},
		{"servers.in-flight-bytes", c.Servers.InFlightBytes, 64 * kb, tb},
		{"migration.big-key-bytes", c.Migration.BigKeyBytes, kb, tb},
		{"migration.memory-limit", c.Migration.MemoryLimit, mb, tb},
	}
}

func (c *Config) times() []bound[Duration] {
	const us, ms, hour = Duration(time.Microsecond), Duration(time.Millisecond), Duration(time.Hour)
	return []bound[Duration]{
		{"clients.output-buffer-soft-for", c.Clients.OutputBufferSoftFor, 0, 24 * hour},
		{"clients.pubsub-buffer-soft-for", c.Clients.PubSubBufferSoftFor, 0, 24 * hour},
		{"clients.idle-timeout", c.Clients.IdleTimeout, 0, 365 * 24 * hour},
		{"slowlog.slower-than", c.Slowlog.SlowerThan, 0, hour},
		{"slowlog.latency-threshold", c.Slowlog.LatencyThreshold, 0, hour},
		{"peers.lease", c.Peers.Lease, hour / 3600, hour},
		{"etcd.dial-timeout", c.Etcd.DialTimeout, 10 * ms, hour},
		{"etcd.request-timeout", c.Etcd.RequestTimeout, 10 * ms, hour},
		{"servers.connect-timeout", c.Servers.ConnectTimeout, ms, hour},
		{"servers.request-timeout", c.Servers.RequestTimeout, 0, 24 * hour},
		{"servers.reconnect-min", c.Servers.ReconnectMin, ms, hour},
		{"servers.reconnect-max", c.Servers.ReconnectMax, ms, hour},
		{"locks.wait-deadline", c.Locks.WaitDeadline, ms, hour},
		{"locks.mover-patience", c.Locks.MoverPatience, 100 * us, hour},
		{"migration.lock-hold-target", c.Migration.LockHoldTarget, 100 * us, hour / 60},
		{"migration.checkpoint-every", c.Migration.CheckpointEvery, 10 * ms, hour},
		{"migration.backoff-min", c.Migration.BackoffMin, ms, hour},
		{"migration.backoff-max", c.Migration.BackoffMax, ms, 24 * hour},
		{"migration.call-timeout", c.Migration.CallTimeout, 10 * ms, hour},
		{"migration.stalled-after", c.Migration.StalledAfter, 100 * ms, hour},
	}
}

// checkPairs checks what depends on another key.
func (c *Config) checkPairs() (errs []error) {
	atMost := func(ok bool, key string, value any, other string, limit any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s = %v: want at most %s, which is %v", key, value, other, limit))
		}
	}
	cl, s, l, m := c.Clients, c.Servers, c.Locks, c.Migration
	atMost(cl.PubSubBufferSoft <= cl.PubSubBufferHard, "clients.pubsub-buffer-soft", cl.PubSubBufferSoft, "clients.pubsub-buffer-hard", cl.PubSubBufferHard)
	atMost(cl.OutputBufferSoft <= cl.OutputBufferHard, "clients.output-buffer-soft", cl.OutputBufferSoft, "clients.output-buffer-hard", cl.OutputBufferHard)
	atMost(s.ReconnectMin <= s.ReconnectMax, "servers.reconnect-min", s.ReconnectMin, "servers.reconnect-max", s.ReconnectMax)
	atMost(l.MoverPatience <= l.WaitDeadline, "locks.mover-patience", l.MoverPatience, "locks.wait-deadline", l.WaitDeadline)
	atMost(m.BackoffMin <= m.BackoffMax, "migration.backoff-min", m.BackoffMin, "migration.backoff-max", m.BackoffMax)
	return errs
}

// Warnings are settings that are valid and that one would rather be told of: one line
// each, to be logged at the start.
func (c *Config) Warnings() []string {
	var out []string
	if !loopback(c.Listen) && c.Password == "" {
		out = append(out, fmt.Sprintf("listen = %q without a password: whoever reaches this address can read and write every key", c.Listen))
	}
	if c.ClusterFacade != "on" && len(c.Advertise) > 0 {
		out = append(out, `advertise has no effect while cluster-facade = "off"`)
	}
	if c.Store == "etcd" && !c.etcdSecure() && slices.ContainsFunc(c.Etcd.Endpoints, func(e string) bool { return !loopback(hostPort(e)) }) {
		out = append(out, "etcd is spoken to without TLS: whoever listens on the way learns the passwords of the groups' servers")
	}
	if c.Clients.MaxBulk > c.Clients.QueryBufferLimit {
		out = append(out, fmt.Sprintf("clients.max-bulk = %v is more than clients.query-buffer-limit = %v: clients that send such values are closed",
			c.Clients.MaxBulk, c.Clients.QueryBufferLimit))
	}
	return out
}

// isAddr reports whether a listener can be told so: names of ports are refused, since
// what they stand for differs between machines.
func isAddr(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// PeersAddr is how other gateways reach this one; "" if they can't.
func (c *Config) PeersAddr() string {
	if c.Peers.Advertise != "" || !hasHost(c.Peers.Listen) {
		return c.Peers.Advertise
	}
	return c.Peers.Listen
}

// ClientsAddr is how clients reach this gateway, and no other; "" if that is not said.
func (c *Config) ClientsAddr() string {
	switch {
	case len(c.Advertise) == 1:
		return c.Advertise[0]
	case hasHost(c.Listen):
		return c.Listen
	}
	return ""
}

// hasHost reports that an address names a host, and not every address of this machine.
func hasHost(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && host != "" && (ip == nil || !ip.IsUnspecified())
}

func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
