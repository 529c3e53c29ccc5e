// Package conf is the gateway's configuration. The annotated keyferry.toml is at once
// the manual and, embedded, the defaults.
package conf

import (
	_ "embed"
	"encoding"
	"fmt"
	"os"
	"reflect"

	"keyferry/internal/topology"
)

//go:embed keyferry.toml
var defaults []byte

// Annotated is the text of the default file.
func Annotated() string { return string(defaults) }

// Addresses are where the gateway is reached by clients and by operators.
type Addresses struct {
	Listen        string `toml:"listen"`
	Admin         string `toml:"admin"`
	AdminPassword string `toml:"admin-password"`
}

// Config mirrors keyferry.toml, where each key is explained.
type Config struct {
	File string `toml:"-"` // that it was loaded from, or ""

	Addresses
	Name     string `toml:"name"`
	Password string `toml:"password"`
	Stores
	Facade
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	HTTP struct {
		Listen string `toml:"listen"`
		Token  string `toml:"token"`
		Hosts  List   `toml:"hosts"`
	} `toml:"http"`
	Cluster struct {
		Scheme    string `toml:"scheme"`
		Databases int    `toml:"databases"`
	} `toml:"cluster"`
	Peers struct {
		Listen    string   `toml:"listen"`
		Advertise string   `toml:"advertise"`
		Secret    string   `toml:"secret"`
		Lease     Duration `toml:"lease"`
	} `toml:"peers"`
	Loops struct {
		Count      int    `toml:"count"`
		Transport  string `toml:"transport"`
		ReadBuffer Size   `toml:"read-buffer"`
	} `toml:"loops"`
	Clients struct {
		MaxClients          int      `toml:"max-clients"`
		MaxBulk             Size     `toml:"max-bulk"`
		QueryBufferLimit    Size     `toml:"query-buffer-limit"`
		OutputBufferHard    Size     `toml:"output-buffer-hard"`
		OutputBufferSoft    Size     `toml:"output-buffer-soft"`
		OutputBufferSoftFor Duration `toml:"output-buffer-soft-for"`
		PubSubBufferHard    Size     `toml:"pubsub-buffer-hard"`
		PubSubBufferSoft    Size     `toml:"pubsub-buffer-soft"`
		PubSubBufferSoftFor Duration `toml:"pubsub-buffer-soft-for"`
		MemoryTotal         Size     `toml:"memory-total"`
		MaxInFlight         int      `toml:"max-in-flight"`
		IdleTimeout         Duration `toml:"idle-timeout"`
	} `toml:"clients"`
	Slowlog struct {
		SlowerThan       Duration `toml:"slower-than"`
		MaxLen           int      `toml:"max-len"`
		LatencyThreshold Duration `toml:"latency-threshold"`
	} `toml:"slowlog"`
	Hotkeys struct {
		SampleEvery int `toml:"sample-every"`
	} `toml:"hotkeys"`
	Servers struct {
		ConnectTimeout Duration `toml:"connect-timeout"`
		RequestTimeout Duration `toml:"request-timeout"`
		ReconnectMin   Duration `toml:"reconnect-min"`
		ReconnectMax   Duration `toml:"reconnect-max"`
		InFlightBytes  Size     `toml:"in-flight-bytes"`
		MaxDedicated   int      `toml:"max-dedicated"`
	} `toml:"servers"`
	Locks struct {
		WaitDeadline   Duration `toml:"wait-deadline"`
		MaxParked      int      `toml:"max-parked"`
		MaxKeysWaiting int      `toml:"max-keys-waiting"`
		MoverPatience  Duration `toml:"mover-patience"`
	} `toml:"locks"`
	Migration struct {
		Parallel        int            `toml:"parallel"`
		GroupParallel   int            `toml:"group-parallel"`
		BatchMaxKeys    int            `toml:"batch-max-keys"`
		LockHoldTarget  Duration       `toml:"lock-hold-target"`
		MaxP99          string         `toml:"max-p99"`
		Slice           topology.Slice `toml:"slice"`
		BigKeyBytes     Size           `toml:"big-key-bytes"`
		MemoryLimit     Size           `toml:"memory-limit"`
		ScanCount       int            `toml:"scan-count"`
		CheckpointEvery Duration       `toml:"checkpoint-every"`
		MaxAttempts     int            `toml:"max-attempts"`
		BackoffMin      Duration       `toml:"backoff-min"`
		BackoffMax      Duration       `toml:"backoff-max"`
		CallTimeout     Duration       `toml:"call-timeout"`
		StalledAfter    Duration       `toml:"stalled-after"`
	} `toml:"migration"`
}

// Stores say where topology and jobs are kept.
type Stores struct {
	Store   string `toml:"store"`
	DataDir string `toml:"data-dir"`
	Etcd    struct {
		Endpoints      List     `toml:"endpoints"`
		Prefix         string   `toml:"prefix"`
		User           string   `toml:"user"`
		Password       string   `toml:"password"`
		CA             string   `toml:"ca"`
		Cert           string   `toml:"cert"`
		Key            string   `toml:"key"`
		DialTimeout    Duration `toml:"dial-timeout"`
		RequestTimeout Duration `toml:"request-timeout"`
	} `toml:"etcd"`
}

// Facade is what clients take the gateway for.
type Facade struct {
	ClusterFacade string `toml:"cluster-facade"`
	Advertise     List   `toml:"advertise"`
	Passthrough   Lines  `toml:"passthrough"`
}

// Default is the embedded file.
func Default() Config {
	var c Config
	if err := c.readFile("keyferry.toml", defaults); err != nil {
		panic("conf: embedded " + err.Error()) // no test passes with it
	}
	return c
}

// Load reads the file at path (none if ""), then env ("KEYFERRY_CLIENTS_MAX_CLIENTS=5"),
// then set ("clients.max-clients" → "5"), over the defaults, and validates the result.
// Errors name where a value comes from (for a file with its line), the key, the value and
// what is allowed. The Config is of use only without an error.
func Load(path string, env []string, set map[string]string) (Config, error) {
	c := Default()
	c.File = path
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("configuration: %w", err)
		}
		if err := c.readFile(path, text); err != nil {
			return c, err
		}
	}
	fields := c.fields()
	settings, err := envSettings(env, fields)
	if err != nil {
		return c, err
	}
	if err := apply(fields, append(settings, flagSettings(set)...)); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func (c *Config) readFile(name string, text []byte) error {
	settings, err := fileSettings(name, text)
	if err != nil {
		return err
	}
	return apply(c.fields(), settings)
}

// fields are the settings by their full keys ("clients.max-clients"); setting one sets it
// in c.
func (c *Config) fields() map[string]reflect.Value {
	out := make(map[string]reflect.Value)
	collect(reflect.ValueOf(c).Elem(), "", out)
	return out
}

func collect(v reflect.Value, prefix string, out map[string]reflect.Value) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("toml")
		if tag == "-" {
			continue
		}
		if v.Type().Field(i).Anonymous { // its keys are those of what it is part of
			collect(v.Field(i), prefix, out)
			continue
		}
		key := prefix + tag
		f := v.Field(i)
		if _, text := f.Addr().Interface().(encoding.TextUnmarshaler); f.Kind() == reflect.Struct && !text {
			collect(f, key+".", out)
		} else {
			out[key] = f
		}
	}
}
