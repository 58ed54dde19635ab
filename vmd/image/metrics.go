package image

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the metrics of the store.
func (s *Store) Collectors() []prometheus.Collector {
	count := func(name, help string, labels prometheus.Labels, v func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hostmesh_image_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v()) })
	}
	gauge := func(name, help string, v func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostmesh_image_" + name, Help: help}, v)
	}
	const received = "Bytes of images that came here, by where from."
	return []prometheus.Collector{
		count("received_bytes_total", received, prometheus.Labels{"from": "peer"}, s.count.peer.Load),
		count("received_bytes_total", received, prometheus.Labels{"from": "url"}, s.count.url.Load),
		count("received_bytes_total", received, prometheus.Labels{"from": "upload"}, s.count.upload.Load),
		count("served_bytes_total", "Bytes of images that were sent to other nodes.", nil, s.count.served.Load),
		count("fetches_total", "Files fetched, by what became of them.", prometheus.Labels{"result": "done"}, s.count.fetched.Load),
		count("fetches_total", "Files fetched, by what became of them.", prometheus.Labels{"result": "failed"}, s.count.failed.Load),
		count("verified_total", "Files read through, by what they were.", prometheus.Labels{"result": "good"}, s.count.good.Load),
		count("verified_total", "Files read through, by what they were.", prometheus.Labels{"result": "damaged"}, s.count.damaged.Load),
		count("wrong_sources_total", "Times a peer or a URL sent bytes that are not those of the catalogue: an alarm.", nil, s.count.lies.Load),
		gauge("fetching", "Images being fetched at present.", func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.flights))
		}),
		gauge("missing_bytes", "Bytes that the fetches which are under way still miss.", func() float64 {
			var n int64
			for _, p := range s.Progress() {
				if p.Err == nil {
					n += p.Total - p.Done
				}
			}
			return float64(n)
		}),
		gauge("stored_bytes", "Bytes of the base images here.", func() float64 {
			var n int64
			list, _ := s.Stored() // an error shows as nothing stored, and in the log of what needs an image
			for _, f := range list {
				n += f.Size
			}
			return float64(n)
		}),
	}
}
