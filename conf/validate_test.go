package conf

import (
	"reflect"
	"strings"
	"testing"

	"keyferry/internal/topology"
)

// TestBounds: for each key with bounds, the values at its ends and just beyond.
func TestBounds(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"listen", "7380", "host:port or :port"},
		{"listen", "host", "host:port or :port"},
		{"listen", ":redis", "host:port or :port"},
		{"listen", ":65536", "host:port or :port"},
		{"listen", ":0", ""},
		{"listen", "[::]:7380", ""},
		{"admin", "", "host:port or :port"},
		{"migration.slice", "1s/4s", ""},
		{"migration.slice", "0", ""},
		{"migration.slice", "5", "100ms to 24h"},
		{"migration.slice", "99ms", "100ms to 24h"},
		{"migration.slice", "1s/25h", "100ms to 24h"},
		{"admin", ":7381", "a loopback address"},
		{"admin", "0.0.0.0:7381", "a loopback address"},
		{"admin", "10.0.0.1:7381", "a loopback address"},
		{"admin", "example.com:7381", "a loopback address"},
		{"admin", "localhost:7381", ""},
		{"admin", "127.1.2.3:7381", ""},
		{"admin", "[::1]:7381", ""},
		{"http.listen", "0.0.0.0:7382", "a loopback address"},
		{"http.listen", ":7382", "a loopback address"},
		{"http.listen", "7382", "host:port"},
		{"http.listen", "", ""},
		{"http.hosts", "a:1", "a host name without a port"},
		{"http.hosts", "a.example,b.example", ""},
		{"hotkeys.sample-every", "-1", "0 to 1048576"},
		{"data-dir", "", "a directory"},
		{"store", "redis", "bolt or etcd"},
		{"etcd.request-timeout", "1ms", "10ms to 1h"},
		{"name", "a b", "printable ASCII without spaces and colons"},
		{"name", "a:b", "printable ASCII without spaces and colons"},
		{"name", "ä", "printable ASCII without spaces and colons"},
		{"name", "a\x7f", "printable ASCII without spaces and colons"},
		{"name", "gw-1.example_~", ""},
		{"log.level", "INFO", "debug or info or warn or error"},
		{"log.format", "text", "console or json"},
		{"cluster.scheme", "crc16", "redis or codis"},
		{"cluster.databases", "0", "1 to 1024"},
		{"cluster-facade", "yes", "on or off"},
		{"cluster-facade", "on", ""},
		{"advertise", "redis.example.com", "host:port"},
		{"advertise", ":7380", "host:port"},
		{"advertise", "a:0", "host:port"},
		{"advertise", "0.0.0.0:1", "host:port"},
		{"advertise", "a b:1", "host:port"},
		{"advertise", "a:1,b:2,a:1", "each address once"},
		{"advertise", "a:1,[::1]:2", ""},
		{"passthrough", "GET 2 readonly keys=1,1,1", "a name that Redis does not have"},
		{"passthrough", "BF.EXISTS 3 readonly,fast keys=1,1,1; JSON.SET -4 write keys=1,1,1", ""},
		{"cluster.databases", "1025", "1 to 1024"},
		{"loops.count", "-1", "0 to 1024"},
		{"loops.read-buffer", "4095", "4kb to 64mb"},
		{"clients.max-clients", "0", "1 to 1048576"},
		{"clients.max-in-flight", "0", "1 to 16777216"},
		{"clients.max-bulk", "2gb", "1mb to 1gb"},
		{"clients.query-buffer-limit", "1kb", "1mb to 1024gb"},
		{"clients.output-buffer-hard", "0", "1mb to 1024gb"},
		{"clients.output-buffer-hard", "255mb", "at most clients.output-buffer-hard, which is 255mb"},
		{"clients.output-buffer-hard", "256mb", ""},
		{"clients.output-buffer-soft", "1b", "64kb to 1024gb"},
		{"clients.output-buffer-soft", "1025mb", "at most clients.output-buffer-hard, which is 1gb"},
		{"clients.output-buffer-soft-for", "25h", "0s to 24h0m0s"},
		{"clients.memory-total", "0", "1mb to 16384gb"},
		{"clients.idle-timeout", "8761h", "0s to 8760h0m0s"},
		{"servers.connect-timeout", "0s", "1ms to 1h0m0s"},
		{"servers.request-timeout", "25h", "0s to 24h0m0s"},
		{"servers.request-timeout", "0s", ""},
		{"servers.reconnect-min", "3s", "at most servers.reconnect-max, which is 2s"},
		{"servers.reconnect-max", "2h", "1ms to 1h0m0s"},
		{"servers.in-flight-bytes", "1kb", "64kb to 1024gb"},
		{"locks.wait-deadline", "4ms", "at most locks.wait-deadline, which is 4ms"},
		{"locks.wait-deadline", "0s", "1ms to 1h0m0s"},
		{"locks.mover-patience", "50us", "100µs to 1h0m0s"},
		{"locks.max-parked", "0", "1 to 16777216"},
		{"locks.max-keys-waiting", "0", "1 to 16777216"},
		{"migration.parallel", "65", "1 to 64"},
		{"migration.batch-max-keys", "0", "1 to 100000"},
		{"migration.scan-count", "0", "1 to 100000"},
		{"migration.max-attempts", "-1", "0 to 1073741824"},
		{"migration.max-attempts", "0", ""},
		{"migration.lock-hold-target", "61s", "100µs to 1m0s"},
		{"migration.big-key-bytes", "0", "1kb to 1024gb"},
		{"migration.checkpoint-every", "0s", "10ms to 1h0m0s"},
		{"migration.backoff-min", "11s", "at most migration.backoff-max, which is 10s"},
		{"migration.backoff-max", "25h", "1ms to 24h0m0s"},
		{"migration.call-timeout", "1ms", "10ms to 1h0m0s"},
	} {
		_, err := Load("", nil, map[string]string{c.key: c.value})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s = %s: %v", c.key, c.value, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "want "+c.want) || !strings.Contains(err.Error(), c.key)):
			t.Errorf("%s = %s: got %v, want %s", c.key, c.value, err, c.want)
		}
	}
}

