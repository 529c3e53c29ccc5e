package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/verb"
)

// load puts n keys, which hash to slots all over, behind the gateway.
func load(r *testrig.Rig, n, bytes int) {
	r.T.Helper()
	c := r.Client()
	pipe := c.Pipeline()
	for i := range n {
		pipe.Set(context.Background(), fmt.Sprintf("key:%d", i), strings.Repeat("v", bytes), 0)
		if i%500 == 499 || i == n-1 {
			if _, err := pipe.Exec(context.Background()); err != nil {
				r.T.Fatal(err)
			}
		}
	}
}

// drag moves the mouse, pressed, from one slot of the map to another.
func (b *browser) drag(from, to int) {
	b.t.Helper()
	at := func(slot int) (x, y float64) {
		p := eval[[]float64](b, fmt.Sprintf(`(() => {
			const c = document.getElementById("map"), r = c.getBoundingClientRect();
			const columns = r.width > 700 ? 256 : 128, lines = 16384 / columns;
			return [r.left + (%d %% columns + .5) * r.width / columns, r.top + (Math.floor(%d / columns) + .5) * r.height / lines];
		})()`, slot, slot))
		return p[0], p[1]
	}
	x0, y0 := at(from)
	x1, y1 := at(to)
	b.do("drag", chromedp.MouseEvent(input.MouseMoved, x0, y0),
		chromedp.MouseEvent(input.MousePressed, x0, y0, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.MouseMoved, (x0+x1)/2, (y0+y1)/2, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.MouseMoved, x1, y1, chromedp.ButtonLeft),
		chromedp.MouseEvent(input.MouseReleased, x1, y1, chromedp.ButtonLeft))
}

// offers demands that a form has a field for each option of a verb, but for some.
func (b *browser) offers(form, name string, but ...string) {
	b.t.Helper()
	row := verb.Find(name)
	for i := range row.Options {
		if o := &row.Options[i]; !slices.Contains(but, o.Name) {
			b.await("the field of "+o.Name, fmt.Sprintf("document.querySelector('%s [name=%s]') !== null", form, o.Field()))
		}
	}
}

// TestMoveFromTheMap: slots are selected with the mouse, checked and moved; the job is
// paused and resumed; its bar comes to 100 % and the map has changed colour.
func TestMoveFromTheMap(t *testing.T) {
	r := testrig.New(t, 3)
	load(r, 4000, 50)
	b := open(t, r.Web)
	b.look(1440, 900, false)
	b.page("/slots")
	b.await("the map", `slotMap.colourAt(16383) === "g1" && document.querySelector("#move [name=target] option[value=g3]")`)
	before := eval[[]int](b, colourOf(2000))
	b.drag(1000, 6000)
	if got := eval[string](b, `document.querySelector("#move [name=slots]").value`); got != "1000-6000" {
		t.Fatalf("dragged from slot 1000 to 6000 and selected %q", got)
	}
	b.offers("#move", "MIGRATE", "TO", "DRYRUN", "PURGE")                                                                                            // which have a field and a button of their own
	b.do("choose", chromedp.SetValue(`#move [name=target]`, "g2", chromedp.ByQuery), chromedp.SetValue(`#move [name=rate]`, "20", chromedp.ByQuery), // a minute, of which the pages below need some
		chromedp.Click(`#move [type=submit]`, chromedp.ByQuery), chromedp.WaitVisible("#start", chromedp.ByQuery))
	if plan := eval[string](b, `document.getElementById("plan").innerText`); !strings.Contains(plan, "5,001") {
		t.Errorf("the plan: %s", plan)
	}
	b.sure("#start")
	b.await("the slots to move", `slotMap.state.slots[2000]?.state === "moving" && document.getElementById("legend").innerText.includes("5,001 moving")`)

	b.page("/migrations")
	b.await("the bar", `Number(document.querySelector("#job-m1 [role=progressbar]")?.getAttribute("aria-valuenow")) > 0`)
	b.sure(`#job-m1 [data-act=Pause]`)
	b.await("the pause", `document.querySelector("#job-m1 .badge").textContent === "paused"`)
	moved := eval[string](b, `document.querySelector("#job-m1 .numbers b").textContent`)
	b.sure(`#job-m1 [data-act=Resume]`)
	b.await("more keys than "+moved, fmt.Sprintf(`document.querySelector("#job-m1 .numbers b").textContent !== %q`, moved))
	r.Unlimited()
	b.await("the end", `document.querySelector("#job-m1 .badge").textContent === "done" && document.querySelector("#job-m1 .progress b").textContent === "100%"`)
	b.await("the log", `document.querySelector("#job-m1 .log").textContent.includes("verifying")`)
	r.AwaitDone()

	b.page("/slots")
	b.await("the new owner", `slotMap.colourAt(2000) === "g2" && slotMap.colourAt(999) === "g1"`)
	if after := eval[[]int](b, colourOf(2000)); near(before, after) {
		t.Errorf("slot 2000 is still %v on the map", after)
	}
	r.PlacesRight()
}

