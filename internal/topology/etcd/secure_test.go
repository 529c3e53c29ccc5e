package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyferry/internal/testetcd"
	"keyferry/internal/topology"
	"keyferry/internal/topology/storetest"
)

// authority issues certificates into a directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, name, true)
	return a
}

// issue writes name.crt and name.key.
func (a *authority) issue(t *testing.T, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := a.cert, a.key
	if ca {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(a.file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	c, err = x509.ParseCertificate(der)
	must(t, err)
	return c, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// TestTLS: etcd is known by its certificate, and asks for one.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ca"), newAuthority(t, "ca")
	for _, name := range []string{"etcd", "gateway"} {
		ca.issue(t, name, false)
	}
	other.issue(t, "gateway", false)
	etcd, err := testetcd.Start(testetcd.Options{Scheme: "https", Args: []string{"--cert-file", ca.file("etcd.crt"), "--key-file", ca.file("etcd.key"),
		"--client-cert-auth", "--trusted-ca-file", ca.file("ca.crt")}})
	must(t, err)
	t.Cleanup(func() { must(t, etcd.Stop()) })
	o := optionsAt(etcd.Addr) // with a certificate it is TLS, without https:// too
	o.CA, o.Cert, o.Key = ca.file("ca.crt"), ca.file("gateway.crt"), ca.file("gateway.key")
	s := open(t, o)
	must(t, topology.Create(t.Context(), s, storetest.Sample(t)))
	observe(t, s).await(t, 1)

	for _, x := range []struct {
		name, want string
		spoil      func(*Options)
	}{
		{"another CA", "x509: ", func(o *Options) { o.CA = other.file("ca.crt") }},
		{"another certificate", "remote error: tls: ", func(o *Options) { o.Cert, o.Key = other.file("gateway.crt"), other.file("gateway.key") }},
		{"no certificate", "remote error: tls: ", func(o *Options) { o.Cert, o.Key = "", "" }},
		{"no TLS", "did not answer within 500ms", func(o *Options) { *o = optionsAt(etcd.Addr) }},
		{"the system's CAs", "x509: ", func(o *Options) { o.CA = ""; o.Endpoints = []string{etcd.URL()} }},
		{"nobody there", "connection refused", func(o *Options) { o.Endpoints = []string{"127.0.0.1:1"} }},
	} {
		bad := o
		x.spoil(&bad)
		bad.DialTimeout = 500 * time.Millisecond
		s, err := Open(bad)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "etcd at ") || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
		t.Logf("%s: %v", x.name, err)
	}
	for want, spoil := range map[string]func(*Options){
		"etcd.ca":             func(o *Options) { o.CA = ca.file("missing") },
		"no certificate in P": func(o *Options) { o.CA = ca.file("ca.key") },
		"etcd.cert, etcd.key": func(o *Options) { o.Key = other.file("gateway.key") },
	} {
		bad := o
		spoil(&bad)
		if s, err := Open(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
			_ = s.Close()
		}
	}
}

// TestUser: a gateway needs to read and write what is below its prefix, and nothing else.
func TestUser(t *testing.T) {
	t.Parallel()
	etcd := testetcd.StartT(t)
	o := optionsAt(etcd.Addr)
	admin := open(t, o).client
	ctx := t.Context()
	for _, err := range []error{
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err }(),
		func() error { _, err := admin.UserAdd(ctx, "root", "rootpass"); return err }(),
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err }(),
		func() error { _, err := admin.RoleAdd(ctx, "gateway"); return err }(),
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "gateway", o.Prefix+"/", clientv3.GetPrefixRangeEnd(o.Prefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		}(),
		func() error { _, err := admin.UserAdd(ctx, "gw", "gwpass"); return err }(),
		func() error { _, err := admin.UserGrantRole(ctx, "gw", "gateway"); return err }(),
		func() error { _, err := admin.AuthEnable(ctx); return err }(),
	} {
		must(t, err)
	}
	o.User, o.Password = "gw", "gwpass"
	s := open(t, o)
	must(t, topology.Create(ctx, s, storetest.Sample(t)))
	must(t, s.SaveCheckpoint(ctx, topology.Checkpoint{Job: "m1"}))
	must(t, s.AppendEvent(ctx, topology.JobEvent{Job: "m1"}))
	must(t, s.DropEvents(ctx, "m1"))
	watch := observe(t, s)
	lost, err := s.Register(ctx, topology.Gateway{Name: "a"}, time.Minute)
	must(t, err)
	_, err = s.renew(ctx, s.registered)
	must(t, err)
	must(t, s.Acknowledge(ctx, topology.Ack{Epoch: 1}))
	st, err := topology.Update(ctx, s, count)
	must(t, err)
	watch.await(t, st.Revision)
	must(t, s.Unregister(ctx))
	<-lost

	for want, spoil := range map[string]func(*Options){
		"etcd.user or etcd.password is wrong":           func(o *Options) { o.Password = "wrong" },
		"set etcd.user and etcd.password":               func(o *Options) { o.User, o.Password = "", "" },
		"may not read and write what is below etcd.pre": func(o *Options) { o.Prefix = "/another" },
	} {
		bad := o
		spoil(&bad)
		if s, err := Open(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
			_ = s.Close()
		}
	}
}
