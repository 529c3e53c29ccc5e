package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"keyferry/internal/topology"
)

// TestPauseAll: one word stops every job that moves keys, or would by itself, and one lets them go
// on, but none that somebody has given up.
func TestPauseAll(t *testing.T) {
	r := newRig(t, 3)
	phases := func() string {
		var out []string
		for _, j := range r.jobs() {
			out = append(out, string(j.Phase))
		}
		return strings.Join(out, " ")
	}
	if v := fmt.Sprint(r.proxy("MIGRATION", "PAUSE", "ALL")); v != "OK no job was to be paused" {
		t.Errorf("without a job: %q", v)
	}
	c := r.client()
	for i := range 400 {
		c.Set(t.Context(), fmt.Sprintf("k%d", i), i, 0)
	}
	r.proxy("MIGRATE", "0-99", "TO", "g2")
	r.awaitDone()
	r.proxy("MIGRATE", "100-5000", "TO", "g2", "RATE", "1")
	r.proxy("MIGRATE", "5001-10000", "TO", "g3", "RATE", "1", "SLICE", "100ms/1h")
	r.proxy("MIGRATE", "10001-16383", "TO", "g2", "RATE", "1")
	r.await("keys to move", func() bool {
		jobs := r.jobs()
		return jobs[1].KeysMoved > 0 && jobs[2].Phase == topology.Paused && jobs[3].KeysMoved > 0
	})
	r.proxy("MIGRATION", "CANCEL", "m4", "STAY")
	if v := fmt.Sprint(r.proxy("MIGRATION", "PAUSE", "all")); v != "OK paused: m2, m3" {
		t.Errorf("PAUSE ALL: %q", v)
	}
	if p := phases(); p != "done paused paused paused" {
		t.Errorf("after PAUSE ALL: %s", p)
	}
	if v := fmt.Sprint(r.proxy("MIGRATION", "PAUSE", "ALL")); v != "OK no job was to be paused" {
		t.Errorf("said twice: %q", v)
	}
	if _, err := r.proxyErr("MIGRATION", "RESUME", "ALL", "FORWARD"); err == nil {
		t.Error("FORWARD of all jobs is taken")
	}
	req, err := http.NewRequest("POST", "http://"+r.Web+"/api/v1/verbs/migration/resume", strings.NewReader(`{"id":"all"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Keyferry", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); strings.TrimSpace(string(text)) != `{"result":"OK resumed: m2, m3"}` {
		t.Errorf("over HTTP: %d %s", resp.StatusCode, text)
	}
	if out, errs, code := r.Keyferry("migration", "pause", "all"); code != 0 || out != "OK paused: m2, m3\n" {
		t.Errorf("the command: %d %q %q", code, out, errs)
	}
	if out, errs, code := r.Keyferry("migration", "resume", "all"); code != 0 || out != "OK resumed: m2, m3\n" {
		t.Errorf("the command: %d %q %q", code, out, errs)
	}
}
