package rest

import (
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	s := newSite(t)
	reg := prometheus.NewRegistry()
	s.addr = s.listen(New(Config{Store: s.store, Auth: s.auth, Registerer: reg}), nil)
	s.do("PUT", "/v1/hosts/a", s.as("value", "1"))
	s.do("GET", "/v1/hosts/a", "")
	s.do("GET", "/v1/hosts/a", "")
	s.do("GET", "/v1/hosts/b", "")
	s.do("GET", "/v1/..", "")
	s.do("BREW", "/v1/hosts/a", "")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	var observed uint64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			switch f.GetName() {
			case "hostmesh_rest_requests_total":
				if v := m.GetCounter().GetValue(); v > 0 {
					got[strings.Join(labels, " ")] = v // code, kind, method
				}
			case "hostmesh_rest_request_seconds":
				observed += m.GetHistogram().GetSampleCount()
			}
		}
	}
	want := map[string]float64{"ok key PUT": 1, "ok key GET": 2, "4041 key GET": 1, "4000 none GET": 1, "4050 key other": 1}
	if !maps.Equal(got, want) {
		t.Errorf("requests %v, want %v", got, want)
	}
	if observed != 6 {
		t.Errorf("%d requests are timed, want 6", observed)
	}
}
