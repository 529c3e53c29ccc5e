package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
)

// traffic loads keys and keeps clients busy, with one hot key, big values and errors now
// and then, until the test ends.
func traffic(r *testrig.Rig, keys, clients int, pause time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	c := testredis.NewClient(r.Listen, "", 0)
	pipe := c.Pipeline()
	for i := range keys {
		pipe.Set(ctx, fmt.Sprintf("user:%d", i), "some value of a common length", 0)
		if i%1000 == 999 {
			if _, err := pipe.Exec(ctx); err != nil {
				r.T.Fatal(err)
			}
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		r.T.Fatal(err)
	}
	c.Set(ctx, "report:2026", string(make([]byte, 3<<20)), 0)
	c.HSet(ctx, "session:7f3a", "user", "17", "cart", "3")
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				c.Get(ctx, fmt.Sprintf("user:%d", (i*7919)%keys))
				c.Incr(ctx, "counter:visits")
				if i%3 == 0 {
					c.Set(ctx, fmt.Sprintf("user:%d", (i*104729)%keys), "another value of that length", 0)
				}
				if i%400 == 0 {
					c.LPush(ctx, "user:1", "x") // WRONGTYPE
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	r.T.Cleanup(func() { cancel(); wg.Wait(); _ = c.Close() })
}

// TestPages opens every page, light and dark, wide and on a phone: nothing goes wrong in
// it, and nothing is wider than the window. With -screenshots it takes the pictures.
func TestPages(t *testing.T) {
	r := testrig.New(t, 3, "--set", "slowlog.slower-than=300us")
	r.Proxy("MIGRATE", "8192-16383", "TO", "g2")
	r.AwaitDone()
	traffic(r, 20000, 6, 2*time.Millisecond)
	r.Proxy("MIGRATE", "0-3000", "TO", "g3", "RATE", "10")
	b := open(t, r.Web)
	b.look(1440, 900, false)
	b.page("/")
	if *screenshots != "" {
		time.Sleep(25 * time.Second) // so that the charts have something to show
	}
	for _, p := range []struct{ path, name, ready string }{
		{"/", "overview", `document.querySelectorAll("#g-table tbody tr").length === 3 && document.querySelector("#c-ops canvas")`},
		{"/slots", "slots", `slotMap.colourAt(16000) === "g2" && slotMap.state.heat !== null`},
		{"/migrations", "migrations", `document.querySelector("#open .job .chart canvas") && document.querySelector("#past-jobs td a")`},
		{"/groups", "groups", `document.querySelectorAll("#cards .card .badge.good").length === 3`},
		{"/keys", "keys", `[...document.querySelectorAll("#hot td")].some((e) => e.textContent.includes("counter:visits"))`},
		{"/verbs", "verbs", `document.querySelector("#verbs [data-verb='SLOT ASSIGN']")`},
	} {
		for _, dark := range []bool{false, true} {
			for _, phone := range []bool{false, true} {
				name := p.name + map[bool]string{true: "-dark", false: "-light"}[dark] + map[bool]string{true: "-phone", false: "-wide"}[phone]
				if phone {
					b.look(390, 844, dark)
				} else {
					b.look(1440, 900, dark)
				}
				b.page(p.path)
				b.await(name, p.ready)
				if w := eval[[]int](b, `[document.documentElement.scrollWidth, innerWidth]`); w[0] > w[1] {
					t.Errorf("%s: %d px wide in a window of %d", name, w[0], w[1])
				}
				if theme := eval[string](b, `document.documentElement.dataset.theme`); (theme == "dark") != dark {
					t.Errorf("%s: theme %s", name, theme)
				}
				b.picture(name, !phone)
			}
		}
	}
}

// picture writes the page, or what of it is on the screen, to the directory of
// -screenshots, if there is one.
func (b *browser) picture(name string, whole bool) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.fillIn()
	time.Sleep(1500 * time.Millisecond)
	var png []byte
	shot := chromedp.CaptureScreenshot(&png)
	if whole {
		shot = chromedp.FullScreenshot(&png, 100)
	}
	b.do("picture", shot)
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// fillIn does what a person would, so that the pictures show it.
func (b *browser) fillIn() {
	b.t.Helper()
	b.do("fill", chromedp.Evaluate(`(() => {
		const look = document.getElementById("look");
		if (look) { look.elements.key.value = "session:7f3a"; look.requestSubmit(); }
		const r = document.getElementById("rebalance");
		if (r) r.requestSubmit();
		const more = document.querySelector("#open details");
		if (more) more.open = true;
	})()`, nil))
}
