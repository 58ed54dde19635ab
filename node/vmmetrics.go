package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/vmd/libvirt"
)

// hypervisorCollector reads at each scrape how many calls are in libvirt: one that hangs cannot be ended.
type hypervisorCollector struct {
	load             func() libvirt.Hanging
	calls, abandoned *prometheus.Desc
}

func newHypervisorCollector(load func() libvirt.Hanging) *hypervisorCollector {
	return &hypervisorCollector{
		load:      load,
		calls:     prometheus.NewDesc("hostmesh_vm_libvirt_calls", "Calls that are in libvirt now.", nil, nil),
		abandoned: prometheus.NewDesc("hostmesh_vm_libvirt_abandoned", "Those of them that nobody waits for any more: libvirtd hangs.", nil, nil),
	}
}

func (c *hypervisorCollector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
}

func (c *hypervisorCollector) Collect(ch chan<- prometheus.Metric) {
	l := c.load()
	ch <- prometheus.MustNewConstMetric(c.calls, prometheus.GaugeValue, float64(l.Calls))
	ch <- prometheus.MustNewConstMetric(c.abandoned, prometheus.GaugeValue, float64(l.Abandoned))
}
