package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"keyferry/internal/control"
	"keyferry/internal/topology"
	"keyferry/internal/upstream"
	"keyferry/proxy"
)

// peerCalls asks other gateways by their peers' listeners. Each call has a connection of its own: they
// are rare, and one that takes long holds up no other.
type peerCalls struct {
	control *control.Control
	dialer  *upstream.Dialer
	secret  topology.Secret
}

// peerTimeout bounds a call whose caller has set no deadline.
const peerTimeout = 30 * time.Second

// Call implements migrator.Peers.
func (p *peerCalls) Call(ctx context.Context, gateway, method string, body []byte) ([]byte, error) {
	c, reply, err := p.call(ctx, gateway, method, body)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return reply, nil
}

// Hold implements migrator.Peers.
func (p *peerCalls) Hold(ctx context.Context, gateway, method string, body []byte) (release func(), err error) {
	c, _, err := p.call(ctx, gateway, method, body)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(c.Close), nil
}

// call leaves the connection open. An error of the method is told without the word ERR.
func (p *peerCalls) call(ctx context.Context, gateway, method string, body []byte) (*upstream.Conn, []byte, error) {
	st := p.control.State()
	g, known := st.Gateway(gateway)
	switch {
	case !known || g.Out:
		return nil, nil, fmt.Errorf("gateway %s is no part of the cluster", gateway)
	case g.Peers == "":
		return nil, nil, fmt.Errorf("gateway %s can't be reached by others: it has no peers.listen", gateway)
	}
	// The connection outlives ctx, which is about the call.
	c, err := p.dialer.Conn(context.WithoutCancel(ctx), upstream.Target{Endpoint: topology.Endpoint{Addr: g.Peers, Secret: p.secret}, Peer: true}, peerTimeout)
	if errors.Is(err, syscall.ECONNREFUSED) {
		p.control.Refused(gateway)
	}
	if err != nil {
		return nil, nil, err
	}
	reply, err := c.Do(ctx, proxy.PeerCall, method, string(body))
	if err != nil {
		c.Close()
		if said := upstream.ServerError(""); errors.As(err, &said) {
			return nil, nil, errors.New(strings.TrimPrefix(string(said), "ERR "))
		}
		return nil, nil, err
	}
	return c, bytes.Clone(reply.Text), nil
}
