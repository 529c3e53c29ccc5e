package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyferry/internal/admin"
)

// TestServerThatIsDown is in the log once, in GROUP LIST and in what the first page shows; and so is
// one that no longer takes the password.
func TestServerThatIsDown(t *testing.T) {
	r := newRig(t, 2)
	r.proxy("SLOT", "UNASSIGN", "0-100")
	r.proxy("SLOT", "ASSIGN", "0-100", "g2")
	key := keyInSlots(0, 100)
	c := r.client()
	ctx := context.Background()
	group := func() (g admin.GroupRow) {
		t.Helper()
		var rows []admin.GroupRow
		if err := json.Unmarshal([]byte(r.proxy("GROUP", "LIST", "JSON").(string)), &rows); err != nil {
			t.Fatal(err)
		}
		return rows[1]
	}
	overview := func() string {
		t.Helper()
		resp, err := http.Get("http://" + r.Web + "/api/v1/overview")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	becomes := func(state string) {
		t.Helper()
		r.await("g2 to be "+state, func() bool { return group().State == state })
		if down := state != "up"; strings.Contains(overview(), `"groups_down":[{`) != down || (group().DownMs > 0) != down {
			t.Errorf("g2 is %s: %+v, %s", state, group(), overview())
		}
	}
	lines := func(text string) int { return strings.Count(r.log.String(), text) }

	if err := c.Set(ctx, key, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	becomes("up")
	if err := r.servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := c.Get(ctx, key).Err(); err == nil {
			t.Fatal("a server that is down answers")
		}
		time.Sleep(5 * time.Millisecond)
	}
	becomes("down")
	if n := lines("can't be reached"); n != 1 || !strings.Contains(r.log.String(), `"group": "g2"`) {
		t.Errorf("the log tells of it %d times, want once", n)
	}
	if out, _, _ := r.Keyferry("group", "list"); !strings.Contains(out, "down") || !strings.Contains(out, "refused") {
		t.Errorf("group list:\n%s", out)
	}
	if err := r.servers[1].Restart(); err != nil {
		t.Fatal(err)
	}
	becomes("up")
	if n := lines("takes connections again"); n != 1 {
		t.Errorf("the log tells %d times that it is back", n)
	}

	// Connections that stand go on with a password that has been changed; new ones do not.
	admin := r.servers[1].Client()
	if err := admin.ConfigSet(ctx, "requirepass", "new").Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	becomes("refuses")
	if err := c.Get(ctx, key).Err(); err == nil {
		t.Fatal("a server answers without its password")
	}
	time.Sleep(500 * time.Millisecond) // probes and reconnects go on
	if n := lines("refuses new connections"); n > 1 || n == 0 && lines("can't be reached") > 1 {
		t.Errorf("the log tells of it %d times", n)
	}
	if text := fmt.Sprint(group()); !strings.Contains(text, "NOAUTH") {
		t.Errorf("GROUP LIST does not say why: %s", text)
	}
	r.proxy("GROUP", "SET", "g2", "PASSWORD", "new")
	becomes("up")
}
