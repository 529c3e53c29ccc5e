package conf

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// hostPort is an endpoint of etcd without its scheme.
func hostPort(endpoint string) string {
	return strings.TrimPrefix(strings.TrimPrefix(endpoint, "http://"), "https://")
}

// etcdSecure reports whether etcd is spoken to over TLS.
func (c *Config) etcdSecure() bool {
	e := &c.Etcd
	return e.CA != "" || e.Cert != "" || len(e.Endpoints) > 0 && strings.HasPrefix(e.Endpoints[0], "https://")
}

// checkEtcd checks what is needed when etcd is used.
func (c *Config) checkEtcd() (errs []error) {
	if c.Store != "etcd" {
		return nil
	}
	e := &c.Etcd
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(len(e.Endpoints) > 0, "etcd.endpoints: want one address at least")
	secure, plain := 0, 0
	for _, x := range e.Endpoints {
		host, port, _ := net.SplitHostPort(hostPort(x))
		need(isAddr(hostPort(x)) && host != "" && port != "0", "etcd.endpoints = %q: want host:port, http://host:port or https://host:port", x)
		switch {
		case strings.HasPrefix(x, "https://"):
			secure++
		case strings.HasPrefix(x, "http://"):
			plain++
		}
	}
	need(secure == 0 || secure == len(e.Endpoints), "etcd.endpoints: want https:// for all of them or for none")
	need(plain == 0 || e.CA == "" && e.Cert == "", "etcd.endpoints: want no http:// with etcd.ca or etcd.cert, which are for TLS")
	need((e.Cert == "") == (e.Key == ""), "etcd.cert and etcd.key: want both or neither")
	need((e.User == "") == (e.Password == ""), "etcd.user and etcd.password: want both or neither")
	if strings.Trim(e.Prefix, "/") == "" || strings.ContainsFunc(e.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, errors.New(`etcd.prefix: want printable ASCII without spaces, as "/keyferry"`))
	}
	return errs
}
