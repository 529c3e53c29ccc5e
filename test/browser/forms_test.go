package browser

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyferry/internal/testredis"
	"keyferry/internal/testrig"
	"keyferry/internal/verb"
)

// settled waits for a layout and a frame.
var settled = chromedp.ActionFunc(func(ctx context.Context) error {
	return chromedp.Evaluate(`new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f))).then(() => true)`, nil, awaited).Do(ctx)
})

// setValue sets a field as typing does; chromedp's own can't empty one.
func setValue(sel, value string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); })()`, sel, value), nil)
}

func submit(form string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q).requestSubmit()", form), nil)
}

// dialog presses a button that asks.
func (b *browser) dialog(button string) {
	b.t.Helper()
	b.do("press "+button, chromedp.Click(button, chromedp.ByQuery), chromedp.WaitVisible(`#ask[open]`, chromedp.ByQuery), settled)
}

// fill sets a field of the dialog.
func (b *browser) fill(field, value string) {
	b.t.Helper()
	b.await("the field "+field, fmt.Sprintf("document.querySelector('#ask-body [name=%s]') !== null", field))
	b.do("fill "+field, setValue("#ask-body [name="+field+"]", value))
}

func (b *browser) yes() {
	b.t.Helper()
	b.do("say yes", settled, chromedp.Click("#ask-yes", chromedp.ByQuery))
}

