package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/node/api"
)

const (
	loadPart    = 0.8  // of what the agent can answer
	loadWindow  = 1000 // questions under way at once: with dnsperf's own 100 it would wait for a slow server instead of losing
	loadBuffer  = 2048 // KiB of each of its sockets: what it has no room for would count as lost by the server
	loadChanges = 1000 // a second
	loadBatch   = 100  // of them in one transaction
	loadCheck   = time.Millisecond
)

// underLoad asks one agent of two at a part of its peak, first while the other writes, then while the other is killed and
// comes back. dnsperf tells what was lost; a checker asks for names whose answers are known.
func (b *bench) underLoad(ctx context.Context) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return fmt.Errorf("dnsperf is needed (Debian: dnsperf): %w", err)
	}
	m, err := b.newMesh(ctx, 2)
	if err != nil {
		return err
	}
	defer m.close()
	asked, other := m.agents[0], m.agents[1]
	dir, err := os.MkdirTemp(b.dir, "load")
	if err != nil {
		return err
	}
	if err := fillNames(ctx, asked, dir); err != nil {
		return err
	}
	if err := m.equal(ctx, m.agents...); err != nil {
		return err
	}
	questions := filepath.Join(dir, "questions")
	if err := os.WriteFile(questions, []byte(nsQuestionFile()), 0o644); err != nil {
		return err
	}
	s := &nameserver{name: asked.name, addr: asked.addr, pid: asked.pid()}
	at, err := net.ResolveUDPAddr("udp", asked.addr+":"+dnsPort)
	if err != nil {
		return err
	}
	var peaks []float64
	for range 3 {
		t, err := s.perf(ctx, "udp", questions, b.pick(5*time.Second, 2*time.Second))
		if err != nil {
			return fmt.Errorf("peak: %w", err)
		}
		peaks = append(peaks, t.rate)
	}
	l := &steadyLoad{server: s, questions: questions, rate: int(loadPart * median(peaks)), length: b.pick(15*time.Second, 5*time.Second), known: newKnown(loadChanges)}
	for _, part := range []struct {
		what string
		run  func(context.Context) (string, error)
	}{
		{fmt.Sprintf("%d writes/s at another agent", loadChanges), func(ctx context.Context) (string, error) { return l.known.write(ctx, other, l.length) }},
		{"another agent killed and restarted", func(ctx context.Context) (string, error) { return restart(ctx, other) }},
	} {
		before, err := udpDrops(at)
		if err != nil {
			return err
		}
		did, t, c, err := l.during(ctx, part.run)
		if err != nil {
			return fmt.Errorf("DNS during %s: %w", part.what, err)
		}
		full, err := udpDrops(at)
		if err != nil {
			return err
		}
		for _, a := range m.agents {
			stale, err := l.known.settled(ctx, a)
			if err != nil {
				return err
			}
			c.wrong += stale
		}
		b.table.add(row{
			what:     fmt.Sprintf("DNS at %.0f %% of peak, %s", 100*loadPart, part.what),
			measured: fmt.Sprintf("%d lost of %.0f, %d wrong of %d looked at", t.lost+c.lost, t.rate*l.length.Seconds(), t.failed+c.wrong, c.asked),
			budget:   "none lost, none wrong",
			peer:     fmt.Sprintf("%.0f/s of %d/s wanted, peak %.0f/s; %d of the lost in the agent's socket; %s", t.rate, l.rate, median(peaks), full-before, did),
			met:      when(t.lost+c.lost+t.failed+c.wrong == 0),
		})
		if t.rate < 0.9*float64(l.rate) {
			b.table.note("DNS during %s: the box had no room for the rate that was wanted; the row says little.", part.what)
		}
		if c.example != "" {
			b.table.note("DNS during %s, the first wrong answer: %s", part.what, c.example)
		}
	}
	return nil
}

// steadyLoad is dnsperf at a rate, and a checker beside it.
type steadyLoad struct {
	server    *nameserver
	questions string
	rate      int
	length    time.Duration
	known     *knownNames
}

// checked is what a checker saw.
type checked struct {
	asked, lost, wrong int
	example            string
}

// during asks while something else goes on, and ends when dnsperf and that have ended.
func (l *steadyLoad) during(ctx context.Context, run func(context.Context) (string, error)) (did string, t perfTurn, c checked, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.length+time.Minute)
	defer cancel()
	checking, stop := context.WithCancel(ctx)
	defer stop()
	var runErr, checkErr, perfErr error
	var work, check sync.WaitGroup
	check.Go(func() { c, checkErr = l.known.check(checking, l.server.addr) })
	work.Go(func() { did, runErr = run(ctx) })
	work.Go(func() {
		t, perfErr = l.server.perf(ctx, "udp", l.questions, l.length, "-q", fmt.Sprint(loadWindow), "-b", fmt.Sprint(loadBuffer), "-Q", fmt.Sprint(l.rate))
	})
	work.Wait()
	stop()
	check.Wait()
	return did, t, c, errors.Join(runErr, perfErr, checkErr)
}

