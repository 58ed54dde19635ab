package plan

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// bigHall is n boxes that carry machines each, every tenth of them in a tag of its own, with further hosts beside.
func bigHall(b *testing.B, n, each, others int) (Input, []Wish) {
	b.Helper()
	h := newHall(b, n)
	b.Cleanup(func() { h.store.Close() })
	docs := map[string]string{}
	k := 0
	for i := range n {
		for range each {
			k++
			docs[fmt.Sprintf("hosts/vm%d", k)] = fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: 1, Memory: 1GiB, Disk: 11GiB, Subnet: prod, Box: %s}", uuid(k), boxName(i+1))
		}
	}
	for i := range others {
		docs[fmt.Sprintf("hosts/other%d", i)] = fmt.Sprintf("Network: {IP: 10.9.%d.%d, MAC: '02:00:00:00:%02x:%02x'}", i/250, i%250, i/256, i%256)
	}
	for i := range 1000 {
		docs[fmt.Sprintf("hosts/new%d", i)] = fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: 1, Memory: 1GiB, Disk: 11GiB, Subnet: prod}", uuid(1_000_000+i))
	}
	docs["tags/web"], docs["tags/web/members"] = "Placement: {Spread: rack}", ""
	for i := range 100 {
		docs["tags/web/members"] += fmt.Sprintf("new%d\nvm%d\n", i, i%n*each+1)
	}
	h.store.write(docs)
	in := h.input()
	in.Index = NewPlanner(in.DB)
	wishes := in.Index.Unplaced("dc1")
	if len(wishes) != 1000 {
		b.Fatal(len(wishes))
	}
	return in, wishes
}

// spent reports what processor time an operation took of the whole process, whoever else runs.
func spent(b *testing.B) func() {
	usage := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := usage()
	b.ReportAllocs()
	return func() { b.ReportMetric(float64((usage()-began).Nanoseconds())/float64(b.N), "cpu-ns/op") }
}

// BenchmarkPlace is one wish on 1,000 boxes with 5,000 machines: with and without a Fleet that is there already.
func BenchmarkPlace(b *testing.B) {
	in, wishes := bigHall(b, 1000, 5, 0)
	b.Run("fresh", func(b *testing.B) {
		defer spent(b)()
		for b.Loop() {
			if d := NewFleet(in).Place(wishes[0]); d.Box == "" {
				b.Fatal(d.Reason)
			}
		}
	})
	b.Run("explain", func(b *testing.B) {
		defer spent(b)()
		for b.Loop() {
			if d := Place(in, wishes[0]); d.Box == "" {
				b.Fatal(d.Reason)
			}
		}
	})
	b.Run("kept", func(b *testing.B) {
		f := NewFleet(in)
		defer spent(b)()
		for b.Loop() {
			if d := f.Place(wishes[0]); d.Box == "" {
				b.Fatal(d.Reason)
			}
		}
	})
}

// BenchmarkPlaceAll is many wishes at once.
func BenchmarkPlaceAll(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(fmt.Sprintf("boxes=1000/wishes=%d", n), func(b *testing.B) {
			in, wishes := bigHall(b, 1000, 5, 0)
			defer spent(b)()
			for b.Loop() {
				for _, d := range PlaceAll(in, wishes[:n]) {
					if d.Box == "" {
						b.Fatal(d.Reason)
					}
				}
			}
		})
	}
}

// BenchmarkPlanner is the first look, and one change, beside 1,000 and 50,000 other hosts.
func BenchmarkPlanner(b *testing.B) {
	for _, others := range []int{1000, 50000} {
		in, _ := bigHall(b, 10, 100, others)
		b.Run(fmt.Sprintf("first/others=%d", others), func(b *testing.B) {
			defer spent(b)()
			for b.Loop() {
				NewPlanner(in.DB)
			}
		})
		b.Run(fmt.Sprintf("change/others=%d", others), func(b *testing.B) {
			s := openStore(b)
			defer s.Close()
			docs := map[string]string{"tags/prod": prod}
			for i := range others {
				docs[fmt.Sprintf("hosts/other%d", i)] = "Network: {IP: 10.9.0.1}"
			}
			for i := range 100 {
				docs[fmt.Sprintf("hosts/vm%d", i)] = vm(i+1, ", Box: box1")
			}
			s.write(docs)
			views := [2]hostdb.View{s.View()}
			s.write(map[string]string{"hosts/vm1": vm(2, ", Power: off, Box: box1")})
			views[1] = s.View()
			p := NewPlanner(views[0])
			p.Wanted("box1")
			defer spent(b)()
			i := 0
			for b.Loop() {
				i ^= 1
				p.Update(views[i])
				if len(p.Wanted("box1")) != 100 {
					b.Fatal("machines are missing")
				}
			}
		})
	}
}

// BenchmarkNextAddress is the last free address of two /27 blocks.
func BenchmarkNextAddress(b *testing.B) {
	s := Subnet{Tag: "prod", CIDR: netip.MustParsePrefix("10.1.0.0/16"), Pool: netip.MustParsePrefix("10.1.128.0/17")}
	blocks := []netip.Prefix{Blocks(s.Pool).At(3), Blocks(s.Pool).At(7)}
	last := netip.MustParseAddr("10.1.128.255")
	in := AddressInput{Subnet: s, Blocks: blocks, Now: time.Unix(1e9, 0), InUse: func(a netip.Addr) string {
		if a == last {
			return ""
		}
		return "somebody"
	}}
	defer spent(b)()
	for b.Loop() {
		if a, err := NextAddress(in); a != last {
			b.Fatal(a, err)
		}
	}
}
