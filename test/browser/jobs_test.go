package browser

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyferry/internal/testrig"
	"keyferry/internal/topology"
	"keyferry/migrator"
)

const (
	cardIDs = `[...document.querySelectorAll("#open .job")].map((e) => e.id.slice(4)).join()`
	moreIDs = `[...document.querySelectorAll("#more-jobs a")].map((e) => e.textContent).join()`
	pastIDs = `[...document.querySelectorAll("#past-jobs a")].map((e) => e.textContent).join()`
)

// TestEndedJobs: jobs are in order as people count, and of one that has ended everything is still there
// after the page is loaded again: its log, its reason, its chart.
func TestEndedJobs(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 1500, 10)
	b := open(t, r.Web)
	b.look(1200, 900, false)
	for i := range 11 {
		r.Proxy("MIGRATE", fmt.Sprintf("%d-%d", i*1000, i*1000+999), "TO", "g2", "RATE", "5")
	}
	r.Await("all to move", func() bool {
		return !slices.ContainsFunc(r.Jobs(), func(j migrator.Status) bool { return j.KeysMoved == 0 })
	})
	b.page("/")
	b.await("four jobs", `[...document.querySelectorAll("#jobs-now .job h2 a")].map((e) => e.textContent).join() === "m11,m10,m9,m8" && document.querySelector("#jobs-now header").innerText.includes("11")`)
	b.page("/migrations")
	b.await("the newest in full, the others in lines", cardIDs+` === "m11,m10,m9,m8" && `+moreIDs+` === "m7,m6,m5,m4,m3,m2,m1"`)
	r.Proxy("MIGRATION", "PAUSE", "m2")
	b.await("the one that waits for somebody, first", cardIDs+` === "m2,m11,m10,m9"`)
	r.Proxy("MIGRATION", "CANCEL", "m2", "REVERT")
	time.Sleep(2500 * time.Millisecond) // of which charts have a point a second
	r.Unlimited()
	r.Await("the ends", func() bool {
		return !slices.ContainsFunc(r.Jobs(), func(j migrator.Status) bool { return !j.Phase.Ended() })
	})
	b.await("the cards of those that one looked on", `[...document.querySelectorAll("#open .badge")].length >= 4 && [...document.querySelectorAll("#open .badge")].every((e) => /done|reverted/.test(e.textContent))`)
	looked := eval[string](b, cardIDs)
	whole := func(id, phase string) {
		t.Helper()
		b.await("all of "+id, fmt.Sprintf(`(() => {
			const j = document.getElementById("job-%s");
			return j && j.querySelector(".badge").textContent === %q && j.querySelector(".log").textContent.includes("preflight → preparing") && j.querySelectorAll(".chart canvas").length > 0 && !j.querySelector(".chart").hidden;
		})()`, id, phase))
	}
	b.page("/migrations")
	b.await("the same cards", fmt.Sprintf("%s === %q", cardIDs, looked))
	for id := range strings.SplitSeq(looked, ",") {
		whole(id, map[bool]string{true: "reverted", false: "done"}[id == "m2"])
	}
	b.do("close them", chromedp.Evaluate(`for (let b; (b = document.querySelector("#open [data-act=Close]")); ) b.click()`, nil))
	b.await("only lines", cardIDs+` === "" && `+pastIDs+` === "m11,m10,m9,m8,m7,m6,m5,m4,m3,m2,m1"`)
	b.do("open one", chromedp.Click(`#past-jobs a[href="#m2"]`, chromedp.ByQuery))
	whole("m2", "reverted")
	b.do("load again", chromedp.Reload())
	whole("m2", "reverted")
	if got := eval[string](b, cardIDs); got != "m2" {
		t.Errorf("m2 is open, and after a reload %s", got)
	}
	b.page("/migrations#m4") // as a link from somewhere else
	whole("m4", "done")
	b.do("verify", chromedp.Click(`#job-m4 [data-act=Verify]`, chromedp.ByQuery), chromedp.WaitVisible(`#ask[open]`, chromedp.ByQuery), settled, chromedp.Click("#ask-yes", chromedp.ByQuery))
	b.await("what was found", `document.querySelector("#ask-said .answer")?.innerText.includes("g2")`)
	r.PlacesRight()
}

