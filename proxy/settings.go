package proxy

import (
	_ "embed"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyferry/internal/resp"
)

// setting is one name of CONFIG GET and CONFIG SET. The names are Redis's where Redis has
// the setting, else those of keyferry.toml.
//
//	CONFIG SET ─► a copy of the options in force ─► checked as a whole ─► Server.live
//	                                                                   └► every loop, by message
//
// Each value is read by loops from the options that are in force there; set changes a copy
// that nobody reads yet, so it needs no lock and may be undone by throwing the copy away.
type setting struct {
	name string
	keys []string // what it is in keyferry.toml
	get  func(s *Server, o *Options) string
	set  func(o *Options, v string) (why string) // nil: only at the start
}

// settings are those that the data plane knows. Further ones, read-only, are in
// Options.Settings.
var settings = []*setting{
	number("maxclients", "clients.max-clients", 1, 1<<20, func(o *Options) *int { return &o.MaxClients }),
	number("slowlog-max-len", "slowlog.max-len", 0, 1<<20, func(o *Options) *int { return &o.SlowMax }),
	number("clients.max-in-flight", "clients.max-in-flight", 1, 1<<24, func(o *Options) *int { return &o.MaxInFlight }),
	number("locks.max-parked", "locks.max-parked", 1, 1<<24, func(o *Options) *int { return &o.MaxParked }),
	number("servers.max-dedicated", "servers.max-dedicated", 1, 1<<20, func(o *Options) *int { return &o.MaxDedicated }),
	memory("client-query-buffer-limit", "clients.query-buffer-limit", 1<<20, 1<<40, func(o *Options) *int { return &o.QueryLimit }),
	memory("proto-max-bulk-len", "clients.max-bulk", 1<<20, 1<<30, func(o *Options) *int { return &o.MaxBulk }),
	memory("maxmemory-clients", "clients.memory-total", 1<<20, 1<<44, func(o *Options) *int { return &o.MemoryTotal }),
	span("timeout", "clients.idle-timeout", time.Second, 0, 365*24*time.Hour, func(o *Options) *time.Duration { return &o.IdleTimeout }),
	span("latency-monitor-threshold", "slowlog.latency-threshold", time.Millisecond, 0, time.Hour, func(o *Options) *time.Duration { return &o.LatencyThreshold }),
	span("servers.request-timeout", "servers.request-timeout", 0, 0, 24*time.Hour, func(o *Options) *time.Duration { return &o.RequestTimeout }),
	span("locks.wait-deadline", "locks.wait-deadline", 0, time.Millisecond, time.Hour, func(o *Options) *time.Duration { return &o.LockDeadline }),
	{"slowlog-log-slower-than", []string{"slowlog.slower-than"}, slowerThan, setSlowerThan},
	{"client-output-buffer-limit", outputKeys, outputLimits, setOutputLimits},
	{"requirepass", []string{"password"}, hiddenPassword, setPassword},
	{"databases", []string{"cluster.databases"}, func(s *Server, _ *Options) string { return strconv.Itoa(s.databases()) }, nil},
	{"io-threads", []string{"loops.count"}, func(_ *Server, o *Options) string { return strconv.Itoa(o.Loops) }, nil},
	{"port", []string{"listen"}, func(_ *Server, o *Options) string { return portOf(o.Listen) }, nil},
	{"bind", nil, func(_ *Server, o *Options) string { return hostOf(o.Listen) }, nil},
	{"cluster-enabled", []string{"cluster-facade"}, func(_ *Server, o *Options) string { return yesNo(o.ClusterFacade) }, nil},
	{"tcp-keepalive", nil, always("60"), nil},
	{"loglevel", []string{"log.level"}, func(_ *Server, o *Options) string { return redisLogLevel(o) }, nil},
	{"latency-tracking", nil, always("yes"), nil},
	{"latency-tracking-info-percentiles", nil, always("50 99 99.9"), nil},
}

//go:embed serverconfig.tsv
var serverConfigTSV string

// Settings by name.
var (
	settingByName = make(map[string]*setting)
	settingOfKey  = make(map[string]*setting) // by keys of keyferry.toml
	ofServers     = make(map[string]bool)     // whatever else Redis knows; true: GET has an answer
)

func init() {
	for line := range strings.Lines(serverConfigTSV) {
		name, value, has := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name[0] == '#' {
			continue
		}
		ofServers[name] = has
		if has {
			settings = append(settings, &setting{name: name, get: always(strings.Trim(value, `"`))})
		}
	}
	for _, x := range settings {
		settingByName[x.name] = x
		for _, key := range x.keys {
			settingOfKey[key] = x
		}
	}
}

// LiveSettings are the names of all that CONFIG SET can change.
func LiveSettings() []string {
	var names []string
	for _, x := range settings {
		if x.set != nil {
			names = append(names, x.name)
		}
	}
	slices.Sort(names)
	return names
}

func always(v string) func(*Server, *Options) string {
	return func(*Server, *Options) string { return v }
}

// Redis's texts for values that are not accepted.
const (
	notInteger = "argument couldn't be parsed into an integer"
	notMemory  = "argument must be a memory value"
)

func notWithin[T int | int64](low, high T) string {
	return fmt.Sprintf("argument must be between %d and %d inclusive", low, high)
}

// number: the makers of settings have the check, the form and the way into Options in one place, so
// that GET, SET and the file can't disagree about one.
func number(name, key string, low, high int, field func(*Options) *int) *setting {
	return &setting{name, []string{key},
		func(_ *Server, o *Options) string { return strconv.Itoa(*field(o)) },
		func(o *Options, v string) string {
			n, ok := resp.Integer([]byte(v))
			switch {
			case !ok:
				return notInteger
			case n < int64(low) || n > int64(high):
				return notWithin(low, high)
			}
			*field(o) = int(n)
			return ""
		}}
}

