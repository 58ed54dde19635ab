package rest

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// methods are the label values of methods; whatever is none of them is "other".
var methods = [...]string{"GET", "HEAD", "PUT", "POST", "DELETE", "other"}

// metrics are the collectors of a handler. What answers without an error is resolved beforehand: a GET of a host must
// not pay for labels.
type metrics struct {
	requests *prometheus.CounterVec
	served   [len(methods)][kinds]prometheus.Counter
	seconds  [len(methods)]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "hostmesh", Subsystem: "rest", Name: "requests_total",
		Help: "Requests to /v1 by method, kind of id and code: ok, or the four digits of the error.",
	}, []string{"method", "kind", "code"})}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "hostmesh", Subsystem: "rest", Name: "request_seconds",
		Help:    "Time from a request's header to its answer, by method.",
		Buckets: []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 5},
	}, []string{"method"})
	if reg != nil {
		reg.MustRegister(m.requests, seconds)
	}
	for i, method := range methods {
		m.seconds[i] = seconds.WithLabelValues(method)
	}
	// Reads are the many; the others are resolved when they come, so that no series stands at zero for ever.
	for i, method := range methods[:2] {
		for _, k := range []kind{kindKey, kindPath, kindMembers} {
			m.served[i][k] = m.requests.WithLabelValues(method, k.String(), "ok")
		}
	}
	return m
}

func methodIndex(method string) int {
	for i, m := range methods {
		if m == method {
			return i
		}
	}
	return len(methods) - 1
}

func (m *metrics) done(method string, k kind, took time.Duration) {
	i := methodIndex(method)
	m.seconds[i].Observe(took.Seconds())
	if c := m.served[i][k]; c != nil {
		c.Inc()
		return
	}
	m.requests.WithLabelValues(methods[i], k.String(), "ok").Inc()
}

func (m *metrics) failed(method string, k kind, c code, took time.Duration) {
	i := methodIndex(method)
	m.seconds[i].Observe(took.Seconds())
	m.requests.WithLabelValues(methods[i], k.String(), strconv.Itoa(int(c))).Inc()
}
