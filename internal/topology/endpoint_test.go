package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestSecretIsNotPrinted: however something that holds a secret is printed, by itself or from
// deep within what somebody else made of it, and whatever the verb.
func TestSecretIsNotPrinted(t *testing.T) {
	const text = "xyzzy"
	e := Endpoint{Addr: "h:1", User: "u", Secret: NewSecret(text), TLS: TLS{On: true}}
	g := Group{ID: "g", Endpoint: e}
	type deep struct {
		g  Group // unexported, and so printed by reflection
		gs []Group
		at map[string]*Endpoint
	}
	x := deep{g, []Group{g}, map[string]*Endpoint{"k": &e}}
	for _, v := range []any{e.Secret, &e.Secret, e, &e, g, &g, x, &x, []any{e}, State{Topology: Topology{Groups: []Group{g}}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, text) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", text)) {
				t.Errorf("%s of a %T: %s", verb, v, got)
			}
		}
		enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{})
		for _, f := range []zap.Field{zap.Any("a", e), zap.Any("g", g), zap.Stringer("e", e), zap.Any("s", e.Secret), zap.Error(fmt.Errorf("at %v", g))} {
			b, err := enc.EncodeEntry(zapcore.Entry{}, []zap.Field{f})
			if err != nil || strings.Contains(b.String(), text) {
				t.Errorf("logged as %s, %v", b, err)
			}
		}
	}
	if got := fmt.Sprintf("%s|%v|%v|%q", e, g, e.Secret, Secret{}); got != "u@h:1 (TLS)|g (h:1)|***|" {
		t.Error(got)
	}
}

func TestSecretCompares(t *testing.T) {
	if NewSecret("a") != NewSecret(strings.Clone("a")) || NewSecret("a") == NewSecret("b") || NewSecret("") != (Secret{}) {
		t.Error("secrets compare otherwise than their texts")
	}
	if NewSecret("a").Reveal() != "a" || (Secret{}).Reveal() != "" {
		t.Error("it is not what it was made of")
	}
}

// TestGroupsAsStored: States that were stored before endpoints were values of their own load,
// and are written again byte by byte.
func TestGroupsAsStored(t *testing.T) {
	for text, want := range map[string]Group{
		`{"id":"a","addr":"h:1"}`:                                    {ID: "a", Endpoint: Endpoint{Addr: "h:1"}},
		`{"id":"a","number":7,"addr":"h:1","password":"p \"\u00e9"}`: {ID: "a", Number: 7, Endpoint: Endpoint{Addr: "h:1", Secret: NewSecret("p \"é")}},
		`{"id":"a","addr":"h:1","user":"u","password":"p","tls":{"on":true,"server_name":"s"},"role":"replica"}`: {ID: "a",
			Endpoint: Endpoint{Addr: "h:1", User: "u", Secret: NewSecret("p"), TLS: TLS{true, "s"}, Role: Replica}},
	} {
		var got Group
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		b, err := json.Marshal(want)
		if plain := strings.ReplaceAll(text, `\u00e9`, "é"); err != nil || string(b) != plain {
			t.Errorf("%s is written as %s, %v", text, b, err)
		}
	}
	var s Secret
	if err := json.Unmarshal([]byte(`7`), &s); err == nil {
		t.Error("a number is no password")
	}
}

func TestEndpointChecks(t *testing.T) {
	base := Endpoint{Addr: "h:1", User: "u", TLS: TLS{On: true, ServerName: "s"}}
	for want, spoil := range map[string]func(e *Endpoint){
		"":                      func(*Endpoint) {},
		"want host:port":        func(e *Endpoint) { e.Addr = "h:01" },
		"in the host":           func(e *Endpoint) { e.Addr = "h h:1" },
		"invalid user":          func(e *Endpoint) { e.User = "a b" },
		"TLS is off":            func(e *Endpoint) { e.TLS.On = false },
		`unknown role "master"`: func(e *Endpoint) { e.Role = "master" },
		"must be its primary":   func(e *Endpoint) { e.Role = Replica },
	} {
		e := base
		spoil(&e)
		s := NewState("redis", 16384, 1)
		err := s.AddGroup(Group{ID: "a", Endpoint: e})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
		s = NewState("redis", 16384, 1)
		s.Groups = []Group{{ID: "a", Endpoint: e}}
		if err := s.Validate(); want != "" && !errors.Is(err, ErrInvalid) {
			t.Errorf("a State with it: %v", err)
		}
	}
}
