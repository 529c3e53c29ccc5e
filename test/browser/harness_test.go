// Package browser tests the dashboard as a person uses it: a real Chromium without a
// screen, against a real gateway between real servers.
package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"keyferry/internal/testrig"
)

var screenshots = flag.String("screenshots", "", "the directory that pictures of every page are written to")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testrig.Main(m))
}

// bound ends a hang; it is no expectation of speed.
const bound = 2 * time.Minute

// browser is one Chromium with one page, which is watched for what must not happen.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex // protects what follows
	faults []string

	expect401 bool  // while nobody has signed in
	seconds   int64 // of which the gateway has told in events
	bytes     int64 // received in events
}

// chromium is the program's name, which differs between distributions.
func chromium(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("chromium is missing: make tools-chromium")
	return ""
}

// open starts a browser on the gateway at addr. The test fails at its end if a page made a
// request to anybody else, wrote an error to the console or threw one.
func open(t *testing.T, addr string) *browser {
	t.Helper()
	b := &browser{t: t, base: "http://" + addr}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(profile(t)), chromedp.WSURLReadTimeout(bound), chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("host-resolver-rules", "MAP keyferry.test 127.0.0.1"), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	// A browser newer than chromedp sends events that it does not know, and says so.
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	b.ctx = ctx
	chromedp.ListenTarget(ctx, b.watch)
	if err := chromedp.Run(ctx, network.Enable(), runtime.Enable()); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the process
		cancel()
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range b.faults {
			t.Error(f)
		}
	})
	return b
}

// profile is a directory for one Chromium. Those of its processes that outlive the first may
// still write there, which is no matter.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyferry-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	return dir
}

func (b *browser) watch(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			b.faults = append(b.faults, "request to another origin: "+u)
		}
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, "exception: "+e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var text []string
			for _, a := range e.Args {
				text = append(text, string(a.Value)+a.Description)
			}
			b.faults = append(b.faults, "console: "+strings.Join(text, " "))
		}
	case *network.EventEventSourceMessageReceived:
		if e.EventName == "point" {
			b.seconds++
		}
		b.bytes += int64(len(e.Data))
	case *network.EventResponseReceived:
		if e.Response.Status == 401 && b.expect401 {
			return
		}
		if e.Response.Status >= 400 && !strings.Contains(e.Response.URL, "/api/v1/verbs/") {
			b.faults = append(b.faults, fmt.Sprintf("%d for %s", e.Response.Status, e.Response.URL))
		}
	}
}

// do runs actions in the page.
func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.visible())
	}
}

// visible is what a person would read, for a failure's message.
func (b *browser) visible() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	var text string
	_ = chromedp.Run(ctx, chromedp.Evaluate(`document.querySelector("main")?.innerText.slice(0, 3000)`, &text))
	return text
}

// page opens a page and waits until it is live.
func (b *browser) page(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.base+path), chromedp.WaitVisible(`#live[data-state="on"]`, chromedp.ByQuery))
}

// await waits until an expression of the page is true.
func (b *browser) await(what, js string) {
	b.t.Helper()
	b.do("await "+what, chromedp.Poll(js, nil, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(bound)))
}

// eval is the value of an expression.
func eval[T any](b *browser, js string) T {
	b.t.Helper()
	var v T
	b.do(js, chromedp.Evaluate(js, &v, awaited))
	return v
}

func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

// sure presses a button and answers its question with yes.
func (b *browser) sure(button string) {
	b.t.Helper()
	b.do("press "+button, chromedp.Click(button, chromedp.ByQuery), chromedp.WaitVisible(`#ask[open]`, chromedp.ByQuery),
		chromedp.Click("#ask-yes", chromedp.ByQuery), chromedp.WaitNotPresent(`#ask[open]`, chromedp.ByQuery))
}

// look sets the size of the window and the theme that the system asks for.
func (b *browser) look(width, height int64, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do("size", emulation.SetDeviceMetricsOverride(width, height, 1, width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}
