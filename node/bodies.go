package node

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/node/api"
)

const (
	// maxBodies bounds the bodies of requests that one listener holds at a time, in bytes, beyond smallBody of each. A
	// document is read whole before anybody knows whether its sender may write it, and a thousand clients may send at once.
	maxBodies = 48 << 20
	smallBody = 64 << 10
)

var errBodies = errors.New("this node holds as many large requests as it can: try again")

// bodies bounds what the bodies of requests take. Those that are streamed are not counted.
type bodies struct {
	left    atomic.Int64
	refused atomic.Uint64
}

func newBodies(most int64) *bodies {
	b := new(bodies)
	b.left.Store(most)
	return b
}

// bound refuses with 503 what announces more than is left, and cuts off what becomes more.
func (b *bodies) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody || r.ContentLength >= 0 && r.ContentLength <= smallBody || streamed(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if r.ContentLength-smallBody > b.left.Load() && r.ContentLength-smallBody <= maxBodies { // a larger one is refused for its size
			b.refused.Add(1)
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "5")
			if strings.HasPrefix(r.URL.Path, "/api/") {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, `{"title":"Service Unavailable","status":503,"detail":"`+errBodies.Error()+`"}`) // the client may be gone
				return
			}
			text(w, http.StatusServiceUnavailable, errBodies.Error()+"\n")
			return
		}
		body := &boundBody{ReadCloser: r.Body, all: b, free: smallBody}
		defer func() { b.left.Add(body.took) }()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// streamed reports whether the bodies of a path are read as they come, and not held: imports, and files of images.
func streamed(path string) bool {
	name, image := strings.CutPrefix(path, "/api/v1/images/")
	return strings.HasPrefix(path, "/api/v1/import") || image && strings.HasSuffix(name, "/files")
}

// boundBody takes from the listener's share as it is read.
type boundBody struct {
	io.ReadCloser
	all  *bodies
	free int
	took int64
}

func (b *boundBody) Read(p []byte) (int, error) {
	if b.free == 0 && len(p) > 0 {
		if b.all.left.Add(-smallBody) < 0 {
			b.all.left.Add(smallBody)
			b.all.refused.Add(1)
			return 0, errBodies
		}
		b.free, b.took = smallBody, b.took+smallBody
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.free)])
	b.free -= n
	return n, err
}

// webCollector reads at each scrape how the listeners stand.
type webCollector struct {
	servers            []*webServer
	open, closed, refs *prometheus.Desc
}

func newWebCollector(servers []*webServer) *webCollector {
	return &webCollector{
		servers: servers,
		open:    prometheus.NewDesc("hostmesh_http_connections", "Open connections.", []string{"listener"}, nil),
		closed: prometheus.NewDesc("hostmesh_http_connections_closed_total",
			"Connections closed because too many were open: in all (crowded), or from one source (hoarded).", []string{"listener", "reason"}, nil),
		refs: prometheus.NewDesc("hostmesh_http_bodies_refused_total", "Requests refused or cut off because this node held as many large ones as it can.", []string{"listener"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *webCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.open
	ch <- c.closed
	ch <- c.refs
}

// Collect implements prometheus.Collector.
func (c *webCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.servers {
		st := s.door.Stats()
		ch <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(st.Open), s.name)
		ch <- prometheus.MustNewConstMetric(c.closed, prometheus.CounterValue, float64(st.Crowded), s.name, "crowded")
		ch <- prometheus.MustNewConstMetric(c.closed, prometheus.CounterValue, float64(st.Hoarded), s.name, "hoarded")
		ch <- prometheus.MustNewConstMetric(c.refs, prometheus.CounterValue, float64(s.bodies.refused.Load()), s.name)
	}
}

// crowdedFor is how long status tells of connections that were closed to make room.
const crowdedFor = 10 * time.Minute

// crowds are the listeners of which somebody hoards connections, for status.
func (a *Agent) crowds() (list []api.Problem) {
	all := a.mesh.Doors()
	for _, w := range a.web {
		all = append(all, w.door.Stats())
	}
	if a.dns != nil {
		all = append(all, a.dns.Connections())
	}
	for _, st := range all {
		if n := st.Crowded + st.Hoarded; n > 0 && time.Since(st.Last) < crowdedFor {
			list = append(list, api.Problem{
				Severity: api.SeverityNotice, Subject: st.Name,
				Text: fmt.Sprintf("%d connections were closed to make room for others since the start, the last one %s ago, of %s; %d are open",
					n, time.Since(st.Last).Round(time.Second), st.Source, st.Open),
				Remedy: "see what opens so many connections there, and keep it away from the port if it is none of yours",
			})
		}
	}
	return list
}
