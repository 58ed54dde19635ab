package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/hostdb/section"
	dnsmesh "hostmesh/mesh"
)

// changes is what a store of one size took for some changes, all times in nanoseconds.
type changes struct {
	Update []float64 // Store.Update of one leaf, until a View shows it
	Zone   []float64 // zone.Zones.Update after it
	CPU    float64   // of the process, for one change with all of that
}

// growth compares one change of a large HostDB with one of a small, each in a process of its own.
func (b *bench) growth(ctx context.Context) error {
	const small = 1_000
	large := b.count(100_000, 10_000)
	var sides [2]*peer
	for i, n := range []int{large, small} {
		p, err := b.startPeer("growth", strconv.Itoa(n), filepath.Join(b.dir, fmt.Sprintf("growth%d", n)))
		if err != nil {
			return err
		}
		defer p.end()
		sides[i] = p
		stop := context.AfterFunc(ctx, func() { _ = p.stdin.Close() })
		defer stop()
	}
	var update, zones, cpu pairs
	for range b.count(9, 3) {
		var c [2]changes
		for i, p := range sides {
			if _, err := fmt.Fprintln(p.stdin, b.count(100, 50)); err != nil {
				return err
			}
			line, err := p.out.ReadBytes('\n')
			if err != nil {
				return fmt.Errorf("the store did not answer: %w", err)
			}
			if err := json.Unmarshal(line, &c[i]); err != nil {
				return err
			}
		}
		update.add(median(c[0].Update), median(c[1].Update))
		zones.add(median(c[0].Zone), median(c[1].Zone))
		cpu.add(c[0].CPU, c[1].CPU)
	}
	for _, x := range []struct {
		what string
		p    pairs
	}{{"Store.Update and View, fsync included", update}, {"dnsd/zone Update", zones}, {"CPU of both", cpu}} {
		b.table.add(row{
			what:     fmt.Sprintf("one change at %d hosts: %s", large, x.what),
			measured: micros(median(x.p.ours)), budget: fmt.Sprintf("<= 2 x at %d hosts", small),
			peer: fmt.Sprintf("%.2f x %s", x.p.ratio(), micros(median(x.p.theirs))), met: when(x.p.ratio() <= 2),
		})
	}
	rss, err := memory(sides[0].pid(), "VmRSS")
	if err != nil {
		return err
	}
	b.table.note("The store with %d hosts and its zones took %s (RSS, in a process with nothing else); loading: %s.", large, mib(rss), sides[0].addr)
	return nil
}

// growthChild holds a store with n hosts, and makes as many changes as each line of its input says.
func growthChild(hosts, dir string) error {
	n, err := strconv.Atoi(hosts)
	if err != nil {
		return err
	}
	s, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return badgerdb.Open(badgerdb.Config{Dir: dir}) },
		NodeID:      "bench", Validator: section.Validator{},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	begin := time.Now()
	if err := loadStore(s, n); err != nil {
		return err
	}
	loaded := time.Since(begin)
	begin = time.Now()
	m := dnsmesh.NewView("bench", nil)
	zones := zone.Compile(s.View(), m, zone.DefaultOptions())
	fmt.Printf("Updates %s, zone.Compile %s\n", ms(loaded), ms(time.Since(begin)))
	for round := 1; ; round++ {
		var count int
		if _, err := fmt.Fscan(os.Stdin, &count); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var c changes
		cpu, err := selfCPU()
		if err != nil {
			return err
		}
		for i := range count {
			host, addr := hostName((round*count+i)*7919%n), fmt.Sprintf("10.%d.%d.%d", 100+round%100, i/250%250, 1+i%250)
			doc, err := hostdb.ParseDocument([]byte(addr))
			if err != nil {
				return err
			}
			begin := time.Now()
			_, err = s.Update(context.Background(), hostdb.Request{User: user, Log: "bench"}, func(tx *hostdb.Tx) error {
				return tx.PutPath(hostdb.Hosts, host, []string{"Network", "IP"}, doc)
			})
			if err != nil {
				return err
			}
			v := s.View()
			if got := v.Data(hostdb.Hosts, host).Text("Network", "IP"); got != addr {
				return fmt.Errorf("%s has %q after the write of %q", host, got, addr)
			}
			c.Update = append(c.Update, float64(time.Since(begin)))
			begin = time.Now()
			zones = zones.Update(v, m)
			c.Zone = append(c.Zone, float64(time.Since(begin)))
		}
		after, err := selfCPU()
		if err != nil {
			return err
		}
		c.CPU = float64(after-cpu) / float64(count)
		if err := json.NewEncoder(os.Stdout).Encode(c); err != nil {
			return err
		}
	}
}

func selfCPU() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// loadStore fills a store with the generated site, many keys to an operation.
func loadStore(s *hostdb.Store, n int) error {
	const chunk = 1000
	update := func(fn func(*hostdb.Tx) error) error {
		_, err := s.Update(context.Background(), hostdb.Request{User: user, Log: "load", Lenient: true}, fn)
		return err
	}
	for first := 0; first < n; first += chunk {
		err := update(func(tx *hostdb.Tx) error {
			for i := first; i < min(first+chunk, n); i++ {
				doc, err := hostdb.ParseDocument([]byte(hostText(i)))
				if err != nil {
					return err
				}
				if err := tx.Put(hostdb.Hosts, hostName(i), doc); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	all := tags(n)
	for first := 0; first < len(all); first += chunk {
		err := update(func(tx *hostdb.Tx) error {
			for _, t := range all[first:min(first+chunk, len(all))] {
				doc, err := hostdb.ParseDocument([]byte(t.data))
				if err != nil {
					return err
				}
				if err := tx.Put(hostdb.Tags, t.name, doc); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, t := range all {
		var list []hostdb.Member
		for _, name := range t.members {
			list = append(list, hostdb.Member{Name: name})
		}
		if err := update(func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, t.name, list) }); err != nil {
			return err
		}
	}
	return nil
}
