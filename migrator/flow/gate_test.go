package flow

import "testing"

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestGate: two who want it shut, one who is inside, one who comes.
func TestGate(t *testing.T) {
	var g Gate
	if g.Enter() != nil {
		t.Fatal("a new gate is shut")
	}
	first, second := g.Shut(), g.Shut()
	if first == nil || second == nil || closed(first) {
		t.Fatal("empty with somebody inside")
	}
	open := g.Enter()
	if open == nil {
		t.Fatal("let in while it is shut")
	}
	g.Reopen()
	if closed(open) || g.Enter() == nil {
		t.Error("open while one of two wants it shut")
	}
	g.Leave()
	if !closed(first) || !closed(second) {
		t.Error("nobody is inside, and that is not told")
	}
	g.Reopen()
	if !closed(open) || g.Enter() != nil {
		t.Error("not open again")
	}
	g.Leave()
	if g.Shut() != nil {
		t.Error("not empty in the end")
	}
}
