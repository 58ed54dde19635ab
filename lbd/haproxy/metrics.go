package haproxy

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTime bounds how long a scrape waits for HAProxy.
const scrapeTime = 2 * time.Second

type collector struct {
	b *Balancer

	up, finishing, refused                    *prometheus.Desc
	starts, deaths, reloads, refusals, change *prometheus.Desc
	connections, total, in, out, failed, bad  *prometheus.Desc
}

// Collectors are the metrics of HAProxy, for a registry of the caller's. Those of services are read from the process at each scrape.
func (b *Balancer) Collectors() []prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostmesh_lb_haproxy_"+name, help, labels, nil)
	}
	at := []string{"tag", "port", "host"}
	return []prometheus.Collector{&collector{
		b:           b,
		up:          desc("up", "1 while HAProxy runs, or has nothing to carry."),
		finishing:   desc("finishing", "Processes before the last reload that wait for their last connection."),
		refused:     desc("refused_services", "Services that HAProxy refused, and that stayed as they were or are not carried."),
		starts:      desc("starts_total", "Starts of HAProxy, reloads included."),
		deaths:      desc("deaths_total", "Times HAProxy died by itself, or was killed by somebody else."),
		reloads:     desc("reloads_total", "Starts that took the place of a process."),
		refusals:    desc("refusals_total", "Files that HAProxy refused."),
		change:      desc("commands_total", "Changes that were made while it ran."),
		connections: desc("connections", "Open connections; host is empty for all of a port.", at...),
		total:       desc("connections_total", "Connections, in mode http requests to a host, since HAProxy was loaded.", at...),
		in:          desc("received_bytes_total", "Bytes from clients.", at...),
		out:         desc("sent_bytes_total", "Bytes to clients.", at...),
		failed:      desc("connect_errors_total", "Attempts to connect to a host that failed; another try or host may have made good for them.", at...),
		bad:         desc("http_errors_total", "Answers of 500 and above.", at...),
	}}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.finishing, c.refused, c.starts, c.deaths, c.reloads, c.refusals, c.change, c.connections, c.total, c.in, c.out, c.failed, c.bad} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := c.b.Status()
	n := c.b.seen.Load().counts
	up := 0.0
	if s.Pid != 0 || len(s.Services) == 0 {
		up = 1
	}
	gauge(c.up, up)
	gauge(c.finishing, float64(s.Finishing))
	gauge(c.refused, float64(len(s.Refused)))
	counter(c.starts, n.starts)
	counter(c.deaths, n.deaths)
	counter(c.reloads, n.reloads)
	counter(c.refusals, n.refusals)
	counter(c.change, n.changes)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	stats, err := c.b.Stats(ctx)
	if err != nil {
		c.b.log.Warn("haproxy's counters cannot be read", "err", err)
		return
	}
	for _, x := range byHost(stats) {
		labels := []string{x.Tag, strconv.Itoa(int(x.Port)), x.Host}
		gauge(c.connections, float64(x.Connections), labels...)
		counter(c.total, x.Total, labels...)
		counter(c.in, x.In, labels...)
		counter(c.out, x.Out, labels...)
		counter(c.failed, x.ConnectErrors, labels...)
		counter(c.bad, x.Errors, labels...)
	}
}

// byHost sums up what has the same labels: a host that got another address has two servers for a while.
func byHost(stats []Stat) []Stat {
	type key struct {
		tag, host string
		port      uint16
	}
	at := map[key]int{}
	out := make([]Stat, 0, len(stats))
	for _, x := range stats {
		k := key{x.Tag, x.Host, x.Port}
		i, twice := at[k]
		if !twice {
			at[k] = len(out)
			out = append(out, x)
			continue
		}
		sum := &out[i]
		sum.Connections += x.Connections
		sum.Total += x.Total
		sum.In += x.In
		sum.Out += x.Out
		sum.ConnectErrors += x.ConnectErrors
		sum.Errors += x.Errors
	}
	return out
}
