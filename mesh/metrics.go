package mesh

import (
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/mesh/door"
)

// Stats is a snapshot for status pages.
type Stats struct {
	MeshID        string      `json:"mesh_id"`                  // empty while a joiner does not know it
	Health        int         `json:"health"`                   // Lifeguard's score: 0 = well; higher = this node itself is slow or cut off
	Members       int         `json:"members"`                  // known, whatever their state
	Alive         int         `json:"alive"`                    // this node included
	Failed        int         `json:"failed"`                   //
	Left          int         `json:"left"`                     //
	Unknown       int         `json:"unknown"`                  // not heard of since the start
	CallsOut      uint64      `json:"calls_out"`                // requests of this node
	CallsIn       uint64      `json:"calls_in"`                 // requests to this node
	ErrorsOut     uint64      `json:"errors_out"`               // requests of this node that ended in an error
	ErrorsIn      uint64      `json:"errors_in"`                // requests to this node that were answered with an error
	BytesOut      uint64      `json:"bytes_out"`                // on peer streams, without TLS
	BytesIn       uint64      `json:"bytes_in"`                 //
	ConnsOut      int         `json:"conns_out"`                // open now
	ConnsIn       int         `json:"conns_in"`                 //
	Urgent        Urgent      `json:"urgent"`                   // what of all these is CallUrgent's
	RefusedKey    uint64      `json:"refused_key"`              // times a peer with another key was seen
	RefusedMesh   uint64      `json:"refused_mesh"`             // times a peer of another mesh was seen
	RefusedOther  uint64      `json:"refused_other"`            // removed nodes, wrong ids, unknown protocol versions
	IDConflicts   uint64      `json:"id_conflicts"`             // times that one node id was claimed from two addresses for longer than a move takes
	ConflictAddrs []string    `json:"conflict_addrs,omitempty"` // of the last such claim: the one the mesh knows, and the other
	Reports       ReportStats `json:"reports"`
	Garbage       uint64      `json:"garbage"`  // connections and packets that did not speak the protocol, or were too slow
	Overload      uint64      `json:"overload"` // connections and requests turned away
}

// Urgent is how the urgent lane stands. The numbers of Stats have it in them.
type Urgent struct {
	CallsOut  uint64 `json:"calls_out"`
	CallsIn   uint64 `json:"calls_in"`
	ErrorsOut uint64 `json:"errors_out"`
	ErrorsIn  uint64 `json:"errors_in"`
	ConnsOut  int    `json:"conns_out"`
	ConnsIn   int    `json:"conns_in"`
	Silent    uint64 `json:"silent"` // connections given up because nothing came while a call waited
}

// Stats returns counters since Open, and how things stand now.
func (m *Mesh) Stats() Stats {
	s := m.streams
	st := Stats{
		MeshID:   s.mesh(),
		CallsOut: s.callsOut.Load(), CallsIn: s.callsIn.Load(), ErrorsOut: s.errorsOut.Load(), ErrorsIn: s.errorsIn.Load(),
		BytesOut: s.bytesOut.Load(), BytesIn: s.bytesIn.Load(),
		RefusedKey: m.refuse.key.Load(), RefusedMesh: m.refuse.mesh.Load(), RefusedOther: m.refuse.rest.Load(),
		Garbage: m.refuse.garbage.Load(), Overload: m.refuse.overload.Load() + s.handshakes.Closed() + m.guard.closed(),
	}
	m.clones.fill(&st)
	st.Reports = m.reports.stats()
	for _, x := range m.View().Members() {
		st.Members++
		switch x.State {
		case StateAlive:
			st.Alive++
		case StateFailed:
			st.Failed++
		case StateLeft:
			st.Left++
		default:
			st.Unknown++
		}
	}
	s.mu.Lock()
	st.ConnsIn, st.ConnsOut = s.inConn, len(s.conns)-s.inConn
	for c := range s.conns {
		switch {
		case !c.urgent():
		case c.dialled:
			st.Urgent.ConnsOut++
		default:
			st.Urgent.ConnsIn++
		}
	}
	s.mu.Unlock()
	l := s.lane(urgent)
	st.Urgent.CallsOut, st.Urgent.CallsIn = l.callsOut.Load(), l.callsIn.Load()
	st.Urgent.ErrorsOut, st.Urgent.ErrorsIn = l.errorsOut.Load(), l.errorsIn.Load()
	st.Urgent.Silent = l.silent.Load()
	if g := m.serf.Load(); g != nil {
		st.Health = g.Memberlist().GetHealthScore()
	}
	return st
}

// Doors returns how the gossip streams stand, and the handshakes of peer streams.
func (m *Mesh) Doors() []door.Stats {
	return []door.Stats{m.guard.door.Stats(), m.streams.handshakes.Stats()}
}

// Collectors returns the metrics, to be registered once.
func (m *Mesh) Collectors() []prometheus.Collector { return []prometheus.Collector{newCollector(m)} }