func memory(name, key string, low, high int, field func(*Options) *int) *setting {
	return &setting{name, []string{key},
		func(_ *Server, o *Options) string { return strconv.Itoa(*field(o)) },
		func(o *Options, v string) string {
			n, ok := memoryValue(v)
			switch {
			case !ok:
				return notMemory
			case n < low || n > high:
				return notWithin(low, high)
			}
			*field(o) = n
			return ""
		}}
}

// memoryValue reads "1mb" as redis.conf does: k, m, g are powers of 1000, kb, mb, gb of 1024.
func memoryValue(v string) (n int, ok bool) {
	digits := strings.TrimRightFunc(v, func(r rune) bool { return r < '0' || r > '9' })
	unit, ok := map[string]int{"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1e6, "mb": 1 << 20, "g": 1e9, "gb": 1 << 30}[strings.ToLower(v[len(digits):])]
	x, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || !ok || x > uint64(math.MaxInt/unit) {
		return 0, false
	}
	return int(x) * unit, true
}

// span is a time: a number of units, or, if unit is 0, with its unit as in keyferry.toml.
func span(name, key string, unit, low, high time.Duration, field func(*Options) *time.Duration) *setting {
	return &setting{name, []string{key},
		func(_ *Server, o *Options) string {
			if unit == 0 {
				return field(o).String()
			}
			return strconv.FormatInt(int64((*field(o)+unit-1)/unit), 10)
		},
		func(o *Options, v string) string {
			if unit == 0 {
				d, err := time.ParseDuration(v)
				if err != nil || d < low || d > high {
					return fmt.Sprintf("argument must be a time with its unit, from %v to %v", low, high)
				}
				*field(o) = d
				return ""
			}
			n, ok := resp.Integer([]byte(v))
			switch {
			case !ok:
				return notInteger
			case n < int64(low/unit) || n > int64(high/unit):
				return notWithin(int64(low/unit), int64(high/unit))
			}
			*field(o) = time.Duration(n) * unit
			return ""
		}}
}

// slowerThan: Redis counts µs, and has -1 for none where we have 0, and 0 for all where we have 1 ns.
func slowerThan(_ *Server, o *Options) string {
	if o.SlowerThan <= 0 {
		return "-1"
	}
	return strconv.FormatInt(o.SlowerThan.Microseconds(), 10)
}

func setSlowerThan(o *Options, v string) string {
	n, ok := resp.Integer([]byte(v))
	switch {
	case !ok:
		return notInteger
	case n < -1 || n > time.Hour.Microseconds():
		return notWithin(-1, time.Hour.Microseconds())
	case n < 0:
		o.SlowerThan = 0
	case n == 0:
		o.SlowerThan = 1
	default:
		o.SlowerThan = time.Duration(n) * time.Microsecond
	}
	return ""
}

var outputKeys = []string{"clients.output-buffer-hard", "clients.output-buffer-soft", "clients.output-buffer-soft-for",
	"clients.pubsub-buffer-hard", "clients.pubsub-buffer-soft", "clients.pubsub-buffer-soft-for"}

func outputLimits(_ *Server, o *Options) string {
	one := func(x *OutputLimit) string {
		return fmt.Sprintf("%d %d %d", x.Hard, x.Soft, int64(x.SoftFor/time.Second))
	}
	return "normal " + one(&o.Output) + " slave 0 0 0 pubsub " + one(&o.OutputPubSub)
}

// setOutputLimits: Redis has three classes of clients in one setting; that of replicas is taken and has no
// meaning here.
func setOutputLimits(o *Options, v string) string {
	words := strings.Fields(v)
	if len(words) == 0 || len(words)%4 != 0 {
		return "Wrong number of arguments in buffer limit configuration."
	}
	for ; len(words) > 0; words = words[4:] {
		to, low := &o.Output, 1<<20
		switch strings.ToLower(words[0]) {
		case "normal":
		case "pubsub":
			to, low = &o.OutputPubSub, 64<<10
		case "slave", "replica":
			if strings.Join(words[1:4], " ") != "0 0 0" {
				return "there are no replicas of the gateway to limit"
			}
			continue
		default:
			return "Invalid client class specified in buffer limit configuration."
		}
		hard, ok := memoryValue(words[1])
		soft, ok2 := memoryValue(words[2])
		secs, err := strconv.ParseUint(words[3], 10, 31)
		if !ok || !ok2 || err != nil {
			return "Error in hard, soft or soft_seconds setting in buffer limit configuration."
		}
		if hard < low || hard > 1<<40 || soft < 64<<10 || soft > hard || secs > 86400 {
			return fmt.Sprintf("the gateway needs a bound for class '%s': hard from %d to %d, soft from %d to hard, soft_seconds up to 86400", words[0], low, 1<<40, 64<<10)
		}
		*to = OutputLimit{Hard: hard, Soft: soft, SoftFor: time.Duration(secs) * time.Second}
	}
	return ""
}

// hiddenPassword says no more than whether there is one.
func hiddenPassword(_ *Server, o *Options) string {
	if o.Password == "" {
		return ""
	}
	return "(redacted)"
}

// setPassword: its value is never shown and never logged.
func setPassword(o *Options, v string) string {
	o.Password = v
	return ""
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	if host == "" {
		return "*"
	}
	return host
}

// redisLogLevel says it in Redis's words.
func redisLogLevel(o *Options) string {
	switch o.Settings["log.level"] {
	case "debug":
		return "debug"
	case "warn", "error":
		return "warning"
	}
	return "notice"
}

func (s *Server) databases() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.table.Databases
}
