package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dnsClients = 4
	dnsWindow  = 16 // questions that one client has under way
)

// dns compares the CPU of an answer with that of a process that sends every datagram back. The client is simple; the
// real comparison is with name servers.
func (b *bench) dns(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	a := m.agents[0]
	if err := a.resolves(ctx, hostName(1), hostAddr(1)); err != nil {
		return err
	}
	var questions [][]byte
	for i := range 1024 {
		q, err := question(hostName(i * siteHosts / 1024))
		if err != nil {
			return err
		}
		questions = append(questions, q)
	}
	echo, err := b.startPeer("udp")
	if err != nil {
		return err
	}
	defer echo.end()

	var cpu, rate pairs
	var lost int
	length := b.pick(1500*time.Millisecond, 500*time.Millisecond)
	for range b.count(9, 3) {
		var perQuery, perSecond [2]float64
		for i, s := range []struct {
			pid  int
			addr string
		}{{a.pid(), a.addr + ":" + dnsPort}, {echo.pid(), echo.addr}} {
			done, missed, took, used, err := dnsLoad(ctx, s.pid, s.addr, length, questions)
			if err != nil {
				return err
			}
			if i == 0 {
				lost += missed
			}
			perQuery[i], perSecond[i] = float64(used)/float64(done), float64(done)/took.Seconds()
		}
		cpu.add(perQuery[0], perQuery[1])
		rate.add(perSecond[0], perSecond[1])
	}
	b.table.add(row{
		what: "DNS, plain UDP: server CPU per query", measured: micros(median(cpu.ours)),
		peer: fmt.Sprintf("%.2f x a Go UDP echo, %s", cpu.ratio(), micros(median(cpu.theirs))),
	})
	b.table.add(row{
		what: "DNS, plain UDP: rate with this client", measured: fmt.Sprintf("%.0f/s, %d lost", median(rate.ours), lost),
		peer: fmt.Sprintf("%.2f x the echo, %.0f/s", rate.ratio(), median(rate.theirs)),
	})
	moderate := int(median(rate.ours) / 2)
	p, err := dnsPaced(ctx, a.addr+":"+dnsPort, moderate, b.pick(5*time.Second, 2*time.Second), questions)
	if err != nil {
		return err
	}
	b.table.add(row{
		what: fmt.Sprintf("DNS, plain UDP: lost at %d/s", moderate), measured: fmt.Sprintf("%d of %d", p.sent-p.got-p.ours, p.sent), budget: "none",
		peer: fmt.Sprintf("%d more in this client's own socket, %d of the lost in the agent's", p.ours, p.theirs), met: when(p.sent-p.got-p.ours == 0),
	})
	return nil
}

// resolves waits until this agent answers a name.
func (a *agent) resolves(ctx context.Context, name, addr string) error {
	d, err := dialDNS(a.addr + ":" + dnsPort)
	if err != nil {
		return err
	}
	defer d.close()
	return until(ctx, 10*time.Second, time.Millisecond, a.name+" answers DNS for "+name, func() (bool, error) {
		got, err := d.lookup(name)
		return got == addr, err
	})
}

// dnsLoad asks as fast as answers come, and returns what the server computed meanwhile.
func dnsLoad(ctx context.Context, pid int, addr string, d time.Duration, questions [][]byte) (done, lost int, took, cpu time.Duration, err error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	var answered, missed atomic.Int64
	errs := make([]error, dnsClients)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range dnsClients {
		wg.Go(func() {
			c, err := dialDNS(addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer c.close()
			for at := i * len(questions) / dnsClients; time.Since(begin) < d && ctx.Err() == nil; at += dnsWindow {
				first := at % (len(questions) - dnsWindow)
				n, err := c.burst(questions[first : first+dnsWindow])
				if err != nil {
					errs[i] = err
					return
				}
				answered.Add(int64(n))
				missed.Add(int64(dnsWindow - n))
			}
		})
	}
	wg.Wait()
	took = time.Since(begin)
	after, err := cpuTime(pid)
	done = int(answered.Load())
	if done == 0 {
		errs = append(errs, fmt.Errorf("%s answered nothing", addr))
	}
	return done, int(missed.Load()), took, after - before, errors.Join(append(errs, err)...)
}

// paced is what became of questions at a steady rate.
type paced struct {
	sent, got    int
	ours, theirs int // lost because the socket of the client, or of the server, was full
}

// dnsPaced asks at a steady rate, however fast the answers come.
func dnsPaced(ctx context.Context, addr string, rate int, d time.Duration, questions [][]byte) (p paced, err error) {
	c, err := dialDNS(addr)
	if err != nil {
		return p, err
	}
	before, err := udpDrops(c.c.RemoteAddr())
	if err != nil {
		c.close()
		return p, err
	}
	answers := make(chan int)
	go func() {
		n := 0
		buf := make([]byte, 4096)
		for {
			if _, err := c.c.Read(buf); err != nil {
				answers <- n // the connection was closed
				return
			}
			n++
		}
	}()
	begin := time.Now()
	for time.Since(begin) < d && ctx.Err() == nil && err == nil {
		for due := int(time.Since(begin).Seconds() * float64(rate)); p.sent < due && err == nil; p.sent++ {
			_, err = c.c.Write(questions[p.sent%len(questions)])
		}
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(500 * time.Millisecond) // for the last answers
	var oursErr, theirsErr error
	p.ours, oursErr = udpDrops(c.c.LocalAddr())
	p.theirs, theirsErr = udpDrops(c.c.RemoteAddr())
	p.theirs -= before
	c.close()
	p.got = <-answers
	return p, errors.Join(err, oursErr, theirsErr)
}
