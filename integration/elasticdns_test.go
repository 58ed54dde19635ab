package integration

import (
	"bufio"
	"context"
	order "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"hostmesh/node/api"
)

// TestElasticDNS runs examples/elastic-dns: resolvers, real unbounds, behind an address that one of three agents holds, each in a network namespace of
// its own. A client asks all the time, and no change that people make costs it a query.
func TestElasticDNS(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		elasticDNS(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip", "nft", "unbound", "dig")
}

var resolverVIP = netip.MustParseAddr("10.77.0.100")

func elasticDNS(t *testing.T) {
	s := newBalancers(t, 3, map[string]string{"r1": "10.77.0.51", "r2": "10.77.0.52", "r3": "10.77.0.53", "c1": "10.77.0.61"})
	s.vips = []netip.Addr{resolverVIP}
	var clients []netip.Addr
	for i := range 16 { // slots are a client's: one address would see one resolver
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(160 + i)})
		clients = append(clients, a)
		s.w.ip("-n", "c1", "address", "add", a.String()+"/24", "dev", "eth0")
	}
	s.w.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv4.ip_forward=0")
	resolvers := map[string]*exec.Cmd{}
	for i := range 3 {
		resolvers[fmt.Sprintf("resolver%d", i+1)] = s.unbound(fmt.Sprintf("r%d", i+1), fmt.Sprintf("resolver%d", i+1))
	}
	s.launch()
	s.ears = append(s.ears, newEar(t, "c1", netip.MustParseAddr("10.77.0.61"), s.vips))

	sh := newShell(t, "HOSTMESH_SOCKET="+s.boxes[1].socket())
	sh.command = strings.NewReplacer("dig ", "ip netns exec c1 dig +time=5 ")
	list := readPage(t, "examples/elastic-dns/README.md").commands("console")
	if len(list) < 8 {
		t.Fatalf("the example has %d commands", len(list))
	}
	var asker *asker
	for _, c := range list {
		if strings.HasPrefix(c.text, "hostmesh tag add") && asker == nil {
			asker = newAsker(t, "c1", clients, netip.AddrPortFrom(resolverVIP, 53))
			asker.serves()
		}
		sh.check(c)
	}
	if t.Failed() {
		t.Fatal("the rest would follow from that")
	}
	s.times(asker)
	lost, n := asker.lost(time.Time{})
	t.Logf("over all changes that people made the client lost %d of %d queries", lost, n)
	if lost > 0 {
		t.Errorf("%d of %d queries were lost although nothing failed", lost, n)
	}

	// A resolver dies: its checks find it, and nobody is sent there any more.
	from := time.Now()
	_ = resolvers["resolver2"].Process.Kill()
	s.wait("resolver2 is out", func() error { return s.backend(s.holder(), "resolver2", api.LBOut) })
	asker.serves()
	t.Logf("a resolver was killed: %s", asker.story(from))

	// The holder dies, and takes nothing along.
	(&dutiesSite{site: s.site}).voters(s.boxes[0], 3) // else the one that votes may be it
	holder := s.holder()
	from = time.Now()
	holder.kill()
	s.answeredBy(s.ears[0], s.others(holder)...)
	asker.serves()
	t.Logf("the holder was killed: %s", asker.story(from))
	s.wait("the kernel has removed the address", func() error {
		if s.has(holder, resolverVIP) {
			return fmt.Errorf("%s was killed, and still has it", holder.name)
		}
		return nil
	})
	if who := overlap(spans(s.ears[0].since(from, resolverVIP))); who > 0 {
		t.Errorf("two boxes answered for the address for %s", who)
	}
	asker.end()
	for _, b := range s.running() {
		b.stop()
	}
}

// unbound runs one with the file of the example, which says its name to who asks.
func (s *lbSite) unbound(space, name string) *exec.Cmd {
	t := s.t
	t.Helper()
	example, err := filepath.Abs("../examples/elastic-dns/unbound.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := s.write(space+".conf", fmt.Sprintf("include: %q\nserver:\n\tidentity: %q\n\tchroot: \"\"\n\tusername: \"\"\n\tpidfile: \"\"\n\tdirectory: %q\n\tnum-threads: 1\n", example, name, s.dir))
	log, err := os.Create(filepath.Join(s.dir, space+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("ip", "netns", "exec", space, "unbound", "-d", "-c", conf)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been killed
		_ = cmd.Wait()
	})
	return cmd
}

