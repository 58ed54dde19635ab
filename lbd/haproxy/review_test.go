package haproxy

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
)

// TestReviewOtherPortBehind: where backends listen on another port from now on, that is where connections go.
func TestReviewOtherPortBehind(t *testing.T) {
	h := open(t)
	first, _ := webs(t, 1)
	second, _ := webs(t, 1)
	port := freePort(t, vip)
	h.apply(web(port, first, 1))
	who(t, url(port), 1)
	h.apply(web(port, second, 1))
	_, servers := h.to(port)
	if want := netip.AddrPortFrom(netip.MustParseAddr(backendAddr(1)), second).String(); servers != want {
		t.Errorf("connections go to %s, want %s", servers, want)
	}
}

// to is where the process that runs sends connections of a port.
func (h *house) to(port uint16) (id, addrs string) {
	h.t.Helper()
	answer, err := ask(context.Background(), h.b.seen.Load().now.socket, "show stat")
	if err != nil {
		h.t.Fatal(err)
	}
	id = "b." + proxyID("web", port)
	lines := strings.Split(answer, "\n")
	head := strings.Split(strings.TrimPrefix(lines[0], "# "), ",")
	var list []string
	for _, line := range lines[1:] {
		row := strings.Split(line, ",")
		if len(row) < len(head) || row[0] != id || row[1] == "BACKEND" {
			continue
		}
		for i, name := range head {
			if name == "addr" {
				list = append(list, row[i])
			}
		}
	}
	return id, strings.Join(list, " ")
}

// TestReviewDeadAndRefused: a service that HAProxy could not go on with after it died, because its certificate was not there at that moment, is
// carried when it is.
func TestReviewDeadAndRefused(t *testing.T) {
	h := open(t)
	clock := &steppedClock{}
	h.stop()
	h.begin(Config{Clock: clock})
	cert := filepath.Join(h.tls, "shop.pem")
	certificate(t, h.tls, "shop")
	to, _ := webs(t, 1)
	port, plain := freePort(t, vip), freePort(t, vip)
	s := with(web(port, to, 1), func(s *plan.Service) { s.TLS = "shop" })
	other := with(web(plain, to, 1), func(s *plan.Service) { s.Tag = "plain" })
	for _, all := range [][]*plan.Service{{s}, {s, other}} {
		h.apply(all...)
		if err := os.Rename(cert, cert+".away"); err != nil {
			t.Fatal(err)
		}
		pid := h.b.Status().Pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, "the refusal", func() bool {
			clock.after(10 * time.Millisecond)
			s := h.b.Status()
			return s.Refused["web"] != "" && (len(all) == 1 || s.Pid != 0 && s.Pid != pid)
		})
		if err := os.Rename(cert+".away", cert); err != nil {
			t.Fatal(err)
		}
		clock.after(2 * badTime)
		wait(t, "the service", func() bool {
			s := h.b.Status()
			return s.Pid != 0 && len(s.Services) == len(all) && len(s.Refused) == 0
		})
	}
}

// TestReviewStandsStill: a process that answers nothing any more is replaced.
func TestReviewStandsStill(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 1)
	port := freePort(t, vip)
	h.apply(web(port, to, 1))
	pid := h.b.Status().Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wait(t, "another process", func() bool { s := h.b.Status(); return s.Pid != 0 && s.Pid != pid })
	who(t, url(port), 1)
}

// TestReviewCountsOfAHostThatMoved: a host that has two backends for a while does not break the metrics of the agent.
func TestReviewCountsOfAHostThatMoved(t *testing.T) {
	h := open(t)
	to, _ := webs(t, 2)
	port := freePort(t, vip)
	h.apply(with(web(port, to, 2), func(s *plan.Service) { s.Backends[1].Host, s.Mode = "web1", section.HTTP }))
	who(t, url(port), 4)
	reg := prometheus.NewPedanticRegistry()
	for _, c := range h.b.Collectors() {
		reg.MustRegister(c)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range all {
		if f.GetName() != "hostmesh_lb_haproxy_connections_total" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "host" && l.GetValue() == "web1" {
					total += m.GetCounter().GetValue()
				}
			}
		}
	}
	if total != 4 {
		t.Errorf("it counts %v requests of 4", total)
	}
}

// steppedClock stands still, but for steps.
type steppedClock struct{ at atomic.Int64 }

func (c *steppedClock) Now() time.Time        { return time.Unix(1_900_000_000, c.at.Load()) }
func (c *steppedClock) after(d time.Duration) { c.at.Add(int64(d)) }

// TestReviewStartsAreSpread: whoever applies the same again and again does not start a program all the time that does not run.
func TestReviewStartsAreSpread(t *testing.T) {
	dir := shortDir(t)
	program := filepath.Join(dir, "haproxy")
	text := "#!/bin/sh\ncase $1 in -v) echo HAProxy version 2.6.1;; -c) ;; *) echo x >>" + dir + "/starts; exit 1;; esac\n"
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := Open(context.Background(), Config{Program: program, Dir: dir + "/d", TLSDir: dir, Clock: &steppedClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := web(80, 8080, 1)
	for range 6 {
		if err := b.Apply(context.Background(), []*plan.Service{s}); err == nil {
			t.Fatal("it runs")
		}
	}
	starts := func() int {
		text, err := os.ReadFile(dir + "/starts")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "x")
	}
	before := starts()
	if before > 2 {
		t.Errorf("it was started %d times", before)
	}
	if err := b.Apply(context.Background(), []*plan.Service{web(81, 8080, 1)}); err == nil || starts() == before {
		t.Errorf("another service was not tried: %v", err)
	}
}
