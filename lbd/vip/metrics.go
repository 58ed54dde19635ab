package vip

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what happened since the table was opened.
type counts struct {
	probes, announcements, refreshes, shortened, late, vanished, conflicts, refused, cleaned, inherited, errors atomic.Uint64
}

func (c *counts) failed(err error) {
	if err != nil {
		c.errors.Add(1)
	}
}

type collector struct {
	t     *Table
	descs map[string]*prometheus.Desc
	claim *prometheus.Desc
	ready *prometheus.Desc
}

// Collector are the metrics of the table.
func (t *Table) Collector() prometheus.Collector {
	c := &collector{t: t, descs: map[string]*prometheus.Desc{}}
	for name, help := range map[string]string{
		"announcements_total": "Virtual addresses announced, each time.",
		"probes_total":        "Questions whether somebody has a virtual address.",
		"refreshes_total":     "Lifetimes of virtual addresses begun anew.",
		"shortened_total":     "Lifetimes that were shortened because the kernel began them late.",
		"late_total":          "Virtual addresses removed at once because the kernel gave them after the lease was over.",
		"vanished_total":      "Virtual addresses that somebody else removed, or that went with their interface.",
		"conflicts_total":     "Announcements by others of virtual addresses that are here.",
		"refused_total":       "Virtual addresses not taken because somebody else has them.",
		"cleaned_total":       "Virtual addresses removed that were here without being claimed.",
		"inherited_total":     "Virtual addresses gone on with that the process before has left here.",
		"errors_total":        "Acts on virtual addresses that failed.",
	} {
		c.descs[name] = prometheus.NewDesc("hostmesh_vip_"+name, help, nil, nil)
	}
	c.claim = prometheus.NewDesc("hostmesh_vip_claim", "1 for each claimed virtual address, with its phase.", []string{"addr", "interface", "owner", "phase"}, nil)
	c.ready = prometheus.NewDesc("hostmesh_vip_ready", "1 when the file of claims was read; with 0 no virtual address is held here.", nil, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.claim
	ch <- c.ready
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	n := &c.t.counts
	for name, v := range map[string]*atomic.Uint64{
		"announcements_total": &n.announcements, "probes_total": &n.probes, "refreshes_total": &n.refreshes, "shortened_total": &n.shortened,
		"late_total": &n.late, "vanished_total": &n.vanished, "conflicts_total": &n.conflicts, "refused_total": &n.refused,
		"cleaned_total": &n.cleaned, "inherited_total": &n.inherited, "errors_total": &n.errors,
	} {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v.Load()))
	}
	ready := 0.0
	if c.t.ready.Load() {
		ready = 1
	}
	ch <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, ready)
	for _, s := range c.t.Claims() {
		ch <- prometheus.MustNewConstMetric(c.claim, prometheus.GaugeValue, 1, s.Addr.String(), s.Interface, s.Owner, string(s.Phase))
	}
}