// TestEveryNumberBounded: a number without bounds is one that nobody thought about.
func TestEveryNumberBounded(t *testing.T) {
	c := Default()
	bounded := map[string]bool{}
	for _, b := range c.counts() {
		bounded[b.key] = true
	}
	for _, b := range c.sizes() {
		bounded[b.key] = true
	}
	for _, b := range c.times() {
		bounded[b.key] = true
	}
	for key, f := range c.fields() {
		if k := f.Kind(); k != reflect.String && k != reflect.Slice && f.Type() != reflect.TypeFor[topology.Slice]() && !bounded[key] {
			t.Errorf("%s has no bounds", key)
		}
		delete(bounded, key)
	}
	for key := range bounded {
		t.Errorf("%s has bounds and does not exist", key)
	}
}

// TestEtcd: what is said of etcd counts when it is the store.
func TestEtcd(t *testing.T) {
	for _, c := range []struct{ set, want string }{ // want: a part of the error; "": none
		{"", ""},
		{"etcd.endpoints=", "etcd.endpoints: want one address at least"},
		{"etcd.endpoints=a", `etcd.endpoints = "a": want host:port`},
		{"etcd.endpoints=a:1,:2", `etcd.endpoints = ":2": want host:port`},
		{"etcd.endpoints=ftp://a:1", `want host:port, http://host:port or https://host:port`},
		{"etcd.endpoints=https://a:1,https://[::1]:2", ""},
		{"etcd.endpoints=https://a:1,b:2", "want https:// for all of them or for none"},
		{"etcd.endpoints=http://a:1 etcd.ca=x", "want no http:// with etcd.ca"},
		{"etcd.ca=x etcd.cert=y etcd.key=z", ""},
		{"etcd.cert=y", "etcd.cert and etcd.key: want both or neither"},
		{"etcd.user=u", "etcd.user and etcd.password: want both or neither"},
		{"etcd.user=u etcd.password=p", ""},
		{"etcd.prefix=/", "etcd.prefix: want printable ASCII"},
		{"etcd.prefix=prod/keyferry/", ""},
	} {
		set := map[string]string{"store": "etcd"}
		for _, kv := range strings.Fields(c.set) {
			key, value, _ := strings.Cut(kv, "=")
			set[key] = value
		}
		_, err := Load("", nil, set)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %s", c.set, err, c.want)
		}
		set["store"] = "bolt"
		if _, err := Load("", nil, set); err != nil {
			t.Errorf("%s, with another store: %v", c.set, err)
		}
	}
}

