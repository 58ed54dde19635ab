package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb/query"
	"hostmesh/node/api"
)

// openWatch makes what tells readers of every change.
func (a *Agent) openWatch() {
	a.watchers = api.NewWatchers(api.WatchConfig{
		Feed: a.store,
		Compile: func(where, ns string) (api.Matcher, error) {
			q, err := query.Compile(where, query.Options{In: ns, Clock: a.clock.Now})
			if err != nil {
				return nil, err // not q: a nil *Query is no nil Matcher
			}
			return q, nil
		},
	})
	a.closers = append(a.closers, a.watchers.Close)
	a.metrics.MustRegister(newWatchCollector(a.watchers))
}

// runWatch ends every watch when the agent stops, before the servers wait for them.
func (a *Agent) runWatch(ctx context.Context) error {
	<-ctx.Done()
	return a.watchers.Close()
}

// watchCollector reads the figures of watchers at each scrape.
type watchCollector struct {
	watchers                   *api.Watchers
	watching, events, overruns *prometheus.Desc
}

func newWatchCollector(w *api.Watchers) *watchCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_watch_"+name, help, nil, nil)
	}
	return &watchCollector{
		watchers: w,
		watching: desc("readers", "Readers of /api/v1/watch."),
		events:   desc("events_total", "Events sent to them since the start."),
		overruns: desc("overruns_total", "Readers that were closed because they were too slow."),
	}
}

func (c *watchCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *watchCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.watchers.Stats()
	ch <- prometheus.MustNewConstMetric(c.watching, prometheus.GaugeValue, float64(s.Watching))
	ch <- prometheus.MustNewConstMetric(c.events, prometheus.CounterValue, float64(s.Events))
	ch <- prometheus.MustNewConstMetric(c.overruns, prometheus.CounterValue, float64(s.Overruns))
}