// colourOf is the picture's colour in the middle of a slot's cell, as soon as what is known of
// the slots is in the picture: that is painted a moment after it has come.
func colourOf(slot int) string {
	return fmt.Sprintf(`(async () => {
		do await new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f))); while (!slotMap.painted());
		const c = document.getElementById("map");
		return Array.from(c.getContext("2d").getImageData((%d %% 256 + .5) * c.width / 256, (Math.floor(%d / 256) + .5) * c.height / 64, 1, 1).data);
	})()`, slot, slot)
}

func near(a, b []int) bool {
	d := 0
	for i := range a {
		d += max(a[i]-b[i], b[i]-a[i])
	}
	return d < 60
}

// TestRefusalIsExplained: what the preflight refuses is shown with what to do about it,
// and a plan that can't be made is refused on the spot.
func TestRefusalIsExplained(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 100, 10)
	if err := r.Servers[1].Client().Set(context.Background(), "key:5", "foreign", 0).Err(); err != nil {
		t.Fatal(err)
	}
	b := open(t, r.Web)
	b.look(1200, 900, true)
	b.page("/migrations")
	b.await("the form", `document.querySelector("#move [name=target] option[value=g2]")`)
	submit := func(slots, target string) {
		b.do("submit", chromedp.SetValue(`#move [name=slots]`, slots, chromedp.ByQuery), chromedp.SetValue(`#move [name=target]`, target, chromedp.ByQuery),
			chromedp.Click(`#move [type=submit]`, chromedp.ByQuery))
	}
	submit("0-16383", "g1")
	b.await("the refusal", `document.querySelector("#plan [role=alert]")?.textContent.includes("owns these slots already")`)
	submit("0-16383", "g2")
	b.await("the finding", `(() => {
		const n = document.querySelector("#plan [data-severity=error]");
		return n?.textContent.includes("key:5") && n.querySelector(".advice") && document.getElementById("start").disabled;
	})()`)
	b.dialog("#purge") // shows how many there are, and asks for the number
	b.await("the count", `document.getElementById("ask-title").textContent.startsWith("Remove 1 key at g2 (") && document.getElementById("ask-body").textContent.includes("ADOPT")`)
	b.fill("purge", "2")
	b.yes()
	b.await("another number to be refused", `document.getElementById("ask-said").textContent.includes("1 key is there")`)
	b.do("not now", chromedp.Click("#ask-no", chromedp.ByQuery), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
	r.Proxy("MIGRATE", "0-16383", "TO", "g2") // asked for all the same, elsewhere
	b.await("the failure", `document.querySelector("#job-m1 .badge")?.textContent === "failed" && document.getElementById("job-m1").innerText.includes("What to do: correct what it says about the target")`)
	r.Proxy("MIGRATION", "CANCEL", "m1")
	submit("0-16383", "g2")
	b.await("the finding", `document.getElementById("purge") !== null`)
	b.dialog("#purge")
	b.fill("purge", "1")
	b.yes()
	// It may be over before its card was there.
	b.await("the end", `document.querySelector("#job-m2 .badge")?.textContent === "done" || [...document.querySelectorAll("tr")].some((r) => r.innerText.startsWith("m2") && r.innerText.includes("done"))`)
}

