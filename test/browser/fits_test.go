package browser

import (
	"fmt"
	"strings"
	"testing"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// outside lists what sticks out of the window, or of the panel that it is in. What can be scrolled to
// inside a panel, and what is cut with dots, is in its place.
const outside = `(() => {
	const out = [];
	for (const e of document.querySelectorAll("body *")) {
		const r = e.getBoundingClientRect();
		if (r.width === 0 || r.height === 0 || e.closest(".u-over, .skip, svg, datalist, noscript")) continue;
		let box = innerWidth, inside = false;
		for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
			if (getComputedStyle(p).overflowX !== "visible") { inside = true; break; }
			if (p.matches(".panel, .tile, dialog, .side, .note, .toast")) box = Math.min(box, p.getBoundingClientRect().right);
		}
		if (!inside && r.right > box + 1) out.push(e.tagName + "." + e.className + "#" + e.id + " ends at " + Math.round(r.right) + " of " + Math.round(box) + ": " + e.textContent.slice(0, 60));
	}
	return out;
})()`

// fits demands that the page is as wide as the window and that nothing sticks out anywhere.
func (b *browser) fits(name string) {
	b.t.Helper()
	if w := eval[[]int](b, `[document.documentElement.scrollWidth, innerWidth]`); w[0] > w[1] {
		b.t.Errorf("%s: %d px wide in a window of %d", name, w[0], w[1])
	}
	if list := eval[[]string](b, outside); len(list) > 0 {
		b.t.Errorf("%s: %d elements stick out, first %s", name, len(list), strings.Join(list[:min(4, len(list))], "\n\t"))
	}
}

// sizes looks at the page in a wide window and on a phone.
func (b *browser) sizes(name string, then func(name string)) {
	b.t.Helper()
	for i, width := range []int64{1440, 390} {
		b.look(width, 860, i == 1)
		b.do("a layout", settled)
		then(fmt.Sprintf("%s at %d px", name, width))
		b.picture(strings.ReplaceAll(name, " ", "-")+map[int64]string{1440: "-wide", 390: "-phone"}[width], true)
	}
}

// TestLongNames: names of groups, of the gateway, of clients and of keys, and what is said of them, may
// be long and without a place to break. Nothing sticks out of its place for that.
func TestLongNames(t *testing.T) {
	long := func(c string, n int) string { return strings.Repeat(c, n) }
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	r := testrig.Bare(t, "--name", long("gateway", 20), "--set", "slowlog.slower-than=1us", "--set", "hotkeys.sample-every=1")
	r.Start("")
	from, to := long("W", 64), long("m", 63)+"2"
	r.Proxy("GROUP", "ADD", from, servers[0].Addr)
	r.Proxy("GROUP", "ADD", to, servers[1].Addr)
	away := long("host-with-a-long-name.", 10) + "example:6379"
	r.Proxy("GROUP", "ADD", long("x", 64), away, "UNCHECKED")
	r.Proxy("SLOT", "ASSIGN", "0-16383", from)
	load(r, 500, 10)
	c := r.Client()
	name := long("client", 30)
	b := open(t, r.Web)
	ctx := b.ctx
	one := c.Conn()
	defer one.Close()
	one.ClientSetName(ctx, name)
	for range 300 {
		one.Set(ctx, "k:"+long("key", 60), long("v", 100), 0)
	}
	one.Set(ctx, "big:"+long("K", 3000), strings.Repeat("v", 2<<20), 0)
	servers[1].Client().Set(ctx, "key:{"+long("y", 300)+"}", "foreign", 0)
	r.Proxy("MIGRATE", "0-5000", "TO", to, "RATE", "1")
	r.Proxy("MIGRATE", "5001-16383", "TO", to) // is refused for the key that the target has
	r.Await("the refusal", func() bool { return strings.Contains(r.Job().Reason, "yyyy") })
	for _, p := range []struct{ path, ready string }{
		{"/", `document.getElementById("alerts").innerText.includes("is down") && document.querySelectorAll("#jobs-now .job").length === 2`},
		{"/groups", `document.querySelectorAll("#cards .card").length === 3 && document.getElementById("cards").innerText.includes("is down")`},
		{"/slots", `document.querySelectorAll("#legend [data-group]").length === 3 && document.querySelector("#move [name=target] option")`},
		{"/migrations", `document.querySelectorAll("#open .job").length === 2 && document.querySelector("#open").innerText.includes("yyyy")`},
		{"/keys", `document.querySelector("#hot td.key") && document.querySelector("#slow td.key") && document.querySelector("#big td.key") && document.getElementById("slow").innerText.includes("client")`},
		{"/verbs", `document.querySelector("#verbs td")`},
	} {
		b.page(p.path)
		b.await(p.path, p.ready)
		b.sizes("long names "+strings.Trim(p.path, "/"), b.fits)
	}
	b.look(390, 860, false)
	b.page("/groups")
	b.await("the groups", `document.querySelector("#cards .card")`)
	b.dialog(`#cards [data-verb="GROUP SET"]`)
	b.fits("a dialog about a group with a long name")
	b.fill("addr", away)
	b.yes()
	b.await("the error", `document.querySelector("#ask-said [role=alert]")`)
	b.fits("an error about a long address")
	b.page("/keys")
	b.do("look up", setValue("#look [name=key]", long("no such key", 300)), submit("#look"))
	b.await("what is found", `document.querySelector("#found").innerText.includes("not there")`)
	b.fits("a long key that was looked up")
}
