package stats

import (
	"testing"
	"time"

	"keyferry/internal/resp"
)

// TestLifeOfASpan: a command is counted once, its times add up, and it is entered in the slow log
// when its reply has been written and not before.
func TestLifeOfASpan(t *testing.T) {
	var r Recorder
	shared := NewShared()
	r.Init(&Config{SlowerThan: 10, SlowMax: 2, LatencyThreshold: time.Millisecond}, shared, 16, 0)
	get := resp.Lookup([]byte("get"))
	ms := int64(time.Millisecond)

	quick := Span{Begun: 100}
	if r.Done(&quick, get, []byte("$-1\r\n"), 109, false) {
		t.Error("9 ns are notable")
	}
	r.Written(&quick, 120)

	slow := Span{Begun: 200, Queued: 5}
	r.Keep(&slow, frame("GET", "k"))
	slow.Sent = 200 + ms
	if !r.Done(&slow, get, []byte("-WRONGTYPE no\r\n"), 200+3*ms, true) {
		t.Fatal("3 ms are not notable")
	}
	r.Notable(&slow, get, Sender{ClientName: "me"}, 200+3*ms, time.Unix(5, 0))
	if len(r.Slow.Entries()) != 0 {
		t.Error("entered before its reply was written")
	}
	r.Written(&slow, 200+7*ms)
	list := r.Slow.Entries()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	if e := list[0]; e.ID != 0 || e.Total != 3*time.Millisecond || e.LockWait != time.Millisecond || e.Backend != 2*time.Millisecond ||
		e.Write != 4*time.Millisecond || e.Queue != 5 || e.ClientName != "me" || len(e.Args) != 2 || e.Args[1] != "k" {
		t.Errorf("%+v", e)
	}
	if shared.Slow.Load() != 1 || r.LockWaits.Count != 1 || r.N[ErrorReplies] != 1 || r.Spikes.Events()["fast-command"].MaxMs != 3 {
		t.Errorf("%d slow, %d waits, %d errors, events %v", shared.Slow.Load(), r.LockWaits.Count, r.N[ErrorReplies], r.Spikes.Events())
	}
	r.CountAnswer(get, []byte("-ERR x\r\n"))
	r.CountAnswer(nil, []byte("+OK\r\n"))
	r.Calls.CountRejected([][]byte{[]byte("get")})
	r.Calls.CountRejected([][]byte{[]byte("nosuch")})
	if st := r.Calls.Commands()[get.Index]; st.Times.Count != 3 || st.Failed != 2 || st.Rejected != 1 {
		t.Errorf("%d calls, %+v", st.Times.Count, st)
	}
	if e := r.Calls.Errors(); len(e) != 2 || e["WRONGTYPE"] != 1 || e["ERR"] != 1 {
		t.Errorf("errors %v", e)
	}

	sum := NewAdder(&r.N, 1, 4)
	for range 2 { // two loops alike
		p := r.Part()
		p.Blocked, p.Links = 3, map[string]Link{"g": {Up: 1, Error: "why"}}
		sum.Add(p)
	}
	got := sum.Sum()
	if got.Blocked != 6 || got.Classes[Reads].Count != 6 || got.Errors["ERR"] != 2 || len(got.Commands) != 1 || got.Commands[0].Calls != 6 || got.Links["g"] != (Link{Up: 2, Error: "why"}) {
		t.Errorf("%+v", got)
	}
	r.Reset()
	if st := r.Calls.Commands()[get.Index]; st.Times != nil || r.N[ErrorReplies] != 2 {
		t.Error("a reset forgets the calls, and not what has been counted in all")
	}
}

// TestErrorCodesAreBounded: who invents error codes does not fill our memory.
func TestErrorCodesAreBounded(t *testing.T) {
	var r Recorder
	r.Init(&Config{}, NewShared(), 16, 0)
	for i := range 10 * maxErrorCodes {
		r.CountError([]byte{'-', 'A' + byte(i%26), 'A' + byte(i/26%26), 'A' + byte(i/676), ' ', 'x'})
	}
	if n := len(r.Calls.Errors()); n != maxErrorCodes || r.N[ErrorReplies] != 10*maxErrorCodes {
		t.Errorf("%d codes, %d errors", n, r.N[ErrorReplies])
	}
}