// TestFullTarget: a target that is out of memory is shown with what to do, and when it has
// room again the job comes to its end.
func TestFullTarget(t *testing.T) {
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t, "--maxmemory", "3mb")}
	r := testrig.With(t, servers)
	load(r, 3000, 2000)
	r.Proxy("MIGRATE", "0-16383", "TO", "g2")
	b := open(t, r.Web)
	b.look(1200, 900, false)
	b.page("/migrations")
	b.await("the error", `(() => {
		const j = document.getElementById("job-m1")?.innerText || "";
		return j.includes("OOM") && j.includes("What to do: raise the target's maxmemory") && /paused|backoff/.test(document.querySelector("#job-m1 .badge").textContent);
	})()`)
	if err := servers[1].Client().ConfigSet(context.Background(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	b.await("the end", `document.querySelector("#job-m1 .badge").textContent === "done"`)
}

// TestMapIsLight watches the map for some seconds while slots move and clients use them:
// what the browser's main thread is busy, by its own account, and what is sent, are logged.
func TestMapIsLight(t *testing.T) {
	r := testrig.New(t, 2)
	traffic(r, 5000, 6, time.Millisecond)
	b := open(t, r.Web)
	b.look(1440, 900, false)
	b.page("/slots")
	r.Proxy("MIGRATE", "0-8191", "TO", "g2", "RATE", "20")
	b.await("moving slots", `slotMap.state.slots[100]?.state === "moving"`)
	time.Sleep(time.Second)
	busy := func() float64 {
		var sum float64
		b.do("metrics", performance.Enable(), chromedp.ActionFunc(func(ctx context.Context) error {
			list, err := performance.GetMetrics().Do(ctx)
			for _, m := range list {
				if m.Name == "TaskDuration" {
					sum = m.Value
				}
			}
			return err
		}))
		return sum
	}
	marks := `performance.getEntriesByName("slots-painted").length`
	painted, began, from := eval[int](b, marks), busy(), time.Now()
	seconds, bytes := b.received()
	r.Await("four more seconds", func() bool { s, _ := b.received(); return s >= seconds+4 })
	b.await("another picture", fmt.Sprintf(`%s > %d`, marks, painted))
	watched := time.Since(from).Seconds()
	share := (busy() - began) / watched
	painted = eval[int](b, marks) - painted
	toldOf, all := b.received()
	perSecond := (all - bytes) / (toldOf - seconds) // by the gateway's clock: the browser's may stand still
	t.Logf("main thread busy %.1f %%, %.1f pictures and %d bytes of events a second", 100*share, float64(painted)/watched, perSecond)
	// All slots as they are when a page opens is some 40 KB of heat alone.
	if perSecond > 40000 {
		t.Errorf("%d bytes of events a second: are these deltas?", perSecond)
	}
}

// received gives of how many seconds the gateway has told, in how many bytes of events.
func (b *browser) received() (seconds, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seconds, b.bytes
}

// TestRevert: a migration on its way is sent back, and the map is as it was.
func TestRevert(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 3000, 50)
	b := open(t, r.Web)
	b.look(1200, 900, true)
	b.page("/migrations")
	r.Proxy("MIGRATE", "0-9000", "TO", "g2", "RATE", "20") // more than a minute
	b.await("moved keys", `Number(document.querySelector("#job-m1 .numbers b")?.textContent.replace(",", "")) > 50`)
	r.Proxy("MIGRATION", "LIMIT", "m1", "RATE", "1") // so that the way back is not over before it is looked at
	b.sure(`#job-m1 [data-act=Revert]`)
	b.await("the way back", `document.querySelector("#job-m1 .phases").innerText.includes("revert")`)
	b.do("limit", chromedp.Click(`#job-m1 [data-act=Limit]`, chromedp.ByQuery), chromedp.WaitVisible(`#ask[open]`, chromedp.ByQuery),
		chromedp.SetValue(`#ask-body [name=rate]`, "0", chromedp.ByQuery), chromedp.SetValue(`#ask-body [name=maxp99]`, "900", chromedp.ByQuery),
		chromedp.SetValue(`#ask-body [name=slice]`, "100ms/200ms", chromedp.ByQuery))
	b.offers("#ask-body", "MIGRATION LIMIT")
	b.picture("limit", false)
	b.do("set it", chromedp.Click(`#ask-yes`, chromedp.ByQuery))
	r.Await("the limits to be set", func() bool {
		j := r.Jobs()[0]
		return j.RateKeysPerS == 0 && j.MaxP99Ms == 900 && j.Slice.String() == "100ms/200ms"
	})
	b.await("the slices", `document.querySelector("#job-m1 .numbers").innerText.includes("of 100ms/200ms")`)
	b.await("the end", `document.querySelector("#job-m1 .badge").textContent === "reverted" && document.querySelector("#job-m1 .progress b").textContent === "100%"`)
	b.page("/slots")
	b.await("the former owner", `slotMap.colourAt(0) === "g1" && slotMap.state.slots[9000].state === "stable"`)
	r.PlacesRight()
}
