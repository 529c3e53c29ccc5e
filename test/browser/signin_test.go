package browser

import (
	"net"
	"testing"

	"github.com/chromedp/chromedp"

	"keyferry/internal/testrig"
)

// TestSignIn: with a token set, a person gets in with the right one and not with a wrong one.
// At a name that is not this machine's, browsers send fewer of the headers that the gateway
// goes by, and at localhost all of them.
func TestSignIn(t *testing.T) {
	const token = "s3cret & more+%"
	r := testrig.New(t, 1, "--set", "http.token="+token, "--set", "http.hosts=keyferry.test")
	_, port, err := net.SplitHostPort(r.Web)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "keyferry.test"} {
		t.Run(host, func(t *testing.T) {
			b := open(t, net.JoinHostPort(host, port))
			b.unauthorized(true)
			try := func(token string) {
				t.Helper()
				b.do("sign in with "+token, chromedp.WaitVisible(`form input[name=token]`, chromedp.ByQuery),
					chromedp.SetValue(`form input[name=token]`, token, chromedp.ByQuery), chromedp.Click(`form button`, chromedp.ByQuery))
			}
			b.do("open", chromedp.Navigate(b.base+"/slots"))
			for _, wrong := range []string{"wrong", token + "x"} {
				try(wrong)
				b.do("see the refusal", chromedp.WaitVisible(`form [role=alert]`, chromedp.ByQuery))
				if code := eval[int](b, `fetch("/api/v1/groups").then((a) => a.status)`); code != 401 {
					t.Errorf("with a wrong token the API answers %d", code)
				}
				b.do("again", chromedp.Navigate(b.base+"/slots"))
			}
			b.unauthorized(false)
			try(token)
			b.do("see the page that was asked for", chromedp.WaitVisible(`#live[data-state="on"]`, chromedp.ByQuery))
			if path := eval[string](b, `location.pathname`); path != "/slots" {
				t.Errorf("signed in, and on %s", path)
			}
			b.page("/groups")
			if code := eval[int](b, `fetch("/api/v1/command", {method: "POST", headers: {"X-Keyferry": "1", "Content-Type": "application/json"},
				body: JSON.stringify({args: ["GROUP", "LIST"]})}).then((a) => a.status)`); code != 200 {
				t.Errorf("a verb, signed in: %d", code)
			}
		})
	}
}

// unauthorized says whether an answer of 401 is as it should be.
func (b *browser) unauthorized(expected bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expect401 = expected
}
