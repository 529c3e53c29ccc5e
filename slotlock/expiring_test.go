package slotlock

import "testing"

// TestExpiring: of two groups the first that says it has the word, for as long as the key is in motion.
func TestExpiring(t *testing.T) {
	var x Expiring
	k, other := Key{Name: "k"}, Key{DB: 1, Name: "k"}
	again := func(k Key, group string, want bool) {
		t.Helper()
		if got := x.Again(k, group); got != want {
			t.Errorf("%v at %s: %v", k, group, got)
		}
	}
	again(k, "a", false) // not in motion
	x.Leave(k)
	x.Enter(k)
	x.Enter(k)
	again(k, "a", false)
	again(k, "b", true)
	again(k, "a", false) // by the channel of the key, and by that of the event
	again(other, "b", false)
	x.Enter(k) // RESTORE is sent again
	again(k, "b", true)
	x.Leave(k)
	again(k, "b", false)
	again(k, "a", false)
}
