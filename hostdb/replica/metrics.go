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
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hostmesh", Subsystem: "replica", Name: name, Help: help}, read)
	}
	locked := func(read func() float64) func() float64 {
		return func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return read()
		}
	}
	return []prometheus.Collector{
		counter("pushed_operations_total", "Operations sent to peers at once, each peer counted.", func(c *Counts) uint64 { return c.PushedOps }),
		counter("push_errors_total", "Pushes that no peer answered.", func(c *Counts) uint64 { return c.PushErrors }),
		counter("takeovers_total", "Times operations were pushed to the children of a peer that failed or was slow.", func(c *Counts) uint64 { return c.TakenOver }),
		counter("pulls_total", "Comparisons with a peer.", func(c *Counts) uint64 { return c.Pulls }),
		counter("pull_errors_total", "Comparisons that failed.", func(c *Counts) uint64 { return c.PullErrors }),
		counter("pulled_operations_total", "Operations that a comparison brought: pushes that were missed.", func(c *Counts) uint64 { return c.PulledOps }),
		counter("served_operations_total", "Operations sent in answers to comparisons.", func(c *Counts) uint64 { return c.ServedOps }),
		counter("busy_total", "Requests turned away because too many ran, or the budget of bytes was spent.", func(c *Counts) uint64 { return c.Busy }),
		counter("turned_away_total", "Requests that a peer turned away because it had too much to do.", func(c *Counts) uint64 { return c.TurnedAway }),
		counter("digest_mismatches_total", "Comparisons in which equal versions had unequal digests.", func(c *Counts) uint64 { return c.Mismatches }),
		counter("repairs_total", "Times registers were made good after unequal digests.", func(c *Counts) uint64 { return c.Repairs }),
		counter("held_aside_total", "Times operations waited because their writer's clock runs ahead.", func(c *Counts) uint64 { return c.HeldAside }),
		counter("forks_total", "Origins of which a chain was found that is not the one held here.", func(c *Counts) uint64 { return c.Forks }),
		counter("refused_messages_total", "Messages of peers that broke the rules of the exchange.", func(c *Counts) uint64 { return c.Refused }),
		counter("join_pieces_total", "Pieces of another replica's state that were taken.", func(c *Counts) uint64 { return c.JoinPieces }),
		counter("join_failures_total", "States of peers that were given up.", func(c *Counts) uint64 { return c.JoinFailures }),
		counter("served_pieces_total", "Pieces of this replica's state that were sent.", func(c *Counts) uint64 { return c.ServedPieces }),
		counter("filled_operations_total", "Operations of history that were fetched behind a state.", func(c *Counts) uint64 { return c.FilledOps }),
		counter("served_history_operations_total", "Operations of history that were sent.", func(c *Counts) uint64 { return c.ServedHistory }),
		counter("retired_runs_total", "Closed runs that this node retired.", func(c *Counts) uint64 { return c.RetiredRuns }),
		counter("sent_bytes_total", "Bytes of requests sent.", func(c *Counts) uint64 { return c.BytesSent }),
		counter("received_bytes_total", "Bytes of answers and pushes received.", func(c *Counts) uint64 { return c.BytesReceived }),
		gauge("missing_operations", "Operations held here that some live peer is not known to hold, at the peer that lacks most.", func() float64 {
			var most uint64
			for _, p := range r.Status().Peers {
				most = max(most, p.Missing)
			}
			return float64(most)
		}),
		gauge("missing_history_operations", "Operations of history that are yet to be fetched.", locked(func() float64 { return float64(r.fill.Left) })),
		gauge("joining", "1 while the state of another replica is taken.", locked(func() float64 {
			if r.join.Active {
				return 1
			}
			return 0
		})),
		gauge("forked_origins", "Origins of which operations are kept aside that are not of the chain held here.", locked(func() float64 { return float64(len(r.forks)) })),
		gauge("clock_ahead_seconds", "How far this box's clock is ahead of the median of those known.", func() float64 {
			ahead, _ := r.Skew()
			return ahead.Seconds()
		}),
		gauge("known_clocks", "Clocks that are known, this box's included.", func() float64 {
			_, n := r.Skew()
			return float64(n)
		}),
	}
}
