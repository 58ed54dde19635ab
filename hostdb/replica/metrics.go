package replica

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the metrics of replication, for a registry of the caller's.
func (r *Replica) Collectors() []prometheus.Collector {
	counter := func(name, help string, read func(*Counts) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "hostmesh", Subsystem: "replica", Name: name, Help: help}, func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(read(&r.counts))
		})
	}
	return []prometheus.Collector{
		counter("pushed_operations_total", "Operations sent to peers at once, each peer counted.", func(c *Counts) uint64 { return c.PushedOps }),
		counter("push_errors_total", "Pushes that no peer answered.", func(c *Counts) uint64 { return c.PushErrors }),
		counter("pulls_total", "Comparisons with a peer.", func(c *Counts) uint64 { return c.Pulls }),
		counter("pull_errors_total", "Comparisons that failed.", func(c *Counts) uint64 { return c.PullErrors }),
		counter("pulled_operations_total", "Operations that a comparison brought: pushes that were missed.", func(c *Counts) uint64 { return c.PulledOps }),
		counter("served_operations_total", "Operations sent in answers to comparisons.", func(c *Counts) uint64 { return c.ServedOps }),
		counter("busy_total", "Comparisons turned away because too many ran.", func(c *Counts) uint64 { return c.Busy }),
		counter("digest_mismatches_total", "Comparisons in which equal versions had unequal digests.", func(c *Counts) uint64 { return c.Mismatches }),
		counter("held_aside_total", "Times operations waited because their writer's clock runs ahead.", func(c *Counts) uint64 { return c.HeldAside }),
		counter("forks_total", "Times an origin's chain did not continue the one held here.", func(c *Counts) uint64 { return c.Forks }),
		counter("sent_bytes_total", "Bytes of requests sent.", func(c *Counts) uint64 { return c.BytesSent }),
		counter("received_bytes_total", "Bytes of answers and pushes received.", func(c *Counts) uint64 { return c.BytesReceived }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hostmesh", Subsystem: "replica", Name: "missing_operations",
			Help: "Operations held here that some live peer is not known to hold, at the peer that lacks most."}, func() float64 {
			var most uint64
			for _, p := range r.Status().Peers {
				most = max(most, p.Missing)
			}
			return float64(most)
		}),
	}
}
