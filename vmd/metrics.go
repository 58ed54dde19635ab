package vmd

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stats are counted by workers.
type stats struct {
	failures, ended, taken atomic.Uint64

	mu    sync.Mutex // guards steps
	steps map[action]uint64
}

func (s *stats) did(a action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.steps == nil {
		s.steps = map[action]uint64{}
	}
	s.steps[a]++
}

// boxCollector reads a Box at each scrape.
type boxCollector struct {
	b                               *Box
	machines, capacity, used, unfit *prometheus.Desc
	steps, failures, ended, taken   *prometheus.Desc
}

// Collector are the metrics of this box.
func (b *Box) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_vm_"+name, help, labels, nil)
	}
	return &boxCollector{
		b:        b,
		machines: desc("machines", "Machines on this box by phase, foreign ones included.", "phase"),
		capacity: desc("capacity", "What this box gives to machines: processors, or bytes.", "of"),
		used:     desc("used", "What of it is reserved or in use.", "of"),
		unfit:    desc("unfit", "1 while this box takes no machines; its status says why."),
		steps:    desc("steps_total", "Steps that were done for machines.", "step"),
		failures: desc("step_failures_total", "Steps that failed."),
		ended:    desc("ended_total", "Machines that ended by themselves."),
		taken:    desc("taken_total", "Machines that this box took."),
	}
}

func (c *boxCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *boxCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	box, vms := c.b.observe()
	phases := map[string]int{}
	for _, vm := range vms {
		phases[string(vm.Phase)]++
	}
	for phase, n := range phases {
		gauge(c.machines, float64(n), phase)
	}
	gauge(c.capacity, float64(box.CPUs), "cpus")
	gauge(c.capacity, float64(box.Memory), "memory")
	gauge(c.capacity, float64(box.Disk), "disk")
	gauge(c.used, float64(box.UsedCPUs), "cpus")
	gauge(c.used, float64(box.UsedMemory), "memory")
	gauge(c.used, float64(box.UsedDisk), "disk")
	unfit := 0.0
	if box.Unfit != "" {
		unfit = 1
	}
	gauge(c.unfit, unfit)
	c.b.stats.mu.Lock()
	for a, n := range c.b.stats.steps {
		count(c.steps, n, string(a))
	}
	c.b.stats.mu.Unlock()
	count(c.failures, c.b.stats.failures.Load())
	count(c.ended, c.b.stats.ended.Load())
	count(c.taken, c.b.stats.taken.Load())
}

// placerCollector reads a Placer at each scrape.
type placerCollector struct {
	p                               *Placer
	holder, waiting, placed, failed *prometheus.Desc
}

// Collector are the metrics of this placer.
func (p *Placer) Collector() prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_vm_placer_"+name, help, nil, nil)
	}
	return &placerCollector{
		p:       p,
		holder:  desc("holder", "1 on the agent that places machines of its datacenter."),
		waiting: desc("waiting", "Machines that have no box and are told of; 0 on agents that do not place."),
		placed:  desc("placed_total", "Machines that a box took."),
		failed:  desc("failed_total", "Machines that could not be placed without a person."),
	}
}

func (c *placerCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *placerCollector) Collect(ch chan<- prometheus.Metric) {
	c.p.mu.Lock()
	holds, waiting, placed, failed := c.p.index != nil, len(c.p.vms), c.p.placed, c.p.failed
	c.p.mu.Unlock()
	holder := 0.0
	if holds {
		holder = 1
	}
	ch <- prometheus.MustNewConstMetric(c.holder, prometheus.GaugeValue, holder)
	ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(c.placed, prometheus.CounterValue, float64(placed))
	ch <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(failed))
}
