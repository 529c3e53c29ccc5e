package topology

import (
	"errors"
	"testing"
)

// sample is a cluster of two groups that own half of the slots each.
func sample(t *testing.T) State {
	t.Helper()
	st := NewState("codis", 1024, 16)
	must(t, st.AddGroup(Group{ID: "a", Endpoint: Endpoint{Addr: "127.0.0.1:7001", Secret: NewSecret("secret")}}))
	must(t, st.AddGroup(Group{ID: "b", Endpoint: Endpoint{Addr: "127.0.0.1:7002"}}))
	must(t, st.AssignSlots(Range{0, 511}, "a"))
	must(t, st.AssignSlots(Range{512, 1023}, "b"))
	return st
}

// fataler is what *testing.T, *testing.B and *rapid.T share.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t fataler, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}
