package bench

import "slices"

// median of sorted figures.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medianOf is the median of one figure of several things.
func medianOf[T any](all []T, figure func(*T) float64) float64 {
	figures := make([]float64, 0, len(all))
	for i := range all {
		figures = append(figures, figure(&all[i]))
	}
	slices.Sort(figures)
	return median(figures)
}

func medianRow(rows []DrainRow) DrainRow {
	return DrainRow{
		Seconds:    medianOf(rows, func(r *DrainRow) float64 { return r.Seconds }),
		KeysPerS:   medianOf(rows, func(r *DrainRow) float64 { return r.KeysPerS }),
		MBPerS:     medianOf(rows, func(r *DrainRow) float64 { return r.MBPerS }),
		MoverCPUUS: medianOf(rows, func(r *DrainRow) float64 { return r.MoverCPUUS }),
		SourceUS:   medianOf(rows, func(r *DrainRow) float64 { return r.SourceUS }),
		TargetUS:   medianOf(rows, func(r *DrainRow) float64 { return r.TargetUS }),
		PeakRSSMB:  medianOf(rows, func(r *DrainRow) float64 { return r.PeakRSSMB }),
	}
}

func medianLatency(all []Percentiles) Percentiles {
	return Percentiles{
		MeanMS: medianOf(all, func(p *Percentiles) float64 { return p.MeanMS }),
		P50MS:  medianOf(all, func(p *Percentiles) float64 { return p.P50MS }),
		P99MS:  medianOf(all, func(p *Percentiles) float64 { return p.P99MS }),
		P999MS: medianOf(all, func(p *Percentiles) float64 { return p.P999MS }),
		MaxMS:  medianOf(all, func(p *Percentiles) float64 { return p.MaxMS }),
	}
}