// collector reads Stats at each scrape: there is one set of counters.
type collector struct {
	m *Mesh

	members, health, mass, conns                             *prometheus.Desc
	calls, errs, bytes, refused, garbage, turnedAway, clones *prometheus.Desc
	urgentConns, urgentCalls, urgentErrs, urgentSilent       *prometheus.Desc
	reports, reportLag, reportCalls, reportBytes             *prometheus.Desc
	reportNews, reportRefused                                *prometheus.Desc
}

func newCollector(m *Mesh) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_mesh_"+name, help, labels, nil)
	}
	return &collector{
		m:          m,
		members:    desc("members", "Known members of the mesh, this node included.", "state"),
		health:     desc("health_score", "How slow or cut off this node finds itself; 0 is well."),
		mass:       desc("mass_suspicion", "1 while so many members failed at once that this node or a switch is the likelier cause."),
		conns:      desc("stream_connections", "Open peer streams.", "direction"),
		calls:      desc("stream_calls_total", "Requests on peer streams.", "direction"),
		errs:       desc("stream_call_errors_total", "Requests on peer streams that ended in an error.", "direction"),
		bytes:      desc("stream_bytes_total", "Bytes on peer streams, without TLS.", "direction"),
		refused:    desc("refused_peers_total", "Attempts of peers that were turned away.", "reason"),
		garbage:    desc("stream_garbage_total", "Connections and packets to the gossip and stream ports that did not speak the protocol, or were too slow."),
		clones:     desc("id_conflicts_total", "Claims of one node id from two addresses: a data directory was copied."),
		turnedAway: desc("stream_overload_total", "Connections and requests turned away because all places were taken, or those of one source."),

		reports:       desc("reports", "Members whose reports are here, this node included."),
		reportLag:     desc("report_lag_seconds", "How long ago this node was last found to have all reports that another member has."),
		reportCalls:   desc("report_messages_total", "Messages about reports.", "direction"),
		reportBytes:   desc("report_bytes_total", "Bytes of messages about reports and of their answers.", "direction"),
		reportNews:    desc("report_changes_total", "Changes of other members' reports that were taken."),
		reportRefused: desc("report_refused_total", "Messages about reports, or changes, that broke the rules, of this node's own as well."),

		urgentConns:  desc("stream_urgent_connections", "Open peer streams that are urgent.", "direction"),
		urgentCalls:  desc("stream_urgent_calls_total", "Urgent requests on peer streams.", "direction"),
		urgentErrs:   desc("stream_urgent_call_errors_total", "Urgent requests on peer streams that ended in an error.", "direction"),
		urgentSilent: desc("stream_urgent_silent_total", "Urgent peer streams given up because nothing came while a request waited: a cut, or a box that stands still."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.m.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(c.members, st.Alive, StateAlive.String())
	gauge(c.members, st.Failed, StateFailed.String())
	gauge(c.members, st.Left, StateLeft.String())
	gauge(c.members, st.Unknown, StateUnknown.String())
	gauge(c.health, st.Health)
	mass := 0
	if c.m.View().MassSuspicion() {
		mass = 1
	}
	gauge(c.mass, mass)
	gauge(c.conns, st.ConnsIn, "in")
	gauge(c.conns, st.ConnsOut, "out")
	count(c.calls, st.CallsIn, "in")
	count(c.calls, st.CallsOut, "out")
	count(c.errs, st.ErrorsIn, "in")
	count(c.errs, st.ErrorsOut, "out")
	count(c.bytes, st.BytesIn, "in")
	count(c.bytes, st.BytesOut, "out")
	count(c.refused, st.RefusedKey, "key")
	count(c.refused, st.RefusedMesh, "mesh")
	count(c.refused, st.RefusedOther, "other")
	count(c.clones, st.IDConflicts)
	count(c.garbage, st.Garbage)
	count(c.turnedAway, st.Overload)
	gauge(c.urgentConns, st.Urgent.ConnsIn, "in")
	gauge(c.urgentConns, st.Urgent.ConnsOut, "out")
	count(c.urgentCalls, st.Urgent.CallsIn, "in")
	count(c.urgentCalls, st.Urgent.CallsOut, "out")
	count(c.urgentErrs, st.Urgent.ErrorsIn, "in")
	count(c.urgentErrs, st.Urgent.ErrorsOut, "out")
	count(c.urgentSilent, st.Urgent.Silent)
	gauge(c.reports, st.Reports.Nodes)
	ch <- prometheus.MustNewConstMetric(c.reportLag, prometheus.GaugeValue, st.Reports.Lag.Seconds())
	count(c.reportCalls, st.Reports.CallsIn, "in")
	count(c.reportCalls, st.Reports.CallsOut, "out")
	count(c.reportBytes, st.Reports.BytesIn, "in")
	count(c.reportBytes, st.Reports.BytesOut, "out")
	count(c.reportNews, st.Reports.News)
	count(c.reportRefused, st.Reports.Refused)
}
