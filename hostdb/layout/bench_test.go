package layout_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"hostmesh/hostdb/layout"
)

// BenchmarkImport is the way of 10,000 hosts and 101 tags: packed from a disk, unpacked, read, and imported into an empty
// store in memory.
func BenchmarkImport(b *testing.B) {
	const hosts = 10_000
	dir := many(hosts)
	onDisk := filepath.Join(b.TempDir(), "inventory")
	if err := os.CopyFS(onDisk, dir); err != nil {
		b.Fatal(err)
	}
	b.Run("pack", func(b *testing.B) {
		root, err := os.OpenRoot(onDisk)
		if err != nil {
			b.Fatal(err)
		}
		defer root.Close()
		for b.Loop() {
			if _, err := layout.WriteTar(io.Discard, root.FS(), false); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(hosts*b.N)/b.Elapsed().Seconds(), "hosts/s")
	})
	b.Run("unpack", func(b *testing.B) {
		var stream bytes.Buffer
		if _, err := layout.WriteTar(&stream, dir, false); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := layout.ReadTar(bytes.NewReader(stream.Bytes()), layout.DefaultLimits()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(hosts*b.N)/b.Elapsed().Seconds(), "hosts/s")
	})
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