// holder is the box that holds the address.
func (s *lbSite) holder() (b *box) {
	s.t.Helper()
	s.wait("somebody holds the address", func() error {
		x, err := s.running()[0].api.LBService(s.t.Context(), "resolvers")
		if err != nil || x.Holder == nil || x.Holder.Phase != "held" {
			return fmt.Errorf("%+v %w", x.Holder, err)
		}
		for _, b = range s.running() {
			if b.name == x.Holder.Name {
				return nil
			}
		}
		return errors.New(x.Holder.Name)
	})
	return b
}

// backend asks the holder for the state of a member in what its kernel has.
func (s *lbSite) backend(holder *box, host, state string) error {
	x, err := holder.api.LBService(s.t.Context(), "resolvers")
	if err != nil {
		return err
	}
	for _, b := range x.Backends {
		if b.Host == host && b.State == state {
			return nil
		}
	}
	return fmt.Errorf("%s is %+v", host, x.Backends)
}

// times changes the members at a node that does not hold the address, and sees when the holder's kernel knows.
func (s *lbSite) times(client *asker) {
	t := s.t
	t.Helper()
	holder := s.holder()
	writer := s.others(holder)[0]
	kernel := s.monitor(holder)
	var off, on []time.Duration
	for i := range 5 {
		s.wait("resolver3 is not there", func() error {
			if s.backend(holder, "resolver3", api.LBIn) == nil {
				return errors.New("it is in")
			}
			return nil
		})
		began := time.Now()
		if _, err := writer.api.Put(t.Context(), "tags/resolvers/members", []byte("resolver1\nresolver2\nresolver3\n"), "one more"); err != nil {
			t.Fatal(err)
		}
		s.wait("resolver3 is in", func() error { return s.backend(holder, "resolver3", api.LBIn) })
		on = append(on, time.Since(began).Round(time.Millisecond))
		s.wait("resolver3 answers clients", func() error {
			if !slices.Contains(client.by(time.Now().Add(-2*time.Second)), "resolver3") {
				return errors.New("it does not")
			}
			return nil
		})
		if i == 0 {
			s.metrics(holder)
		}
		began = time.Now()
		if _, err := writer.api.Put(t.Context(), "tags/resolvers/members", []byte("resolver1\nresolver2\n"), "one less"); err != nil {
			t.Fatal(err)
		}
		s.wait("resolver3 drains", func() error { return s.backend(holder, "resolver3", api.LBDraining) })
		off = append(off, kernel.after(began))
		done := time.Now()
		client.serves()
		if slices.Contains(client.by(done), "resolver3") {
			t.Errorf("queries that began after resolver3 was taken out of the kernel's table went there")
		}
	}
	slices.Sort(off)
	slices.Sort(on)
	t.Logf("from a write on another node to the holder's kernel: taken out %s median, %s worst of %d; put back while it drained, until the holder says so, %s median, %s worst",
		off[len(off)/2], off[len(off)-1], len(off), on[len(on)/2], on[len(on)-1])
}

// metrics looks for those of docs/load-balancing.md that count something on a holder.
func (s *lbSite) metrics(holder *box) {
	t := s.t
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", holder.socket())
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: eventually}).Get("http://socket/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	page := readFile(t, "../docs/load-balancing.md")
	for _, m := range regexp.MustCompile("`(hostmesh_(?:lb|vip)_[a-z_]+)[`{]").FindAllStringSubmatch(page, -1) {
		switch {
		case strings.Contains(m[1], "haproxy"), m[1] == "hostmesh_lb_problems", m[1] == "hostmesh_lb_nat_draining_flows":
			continue // none of that is here at this moment
		}
		n++
		if !regexp.MustCompile(`(?m)^` + m[1] + `[ {]`).Match(all) {
			t.Errorf("docs/load-balancing.md: %s has no metric %s", holder.name, m[1])
		}
	}
	if n < 20 {
		t.Errorf("the page names %d metrics", n)
	}
}

// monitor notes when the rules of a kernel change.
type monitor struct {
	t    *testing.T
	mu   sync.Mutex // guards seen
	seen []time.Time
}

func (s *lbSite) monitor(b *box) *monitor {
	t := s.t
	t.Helper()
	m := &monitor{t: t}
	cmd := exec.Command("ip", "netns", "exec", s.spaces[b], "nft", "monitor")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), " element ") {
				m.mu.Lock()
				m.seen = append(m.seen, time.Now())
				m.mu.Unlock()
			}
		}
	}()
	// It is not there before it is: a set of this test's own is written until it is heard of.
	in := func(args ...string) { s.w.run("ip", append([]string{"netns", "exec", s.spaces[b], "nft"}, args...)...) }
	in("add", "table", "ip", "heard")
	in("add", "set", "ip", "heard", "n", "{ type ipv4_addr; }")
	n := 0
	wait(t, "the rules of "+b.name+" are watched", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if n++; len(m.seen) > 0 {
			return nil
		}
		in("add", "element", "ip", "heard", "n", fmt.Sprintf("{ 192.0.2.%d }", n%250+1))
		return errors.New("they are not")
	})
	in("delete", "table", "ip", "heard")
	return m
}

