package hostdb_test

import (
	"fmt"
	"runtime"
	"testing"

	"hostmesh/hostdb"
)

// A start makes, for each host, about what it keeps, and no more of it when there are more hosts.
func TestLoadMakesLittleForAHost(t *testing.T) {
	perHost := func(n int) (bytes, objects float64) {
		b := openBox(t, "box")
		for first := 0; first < n; first += 250 {
			_, err := b.update(t, func(tx *hostdb.Tx) error {
				for i := first; i < first+250; i++ {
					doc := parse(t, fmt.Sprintf("{Network: {IP: 10.0.%d.%d, MAC: '52:54:00:00:%02x:%02x'}, Owner: team-%d, Status: active, Rack: r%d}", i/250, i%250, i/250, i%250, i%10, i/40))
					if err := tx.Put(hostdb.Hosts, fmt.Sprintf("host%05d.dc1.example.com", i), doc); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		storage := b.storage.Snapshot()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return storage, nil }, NodeID: "box", Clock: b.clock})
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := s.View().Len(hostdb.Hosts); got != n {
			t.Fatalf("%d hosts of %d", got, n)
		}
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n)
	}
	smallBytes, smallObjects := perHost(1000)
	bytes, objects := perHost(8000)
	t.Logf("of a host among 1000: %.0f bytes, %.1f objects; among 8000: %.0f, %.1f", smallBytes, smallObjects, bytes, objects)
	if objects > 1.2*smallObjects || bytes > 1.3*smallBytes || objects > 40 {
		t.Error("loading a host makes more when there are more")
	}
}
