package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// probePatience bounds the look at one endpoint.
const probePatience = time.Second

// probe says why none of the endpoints can be talked to; nil if one can, as far as a connection tells. The
// client itself tries again and again, and says in the end that its time is over.
func probe(ctx context.Context, endpoints []string, secure *tls.Config) error {
	var errs []error
	for _, e := range endpoints {
		addr := strings.TrimPrefix(strings.TrimPrefix(e, "https://"), "http://")
		err := probeOne(ctx, addr, secure)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return errors.Join(errs...)
}

func probeOne(ctx context.Context, addr string, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || secure == nil {
		if err == nil {
			err = c.Close()
		}
		return err
	}
	defer func() { _ = c.Close() }()
	secure = secure.Clone()
	secure.ServerName, _, _ = net.SplitHostPort(addr)
	secure.NextProtos = []string{"h2"}
	t := tls.Client(c, secure)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	// That a certificate of ours is refused comes behind the handshake, in place of the first answer.
	_ = t.SetReadDeadline(time.Now().Add(probePatience / 4))
	if _, err := t.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
