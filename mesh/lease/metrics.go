package lease

import (
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// histogram is how long commits took; only a leader has any.
type histogram struct{ h prometheus.Histogram }

func newHistogram() histogram {
	return histogram{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "hostmesh_lease_commit_seconds", Help: "How long entries of the lease log took until a majority had them on disk; only on the leader.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
	})}
}

func (h histogram) observe(d time.Duration) { h.h.Observe(d.Seconds()) }

// collector reads the state at each scrape.
type collector struct {
	l       *Lease
	descs   map[string]*prometheus.Desc
	records *prometheus.Desc
}

// Collector are the metrics of this node's part in the group.
func (l *Lease) Collector() prometheus.Collector {
	c := &collector{l: l, descs: map[string]*prometheus.Desc{}, records: prometheus.NewDesc("hostmesh_lease_records",
		"Records that the group keeps, by the beginning of their keys; only on voters.", []string{"kind"}, nil)}
	for name, help := range map[string]string{
		"duties_held":       "Duties that this node holds.",
		"duties_offered":    "Duties that this node holds or would take.",
		"leader":            "1 on the node that leads the lease group.",
		"voter":             "1 on nodes that take part in raft.",
		"known":             "1 when this node knows the lease group of its datacenter.",
		"generation":        "Generation of the lease group.",
		"answered_seconds":  "How long ago the group last answered; -1 = never.",
		"term":              "Raft's term.",
		"log_index":         "Raft's last entry.",
		"disk_sick":         "1 while raft's files cannot be written.",
		"granted_total":     "Duties granted by this node as leader.",
		"expired_total":     "Sessions that this node as leader let end because they were not renewed.",
		"offices_total":     "How often this node came to lead.",
		"renewals_total":    "Renewals that this node sent.",
		"lost_total":        "Duties that this node lost without having handed them over.",
		"overruns_total":    "Holders of this node that did not stop in time.",
		"raft_starts_total": "How often raft was started here.",
	} {
		c.descs[name] = prometheus.NewDesc("hostmesh_lease_"+name, help, nil, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
	ch <- c.records
	c.l.commits.h.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	h := c.l.Health()
	gauge := func(name string, v float64) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v)
	}
	count := func(name string, v uint64) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v))
	}
	flag := func(b bool) float64 { return float64(btoi(b)) }
	gauge("duties_held", float64(len(h.Holding)))
	gauge("duties_offered", float64(h.Offers))
	gauge("leader", flag(h.Leads))
	gauge("voter", flag(h.Serving))
	gauge("known", flag(h.Known))
	gauge("generation", float64(h.Group.Generation))
	answered := h.Answered.Seconds()
	if h.Answered < 0 {
		answered = -1
	}
	gauge("answered_seconds", answered)
	gauge("disk_sick", flag(h.Sick != ""))
	var term, index uint64
	r, m := c.l.server.running()
	if r != nil && r.State() != raft.Shutdown {
		term, index = r.CurrentTerm(), r.LastIndex()
	}
	kinds := map[string]int{}
	if m != nil {
		kinds["grant"] = 0 // so that there is the metric before the first record
		m.read(func(s *state) {
			for key := range s.Records {
				kinds[kindOf(key)]++
			}
		})
	}
	for kind, n := range kinds {
		ch <- prometheus.MustNewConstMetric(c.records, prometheus.GaugeValue, float64(n), kind)
	}
	gauge("term", float64(term))
	gauge("log_index", float64(index))
	n := &c.l.counts
	count("granted_total", n.granted.Load())
	count("expired_total", n.expired.Load())
	count("offices_total", n.offices.Load())
	count("renewals_total", n.renewals.Load())
	count("lost_total", n.lost.Load())
	count("overruns_total", n.overruns.Load())
	count("raft_starts_total", n.restarts.Load())
	c.l.commits.h.Collect(ch)
}

// kindOf is what a record is about, without what tells it from others of its kind: vm/machine/UUID is vm/machine.
func kindOf(key string) string {
	first, rest, _ := strings.Cut(key, "/")
	if second, _, more := strings.Cut(rest, "/"); more {
		return first + "/" + second
	}
	return first
}
