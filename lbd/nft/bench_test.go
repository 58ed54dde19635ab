package nft

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// handWritten is what somebody would write who has just this one service.
const handWritten = `
add table ip byhand
add chain ip byhand pre { type nat hook prerouting priority dstnat; }
add chain ip byhand post { type nat hook postrouting priority srcnat; }
add rule ip byhand pre ip daddr 10.77.0.100 tcp dport 90 dnat to numgen inc mod 3 map { 0 : 10.77.0.11 . 1090, 1 : 10.77.0.12 . 1090, 2 : 10.77.0.13 . 1090 }
add rule ip byhand post ct status dnat masquerade
`

// BenchmarkForwarding compares our table, which has 100 more services, with rules written by hand, in turns: connections that are made and
// ended, and bytes through one. The figures are our processor time by theirs, the median of pairs, and of the best turn of each, which
// others on the machine disturb least: client, servers and the forwarding between them all
// run in this process's time.
func BenchmarkForwarding(b *testing.B) {
	serve(b, 1090, backends...)
	bal, err := Open(quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer bal.Close()
	var tab Table
	for i := range 101 {
		tab.Services = append(tab.Services, service(TCP, false, RoundRobin, uint16(90+i), 0, 1, 2))
	}
	to := netip.AddrPortFrom(vip4, 90)
	ours := func() {
		if err := bal.Apply(b.Context(), tab); err != nil {
			b.Fatal(err)
		}
	}
	hand := func() {
		if err := bal.Apply(b.Context(), Table{}); err != nil {
			b.Fatal(err)
		}
		nft(b, handWritten)
	}
	for _, load := range []struct {
		name string
		run  func() error
	}{
		{"connections", func() error { return connections(to, 200) }},
		{"bytes", func() error { return bulk(to, 32<<20) }},
	} {
		b.Run(load.name, func(b *testing.B) {
			var ratios []float64
			best := [2]time.Duration{time.Hour, time.Hour}
			for range max(b.N, 5) {
				took := func(set func(), end func()) time.Duration {
					set()
					if end != nil {
						defer end()
					}
					if err := load.run(); err != nil { // warm
						b.Fatal(err)
					}
					began := spent()
					if err := load.run(); err != nil {
						b.Fatal(err)
					}
					return spent() - began
				}
				x := took(ours, nil)
				y := took(hand, func() { nft(b, "delete table ip byhand") })
				z := took(ours, nil)
				best[0], best[1] = min(best[0], x, z), min(best[1], y)
				ratios = append(ratios, (x.Seconds()+z.Seconds())/2/y.Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(best[0].Seconds()/best[1].Seconds(), "ratio-of-best")
		})
	}
}

// BenchmarkApply is a change of one backend of one of 100 services, and what it costs when nothing changed.
func BenchmarkApply(b *testing.B) {
	bal, err := Open(quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer bal.Close()
	var a, c Table
	for i := range 100 {
		s := service(TCP, false, Source, uint16(90+i), 0, 1, 2)
		a.Services, c.Services = append(a.Services, s), append(c.Services, s)
	}
	c.Services[50] = c.Services[50].drain(1)
	for _, tt := range []struct {
		name string
		next [2]Table
	}{{"change", [2]Table{a, c}}, {"same", [2]Table{a, a}}} {
		b.Run(tt.name, func(b *testing.B) {
			for i := range b.N {
				if err := bal.Apply(b.Context(), tt.next[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// connections makes and ends n, from a client box.
func connections(to netip.AddrPort, n int) error {
	return in("near", func() error {
		for i := range n {
			d := net.Dialer{Timeout: 20 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(nearAddr(i%nearSources, false), 0))}
			c, err := d.Dial("tcp", to.String())
			if err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 100))
			c.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// bulk sends n bytes through one connection and back.
func bulk(to netip.AddrPort, n int64) error {
	c, err := dial("near", TCP, netip.Addr{}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(c, zeros{}, n)
		sent <- err
	}()
	if got, err := io.CopyN(io.Discard, c, n); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", got, n, err)
	}
	return <-sent
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func quiet() Config {
	cfg := DefaultConfig()
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// spent is the processor time of this process.
func spent() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
