package mysqlha

import "github.com/prometheus/client_golang/prometheus"

type collector struct {
	d                                                              *Daemon
	watched, epoch, diagnosis, writable, lag, ackers, acts, failed *prometheus.Desc
	failover, stopped, seen                                        *prometheus.Desc
}

// Collector are the metrics of the clusters that this node watches over.
func (d *Daemon) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_mysql_"+name, help, append([]string{"tag"}, labels...), nil)
	}
	return &collector{
		d:         d,
		watched:   desc("watched", "1 on the node that watches over a database cluster; the sum over all nodes should be 1."),
		epoch:     desc("epoch", "Epoch of the cluster's record: it grows with each change of the primary that is begun."),
		diagnosis: desc("diagnosis", "1 for each thing that a cluster has, by name and host.", "name", "host"),
		writable:  desc("writable", "1 where a server takes writes; the sum over a cluster should be 1.", "host"),
		lag:       desc("lag_seconds", "How far a replica is behind.", "host"),
		ackers:    desc("ackers", "Replicas whose acknowledgement counts."),
		acts:      desc("acts_total", "Acts of this node for a cluster, while it watches over it."),
		failed:    desc("act_failures_total", "Those of them that did not succeed."),
		failover:  desc("last_failover_timestamp_seconds", "When the last automatic failover began."),
		stopped:   desc("change_stopped", "1 while a change of the primary waits for a person."),
		seen:      desc("observation_age_seconds", "How old the last answer of a server is.", "host"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	one := map[bool]float64{true: 1}
	for _, s := range c.d.State() {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Tag}, labels...)...)
		}
		gauge(c.watched, one[s.Held && s.Fence > 0])
		w, err := c.d.Watching(s.Tag)
		if p := s.Picture; p == nil || err != nil {
			continue
		}
		r := s.Picture.Cluster.Record
		gauge(c.epoch, float64(r.Epoch))
		gauge(c.ackers, float64(len(r.Ackers)))
		gauge(c.stopped, one[r.Intent != nil && r.Intent.Stopped != ""])
		if !r.LastFailover.IsZero() {
			gauge(c.failover, float64(r.LastFailover.UnixMilli())/1000)
		}
		said := map[[2]string]bool{}
		for _, d := range s.Picture.Diagnoses {
			if k := [2]string{string(d.Name), d.Host}; !said[k] {
				said[k] = true
				gauge(c.diagnosis, 1, k[0], k[1])
			}
		}
		for host, x := range s.Picture.Observations.Servers {
			if !x.Known {
				continue
			}
			gauge(c.seen, s.Picture.Observations.Now.Sub(x.Answered).Seconds(), host)
			gauge(c.writable, one[!x.Facts.ReadOnly && x.answers(s.Picture.Observations.Now)], host)
			if f := x.Facts.Replica; f != nil && f.Lag != nil {
				gauge(c.lag, f.Lag.Seconds(), host)
			}
		}
		ch <- prometheus.MustNewConstMetric(c.acts, prometheus.CounterValue, float64(w.counts.acts.Load()), s.Tag)
		ch <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(w.counts.failed.Load()), s.Tag)
	}
}
