package check

import "github.com/prometheus/client_golang/prometheus"

type collector struct {
	r                                      *Runner
	checks, answers, late, transitions, up *prometheus.Desc
	latency                                *prometheus.Desc
}

// Collector are the metrics of this node's checks.
func (r *Runner) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_lb_check"+name, help, labels, nil)
	}
	return &collector{
		r:           r,
		checks:      desc("s", "Checks that this node makes, by state.", "state"),
		answers:     desc("_answers_total", "Answers, good and bad.", "answer"),
		late:        desc("_late_total", "Checks that were made later than their interval says, because too many others ran."),
		transitions: desc("_transitions_total", "Times that a check's state changed."),
		up:          desc("_up", "1 = up, 0 = down; a check that does not know yet is left out.", "tag", "host", "addr", "type"),
		latency:     desc("_seconds", "How long the last answer took.", "tag", "host", "addr", "type"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.checks, c.answers, c.late, c.transitions, c.up, c.latency} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	states := map[State]int{Up: 0, Down: 0, Unknown: 0}
	for _, x := range c.r.checks {
		states[x.result.State]++
		t := x.spec.Target
		if x.result.State != Unknown {
			up := 0.0
			if x.result.State == Up {
				up = 1
			}
			put(c.up, prometheus.GaugeValue, up, t.Tag, t.Host, t.hostPort()+"/"+t.Proto, x.spec.Type)
		}
		if !x.result.Last.IsZero() {
			put(c.latency, prometheus.GaugeValue, x.result.Latency.Seconds(), t.Tag, t.Host, t.hostPort()+"/"+t.Proto, x.spec.Type)
		}
	}
	for s, n := range states {
		put(c.checks, prometheus.GaugeValue, float64(n), string(s))
	}
	put(c.answers, prometheus.CounterValue, float64(c.r.counts.good), "good")
	put(c.answers, prometheus.CounterValue, float64(c.r.counts.bad), "bad")
	put(c.late, prometheus.CounterValue, float64(c.r.counts.late))
	put(c.transitions, prometheus.CounterValue, float64(c.r.counts.transitions))
}
