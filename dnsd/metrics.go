package dnsd

import (
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator sees of the server. Their labels are bounded: zones are ours, types and codes DNS's own.
type metrics struct {
	server  *Server
	queries *prometheus.CounterVec
	latency *prometheus.HistogramVec
	compile prometheus.Histogram

	garbage *prometheus.CounterVec

	problems, serial, records, conns, closed *prometheus.Desc
}

func newMetrics(s *Server) *metrics {
	return &metrics{
		server: s,
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_queries_total",
			Help: "Queries answered, by zone (none: not ours), type and response code."}, []string{"zone", "type", "rcode"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hostmesh_dns_query_seconds",
			Help: "Time from a parsed query to its answer, by protocol.", Buckets: prometheus.ExponentialBuckets(1e-6, 4, 10)}, []string{"proto"}),
		compile: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hostmesh_dns_compile_seconds",
			Help: "Time to follow one change of HostDB or the mesh.", Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10)}),
		garbage: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostmesh_dns_garbage_total",
			Help: "Messages that are no DNS query, by protocol. Those that have a header are answered with FORMERR."}, []string{"proto"}),
		conns: prometheus.NewDesc("hostmesh_dns_connections", "Open TCP connections.", nil, nil),
		closed: prometheus.NewDesc("hostmesh_dns_connections_closed_total",
			"TCP connections closed because too many were open: in all (crowded), or from one source (hoarded).", []string{"reason"}, nil),
		problems: prometheus.NewDesc("hostmesh_dns_problems", "Names and records that cannot be served as they were written.", nil, nil),
		serial:   prometheus.NewDesc("hostmesh_dns_zone_serial", "SOA serial of a zone.", []string{"zone"}, nil),
		records:  prometheus.NewDesc("hostmesh_dns_zone_records", "Records of a zone, without live names.", []string{"zone"}, nil),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.queries, m.latency, m.compile, m.garbage, m}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.conns
	ch <- m.closed
	ch <- m.problems
	ch <- m.serial
	ch <- m.records
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.server.tcp.Stats()
	ch <- prometheus.MustNewConstMetric(m.conns, prometheus.GaugeValue, float64(st.Open))
	ch <- prometheus.MustNewConstMetric(m.closed, prometheus.CounterValue, float64(st.Crowded), "crowded")
	ch <- prometheus.MustNewConstMetric(m.closed, prometheus.CounterValue, float64(st.Hoarded), "hoarded")
	z := m.server.Zones()
	if z == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(m.problems, prometheus.GaugeValue, float64(len(z.Problems())))
	for _, i := range z.Infos() {
		ch <- prometheus.MustNewConstMetric(m.serial, prometheus.GaugeValue, float64(i.Serial), i.Origin)
		ch <- prometheus.MustNewConstMetric(m.records, prometheus.GaugeValue, float64(i.Records), i.Origin)
	}
}

// malformed counts what cannot be read as a message.
func (m *metrics) malformed(proto string) dns.MsgInvalidFunc {
	n := m.garbage.WithLabelValues(proto)
	return func([]byte, error) { n.Inc() }
}

func (m *metrics) count(reply *dns.Msg, zone string, udp bool, took time.Duration) {
	if zone == "" {
		zone = "none"
	}
	typ := "none"
	if len(reply.Question) == 1 {
		if typ = dns.TypeToString[reply.Question[0].Qtype]; typ == "" {
			typ = "other"
		}
	}
	rcode := dns.RcodeToString[reply.Rcode]
	if reply.Rcode == dns.RcodeBadVers { // shares its number with BADSIG
		rcode = "BADVERS"
	}
	proto := "tcp"
	if udp {
		proto = "udp"
	}
	m.queries.WithLabelValues(zone, typ, rcode).Inc()
	m.latency.WithLabelValues(proto).Observe(took.Seconds())
}
