package stats

import (
	"strings"
	"testing"
	"time"
)

// TestSpikes: one second has one spike, the worst of it on any loop; the oldest make room.
func TestSpikes(t *testing.T) {
	var a, b Spikes
	a.init()
	b.init()
	at := time.Unix(1000, 0)
	ms := int64(time.Millisecond)
	for i := range maxSpikes + 10 {
		a.Note("command", int64(i+1)*ms, at.Add(time.Duration(i)*time.Second))
	}
	a.Note("command", 5*ms, at.Add(time.Duration(maxSpikes+9)*time.Second+time.Millisecond))
	b.Note("command", 999*ms, at.Add(time.Duration(maxSpikes+9)*time.Second))
	b.Note("fast-command", 7*ms, at)
	mine := a.Events()
	all := MergeEvents(mine, b.Events())
	e := all["command"]
	if len(e.Spikes) != maxSpikes || e.MaxMs != 999 || e.Spikes[0] != (Spike{1010, 11}) || e.Spikes[maxSpikes-1] != (Spike{1000 + maxSpikes + 9, 999}) {
		t.Errorf("%d spikes, max %d, %+v … %+v", len(e.Spikes), e.MaxMs, e.Spikes[0], e.Spikes[len(e.Spikes)-1])
	}
	if last := mine["command"].Spikes; last[len(last)-1].Ms != maxSpikes+10 {
		t.Errorf("the merge has changed what it was given: %+v", last[len(last)-1])
	}
	if all["fast-command"].MaxMs != 7 {
		t.Errorf("%+v", all["fast-command"])
	}
	if text := Doctor(all, time.Millisecond); !strings.Contains(text, "1. command: 160 latency spikes") || !strings.Contains(text, "2. fast-command: 1 latency spikes") {
		t.Error(text)
	}
	if g := e.Graph("command", time.Unix(2000, 0)); !strings.Contains(g, "high 999 ms, low 91 ms (all time high 999 ms)") {
		t.Error(g)
	}
	if had := b.Forget([]string{"command", "none"}); len(had) != 1 || len(b.Events()) != 1 {
		t.Errorf("forgot %v, has %v", had, b.Events())
	}
	if had := b.Forget(nil); len(had) != 1 || len(b.Events()) != 0 {
		t.Errorf("forgot %v, has %v", had, b.Events())
	}
}
