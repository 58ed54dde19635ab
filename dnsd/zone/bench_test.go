package zone

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
)

// bigStore has n hosts in one zone with reverse zones, and 200 tags.
func bigStore(t testing.TB, n int) *hostdb.Store {
	t.Helper()
	s := openStore(t)
	put(t, s, "tags/dc1", "DNS: {Zone: dc1.example.com, Reverse: [10.0.0.0/8, '2001:db8::/32'], Records: {'@': {MX: 10 host-1}}}")
	for start := 0; start < n; start += 2000 {
		update(t, s, func(tx *hostdb.Tx) error {
			for i := start; i < min(start+2000, n); i++ {
				doc := document(t, fmt.Sprintf("Network: {IP: 10.%d.%d.%d, IPv6: '2001:db8::%x', cname: alias-%d}", i>>16, i>>8&255, i&255, i, i))
				if err := tx.Put(hostdb.Hosts, hostKey(i), doc); err != nil {
					return err
				}
			}
			return nil
		})
	}
	update(t, s, func(tx *hostdb.Tx) error {
		if err := tx.SetMembers(hostdb.Tags, "dc1", []hostdb.Member{{Name: "@all"}}); err != nil {
			return err
		}
		for g := range 200 {
			tag := fmt.Sprintf("group-%d", g)
			if err := tx.Put(hostdb.Tags, tag, document(t, "Service: {Port: 80}")); err != nil {
				return err
			}
			var list []hostdb.Member
			for i := g; i < n; i += 200 {
				list = append(list, hostdb.Member{Name: hostKey(i)})
			}
			if err := tx.SetMembers(hostdb.Tags, tag, list); err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

func hostKey(i int) string { return fmt.Sprintf("host-%d.dc1.example.com", i) }

func BenchmarkCompile10k(b *testing.B) {
	v := bigStore(b, 10_000).View()
	m := aMesh("host-1.dc1.example.com=127.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		Compile(v, m, DefaultOptions())
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z := Compile(v, m, DefaultOptions())
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-kept")
	runtime.KeepAlive(z)
}

func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			s := bigStore(b, n)
			m := aMesh("host-1.dc1.example.com=127.0.0.1")
			first := Compile(s.View(), m, DefaultOptions())
			var views []hostdb.View
			for i := range 64 {
				put(b, s, "hosts/"+hostKey(i*n/64), fmt.Sprintf("Network: {IP: 10.200.0.%d}", i))
				views = append(views, s.View())
			}
			runtime.GC() // of what filled the store
			b.ReportAllocs()
			var own, published time.Duration
			done := 0
			for z := first; b.Loop(); done++ {
				if done%len(views) == 0 {
					z = first
				}
				before := threadCPU(b)
				next := z.Update(views[done%len(views)], m)
				compiled := threadCPU(b)
				// What a server does before it answers: serials, and the differences of its journal.
				next = next.WithSerials(func(string, Hash) uint32 { return uint32(done + 1) })
				for _, info := range next.Infos() {
					next.Diff(z, info.Origin)
				}
				own, published = own+compiled-before, published+threadCPU(b)-compiled
				z = next
			}
			b.ReportMetric(float64(own.Nanoseconds())/float64(done), "cpu-ns/op")
			b.ReportMetric(float64(published.Nanoseconds())/float64(done), "publish-cpu-ns/op")
		})
	}
}

// threadCPU is what the calling thread, which it ties to the goroutine, has computed: other load does not count.
func threadCPU(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkJoin(b *testing.B) {
	s := bigStore(b, 10_000)
	z := Compile(s.View(), aMesh(), DefaultOptions())
	put(b, s, "hosts/new.dc1.example.com", "Network: {IP: 10.200.0.1}")
	v := s.View()
	v.Members(hostdb.Tags, "dc1")
	b.ReportAllocs()
	for b.Loop() {
		z.Update(v, z.mesh)
	}
}

func BenchmarkLookup(b *testing.B) {
	z := Compile(bigStore(b, 10_000).View(), aMesh("host-1.dc1.example.com=127.0.0.1"), DefaultOptions())
	for _, q := range []string{"host-77.dc1.example.com.", "alias-77.dc1.example.com.", "missing.dc1.example.com.", "group-7.tag.mesh.internal."} {
		b.Run(q, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				z.Lookup(q, 1)
			}
		})
	}
}
