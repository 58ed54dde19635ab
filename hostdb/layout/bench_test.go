package layout_test

import (
	"context"
	"testing"

	"hostmesh/hostdb/layout"
)

// BenchmarkImport reads and imports a directory of 10,000 hosts and 101 tags into an empty store in memory.
func BenchmarkImport(b *testing.B) {
	const hosts = 10_000
	dir := many(hosts)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			mustRead(b, dir, layout.Options{})
		}
		b.ReportMetric(float64(hosts*b.N)/b.Elapsed().Seconds(), "hosts/s")
	})
	inv := mustRead(b, dir, layout.Options{})
	b.Run("import", func(b *testing.B) {
		for b.Loop() {
			if _, err := layout.Import(context.Background(), openStore(b, nil), inv, importer, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(hosts*b.N)/b.Elapsed().Seconds(), "hosts/s")
	})
}