func TestFacadeNeedsRedisSlots(t *testing.T) {
	_, err := Load("", nil, map[string]string{"cluster-facade": "on", "cluster.scheme": "codis"})
	if err == nil || !strings.Contains(err.Error(), "CRC16 to 16384 slots, a Codis by CRC32 to 1024") {
		t.Errorf("got %v", err)
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := Load("", nil, map[string]string{"log.level": "x", "loops.count": "-1", "clients.max-bulk": "1", "servers.connect-timeout": "0s"})
	want := `log.level = "x": want debug or info or warn or error
loops.count = -1: want 0 to 1024
clients.max-bulk = 1b: want 1mb to 1gb
servers.connect-timeout = 0s: want 1ms to 1h0m0s`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestAdminPassword(t *testing.T) {
	set := map[string]string{"admin": ":7381", "admin-password": "secret"}
	_, err := Load("", nil, set)
	must(t, err)
	set["log.level"] = "x"
	if _, err := Load("", nil, set); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a password in an error: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		set  map[string]string
		want []string // beginnings
	}{
		{nil, []string{`listen = ":7380" without a password`}},
		{map[string]string{"password": "x"}, nil},
		{map[string]string{"listen": "127.0.0.1:7380"}, nil},
		{map[string]string{"listen": "127.0.0.1:7380", "advertise": "a:1"}, []string{"advertise has no effect"}},
		{map[string]string{"listen": "127.0.0.1:7380", "advertise": "a:1", "cluster-facade": "on"}, nil},
		{map[string]string{"listen": "127.0.0.1:7380", "store": "etcd"}, nil},
		{map[string]string{"listen": "127.0.0.1:7380", "store": "etcd", "etcd.endpoints": "http://10.0.0.1:2379"}, []string{"etcd is spoken to without TLS"}},
		{map[string]string{"listen": "127.0.0.1:7380", "store": "etcd", "etcd.endpoints": "https://10.0.0.1:2379"}, nil},
		{map[string]string{"listen": "127.0.0.1:7380", "clients.query-buffer-limit": "100mb"}, []string{"clients.max-bulk = 512mb is more than"}},
	} {
		cfg, err := Load("", nil, c.set)
		must(t, err)
		got := cfg.Warnings()
		if len(got) != len(c.want) {
			t.Fatalf("%v: got %q, want %q", c.set, got, c.want)
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%v: got %q, want %q", c.set, got[i], c.want[i])
			}
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "7b": 7, "64kb": 64 << 10, "64KB": 64 << 10, "1Mb": 1 << 20, "3gb": 3 << 30, "4294967296gb": 1 << 62,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v, want %d", text, s, err, want)
		}
		var back Size
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%d is written %q and read as %d (%v)", s, s.String(), back, err)
		}
	}
	for _, text := range []string{"", "b", "kb", "-1", "+1", "1.5gb", "1k", "1m", "1g", "1tb", "5bb", "5bkb", "5 mb", " 5", "0x10", "4294967297gb", "9223372036854775808"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
}

// TestPeers: other gateways have to reach this one, and off loopback they need a secret.
func TestPeers(t *testing.T) {
	const secret = "0123456789abcdef"
	for _, x := range []struct{ listen, advertise, secret, addr, want string }{
		{"", "", "", "", ""},
		{"127.0.0.1:7383", "", "", "127.0.0.1:7383", ""},
		{"gw1.internal:7383", "", secret, "gw1.internal:7383", ""},
		{":7383", "gw1:7383", secret, "gw1:7383", ""},
		{"0.0.0.0:7383", "gw1:7383", secret, "gw1:7383", ""},
		{":7383", "", secret, "", "or peers.advertise set"},
		{"[::]:7383", "", secret, "", "or peers.advertise set"},
		{"gw1:7383", "", "", "gw1:7383", "or peers.secret set"},
		{"gw1:7383", "", "short", "gw1:7383", "16 characters or more"},
		{"gw1:7383", ":7383", secret, ":7383", "peers.advertise"},
	} {
		c := Default()
		c.Peers.Listen, c.Peers.Advertise, c.Peers.Secret = x.listen, x.advertise, x.secret
		err := c.Validate()
		if c.PeersAddr() != x.addr || (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: reached by %q, %v", x, c.PeersAddr(), err)
		}
		if err != nil && strings.Contains(err.Error(), x.secret) && x.secret != "" {
			t.Errorf("the secret is in %v", err)
		}
	}
}
