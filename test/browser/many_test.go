package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyferry/internal/testrig"
)

// windows is how high a page is, in heights of its window.
const windows = `document.documentElement.scrollHeight / innerHeight`

// dead gives addresses at which nobody answers.
func dead(n int) (addrs []string) {
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("127.0.0.2:%d", 1+i))
	}
	return addrs
}

// TestManyGroups: of 200 groups, most of which are down, every page shows a handful, those that need
// somebody first, and finds the others. So it is with the jobs that one MIGRATE makes of them.
func TestManyGroups(t *testing.T) {
	r := testrig.New(t, 2)
	r.Proxy("SLOT", "UNASSIGN", "0-59")
	for i, addr := range dead(198) {
		id := fmt.Sprintf("g%d", i+3)
		r.Proxy("GROUP", "ADD", id, addr, "UNCHECKED")
		if i < 60 {
			r.Proxy("SLOT", "ASSIGN", fmt.Sprint(i), id, "UNCHECKED")
		}
	}
	b := open(t, r.Web)
	b.look(1440, 900, false)
	b.page("/groups")
	b.await("all groups", `document.getElementById("how-many").innerText.replace(/\s+/g, " ").includes("200 groups, 198 down")`)
	b.await("the menu's count", `document.getElementById("down-count").innerText === "198"`)
	names := `[...document.querySelectorAll("#cards .card")].map((e) => e.id.slice(6)).join()`
	if got := eval[string](b, names); got != "g3,g4,g5,g6,g7,g8,g9,g10,g11,g12,g13,g14" {
		t.Errorf("the first page has %s: want those that are down, counted as people count", got)
	}
	b.sizes("many groups", func(name string) {
		b.fits(name)
		if h := eval[float64](b, windows); h > 9 {
			t.Errorf("%s: %.1f windows high", name, h)
		}
	})
	b.look(1440, 900, false)
	b.do("the next page", chromedp.Click(`.pager [aria-label="Next page"]`, chromedp.ByQuery))
	b.await("it", names+` === "g15,g16,g17,g18,g19,g20,g21,g22,g23,g24,g25,g26"`)
	b.do("find", setValue("#find", "g199"))
	b.await("what was sought", names+` === "g199"`)
	b.do("another", setValue("#find", "nothing like it"))
	b.await("nothing", `document.getElementById("nothing").hidden === false`)

	b.page("/")
	b.await("the alert", `document.getElementById("alerts").innerText.includes("198 of 200 servers are down") && document.getElementById("alerts").innerText.includes("and 194 more")`)
	b.sizes("overview of many groups", func(name string) {
		b.fits(name)
		if n := eval[int](b, `document.querySelectorAll("#g-table tbody tr").length`); n > 8 {
			t.Errorf("%s: %d groups in the table", name, n)
		}
		if h := eval[float64](b, windows); h > 4 {
			t.Errorf("%s: %.1f windows high", name, h)
		}
	})

	b.page("/slots")
	b.await("the legend", `document.getElementById("legend").innerText.includes("and 180 more")`)
	if got := eval[string](b, `[...document.querySelectorAll("#legend [data-group]")].slice(0, 11).map((e) => e.dataset.group).join()`); got != "g1,g2,g3,g4,g5,g6,g7,g8,g9,g10,g11" {
		t.Errorf("the legend begins with %s", got)
	}
	if got := eval[string](b, `[...document.querySelector("#move [name=target]").options].slice(0, 11).map((e) => e.value).join()`); got != "g1,g2,g3,g4,g5,g6,g7,g8,g9,g10,g11" {
		t.Errorf("the targets begin with %s", got)
	}
	b.sizes("slots of many groups", b.fits)
	manyJobs(r, b)
}

