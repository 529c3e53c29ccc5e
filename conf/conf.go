// Package conf is the gateway's configuration. The annotated keyferry.toml is at once
// the manual and, embedded, the defaults.
package conf

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

//go:embed keyferry.toml
var defaults []byte

// Annotated is the text of the default file.
func Annotated() string { return string(defaults) }

// Size is a number of bytes, written as "64kb".
type Size int64

// UnmarshalText reads a number with an optional unit b, kb, mb or gb (powers of 1024).
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.ToLower(strings.TrimSpace(string(text)))
	shift := 0
	for i, u := range []string{"kb", "mb", "gb"} {
		if rest, ok := strings.CutSuffix(t, u); ok {
			t, shift = rest, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(t, "b"), 10, 64)
	if err != nil || n < 0 || n > 1<<62>>shift {
		return fmt.Errorf("%q is not a size: want a number with kb, mb or gb", text)
	}
	*s = Size(n << shift)
	return nil
}

// Duration is a time, written as "5s".
type Duration time.Duration

// UnmarshalText reads Go's notation.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a time: want for example 20ms, 5s or 1m", text)
	}
	*d = Duration(v)
	return nil
}

// Config mirrors keyferry.toml, where each key is explained.
type Config struct {
	Listen        string `toml:"listen"`
	Admin         string `toml:"admin"`
	AdminPassword string `toml:"admin-password"`
	DataDir       string `toml:"data-dir"`
	Name          string `toml:"name"`
	Password      string `toml:"password"`
	Log           struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	Cluster struct {
		Scheme    string `toml:"scheme"`
		Databases int    `toml:"databases"`
	} `toml:"cluster"`
	Loops struct {
		Count      int  `toml:"count"`
		ReadBuffer Size `toml:"read-buffer"`
	} `toml:"loops"`
	Clients struct {
		MaxClients          int      `toml:"max-clients"`
		MaxBulk             Size     `toml:"max-bulk"`
		QueryBufferLimit    Size     `toml:"query-buffer-limit"`
		OutputBufferHard    Size     `toml:"output-buffer-hard"`
		OutputBufferSoft    Size     `toml:"output-buffer-soft"`
		OutputBufferSoftFor Duration `toml:"output-buffer-soft-for"`
		MemoryTotal         Size     `toml:"memory-total"`
		MaxInFlight         int      `toml:"max-in-flight"`
		IdleTimeout         Duration `toml:"idle-timeout"`
	} `toml:"clients"`
	Servers struct {
		ConnectTimeout Duration `toml:"connect-timeout"`
		RequestTimeout Duration `toml:"request-timeout"`
		ReconnectMin   Duration `toml:"reconnect-min"`
		ReconnectMax   Duration `toml:"reconnect-max"`
		InFlightBytes  Size     `toml:"in-flight-bytes"`
	} `toml:"servers"`
	Locks struct {
		WaitDeadline        Duration `toml:"wait-deadline"`
		MaxParked           int      `toml:"max-parked"`
		MaxKeysWaiting      int      `toml:"max-keys-waiting"`
		MoverPatience       Duration `toml:"mover-patience"`
		RecentlyMoved       int      `toml:"recently-moved"`
		FilterFalsePositive float64  `toml:"filter-false-positive"`
	} `toml:"locks"`
	Migration struct {
		Parallel        int      `toml:"parallel"`
		BatchMaxKeys    int      `toml:"batch-max-keys"`
		LockHoldTarget  Duration `toml:"lock-hold-target"`
		BigKeyBytes     Size     `toml:"big-key-bytes"`
		ScanCount       int      `toml:"scan-count"`
		CheckpointEvery Duration `toml:"checkpoint-every"`
		MaxAttempts     int      `toml:"max-attempts"`
		BackoffMin      Duration `toml:"backoff-min"`
		BackoffMax      Duration `toml:"backoff-max"`
		CallTimeout     Duration `toml:"call-timeout"`
	} `toml:"migration"`
}

// Default is the embedded file.
func Default() Config {
	var c Config
	if err := decode(defaults, &c); err != nil {
		panic("conf: embedded keyferry.toml: " + err.Error()) // no test passes with it
	}
	return c
}

func decode(text []byte, c *Config) error {
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := d.Decode(c)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		return fmt.Errorf("unknown key:\n%s", strict.String())
	}
	return err
}

// Load reads the file at path (none if ""), then env ("KEYFERRY_CLIENTS_MAX_CLIENTS=5"),
// then set ("clients.max-clients" → "5"), over the defaults, and validates. Errors name
// the key, the value and what is allowed.
func Load(path string, env []string, set map[string]string) (Config, error) {
	c := Default()
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, err
		}
		if err := decode(text, &c); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	fields := make(map[string]reflect.Value)
	collect(reflect.ValueOf(&c).Elem(), "", fields)
	byEnv := make(map[string]string)
	for key := range fields {
		byEnv["KEYFERRY_"+strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(key))] = key
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		key, ok := byEnv[name]
		if !ok {
			if strings.HasPrefix(name, "KEYFERRY_") && name != "KEYFERRY_FAILPOINTS" {
				return c, fmt.Errorf("%s: there is no such setting", name)
			}
			continue
		}
		if err := assign(fields[key], value); err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	}
	for key, value := range set {
		f, ok := fields[key]
		if !ok {
			return c, fmt.Errorf("%s: there is no such setting", key)
		}
		if err := assign(f, value); err != nil {
			return c, fmt.Errorf("%s: %w", key, err)
		}
	}
	return c, c.Validate()
}

