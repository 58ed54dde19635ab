package lbd

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/lbd/plan"
)

type counts struct{ applies, failed atomic.Uint64 }

type collector struct {
	d                                          *Daemon
	backends, held, rules, applies, fails, bad *prometheus.Desc
}

// Collector are the metrics of load balancing on this node.
func (d *Daemon) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_lb_"+name, help, labels, nil)
	}
	return &collector{
		d:        d,
		backends: desc("backends", "Members of a balanced tag by state, as this node plans.", "tag", "vip", "state"),
		held:     desc("held", "1 on the node that holds a virtual address; the sum over all nodes should be 1.", "vip"),
		rules:    desc("rules", "1 on nodes that would divide what arrives at a virtual address.", "vip"),
		applies:  desc("applies_total", "Changes that the kernel or HAProxy took."),
		fails:    desc("apply_failures_total", "Changes that the kernel or HAProxy refused between two runs of the daemon."),
		bad:      desc("problems", "Things that are not as HostDB says, by name.", "problem"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.d.State()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := map[bool]float64{true: 1}
	for _, x := range s.Services {
		for _, state := range []plan.State{plan.In, plan.Draining, plan.Out} {
			gauge(c.backends, float64(x.Count(state)), x.Tag, x.VIP.String(), string(state))
		}
	}
	for _, v := range s.VIPs {
		gauge(c.held, one[v.Held], v.Addr.String())
		gauge(c.rules, one[v.Rules], v.Addr.String())
	}
	by := map[plan.ProblemName]int{}
	for _, p := range s.Problems {
		by[p.Name]++
	}
	for name, n := range by {
		gauge(c.bad, float64(n), string(name))
	}
	ch <- prometheus.MustNewConstMetric(c.applies, prometheus.CounterValue, float64(c.d.counts.applies.Load()))
	ch <- prometheus.MustNewConstMetric(c.fails, prometheus.CounterValue, float64(c.d.counts.failed.Load()))
}
