package topology

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unique"
)

// Endpoint is one server: where it listens, as whom the gateways connect, and what it is to
// its group. It is a value that compares with ==, so that whoever keeps connections can tell
// by that whether they lead where they should. Package upstream is the only one that
// connects to it.
//
// In stored States its fields are those of the group that it belongs to.
type Endpoint struct {
	Addr   string `json:"addr"`              // host:port, written in the one way that check takes
	User   string `json:"user,omitempty"`    // of the server's ACL; "": its default user
	Secret Secret `json:"password,omitzero"` // of that user; zero: none
	TLS    TLS    `json:"tls,omitzero"`
	Role   Role   `json:"role,omitempty"`
}

// TLS says whether and how a server's certificate is checked. Certificates and keys are
// files of each gateway's machine, and so no part of it: see upstream.Dialer.
type TLS struct {
	On         bool   `json:"on"`
	ServerName string `json:"server_name,omitempty"` // that the certificate must have; "": the host of Addr
}

// Role is what a server is to its group. Only its primary takes writes.
type Role string

// Roles.
const (
	Primary Role = ""
	Replica Role = "replica"
)

// String tells where and as whom, and never the secret.
func (e Endpoint) String() string {
	s := e.Addr
	if e.User != "" {
		s = e.User + "@" + s
	}
	if e.TLS.On {
		s += " (TLS)"
	}
	return s
}

// check checks what can be checked without connecting.
func (e Endpoint) check() error {
	host, port := splitAddr(e.Addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	// Only one way to write an address is taken, else "h:07000" would be a second group
	// at the server of "h:7000", and a move between the two would unlink what it moved.
	if host == "" || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("invalid address %q: want host:port", e.Addr)
	}
	if strings.ContainsFunc(host, unprintable) {
		return fmt.Errorf("invalid address %q: a space or an unprintable character in the host", e.Addr)
	}
	if strings.ContainsFunc(e.User, unprintable) {
		return fmt.Errorf("invalid user %q of %s: a space or an unprintable character", e.User, e.Addr)
	}
	if e.TLS.ServerName != "" && !e.TLS.On {
		return fmt.Errorf("%s has a TLS server name %q, and TLS is off", e.Addr, e.TLS.ServerName)
	}
	if e.Role != Primary && e.Role != Replica {
		return fmt.Errorf("%s has an unknown role %q", e.Addr, e.Role)
	}
	return nil
}

// splitAddr splits host:port. A host with colons (IPv6) is in brackets, and no other is. ""
// for both: it is no such address. Package net would do it as well, but what is imported here
// is part of the pure packages too.
func splitAddr(addr string) (host, port string) {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return "", ""
	}
	host, port = addr[:i], addr[i+1:]
	bare, opened := strings.CutPrefix(host, "[")
	bare, closed := strings.CutSuffix(bare, "]")
	if opened != closed || opened != strings.Contains(bare, ":") || strings.ContainsAny(bare, "[]") {
		return "", ""
	}
	return bare, port
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// Secret is a password. It compares like the string that it is. Stored States hold it in
// clear; nothing else shows it: it formats as "***", and where formatting goes by
// reflection (an unexported field under %+v) there is a pointer to be seen and no text.
type Secret struct{ text unique.Handle[string] }

// NewSecret makes a Secret of a password; "" makes the zero one, which is no password.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal is the password, for the handshake with its server.
func (s Secret) Reveal() string {
	if s == (Secret{}) {
		return ""
	}
	return s.text.Value()
}

// Equal is ==, for what compares values by methods of this name, as go-cmp does.
func (s Secret) Equal(other Secret) bool { return s == other }

// String is what may be seen of it: whether there is one.
func (s Secret) String() string {
	if s == (Secret{}) {
		return ""
	}
	return "***"
}

// Format implements fmt.Formatter: every verb prints what String gives.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON is for the Store.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.Reveal()) }

// UnmarshalJSON is for the Store.
func (s *Secret) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*s = NewSecret(text)
	return nil
}
