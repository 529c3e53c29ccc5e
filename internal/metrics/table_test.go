package metrics

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var seriesName = regexp.MustCompile(`^keyferry(_[a-z][a-z0-9]*)+$`)

// TestNames holds the table to Prometheus's naming rules: the unit is in the name, in its
// base form, and only counters end in _total.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Table {
		bad := func(why string) { t.Errorf("%s: %s", s.Name, why) }
		if seen[s.Name] {
			bad("declared twice")
		}
		seen[s.Name] = true
		if !seriesName.MatchString(s.Name) {
			bad("not a name of ours")
		}
		base, counts := strings.CutSuffix(s.Name, "_total")
		if counts != (s.Kind == Counter) {
			bad("_total is for counters and all of them")
		}
		switch s.Unit {
		case "seconds", "bytes", "ratio":
			if !strings.HasSuffix(base, "_"+s.Unit) {
				bad("its unit is not in its name")
			}
		case "":
			for _, unit := range []string{"_seconds", "_bytes", "_ms", "_us", "_kb", "_mb"} {
				if strings.HasSuffix(base, unit) {
					bad("its name has a unit that it does not declare")
				}
			}
		default:
			bad("unit " + s.Unit)
		}
		if s.Kind == Durations && !strings.HasSuffix(s.Name, "_duration_seconds") {
			bad("a histogram of durations is named so")
		}
		for _, suffix := range []string{"_count", "_sum", "_bucket"} {
			if strings.HasSuffix(s.Name, suffix) {
				bad("the suffix is a histogram's own")
			}
		}
		if len(s.Help) < 10 && s.Name != "keyferry_loops" && s.Name != "keyferry_migration_keys_moved_total" || strings.HasSuffix(s.Help, ".") || strings.Contains(s.Help, "\n") {
			bad("help is one phrase without a full stop")
		}
		for _, l := range s.Labels {
			if l == "le" || l == "quantile" || l == "job" || l == "instance" || !regexp.MustCompile(`^[a-z][a-z_]*$`).MatchString(l) {
				bad("label " + l)
			}
		}
	}
}

// TestCollector: what is read comes out in Prometheus's own linter without a complaint.
func TestCollector(t *testing.T) {
	var h Histogram
	for i := range 1000 {
		h.Record(time.Duration(i) * 100 * time.Microsecond)
	}
	c := NewCollector(func() []Value {
		return []Value{{Of: Clients, V: 7}, {Of: CommandSeconds, Labels: []string{"read"}, H: &h}, {Of: ErrorReplies, Labels: []string{"OOM"}, V: 3}}
	})
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		switch f.GetName() {
		case Clients.Name:
			if m.GetGauge().GetValue() != 7 {
				t.Errorf("clients: %v", m)
			}
		case CommandSeconds.Name:
			got := m.GetHistogram()
			if n := len(got.GetBucket()); got.GetSampleCount() != 1000 || n != shownTo-shownFrom+1 {
				t.Errorf("%d samples, %d buckets", got.GetSampleCount(), n)
			}
			before := uint64(0)
			for _, b := range got.GetBucket() {
				want := uint64(0)
				for i := range 1000 {
					if float64(i)*1e-4 < b.GetUpperBound() {
						want++
					}
				}
				if b.GetCumulativeCount() != want || want < before {
					t.Errorf("up to %v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
				}
				before = want
			}
		}
	}
}
