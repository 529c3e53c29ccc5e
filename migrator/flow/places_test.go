package flow

import "testing"

// TestPlacesInOrder: who waits longest is next, who gives up leaves the queue, and nobody
// overtakes.
func TestPlacesInOrder(t *testing.T) {
	p := NewPlaces(1)
	a, b, c, d := p.Ask("g"), p.Ask("g"), p.Ask("g"), p.Ask("g")
	held := func(what string, want ...*Place) {
		t.Helper()
		for i, pl := range []*Place{a, b, c, d} {
			is := false
			for _, w := range want {
				is = is || w == pl
			}
			if pl.held() != is {
				t.Errorf("%s: %c is held: %v", what, 'a'+i, pl.held())
			}
		}
	}
	held("at first", a)
	b.GiveBack() // gave up
	a.GiveBack()
	held("after a", a, c)
	if _, ok := p.Try("g", "h"); ok {
		t.Error("somebody has overtaken d")
	}
	c.GiveBack()
	held("after c", a, c, d)
	d.GiveBack()
	giveBack, ok := p.Try("h", "g")
	if !ok {
		t.Fatal("a place is missing")
	}
	if e := p.Ask("h"); e.held() {
		t.Error("the place at h is held twice")
	} else {
		e.GiveBack()
	}
	giveBack()
	if _, ok := p.Try("g", "h"); !ok {
		t.Error("a place is missing in the end")
	}
	var none *Places
	if giveBack, ok := none.Try("g", "h"); !ok {
		t.Error("a bound where there is none")
	} else {
		giveBack()
	}
}