func collect(v reflect.Value, prefix string, out map[string]reflect.Value) {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("toml")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			collect(f, key+".", out)
		} else {
			out[key] = f
		}
	}
}

func assign(f reflect.Value, text string) error {
	switch p := f.Addr().Interface().(type) {
	case *Size:
		return p.UnmarshalText([]byte(text))
	case *Duration:
		return p.UnmarshalText([]byte(text))
	case *string:
		*p = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*p = n
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*p = n
	default:
		return fmt.Errorf("can't be set from text")
	}
	return nil
}

// Validate checks what types can't say.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s = %v: want %s", key, value, want))
		}
	}
	oneOf := func(key, value string, allowed ...string) {
		for _, a := range allowed {
			if value == a {
				return
			}
		}
		need(false, key, strconv.Quote(value), strings.Join(allowed, ", "))
	}
	for key, addr := range map[string]string{"listen": c.Listen, "admin": c.Admin} {
		_, _, err := net.SplitHostPort(addr)
		need(err == nil, key, strconv.Quote(addr), "host:port")
	}
	need(c.AdminPassword != "" || loopback(c.Admin), "admin", c.Admin, "a loopback address, or admin-password set")
	need(!strings.ContainsAny(c.Name, " \n\r:"), "name", strconv.Quote(c.Name), "no spaces or colons")
	need(c.DataDir != "", "data-dir", `""`, "a directory")
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "console", "json")
	oneOf("cluster.scheme", c.Cluster.Scheme, "redis", "codis")
	for _, x := range []struct {
		key      string
		v        int64
		min, max int64
	}{
		{"cluster.databases", int64(c.Cluster.Databases), 1, 1024},
		{"loops.count", int64(c.Loops.Count), 0, 1024},
		{"loops.read-buffer", int64(c.Loops.ReadBuffer), 4 << 10, 64 << 20},
		{"clients.max-clients", int64(c.Clients.MaxClients), 1, 1 << 20},
		{"clients.max-bulk", int64(c.Clients.MaxBulk), 1 << 20, 1 << 30},
		{"clients.query-buffer-limit", int64(c.Clients.QueryBufferLimit), 1 << 20, 1 << 40},
		{"clients.output-buffer-hard", int64(c.Clients.OutputBufferHard), 1 << 20, 1 << 40},
		{"clients.output-buffer-soft", int64(c.Clients.OutputBufferSoft), 1 << 16, int64(c.Clients.OutputBufferHard)},
		{"clients.memory-total", int64(c.Clients.MemoryTotal), 1 << 20, 1 << 44},
		{"clients.max-in-flight", int64(c.Clients.MaxInFlight), 1, 1 << 24},
		{"servers.in-flight-bytes", int64(c.Servers.InFlightBytes), 1 << 16, 1 << 40},
		{"locks.max-parked", int64(c.Locks.MaxParked), 1, 1 << 24},
		{"locks.max-keys-waiting", int64(c.Locks.MaxKeysWaiting), 1, 1 << 24},
		{"locks.recently-moved", int64(c.Locks.RecentlyMoved), 1024, 1 << 28},
		{"migration.parallel", int64(c.Migration.Parallel), 1, 64},
		{"migration.batch-max-keys", int64(c.Migration.BatchMaxKeys), 1, 100000},
		{"migration.scan-count", int64(c.Migration.ScanCount), 1, 100000},
		{"migration.max-attempts", int64(c.Migration.MaxAttempts), 0, 1 << 30},
		{"servers.connect-timeout", int64(c.Servers.ConnectTimeout), int64(time.Millisecond), int64(time.Hour)},
		{"servers.reconnect-min", int64(c.Servers.ReconnectMin), int64(time.Millisecond), int64(time.Hour)},
		{"servers.reconnect-max", int64(c.Servers.ReconnectMax), int64(c.Servers.ReconnectMin), int64(time.Hour)},
		{"locks.wait-deadline", int64(c.Locks.WaitDeadline), int64(time.Millisecond), int64(time.Hour)},
		{"locks.mover-patience", int64(c.Locks.MoverPatience), int64(100 * time.Microsecond), int64(c.Locks.WaitDeadline)},
		{"migration.lock-hold-target", int64(c.Migration.LockHoldTarget), int64(100 * time.Microsecond), int64(time.Minute)},
		{"migration.backoff-min", int64(c.Migration.BackoffMin), int64(time.Millisecond), int64(time.Hour)},
		{"migration.backoff-max", int64(c.Migration.BackoffMax), int64(c.Migration.BackoffMin), int64(24 * time.Hour)},
		{"migration.call-timeout", int64(c.Migration.CallTimeout), int64(10 * time.Millisecond), int64(time.Hour)},
	} {
		need(x.v >= x.min && x.v <= x.max, x.key, x.v, fmt.Sprintf("%d to %d", x.min, x.max))
	}
	need(c.Locks.FilterFalsePositive > 0 && c.Locks.FilterFalsePositive < 0.1, "locks.filter-false-positive", c.Locks.FilterFalsePositive, "more than 0, less than 0.1")
	return errors.Join(errs...)
}

func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
