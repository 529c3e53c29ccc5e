package stats

import (
	"encoding/json"
	"testing"

	"keyferry/internal/metrics"
)

// TestTable: each metric has one row, no two share a name anywhere, and each says what it means
// in one place.
func TestTable(t *testing.T) {
	names, infos := make(map[string]bool), make(map[string]bool)
	type point struct {
		of    *metrics.Series
		label string
	}
	points := make(map[point]bool)
	for m, row := range Table {
		if row.Name == "" || names[row.Name] {
			t.Errorf("metric %d: name %q is missing or taken", m, row.Name)
		}
		names[row.Name] = true
		if row.Info != "" && infos[row.Info] {
			t.Errorf("%s: INFO has %s twice", row.Name, row.Info)
		}
		infos[row.Info] = true
		if (row.Series == nil) == (row.Help == "") {
			t.Errorf("%s: its meaning is said by its series or by Help, and by one of them", row.Name)
		}
		if row.Series == nil {
			continue
		}
		if len(row.Labels) != len(row.Series.Labels) || len(row.Labels) > 1 {
			t.Fatalf("%s: labels %v of series %s, which has %v", row.Name, row.Labels, row.Series.Name, row.Series.Labels)
		}
		p := point{of: row.Series}
		if len(row.Labels) > 0 {
			p.label = row.Labels[0]
		}
		if points[p] {
			t.Errorf("%s: another metric is %s %s too", row.Name, p.of.Name, p.label)
		}
		points[p] = true
		if now := row.Series.Kind == metrics.Gauge; now != row.Now {
			t.Errorf("%s: Now is %v, and its series is of kind %d", row.Name, row.Now, row.Series.Kind)
		}
	}
}

func TestCounts(t *testing.T) {
	var c, before Counts
	var board Board
	for m := range c {
		c[m], before[m] = uint64(100+m), 40
	}
	board.Publish(&before)
	board.Publish(&c)
	sum := before
	board.AddTo(&sum)
	since := sum.Minus(&before)
	for m := range c {
		want := c[m]
		if Table[m].Now {
			want += before[m]
		}
		if since[m] != want {
			t.Errorf("%s: %d, want %d", Table[m].Name, since[m], want)
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]uint64
	if err := json.Unmarshal(text, &got); err != nil || len(got) != int(NumMetrics) {
		t.Fatalf("%s: %v", text, err)
	}
	for m, row := range Table {
		if got[row.Name] != c[m] {
			t.Errorf("%s: %d, want %d", row.Name, got[row.Name], c[m])
		}
	}
}
