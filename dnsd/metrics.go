package dnsd

import (
	"cmp"
	"slices"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator sees of the server. Their labels are bounded: zones are ours, types and codes DNS's own.
type metrics struct {
	server  *Server
	compile prometheus.Histogram
	dropped prometheus.Counter
	panics  prometheus.Counter

	garbage                *prometheus.CounterVec
	garbageUDP, garbageTCP prometheus.Counter // of garbage

	queries, latency, asker *prometheus.Desc

	problems, serial, records, conns, closed *prometheus.Desc
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		server: s,
		queries: prometheus.NewDesc("hostmesh_dns_queries_total",
			"Queries answered, by zone (none: not ours), type and response code.", []string{"zone", "type", "rcode"}, nil),
		latency: prometheus.NewDesc("hostmesh_dns_query_seconds",
			"Time from a query that was read to its answer, by protocol. Questions that come together are answered together.", []string{"proto"}, nil),
		asker: prometheus.NewDesc("hostmesh_dns_top_asker_queries",
			"About how many queries the addresses that ask most have asked since the start.", []string{"addr"}, nil),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "hostmesh_dns_dropped_total",
			Help: "Unusual queries over UDP that were dropped because too many of them waited."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "hostmesh_dns_panics_total",
			Help: "Questions that made the server panic: a defect, told in the log. All others are answered."}),
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
	m.garbageUDP, m.garbageTCP = m.garbage.WithLabelValues("udp"), m.garbage.WithLabelValues("tcp")
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.compile, m.dropped, m.panics, m.garbage, m}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.queries
	ch <- m.latency
	ch <- m.asker
	ch <- m.conns
	ch <- m.closed
	ch <- m.problems
	ch <- m.serial
	ch <- m.records
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.collectTallies(ch)
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

// QueryCount is how often something was asked and answered so, since the start.
type QueryCount struct {
	Zone  string `json:"zone"` // origin; empty when the name is in no zone of ours
	Type  string `json:"type"` // its name, "other" for a type without one, "none" for a message without a question
	Rcode string `json:"rcode"`
	Count uint64 `json:"count"`
}

// Queries lists what was asked since the start, most first.
func (s *Server) Queries() []QueryCount {
	sums := map[QueryCount]uint64{}
	for _, t := range s.tallies() {
		t.each(func(s said, n uint64) {
			sums[QueryCount{Zone: s.zone, Type: typeLabel(s.typ), Rcode: rcodeLabel(s.rcode)}] += n
		})
	}
	out := make([]QueryCount, 0, len(sums))
	for q, n := range sums {
		q.Count = n
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b QueryCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Rcode, b.Rcode))
	})
	return out
}

// topAskers is how many of the askers are shown as metrics: their addresses come and go.
const topAskers = 10

// collectTallies adds up what sockets and connections have counted.
func (m *metrics) collectTallies(ch chan<- prometheus.Metric) {
	for _, q := range m.server.Queries() {
		ch <- prometheus.MustNewConstMetric(m.queries, prometheus.CounterValue, float64(q.Count), zoneLabel(q.Zone), q.Type, q.Rcode)
	}
	tallies := m.server.tallies()
	udp := len(tallies) - 1
	for proto, list := range map[string][]*tally{"udp": tallies[:udp], "tcp": tallies[udp:]} {
		count, sum, buckets := uint64(0), 0.0, map[float64]uint64{}
		for i := range len(latencyBounds) + 1 {
			for _, t := range list {
				count += t.latency.buckets[i].Load()
			}
			if i < len(latencyBounds) {
				buckets[latencyBounds[i].Seconds()] = count
			}
		}
		for _, t := range list {
			sum += time.Duration(t.latency.sum.Load()).Seconds()
		}
		ch <- prometheus.MustNewConstHistogram(m.latency, count, sum, buckets, proto)
	}
	top := m.server.Askers()
	for _, a := range top[:min(len(top), topAskers)] {
		ch <- prometheus.MustNewConstMetric(m.asker, prometheus.GaugeValue, float64(a.Questions), a.Addr.String())
	}
}

func zoneLabel(zone string) string {
	if zone == "" {
		return "none"
	}
	return zone
}

const typeOther = 0xffff // stands for all types without a name

func typeLabel(typ uint16) string {
	if typ == 0 {
		return "none"
	}
	if text := dns.TypeToString[typ]; text != "" && typ != typeOther {
		return text
	}
	return "other"
}

func rcodeLabel(rcode uint8) string {
	if rcode == dns.RcodeBadVers { // shares its number with BADSIG
		return "BADVERS"
	}
	return dns.RcodeToString[int(rcode)]
}