// worked waits until the dialog has closed, which it does when the gateway has done it.
func (b *browser) worked() {
	b.t.Helper()
	b.yes()
	b.do("see the dialog close", chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
}

// stays says yes and demands that the error stands in the dialog, with what was typed.
func (b *browser) stays(want string, fields map[string]string) {
	b.t.Helper()
	b.yes()
	b.await("the error "+want, fmt.Sprintf(`document.querySelector("#ask-said [role=alert]")?.textContent.includes(%q)`, want))
	if !eval[bool](b, `document.getElementById("ask").open`) {
		b.t.Errorf("%s: the dialog has closed", want)
	}
	for name, value := range fields {
		if got := eval[string](b, fmt.Sprintf(`document.querySelector("#ask-body [name=%s]").value`, name)); got != value {
			b.t.Errorf("%s: %s is %q in the dialog, %q was typed", want, name, got, value)
		}
	}
}

// TestFirstSteps goes the way of somebody with an empty gateway: the page asks for a group and for its
// slots, and has a form for each; whatever is refused stays in the dialog, with what was typed.
func TestFirstSteps(t *testing.T) {
	const secret = "s3cret"
	servers := []*testredis.Server{testredis.StartT(t), testredis.StartT(t)}
	if err := servers[0].Client().ConfigSet(context.Background(), "requirepass", secret).Err(); err != nil {
		t.Fatal(err)
	}
	r := testrig.Bare(t)
	r.Servers = servers
	r.Start("")
	b := open(t, r.Web)
	b.look(1200, 900, false)
	b.page("/groups")
	b.await("the invitation", `document.getElementById("none").innerText.includes("Add the server that you have")`)
	b.dialog(`[data-verb="GROUP ADD"]`)
	b.offers("#ask-body", "GROUP ADD")
	b.fill("id", "main")
	free, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", free)
	b.fill("addr", nobody)
	b.stays(nobody, map[string]string{"id": "main", "addr": nobody})
	b.picture("refused", false)
	b.fill("addr", servers[0].Addr)
	b.fill("password", "wrong")
	b.stays("password", map[string]string{"id": "main", "addr": servers[0].Addr, "password": "wrong"})
	b.fill("password", secret)
	b.worked()

	b.await("the note that slots are free", `document.getElementById("free").innerText.includes("No slot has an owner")`)
	b.dialog(`#free [data-verb="SLOT ASSIGN"]`)
	b.offers("#ask-body", "SLOT ASSIGN")
	if got := eval[string](b, `document.querySelector("#ask-body [name=slots]").value`); got != "0-16383" {
		t.Errorf("the slots that are free are %q in the form", got)
	}
	b.fill("slots", "0-99999")
	b.fill("group", "main")
	b.stays("99999", map[string]string{"slots": "0-99999", "group": "main"})
	b.fill("slots", "0-16383")
	b.worked()
	b.await("the slots", `document.querySelector("#group-main .facts").innerText.includes("16,384") && document.getElementById("free").children.length === 0`)

	b.page("/slots")
	b.await("the map", `slotMap.colourAt(16383) === "main"`)
	b.drag(1000, 1100)
	b.dialog(`[data-verb="SLOT UNASSIGN"]`)
	if got := eval[string](b, `document.querySelector("#ask-body [name=slots]").value`); got != "1000-1100" {
		t.Errorf("1000-1100 is selected, and %q in the form", got)
	}
	b.fill("slots", "1000-1100,x")
	b.stays("x", map[string]string{"slots": "1000-1100,x"})
	b.fill("slots", "1000-1100")
	b.worked()
	b.await("the slots that nobody owns", `slotMap.state.slots[1050].group === "" && document.getElementById("free").innerText.includes("101 slots have no owner")`)

	b.page("/groups")
	b.await("the card", `document.querySelector("#group-main [data-verb='SLOT ASSIGN']")?.hidden === false`)
	b.dialog(`#group-main [data-verb="SLOT ASSIGN"]`)
	b.worked() // the slots are filled in already, and the group is the card's
	b.await("the slots again", `document.querySelector("#group-main .facts").innerText.includes("16,384")`)
	b.dialog(`#group-main [data-verb="GROUP SET"]`)
	b.offers("#ask-body", "GROUP SET")
	b.fill("password", "wrong")
	b.stays("password", map[string]string{"password": "wrong"})
	b.do("leave", chromedp.KeyEvent("\x1b"), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
	b.dialog(`#group-main [data-verb="GROUP SET"]`)
	if eval[bool](b, `document.querySelector("#ask-said").children.length > 0 || document.querySelector("#ask-body [name=password]").value !== ""`) {
		t.Error("a new dialog has what the last one ended with")
	}
	b.fill("password", secret)
	b.worked()

	b.dialog(`[data-verb="GROUP ADD"]`)
	b.fill("id", "spare")
	b.fill("addr", servers[1].Addr)
	b.do("Enter is a yes", chromedp.SendKeys("#ask-body [name=addr]", "\r", chromedp.ByQuery), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
	b.await("the second group", `document.querySelector("#group-spare .badge.good")`)
	b.sure(`#group-spare [data-verb="GROUP DEL"]`)
	b.await("its end", `document.getElementById("group-spare") === null`)
}

// TestErrorsStay: what is refused about a job, a plan or a rebalance is told where it was asked for, and
// what was typed is still there.
func TestErrorsStay(t *testing.T) {
	r := testrig.New(t, 2)
	load(r, 300, 10)
	b := open(t, r.Web)
	b.look(1200, 900, true)
	b.page("/migrations")
	b.await("the form", `document.querySelector("#move [name=target] option[value=g2]")`)
	r.Proxy("MIGRATE", "0-8000", "TO", "g2", "RATE", "1")
	b.await("the job", `document.querySelector("#job-m1 [data-act=Limit]")`)
	b.dialog(`#job-m1 [data-act=Limit]`)
	b.fill("rate", "77")
	b.fill("slice", "often")
	b.stays("SLICE", map[string]string{"rate": "77", "slice": "often"})
	b.fill("slice", "")
	b.worked()
	r.Await("the limit", func() bool { return r.Jobs()[0].RateKeysPerS == 77 })
	// A plan that something comes in between of: the question stays, with the reason.
	b.do("plan", setValue(`#move [name=slots]`, "8100-8200"), setValue(`#move [name=target]`, "g2"), submit("#move"), chromedp.WaitVisible("#start", chromedp.ByQuery))
	r.Proxy("MIGRATE", "8100-8200", "TO", "g2", "RATE", "1")
	b.dialog("#start")
	b.stays("m2", nil)
	if got := eval[string](b, `document.querySelector("#move [name=slots]").value`); got != "8100-8200" {
		t.Errorf("the form has %q, 8100-8200 was typed", got)
	}
	b.do("leave", chromedp.Click("#ask-no", chromedp.ByQuery))
	// A verb that can't be had any more.
	b.dialog(`#job-m2 [data-act=Pause]`)
	r.Proxy("MIGRATION", "CANCEL", "m2", "REVERT")
	r.Unlimited()
	r.Await("its end", func() bool { return r.Job().Phase.Ended() })
	b.stays("m2", nil)
	b.do("leave", chromedp.Click("#ask-no", chromedp.ByQuery))

	b.page("/groups")
	b.await("the form", `document.querySelector("#shares [data-add=weight]")`)
	b.do("a weight", chromedp.Click("#shares [data-add=weight]", chromedp.ByQuery), setValue("#shares .pair select", "g2"), setValue("#shares .pair input", "heavy"), submit("#rebalance"))
	b.await("the refusal", `document.querySelector("#plan [role=alert]")?.textContent.includes("heavy")`)
	r.Proxy("GROUP", "ADD", "g3", testredis.StartT(t).Addr) // news of groups must not take it away
	b.await("the new group", `document.getElementById("group-g3")`)
	if got := eval[string](b, `[...document.querySelectorAll("#shares .pair select, #shares .pair input")].map((e) => e.value).join()`); got != "g2,heavy" {
		t.Errorf("the weight is %q, g2,heavy was typed", got)
	}
}

// TestSignedOut: a session that ends while somebody types, as when the gateway is started again, takes
// nothing away, and after a sign-in elsewhere the same dialog works.
func TestSignedOut(t *testing.T) {
	const token = "s3cret"
	r := testrig.New(t, 1, "--set", "http.token="+token)
	b := open(t, r.Web)
	b.unauthorized(true)
	signIn := func() {
		b.do("sign in", chromedp.WaitVisible(`form input[name=token]`, chromedp.ByQuery), setValue(`form input[name=token]`, token), chromedp.Click(`form button`, chromedp.ByQuery))
	}
	b.do("open", chromedp.Navigate(b.base+"/groups"))
	signIn()
	b.do("see the page", chromedp.WaitVisible(`#group-g1 .badge.good`, chromedp.ByQuery))
	b.dialog(`[data-verb="GROUP ADD"]`)
	b.fill("id", "g2")
	b.fill("addr", "127.0.0.1:1")
	if err := r.Child.Terminate(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.Start("")
	b.await("the page to know", `document.getElementById("live").innerText.includes("signed out")`)
	b.stays("signed out", map[string]string{"id": "g2", "addr": "127.0.0.1:1"})
	b.signInElsewhere(t, token)
	b.await("the page to be live again", `document.getElementById("live").dataset.state === "on"`)
	b.stays("127.0.0.1:1", map[string]string{"id": "g2", "addr": "127.0.0.1:1"})
}

// signInElsewhere signs in as another tab of the same browser would.
func (b *browser) signInElsewhere(t *testing.T, token string) {
	t.Helper()
	code := eval[int](b, fmt.Sprintf(`fetch("/login", {method: "POST", body: new URLSearchParams({token: %q, next: "/groups"})}).then((a) => a.status)`, token))
	if code != 200 {
		t.Fatalf("sign in: %d", code)
	}
}

// TestEveryVerbHasAForm: whatever the table of verbs has, but for what is of one place alone, can be
// asked for on the dashboard, with every argument and option; what it answers is shown.
func TestEveryVerbHasAForm(t *testing.T) {
	r := testrig.New(t, 2)
	b := open(t, r.Web)
	b.look(1200, 900, false)
	b.page("/verbs")
	for i := range verb.Rows {
		row := &verb.Rows[i]
		button := fmt.Sprintf(`#verbs [data-verb='%s']`, row.Name)
		if row.Only != "" {
			continue
		}
		b.await(row.Name, fmt.Sprintf("document.querySelector(%q) !== null", button))
		b.dialog(button)
		for j := range row.Args {
			b.await("the field of "+row.Args[j].Name, fmt.Sprintf("document.querySelector('#ask-body [name=%s]') !== null", row.Args[j].Name))
		}
		for j := range row.Options {
			o := &row.Options[j]
			sel := fmt.Sprintf("[name=%s]", o.Field())
			if len(o.Values) == 2 {
				sel = fmt.Sprintf("[data-pairs=%s]", o.Field())
			}
			b.await("the field of "+o.Name, fmt.Sprintf("document.querySelector('#ask-body %s') !== null", sel))
		}
		b.do("leave", chromedp.Click("#ask-no", chromedp.ByQuery), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
	}
	c := r.Client()
	c.Set(b.ctx, "a key", "v", 0)
	for _, x := range []struct {
		verb   string
		fields map[string]string
		want   string
	}{
		{"KEY", map[string]string{"key": "a key"}, "string"},
		{"EXPLAIN", map[string]string{"arg": `GET "a key"`}, "serve"},
		{"GROUP LIST", nil, r.Servers[1].Addr},
		{"REBALANCE", map[string]string{"by": "SLOTS", "dryrun": "on"}, "8,192"},
		{"SLOT CHECK", nil, "twins"},
		{"LOCKS", map[string]string{"count": "5"}, "Nothing"},
		{"INFO", nil, "# Gateway"},
		{"EPOCH", nil, "stored"},
	} {
		b.dialog(fmt.Sprintf(`#verbs [data-verb='%s']`, x.verb))
		for name, value := range x.fields {
			if value == "on" {
				b.do("check "+name, chromedp.Click("#ask-body [name="+name+"]", chromedp.ByQuery))
			} else {
				b.fill(name, value)
			}
		}
		b.yes()
		b.await(x.verb+" to say "+x.want, fmt.Sprintf(`document.querySelector("#ask-said .answer, #ask-said .note")?.innerText.includes(%q)`, x.want))
		b.do("leave", chromedp.Click("#ask-no", chromedp.ByQuery), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
	}
	b.dialog(`#verbs [data-verb='MIGRATION PAUSE']`)
	b.fill("id", "m77")
	b.stays("m77", map[string]string{"id": "m77"})
}