// manyJobs goes on where the groups are many: every job of a thousand can be found, those that are stuck come
// first, and the page shows a handful. The gateway makes the first sixty, of which it tells each; the others are told to
// the page.
func manyJobs(r *testrig.Rig, b *browser) {
	t := r.T
	r.Proxy("MIGRATE", "0-59", "TO", "g2")
	b.look(1440, 900, false)
	b.page("/migrations")
	b.await("each of them", `document.getElementById("how-many").innerText === "60 jobs, 60 under way"`)
	b.do("find the first", setValue("#find", "g3 "))
	b.await("it", `[...document.querySelectorAll("#open .job, #more-jobs tbody tr")].some((e) => e.innerText.includes("g3"))`)
	b.do("find all", setValue("#find", ""))
	// What the gateway tells must not come between: it is away from here on.
	if err := r.Child.Terminate(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	b.await("the end of the news", `document.getElementById("live").dataset.state === "off"`)
	b.do("a thousand", chromedp.Evaluate(`import("/static/live.js").then((live) => {
		const one = live.state.jobs.get("m1"), jobs = {};
		for (let i = 1; i <= 1000; i++) {
			const phase = i === 7 ? "failed" : i === 500 ? "bulk" : i <= 200 ? "done" : "queued";
			jobs["m" + i] = { ...one, id: "m" + i, phase, reason: i === 7 ? "a reason to find" : "", keys_moved: i, ended_at_ms: phase === "done" ? 1e12 + i : 0 };
		}
		live.state.jobs.clear();
		live.hear("jobs", {});
		live.hear("jobs", jobs);
		return true;
	})`, nil, awaited))
	b.await("the one that failed, the one that moves, and the newest two of the others", cardIDs+` === "m7,m500,m1000,m999"`)
	b.await("twenty lines", moreIDs+` === "`+ids(998, 979)+`" && `+pastIDs+` === "`+ids(200, 181)+`"`)
	b.sizes("many jobs", func(name string) {
		b.fits(name)
		if h := eval[float64](b, windows); h > 9 {
			t.Errorf("%s: %.1f windows high", name, h)
		}
	})
	b.do("the next page", chromedp.Click(`#more .pager [aria-label="Next page"]`, chromedp.ByQuery))
	b.await("it", moreIDs+` === "`+ids(978, 959)+`"`)
	b.do("find by the reason", setValue("#find", "reason find"))
	b.await("m7", cardIDs+` === "m7" && `+moreIDs+` === ""`)
}

// ids are those of jobs from one down to another, as the page has them.
func ids(from, to int) string {
	var list []string
	for i := from; i >= to; i-- {
		list = append(list, fmt.Sprint("m", i))
	}
	return strings.Join(list, ",")
}

// TestAlternatingSlots: where every second slot is another group's, the map has each, a move of all of them can be
// asked for, and lists of slots are short wherever they are shown or told.
func TestAlternatingSlots(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 100, 10)
	var even []string
	for i := 0; i < 16384; i += 2 {
		even = append(even, fmt.Sprint(i))
	}
	all := strings.Join(even, ",")
	b := open(t, r.Web)
	b.look(1440, 900, true)
	b.page("/migrations")
	b.await("the form", `document.querySelector("#move [name=target] option[value=g2]")`)
	b.do("all even ones", setValue("#move [name=slots]", all), setValue("#move [name=target]", "g2"), submit("#move"), chromedp.WaitVisible("#start", chromedp.ByQuery))
	b.await("the plan", `document.getElementById("plan").innerText.includes("8,192")`)
	b.fits("the plan")
	b.dialog("#start")
	b.worked()
	r.AwaitDone()
	b.await("the end", `document.querySelector("#job-m1 .badge")?.textContent === "done"`)
	b.fits("the job")
	if n := eval[int](b, `document.querySelector("#job-m1 .title [title*=',']").title.length`); n > 300 {
		t.Errorf("the slots of the job are told in %d characters", n)
	}
	b.page("/slots")
	b.await("the map", `slotMap.colourAt(16382) === "g2" && slotMap.colourAt(16383) === "g1" && slotMap.colourAt(0) === "g2"`)
	b.drag(0, 5000)
	b.await("the selection", `document.getElementById("tip-live").innerText.includes("g2 2,501, g1 2,500")`)
	b.picture("alternating", true)
	r.PlacesRight()
}
