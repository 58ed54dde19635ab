package local

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/lbd/mysqlha"
)

// counts are what happened since the Host was opened.
type counts struct {
	orders, refused, deaths, starts, kills, cuts, clones, cloneErrors, copies, copyErrors, given, received, compared, differing atomic.Uint64
}

type collector struct {
	h     *Host
	descs map[string]*prometheus.Desc
	state *prometheus.Desc
	mark  *prometheus.Desc
	copy  *prometheus.Desc
}

// Collector are the metrics of the host.
func (h *Host) Collector() prometheus.Collector {
	c := &collector{h: h, descs: map[string]*prometheus.Desc{}}
	for name, help := range map[string]string{
		"orders_total":         "Orders for database servers of this host that were carried out.",
		"orders_refused_total": "Orders for database servers of this host that were refused or failed.",
		"deaths_total":         "Database servers that ended without an order.",
		"starts_total":         "Starts of database servers.",
		"kills_total":          "Database servers that were fenced.",
		"cuts_total":           "Cuts of this host from a source.",
		"clones_total":         "Database servers of this host that became a clone.",
		"clone_errors_total":   "Clones to this host that failed.",
		"copies_total":         "Copies of database servers given to other hosts.",
		"copy_errors_total":    "Copies for other hosts that ended early.",
		"copy_sent_bytes":      "Bytes of copies read for other hosts.",
		"copy_received_bytes":  "Bytes of copies received.",
		"compared_total":       "Copies that servers of this host are, which were compared and found right.",
		"differing_total":      "Copies that servers of this host are, which were compared and found to differ.",
	} {
		c.descs[name] = prometheus.NewDesc("hostmesh_mysql_local_"+name, help, nil, nil)
	}
	c.state = prometheus.NewDesc("hostmesh_mysql_local_process", "1 for each database server of this host, with how its process stands.", []string{"tag", "process"}, nil)
	c.mark = prometheus.NewDesc("hostmesh_mysql_local_marked", "Whether a database server of this host is marked not to start.", []string{"tag"}, nil)
	c.copy = prometheus.NewDesc("hostmesh_mysql_local_unverified", "Whether a database server of this host is a copy that nobody has found right.", []string{"tag"}, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.state
	ch <- c.mark
	ch <- c.copy
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	n := &c.h.counts
	for name, v := range map[string]*atomic.Uint64{
		"orders_total": &n.orders, "orders_refused_total": &n.refused, "deaths_total": &n.deaths, "starts_total": &n.starts, "kills_total": &n.kills, "cuts_total": &n.cuts,
		"clones_total": &n.clones, "clone_errors_total": &n.cloneErrors, "copies_total": &n.copies, "copy_errors_total": &n.copyErrors,
		"copy_sent_bytes": &n.given, "copy_received_bytes": &n.received, "compared_total": &n.compared, "differing_total": &n.differing,
	} {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v.Load()))
	}
	c.h.mu.Lock()
	all := c.h.listLocked()
	c.h.mu.Unlock()
	for _, s := range all {
		st := s.localState()
		for _, p := range []mysqlha.Process{mysqlha.ProcessRuns, mysqlha.ProcessDied, mysqlha.ProcessStopped, mysqlha.ProcessUnknown} {
			ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, truth(p == st.Process), s.tag, string(p))
		}
		ch <- prometheus.MustNewConstMetric(c.mark, prometheus.GaugeValue, truth(st.Marked != ""), s.tag)
		ch <- prometheus.MustNewConstMetric(c.copy, prometheus.GaugeValue, truth(st.Copy != nil), s.tag)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
