package transfer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator sees of transfers. Their labels are bounded: zones are ours.
type metrics struct {
	service   *Service
	transfers *prometheus.CounterVec
	records   prometheus.Counter
	seconds   prometheus.Histogram
	cut       *prometheus.CounterVec
	refused   *prometheus.CounterVec
	notifies  *prometheus.CounterVec

	running, steps, kept, secondaries *prometheus.Desc
}

func newMetrics(s *Service) *metrics {
	m := &metrics{
		service: s,
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_transfers_total",
			Help: "Zone transfers answered, by zone and kind: full, difference, current (the asker had it all), use-tcp."}, []string{"zone", "kind"}),
		records: prometheus.NewCounter(prometheus.CounterOpts{Name: "hostmesh_dns_transfer_records_total", Help: "Records sent in zone transfers."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hostmesh_dns_transfer_seconds",
			Help: "Time that zone transfers took.", Buckets: prometheus.ExponentialBuckets(1e-3, 4, 9)}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_transfers_cut_total",
			Help: "Zone transfers that broke off, because the secondary went or took too long."}, []string{"zone"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_transfers_refused_total",
			Help: "Zone transfers refused, by rule."}, []string{"rule"}),
		notifies: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_notify_total",
			Help: "NOTIFY sent to secondaries, by what came of them: acknowledged, failed."}, []string{"result"}),
		running:     prometheus.NewDesc("hostmesh_dns_transfers_running", "Zone transfers under way.", nil, nil),
		steps:       prometheus.NewDesc("hostmesh_dns_journal_steps", "Changes of zones that IXFR can go back.", nil, nil),
		kept:        prometheus.NewDesc("hostmesh_dns_journal_records", "Records that the journal for IXFR holds.", nil, nil),
		secondaries: prometheus.NewDesc("hostmesh_dns_secondaries", "Secondaries that this node tells of changes, each once for each zone, by state: current, behind, silent.", []string{"state"}, nil),
	}
	for why := range says { // so that none is missing until it happens
		m.refused.WithLabelValues(string(why))
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.transfers, m.records, m.seconds, m.cut, m.refused, m.notifies, m}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.running
	ch <- m.steps
	ch <- m.kept
	ch <- m.secondaries
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(m.running, prometheus.GaugeValue, float64(m.service.underWay()))
	steps, kept := m.service.journal.Size()
	ch <- prometheus.MustNewConstMetric(m.steps, prometheus.GaugeValue, float64(steps))
	ch <- prometheus.MustNewConstMetric(m.kept, prometheus.GaugeValue, float64(kept))
	count := map[string]int{SecondaryCurrent: 0, SecondaryBehind: 0, SecondarySilent: 0}
	for _, s := range m.service.Secondaries() {
		count[s.State]++
	}
	for state, n := range count {
		ch <- prometheus.MustNewConstMetric(m.secondaries, prometheus.GaugeValue, float64(n), state)
	}
}

func (m *metrics) sent(origin string, k kind, records int, took time.Duration) {
	m.transfers.WithLabelValues(origin, string(k)).Inc()
	m.records.Add(float64(records))
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) broken(origin string) { m.cut.WithLabelValues(origin).Inc() }

func (m *metrics) notified(act action, err error) {
	switch {
	case act != tell:
	case err != nil:
		m.notifies.WithLabelValues("failed").Inc()
	default:
		m.notifies.WithLabelValues("acknowledged").Inc()
	}
}
