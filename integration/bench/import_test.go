package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/hostdb/layout"
	"hostmesh/hostdb/section"
)

// BenchmarkImport is what an import costs the replica where it is made (write) and each other one (take), without the
// mesh between them and without DNS: to be looked at with -cpuprofile and -benchmem.
func BenchmarkImport(b *testing.B) {
	dir := b.TempDir()
	if _, err := writeInventory(dir, siteHosts); err != nil {
		b.Fatal(err)
	}
	write := func(b *testing.B) *hostdb.Store {
		s := benchStore(b)
		inv, err := layout.Read(b.Context(), os.DirFS(dir), layout.Options{Into: s.View()})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := layout.Import(b.Context(), s, inv, hostdb.Request{User: "bench", Log: "bench"}, nil); err != nil {
			b.Fatal(err)
		}
		return s
	}
	b.Run("write", func(b *testing.B) {
		measure(b, func() func() { return func() { write(b) } })
	})
	b.Run("take", func(b *testing.B) {
		from := write(b)
		ops, err := from.Operations(from.Origin(), 0, 1<<40)
		if err != nil {
			b.Fatal(err)
		}
		measure(b, func() func() {
			s := benchStore(b)
			return func() {
				for _, op := range ops { // as they come from a writer
					if _, err := s.Apply(context.Background(), [][]byte{op}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	})
}

// measure reports what the process computes for what prepare returns, by its own clock: other processes and waiting for a
// disk do not count.
func measure(b *testing.B, prepare func() func()) {
	b.ReportAllocs()
	var all time.Duration
	for b.Loop() {
		b.StopTimer()
		work := prepare()
		before := selfCPU(b)
		b.StartTimer()
		work()
		all += selfCPU(b) - before
	}
	b.ReportMetric(all.Seconds()*1e3/float64(b.N), "cpu-ms/op")
}

func selfCPU(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// benchStore is an empty replica on the disk.
func benchStore(b *testing.B) *hostdb.Store {
	dir := b.TempDir()
	s, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return badgerdb.Open(badgerdb.Config{Dir: dir}) },
		NodeID:      rand.Text(), Validator: section.Validator{},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, hostdb.ErrClosed) {
			b.Error(err)
		}
	})
	return s
}
