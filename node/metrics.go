package node

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hostmesh/hostdb"
)

// register puts all metrics into the agent's own registry: two agents of one process do not meet there.
func (a *Agent) register() {
	b := a.build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hostmesh_build_info", Help: "1; its labels tell what the agent was made from.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "go": runtime.Version()},
	})
	info.Set(1)
	a.metrics.MustRegister(info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newStoreCollector(a), newLoopCollector(a.loop))
	a.metrics.MustRegister(a.mesh.Collectors()...)
	a.metrics.MustRegister(a.replica.Collectors()...)
	if a.lease != nil {
		a.metrics.MustRegister(a.lease.Collector())
	}
	a.metrics.MustRegister(newWebCollector(a.web))
	a.metrics.MustRegister(a.retention.dropped)
	a.metrics.MustRegister(a.keeper.collectors()...)
	a.metrics.MustRegister(a.images.collectors()...)
	a.metrics.MustRegister(a.lb.addresses.Collector())
	a.metrics.MustRegister(a.lb.collectors()...)
	a.metrics.MustRegister(a.mysql.collectors()...)
	if a.cfg.Libvirt != "" {
		a.metrics.MustRegister(a.vms.Collector())
	}
	if a.virt != nil {
		a.metrics.MustRegister(newHypervisorCollector(a.virt.Load))
	}
	a.metrics.MustRegister(a.placer.Collector())
	if a.mirror != nil {
		a.metrics.MustRegister(newMirrorCollector(a.mirror))
	}
	if a.dns != nil {
		a.metrics.MustRegister(a.dns.Collectors()...)
		a.metrics.MustRegister(a.transfers.Collectors()...)
	}
}

// storeCollector reads the replica's own counters at each scrape.
type storeCollector struct {
	agent *Agent

	ops, flushes, heldAside, forks, down, unfolded   *prometheus.Desc
	applied, keys, writable, clockLead               *prometheus.Desc
	diskFree, diskFloor, diskBytes, syncs, syncsTime *prometheus.Desc
}

func newStoreCollector(a *Agent) *storeCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_hostdb_"+name, help, labels, nil)
	}
	return &storeCollector{
		agent:     a,
		ops:       desc("operations_total", "Operations taken since the start, by where they were made.", "from"),
		flushes:   desc("flushes_total", "Commits of the storage; operations per flush shows how well writers share an fsync."),
		heldAside: desc("held_aside_total", "Operations refused for a stamp too far ahead."),
		forks:     desc("forks_total", "Operations whose predecessor is not the one held here: an alarm."),
		down:      desc("storage_failures_total", "Times the storage failed or was closed for lack of space."),
		unfolded:  desc("unfolded", "Operations of a newer format that are kept but not understood."),
		applied:   desc("applied", "Operations in the apply log."),
		keys:      desc("keys", "Keys of a namespace.", "namespace"),
		writable:  desc("writable", "1 when writes are taken."),
		clockLead: desc("clock_lead_seconds", "How far stamps run ahead of the wall clock."),
		diskFree:  desc("disk_free_bytes", "Free space for the agent on the data directory's file system."),
		diskFloor: desc("disk_floor_bytes", "Below this free space writes are refused."),
		diskBytes: desc("database_bytes", "Bytes of the database on disk.", "part"),
		syncs:     desc("syncs_total", "fsyncs of the storage."),
		syncsTime: desc("sync_seconds_total", "Time in fsyncs of the storage."),
	}
}

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	v, n := c.agent.store.View(), c.agent.store.Counts()
	count(c.ops, float64(n.LocalOps), "here")
	count(c.ops, float64(n.RemoteOps), "elsewhere")
	count(c.flushes, float64(n.Flushes))
	count(c.heldAside, float64(n.HeldAside))
	count(c.forks, float64(n.Forks))
	count(c.down, float64(n.StorageDown))
	gauge(c.unfolded, float64(v.Unfolded()))
	gauge(c.applied, float64(v.Applied()))
	for _, ns := range v.Namespaces() {
		if ns != hostdb.System {
			gauge(c.keys, float64(v.Len(ns)), ns)
		}
	}
	writable := 1.0
	if c.agent.store.Failure() != nil {
		writable = 0
	}
	gauge(c.writable, writable)
	gauge(c.clockLead, c.agent.store.ClockLead().Seconds())
	if free, floor, err := freeSpace(c.agent.dir.path); err == nil {
		gauge(c.diskFree, float64(free))
		gauge(c.diskFloor, float64(floor))
	}
	if db := c.agent.disk.Load(); db != nil {
		st := db.Stats()
		gauge(c.diskBytes, float64(st.LSM), "tables")
		gauge(c.diskBytes, float64(st.WAL), "wal")
		gauge(c.diskBytes, float64(st.ValueLog), "values")
		count(c.syncs, float64(st.Syncs))
		count(c.syncsTime, st.SyncTime.Seconds())
	}
}
