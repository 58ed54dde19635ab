package nft

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is how the balancing of this box stands.
type Status struct {
	Services     []ServiceStatus
	Refused      uint64 // packets to services without backends, since the tables were made
	Transactions uint64 // since Open, as all below
	Repairs      uint64 // times that somebody had changed our tables
	Errors       uint64
	Ended        uint64 // flows that were ended, because their backend was out
}

// ServiceStatus is how one service stands.
type ServiceStatus struct {
	Service
	Backends []BackendStatus
}

// BackendStatus is how one backend of a service stands.
type BackendStatus struct {
	Backend
	Flows uint64 // new flows that it got; they go on over changes of the table, and begin anew when it is taken out
	Live  int    // flows it has, as of the last time they were gone through: each Config.Look while any backend drains
	// Since is when it began to drain. Drained says that it has no flows any more: it can be taken out, and nobody notices.
	Since   time.Time
	Drained bool
}

// Status reads the counters of the kernel. Counters that cannot be read are zero.
func (b *Balancer) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	flows := make(map[family]map[string]count)
	out := Status{Transactions: b.counts.transactions, Repairs: b.counts.repairs, Errors: b.counts.errors, Ended: b.counts.ended}
	for _, f := range []family{ip4, ip6} {
		if encodes(b.table, f) {
			list, err := b.kernel.count(f)
			if err != nil {
				b.counts.errors++
			}
			flows[f] = list
			out.Refused += list[counterNo].packets
		}
	}
	now := b.cfg.Clock.Now()
	for _, s := range b.table.Services {
		f := ip6
		if s.VIP.Is4() {
			f = ip4
		}
		one := ServiceStatus{Service: s}
		for _, x := range s.Backends {
			st := BackendStatus{Backend: x, Flows: flows[f][s.counter(x)].packets, Live: b.live[s.member(x)]}
			if x.State == Draining {
				st.Since = b.draining[s.member(x)]
				st.Drained = st.Live == 0 || now.Sub(st.Since) >= s.drainLimit(b.cfg.DrainLimit)
			}
			one.Backends = append(one.Backends, st)
		}
		out.Services = append(out.Services, one)
	}
	return out
}

type collector struct {
	b                                                                *Balancer
	flows, draining, refused, transactions, repairs, failures, ended *prometheus.Desc
	backends                                                         *prometheus.Desc
}

// Collector are the metrics of this box's balancing.
func (b *Balancer) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_lb_nat_"+name, help, labels, nil)
	}
	return &collector{
		b:            b,
		flows:        desc("flows_total", "New flows that a backend got.", "tag", "service", "backend"),
		draining:     desc("draining_flows", "Flows that a draining backend still has.", "tag", "service", "backend"),
		backends:     desc("backends", "Backends of a service, by state.", "tag", "service", "state"),
		refused:      desc("refused_total", "Packets to services without backends, refused."),
		transactions: desc("transactions_total", "Changes of the kernel's tables."),
		repairs:      desc("repairs_total", "Times that somebody had changed our tables."),
		failures:     desc("errors_total", "Changes and looks that failed."),
		ended:        desc("ended_flows_total", "Flows that were ended because their backend was out."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.flows, c.draining, c.backends, c.refused, c.transactions, c.repairs, c.failures, c.ended} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.b.Status()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, s := range st.Services {
		in := 0
		for _, b := range s.Backends {
			put(c.flows, prometheus.CounterValue, float64(b.Flows), s.Key, s.String(), b.String())
			if b.State == In {
				in++
			} else {
				put(c.draining, prometheus.GaugeValue, float64(b.Live), s.Key, s.String(), b.String())
			}
		}
		put(c.backends, prometheus.GaugeValue, float64(in), s.Key, s.String(), string(In))
		put(c.backends, prometheus.GaugeValue, float64(len(s.Backends)-in), s.Key, s.String(), string(Draining))
	}
	put(c.refused, prometheus.CounterValue, float64(st.Refused))
	put(c.transactions, prometheus.CounterValue, float64(st.Transactions))
	put(c.repairs, prometheus.CounterValue, float64(st.Repairs))
	put(c.failures, prometheus.CounterValue, float64(st.Errors))
	put(c.ended, prometheus.CounterValue, float64(st.Ended))
}