// TestPauseAll: the first page has a button that stops all that moves, and one that lets it go on.
func TestPauseAll(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 500, 10)
	b := open(t, r.Web)
	b.look(390, 860, false)
	for i := range 3 {
		r.Proxy("MIGRATE", fmt.Sprintf("%d-%d", i*4000, i*4000+3999), "TO", "g2", "RATE", "2")
	}
	phases := func(want topology.Phase) func() bool {
		return func() bool {
			return !slices.ContainsFunc(r.Jobs(), func(j migrator.Status) bool { return j.Phase != want })
		}
	}
	r.Await("all to move", phases(topology.Bulk))
	b.page("/")
	b.await("the button", `document.querySelector("[data-act=pause-all]") && !document.querySelector("[data-act=resume-all]")`)
	b.fits("the button on a phone")
	b.dialog("[data-act=pause-all]")
	b.worked()
	r.Await("all to be paused", phases(topology.Paused))
	b.await("the other button alone", `document.querySelector("[data-act=resume-all]") && !document.querySelector("[data-act=pause-all]")`)
	b.dialog("[data-act=resume-all]")
	b.worked()
	r.Await("all to go on", phases(topology.Bulk))
	b.await("the first button alone", `document.querySelector("[data-act=pause-all]") && !document.querySelector("[data-act=resume-all]")`)
	r.Unlimited()
	r.AwaitDone()
	b.await("nothing under way", `document.getElementById("jobs-now").children.length === 0`)
	r.PlacesRight()
}

// TestReasonSurvives: why a job was refused, or was cancelled, stays with it after it has ended and the
// page is loaded again, also where the gateway has been started since.
func TestReasonSurvives(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 50, 10)
	b := open(t, r.Web)
	if err := r.Servers[1].Client().Set(b.ctx, "key:5", "foreign", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Proxy("MIGRATE", "0-16383", "TO", "g2")
	r.Await("the refusal", func() bool { return r.Job().Phase == topology.Failed })
	r.Proxy("MIGRATION", "CANCEL", "m1")
	r.Await("its end", func() bool { return r.Job().Phase == topology.Cancelled })
	b.look(390, 860, true)
	look := func() {
		t.Helper()
		b.page("/migrations#m1")
		b.await("the story", `(() => {
			const j = document.getElementById("job-m1");
			return j?.querySelector(".badge").textContent === "cancelled" && j.querySelector(".log").textContent.includes("key:5") && j.innerText.includes("No chart");
		})()`)
		if want := r.Job().Reason; !strings.Contains(eval[string](b, `document.getElementById("job-m1").innerText`), want) {
			t.Errorf("the reason is %q, the page does not say it", want)
		}
	}
	look()
	if err := r.Child.Terminate(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.Start("")
	look()
}

// TestServerDown: a server that does not answer is on the first screen of the overview, on a phone too,
// first of the groups, and in the menu of every page, until it is back.
func TestServerDown(t *testing.T) {
	r := testrig.New(t, 3)
	load(r, 100, 10)
	r.Proxy("MIGRATE", "0-8000", "TO", "g2")
	r.AwaitDone()
	b := open(t, r.Web)
	b.look(1440, 860, false)
	b.page("/")
	b.await("no alert", `document.querySelectorAll("#g-table tr").length === 4 && document.getElementById("alerts").children.length === 0 && document.getElementById("down-count").hidden`)
	if err := r.Servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	c := r.Client()
	for i := range 100 {
		c.Get(b.ctx, fmt.Sprintf("key:%d", i)) // those of g2 fail
	}
	b.await("the alert", `(() => { const a = document.getElementById("alerts").innerText; return a.includes("g2 is down") && a.includes("8,001 slots"); })()`)
	b.sizes("a server is down", func(name string) {
		b.fits(name)
		if at := eval[[]int](b, `(() => { const r = document.querySelector("#alerts .note").getBoundingClientRect(); return [r.top, r.bottom, innerHeight].map(Math.round); })()`); at[0] < 0 || at[1] > at[2] {
			t.Errorf("%s: the alert is from %d to %d, the first screen ends at %d", name, at[0], at[1], at[2])
		}
	})
	b.page("/groups")
	b.await("it first", `document.querySelector("#cards .card").id === "group-g2" && document.querySelector("#group-g2 .badge.bad").textContent === "down" && document.querySelector("#group-g2 .note.bad").innerText.includes("refused")`)
	b.await("the count", `document.getElementById("how-many").innerText.includes("1 down")`)
	for _, path := range []string{"/slots", "/migrations", "/keys", "/verbs"} {
		b.page(path)
		b.await("the menu", `document.getElementById("down-count").innerText === "1"`)
	}
	b.page("/")
	b.await("the alert", `document.getElementById("alerts").innerText.includes("g2 is down")`)
	if err := r.Servers[2].Pause(); err != nil { // one that hangs is no better
		t.Fatal(err)
	}
	b.await("both", `document.getElementById("alerts").innerText.includes("2 of 3 servers are down") && document.getElementById("down-count").innerText === "2"`)
	if err := errors.Join(r.Servers[2].Continue(), r.Servers[1].Restart()); err != nil {
		t.Fatal(err)
	}
	b.await("its end", `document.getElementById("alerts").children.length === 0 && document.getElementById("down-count").hidden`)
}
