package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Table shows the report as text.
func (r DrainReport) Table() string {
	var b strings.Builder
	what := fmt.Sprintf("strings of %d bytes", r.ValueBytes)
	if r.Fields > 0 {
		what = fmt.Sprintf("hashes of %d fields of %d bytes", r.Fields, r.ValueBytes)
	}
	fmt.Fprintf(&b, "%d %s (DUMP: %.0f bytes), medians of %d rounds, %d CPUs shared by servers, gateway and clients\n", r.Keys, what, r.DumpBytes, len(r.Rounds), r.CPUs)
	fmt.Fprintf(&b, "bare loop at its best: %d workers, batches of %d, SCAN COUNT %d\n\n", r.Best.Workers, r.Best.BatchKeys, r.Best.ScanCount)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tkeys/s\tof limit\tMB/s\tseconds\tmover CPU µs/key\tsource\ttarget\tpeak RSS MB\t")
	row := func(name string, x DrainRow) {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t\n", name, x.KeysPerS, x.KeysPerS/r.Limit.KeysPerS, x.MBPerS, x.Seconds,
			x.MoverCPUUS, x.SourceUS, x.TargetUS, x.PeakRSSMB)
	}
	row("bare loop", r.Limit)
	row("idle", r.Idle)
	if r.Loaded.Seconds > 0 {
		row(fmt.Sprintf("with %d clients", r.Clients), r.Loaded)
	}
	_ = w.Flush() // into a strings.Builder, which takes everything
	if r.Loaded.Seconds > 0 {
		r.latencies(&b)
	}
	return b.String()
}

// latencies shows what clients felt.
func (r *DrainReport) latencies(b *strings.Builder) {
	fmt.Fprintf(b, "\nclients at %.0f requests/s, latency in ms:\n", r.Rate)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tp50\tp99\tp99.9\tmax\t")
	for _, x := range []struct {
		name string
		Percentiles
	}{{"before the job", r.Baseline}, {"during", r.During}} {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", x.name, x.P50MS, x.P99MS, x.P999MS, x.MaxMS)
	}
	_ = w.Flush()
	fmt.Fprintf(b, "p99 %.2f × the baseline's; longest stall %.1f × the baseline's p99; %d client errors\n", r.P99OfBaseline, r.MaxOfBaseline, r.ClientErrors)
}
