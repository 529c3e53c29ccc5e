package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Value is one point of a series.
type Value struct {
	Of     *Series
	Labels []string // values, in the order of Of.Labels
	V      float64
	H      *Histogram // of a Durations series
}

// Collector shows what Read returns to a Prometheus registry. Read must not block: it
// answers from what was sampled before.
type Collector struct {
	Read  func() []Value
	descs map[*Series]*prometheus.Desc
}

// NewCollector makes a collector of the whole Table.
func NewCollector(read func() []Value) *Collector {
	c := &Collector{Read: read, descs: make(map[*Series]*prometheus.Desc, len(Table))}
	for _, s := range Table {
		c.descs[s] = prometheus.NewDesc(s.Name, s.Help, s.Labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range Table {
		ch <- c.descs[s]
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, v := range c.Read() {
		d := c.descs[v.Of]
		var m prometheus.Metric
		var err error
		switch v.Of.Kind {
		case Durations:
			m, err = prometheus.NewConstHistogram(d, v.H.Count, float64(v.H.SumNs)/1e9, shown(v.H), v.Labels...)
		case Counter:
			m, err = prometheus.NewConstMetric(d, prometheus.CounterValue, v.V, v.Labels...)
		default:
			m, err = prometheus.NewConstMetric(d, prometheus.GaugeValue, v.V, v.Labels...)
		}
		if err != nil { // a label that is no UTF-8, as an error code of a module may be
			m = prometheus.NewInvalidMetric(d, err)
		}
		ch <- m
	}
}

// Of the buckets those are shown that end at a power of two from 16 µs to 34 s: what a
// quantile needs, in 22 series instead of 125.
const (
	shownFrom = 4
	shownTo   = 25
)

func shown(h *Histogram) map[float64]uint64 {
	out := make(map[float64]uint64, shownTo-shownFrom+1)
	sum, next := uint64(0), shownFrom
	for i, n := range h.Buckets {
		sum += n
		if end := BucketEndNs(i) + 1; next <= shownTo && end == histUnit<<next {
			out[float64(end)/1e9] = sum
			next++
		}
	}
	return out
}