// after is how long after a moment the first change came.
func (m *monitor) after(from time.Time) (took time.Duration) {
	m.t.Helper()
	wait(m.t, "the kernel's rules change", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, at := range m.seen {
			if at.After(from) {
				took = at.Sub(from).Round(time.Millisecond)
				return nil
			}
		}
		return errors.New("they do not")
	})
	return took
}

// asker asks resolvers for their name all the time, each query over a flow of its own: by UDP, one in ten by TCP. It asks once.
type asker struct {
	*client
	t    *testing.T
	open map[*int]time.Time // queries that are under way; guarded by mu
}

// patient is how long it waits: a machine may be busy, and a query that is lost is never answered.
const patient = 20 * time.Second

func newAsker(t *testing.T, space string, locals []netip.Addr, to netip.AddrPort) *asker {
	a := &asker{&client{what: "who asks " + to.String()}, t, map[*int]time.Time{}}
	q, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("id.server."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassCHAOS}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, tcp := range []bool{false, true} {
		a.wg.Go(func() {
			err := inSpace(t, space, func() error {
				for n := 0; !a.stop.Load(); n++ {
					local := locals[n%len(locals)]
					began, mark := time.Now(), new(int)
					a.begin(mark, began)
					c, err := dialFrom(local, to, tcp)
					if err != nil {
						a.ends(mark, try{began, time.Now(), err, ""})
						continue
					}
					a.wg.Go(func() {
						defer c.Close()
						by, err := asks(c, began, q, tcp)
						a.ends(mark, try{began, time.Now(), err, by})
					})
					time.Sleep(map[bool]time.Duration{false: 10 * time.Millisecond, true: 100 * time.Millisecond}[tcp])
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(a.end)
	return a
}

func (a *asker) begin(mark *int, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[mark] = at
}

func (a *asker) ends(mark *int, x try) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, mark)
	a.tries = append(a.tries, x)
}

func dialFrom(local netip.Addr, to netip.AddrPort, tcp bool) (net.Conn, error) {
	if tcp {
		return (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: patient}).Dial("tcp4", to.String())
	}
	return net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(to))
}

// asks sends a query once, and returns the name of who answers.
func asks(c net.Conn, began time.Time, q []byte, tcp bool) (string, error) {
	_ = c.SetDeadline(began.Add(patient))
	if tcp {
		q = append(order.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	}
	if _, err := c.Write(q); err != nil {
		return "", err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return "", err
	}
	text := buf[:n]
	if tcp {
		text = text[min(2, n):]
	}
	var m dnsmessage.Message
	if err := m.Unpack(text); err != nil {
		return "", err
	}
	if len(m.Answers) == 1 {
		if txt, ok := m.Answers[0].Body.(*dnsmessage.TXTResource); ok && len(txt.TXT) == 1 {
			return txt.TXT[0], nil
		}
	}
	return "", fmt.Errorf("it answers %s", m.GoString())
}

// serves waits until queries that begin now are answered, from all addresses.
func (a *asker) serves() {
	a.t.Helper()
	from := time.Now()
	wait(a.t, a.what+" is served", func() error {
		n := 0
		for _, x := range a.since(from) {
			if x.err == nil {
				n++
			}
		}
		if n < 40 {
			return fmt.Errorf("%d queries were answered", n)
		}
		return nil
	})
}

// by are the names of those who answered what began after a moment.
func (a *asker) by(from time.Time) (names []string) {
	for _, x := range a.since(from) {
		if x.by != "" && !slices.Contains(names, x.by) {
			names = append(names, x.by)
		}
	}
	return names
}

// lost waits for the answers of what was asked, and counts those that did not come.
func (a *asker) lost(from time.Time) (lost, n int) {
	until := time.Now()
	wait(a.t, "what was asked is answered, or given up", func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, began := range a.open {
			if began.Before(until) {
				return fmt.Errorf("%d queries are open", len(a.open))
			}
		}
		return nil
	})
	for _, x := range a.since(from) {
		if x.began.Before(until) {
			if n++; x.err != nil {
				lost++
			}
		}
	}
	return lost, n
}

// story is what became of queries since a moment.
func (a *asker) story(from time.Time) string {
	all := a.since(from)
	failed := 0
	for _, x := range all {
		if x.err != nil {
			failed++
		}
	}
	return fmt.Sprintf("without service for %d ms, %d of %d queries were answered with an error so far", without(all).Milliseconds(), failed, len(all))
}