// knownNames are hosts of which every answer that is right is known: in round r host i has the address of (i, r). Round 0
// is what the import wrote.
type knownNames struct {
	began, ended []atomic.Int64 // by host: the last round that may be there, and the last that was acknowledged
}

func newKnown(n int) *knownNames {
	return &knownNames{began: make([]atomic.Int64, n), ended: make([]atomic.Int64, n)}
}

// roundAddr is the address of a host in a round.
func roundAddr(host int, round int64) string {
	if round == 0 {
		return hostAddr(host)
	}
	return fmt.Sprintf("10.%d.%d.%d", 50+round, host/250, 1+host%250)
}

// roundOf is the round in which a host has an address; not found when it never has.
func roundOf(host int, addr string) (round int64, found bool) {
	if addr == hostAddr(host) {
		return 0, true
	}
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() {
		return 0, false
	}
	round = int64(a.As4()[1]) - 50
	return round, round > 0 && roundAddr(host, round) == addr
}

// write changes every host once a second for a while, in transactions. What was written is told.
func (k *knownNames) write(ctx context.Context, a *agent, length time.Duration) (string, error) {
	c, err := api.NewClient(api.ClientConfig{Socket: filepath.Join(a.dir, "agent.sock")})
	if err != nil {
		return "", err
	}
	done := 0
	begin := time.Now()
	for done < int(length.Seconds())*loadChanges && ctx.Err() == nil {
		due := begin.Add(time.Duration(done) * time.Second / loadChanges)
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		txn := api.Txn{Log: "bench"}
		first, round := done%len(k.began), int64(done/len(k.began))+1
		for i := first; i < first+loadBatch; i++ {
			value, err := json.Marshal(roundAddr(i, round))
			if err != nil {
				return "", err
			}
			k.began[i].Store(round)
			txn.Effects = append(txn.Effects, api.Effect{Op: "put_path", ID: "hosts/" + hostName(i) + "/Network/IP", Value: value})
		}
		if _, err := c.Txn(ctx, txn, 0); err != nil {
			return "", err
		}
		for i := first; i < first+loadBatch; i++ {
			k.ended[i].Store(round)
		}
		done += loadBatch
		if time.Since(begin) > 2*length {
			break // the box does not do more
		}
	}
	rate := float64(done) / time.Since(begin).Seconds()
	if rate < 0.9*loadChanges {
		return fmt.Sprintf("only %.0f writes/s were possible", rate), ctx.Err()
	}
	return fmt.Sprintf("%.0f writes/s", rate), ctx.Err()
}

// restart ends an agent as a power cut would, and starts it again.
func restart(ctx context.Context, a *agent) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(time.Second): // so that the load is under way
	}
	begin := time.Now()
	a.kill()
	if err := a.start(ctx); err != nil {
		return "", err
	}
	if err := a.ready(ctx); err != nil {
		return "", err
	}
	return "it served again after " + ms(time.Since(begin)), nil
}

// check asks one agent for the names in turn until ctx ends. Right is an address of a round that was begun and is not older
// than what this agent answered before; of a name that never was there: that it is not there.
func (k *knownNames) check(ctx context.Context, addr string) (c checked, err error) {
	d, err := dialDNS(addr + ":" + dnsPort)
	if err != nil {
		return c, err
	}
	defer d.close()
	seen := make([]int64, len(k.began))
	wrong := func(format string, args ...any) {
		if c.wrong++; c.example == "" {
			c.example = fmt.Sprintf(format, args...)
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		i := n * 7 % len(k.began)
		name := hostName(i)
		missing := n%20 == 19
		if missing {
			name = "missing-" + name
		}
		got, answered, err := d.ask(name, dnsperfLimit*time.Second)
		if err != nil {
			return c, err
		}
		c.asked++
		switch round, known := roundOf(i, got); {
		case !answered:
			c.lost++
		case missing && got != "" || !missing && !known:
			wrong("%q for %s, which never had it", got, name)
		case missing:
		case round < seen[i] || round > k.began[i].Load():
			wrong("%s for %s, of round %d: %d was answered before, %d is the last", got, name, round, seen[i], k.began[i].Load())
		default:
			seen[i] = round
		}
		time.Sleep(loadCheck)
	}
	return c, nil
}

// settled waits until an agent answers what was acknowledged last, and returns how many names it never does so for.
func (k *knownNames) settled(ctx context.Context, a *agent) (stale int, err error) {
	d, err := dialDNS(a.addr + ":" + dnsPort)
	if err != nil {
		return 0, err
	}
	defer d.close()
	limit := time.Now().Add(30 * time.Second)
	for i := range k.ended {
		want := roundAddr(i, k.ended[i].Load())
		for {
			got, _, err := d.ask(hostName(i), dnsperfLimit*time.Second)
			if err != nil {
				return stale, err
			}
			if got == want {
				break
			}
			if time.Now().After(limit) || ctx.Err() != nil {
				stale++
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return stale, ctx.Err()
}
