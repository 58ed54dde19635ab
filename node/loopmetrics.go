package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// loopCollector reads the daemons' states at each scrape: there is one account of them.
type loopCollector struct {
	loop *loop

	lag, runs, failed, panics, took, stuck, applied *prometheus.Desc
}

func newLoopCollector(l *loop) *loopCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_daemon_"+name, help, []string{"daemon"}, nil)
	}
	return &loopCollector{
		loop:    l,
		lag:     desc("lag_seconds", "For how long the daemon has been behind this node's replica; 0 when it is up to date."),
		runs:    desc("runs_total", "Runs of the daemon that ended."),
		failed:  desc("failures_total", "Runs of the daemon that failed."),
		panics:  desc("panics_total", "Runs of the daemon that panicked."),
		took:    desc("last_run_seconds", "How long the last run took."),
		stuck:   desc("stuck", "1 while a run takes longer than the watchdog allows."),
		applied: desc("applied", "Place in this node's apply log that the daemon has reconciled."),
	}
}

func (c *loopCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *loopCollector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, s := range c.loop.states() {
		emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, s.Name)
		}
		emit(c.lag, prometheus.GaugeValue, s.lag(now).Seconds())
		emit(c.runs, prometheus.CounterValue, float64(s.Runs))
		emit(c.failed, prometheus.CounterValue, float64(s.Failed))
		emit(c.panics, prometheus.CounterValue, float64(s.Panics))
		emit(c.took, prometheus.GaugeValue, s.Took.Seconds())
		stuck := 0.0
		if s.Stuck {
			stuck = 1
		}
		emit(c.stuck, prometheus.GaugeValue, stuck)
		emit(c.applied, prometheus.GaugeValue, float64(s.Applied))
	}
}

// lag is for how long the daemon has been behind.
func (s DaemonState) lag(now time.Time) time.Duration {
	if s.Behind.IsZero() {
		return 0
	}
	return max(now.Sub(s.Behind), 0)
}
