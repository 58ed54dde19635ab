package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	coreDNS       = "github.com/coredns/coredns@v1.15.0"
	nsHosts       = 10_000
	nsTags        = 200
	nsTagMembers  = 10
	nsQuestions   = 20_000 // 80 % hosts, 15 % tags, 5 % names that are not there
	dnsperfLimit  = 2      // seconds that it waits for an answer: beyond, a question is lost
	dnsperfSocket = 8      // its clients, each with a socket of its own
)

// nameserver is a server that is compared.
type nameserver struct {
	name string
	addr string // without the port, which is dnsPort
	pid  int
	end  func()
	note string // why it is not there
}

// nameservers compares what an answer costs the agent with what it costs NSD, Knot, CoreDNS, and a process that sends
// datagrams back in batches. All serve the same zones, and answer dnsperf in turns.
func (b *bench) nameservers(ctx context.Context) error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return fmt.Errorf("dnsperf is needed (Debian: dnsperf): %w", err)
	}
	dir, err := os.MkdirTemp(b.dir, "ns")
	if err != nil {
		return err
	}
	m, err := b.newMesh(ctx, 1)
	if err != nil {
		return err
	}
	defer m.close()
	a := m.agents[0]
	zones, err := exportedZones(ctx, a, dir)
	if err != nil {
		return err
	}
	questions := filepath.Join(dir, "questions")
	if err := os.WriteFile(questions, []byte(nsQuestionFile()), 0o644); err != nil {
		return err
	}
	servers := []*nameserver{{name: "hostmesh", addr: a.addr, pid: a.pid(), end: func() {}}}
	for _, start := range []func(context.Context, string, map[string]string) (*nameserver, error){b.startNSD, b.startKnot, b.startCoreDNS, b.startEcho} {
		s, err := start(ctx, dir, zones)
		if err != nil {
			return err
		}
		defer s.end()
		servers = append(servers, s)
	}
	for _, transport := range []string{"udp", "tcp"} {
		if err := b.nameserverTurns(ctx, transport, questions, servers); err != nil {
			return err
		}
	}
	return nil
}

// nsBars are the bounds of what an answer costs the agent, as a part of what it costs others.
var nsBars = map[string]float64{"udp NSD": 1.15, "udp CoreDNS": 0.45, "tcp NSD": 1.3}

func (b *bench) nameserverTurns(ctx context.Context, transport, questions string, all []*nameserver) error {
	var servers []*nameserver
	for _, s := range all {
		switch {
		case s.note != "":
			b.table.note("%s is not compared: %s", s.name, s.note)
		case transport == "udp" || s.name != "echo":
			servers = append(servers, s)
		}
	}
	length := b.pick(5*time.Second, 2*time.Second)
	turns := make([][]perfTurn, len(servers))
	for round := range b.count(9, 3) {
		for i := range servers {
			if round%2 == 1 { // so that nobody always comes first
				i = len(servers) - 1 - i
			}
			s := servers[i]
			t, err := s.perf(ctx, transport, questions, length)
			if err != nil {
				return fmt.Errorf("%s over %s: %w", s.name, transport, err)
			}
			turns[i] = append(turns[i], t)
		}
	}
	for i, s := range servers {
		var cpu pairs
		var rates []float64
		lost, failed := 0, 0
		for k, t := range turns[i] {
			cpu.add(turns[0][k].cpu, t.cpu)
			rates = append(rates, t.rate)
			lost += t.lost
			failed += t.failed
		}
		r := row{what: fmt.Sprintf("DNS over %s, %s: server CPU per query", transport, s.name),
			measured: fmt.Sprintf("%s, %.0f/s, %d lost", micros(median(cpu.theirs)*float64(time.Microsecond)), median(rates), lost)}
		if failed > 0 {
			r.measured += fmt.Sprintf(", %d failed", failed)
		}
		if i > 0 {
			r.peer = fmt.Sprintf("hostmesh: %.2f x", cpu.ratio())
		}
		if bar, ok := nsBars[transport+" "+s.name]; ok {
			r.budget = fmt.Sprintf("at most %.2f x", bar)
			r.met = when(cpu.ratio() <= bar)
		}
		b.table.add(r)
	}
	return nil
}

// perfTurn is what one run of dnsperf came to.
type perfTurn struct {
	cpu    float64 // of the server, us per answered query
	rate   float64
	lost   int
	failed int // answered with a code that no right answer has
}

// perf runs dnsperf against the server; more are arguments of it.
func (s *nameserver) perf(ctx context.Context, transport, questions string, length time.Duration, more ...string) (t perfTurn, err error) {
	before, err := treeCPU(s.pid)
	if err != nil {
		return t, err
	}
	args := append([]string{"-s", s.addr, "-p", dnsPort, "-d", questions, "-l", fmt.Sprint(length.Seconds()), "-m", transport,
		"-c", fmt.Sprint(dnsperfSocket), "-t", fmt.Sprint(dnsperfLimit), "-e"}, more...)
	out, err := output(exec.CommandContext(ctx, "dnsperf", args...))
	if err != nil {
		return t, err
	}
	after, err := treeCPU(s.pid)
	if err != nil {
		return t, err
	}
	done, err := figure(out, "Queries completed:")
	if err != nil {
		return t, err
	}
	lost, err := figure(out, "Queries lost:")
	if err != nil {
		return t, err
	}
	t.rate, err = figure(out, "Queries per second:")
	if done == 0 {
		return t, errors.Join(err, errors.New("nothing was answered"))
	}
	t.lost, t.cpu = int(lost), float64((after-before).Microseconds())/done
	for _, code := range []string{"SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"} {
		if n, err := figure(out, code); err == nil {
			t.failed += int(n)
		}
	}
	return t, err
}

// figure is the number that follows a word in what dnsperf says.
func figure(out, word string) (float64, error) {
	_, rest, found := strings.Cut(out, word)
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("dnsperf said nothing of %q:\n%s", word, out)
	}
	return strconv.ParseFloat(fields[0], 64)
}

// treeCPU is what a process and its descendants have computed.
func treeCPU(root int) (time.Duration, error) {
	sum, err := cpuTime(root)
	if err != nil {
		return 0, err
	}
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", root))
	if err != nil {
		return 0, err
	}
	for _, file := range dirs {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		for _, child := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				return 0, err
			}
			d, err := treeCPU(pid)
			if err != nil {
				return 0, err
			}
			sum += d
		}
	}
	return sum, nil
}

func nsTagName(g int) string { return fmt.Sprintf("service-%03d", g) }

// nsQuestionFile is the input of dnsperf, the same in each run.
func nsQuestionFile() string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range nsQuestions {
		switch n := r.IntN(100); {
		case n < 80:
			fmt.Fprintf(&b, "%s A\n", hostName(r.IntN(nsHosts)))
		case n < 95:
			fmt.Fprintf(&b, "%s.tag.mesh.internal A\n", nsTagName(r.IntN(nsTags)))
		default:
			fmt.Fprintf(&b, "missing-%d.%s A\n", r.IntN(nsHosts), zoneName)
		}
	}
	return b.String()
}

// nsMember is the k-th member of a tag.
func nsMember(tag, k int) int { return (tag*nsTagMembers*5 + k) % nsHosts }

// fillNames imports what the question file asks for.
func fillNames(ctx context.Context, a *agent, dir string) error {
	put := func(text string, path ...string) error {
		file := filepath.Join(append([]string{dir, "inventory"}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, []byte(text), 0o644)
	}
	for i := range nsHosts {
		if err := put(fmt.Sprintf("Network: {IP: %s}\n", hostAddr(i)), "hosts", hostName(i)); err != nil {
			return err
		}
	}
	err := errors.Join(put("DNS: {Zone: "+zoneName+", TTL: 30}\n", "tags", "dc1"), put("@all\n", "tags", ".members", "dc1"))
	for g := range nsTags {
		var members strings.Builder
		for k := range nsTagMembers {
			fmt.Fprintln(&members, hostName(nsMember(g, k)))
		}
		err = errors.Join(err, put("{}\n", "tags", nsTagName(g)), put(members.String(), "tags", ".members", nsTagName(g)))
	}
	if err != nil {
		return err
	}
	if err := a.importDir(ctx, filepath.Join(dir, "inventory")); err != nil {
		return err
	}
	return a.resolves(ctx, hostName(1), hostAddr(1))
}

// exportedZones fills an agent and writes its zones as files, by name. The names of tags are added to theirs, for they are
// in no zone file.
func exportedZones(ctx context.Context, a *agent, dir string) (map[string]string, error) {
	if err := fillNames(ctx, a, dir); err != nil {
		return nil, err
	}
	var live strings.Builder
	for g := range nsTags {
		for k := range nsTagMembers {
			fmt.Fprintf(&live, "%s.tag.mesh.internal. 5 IN A %s\n", nsTagName(g), hostAddr(nsMember(g, k)))
		}
	}
	files := map[string]string{}
	for _, zone := range []string{zoneName, "mesh.internal"} {
		cmd := exec.CommandContext(ctx, a.mesh.b.binary, "dns", "zone", zone)
		cmd.Env = append(os.Environ(), "HOSTMESH_SOCKET="+filepath.Join(a.dir, "agent.sock"))
		text, err := output(cmd)
		if err != nil {
			return nil, err
		}
		if zone == "mesh.internal" {
			text += live.String()
		}
		files[zone] = filepath.Join(dir, zone+".zone")
		if err := os.WriteFile(files[zone], []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// startServer runs a name server in the foreground and waits until it answers. The mark holds its address until it ends.
func (b *bench) startServer(ctx context.Context, name, addr string, mark net.PacketConn, cmd *exec.Cmd) (*nameserver, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), mark.Close())
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s := &nameserver{name: name, addr: addr, pid: cmd.Process.Pid, end: func() {
		defer mark.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}}
	d, err := dialDNS(addr + ":" + dnsPort)
	if err != nil {
		s.end()
		return nil, err
	}
	defer d.close()
	err = until(ctx, 30*time.Second, 20*time.Millisecond, name+" answers", func() (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("%s ended by itself: %s", name, said.String())
		default:
		}
		got, err := d.lookup(hostName(nsHosts - 1))
		return got == hostAddr(nsHosts-1), err
	})
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// place is an address and a directory for a server.
func (b *bench) place(dir, name string) (addr, own string, mark net.PacketConn, err error) {
	addr, mark, err = loopback()
	if err != nil {
		return "", "", nil, err
	}
	own = filepath.Join(dir, name)
	return addr, own, mark, os.MkdirAll(own, 0o755)
}

func (b *bench) startNSD(ctx context.Context, dir string, zones map[string]string) (*nameserver, error) {
	addr, own, mark, err := b.place(dir, "nsd")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("server:\n ip-address: %s@%s\n server-count: %d\n reuseport: yes\n username: \"\"\n chroot: \"\"\n zonesdir: %q\n database: \"\"\n"+
		" pidfile: \"%s/pid\"\n xfrdfile: \"%s/xfrd\"\n zonelistfile: \"%s/zones\"\n xfrdir: %q\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n tcp-query-count: 0\n"+
		"remote-control:\n control-enable: no\n", addr, dnsPort, cpus(), own, own, own, own, own)
	for zone, file := range zones {
		conf += fmt.Sprintf("zone:\n name: %s\n zonefile: %q\n", zone, file)
	}
	file := filepath.Join(own, "nsd.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return b.startServer(ctx, "NSD", addr, mark, exec.Command("nsd", "-d", "-c", file))
}

func (b *bench) startKnot(ctx context.Context, dir string, zones map[string]string) (*nameserver, error) {
	addr, own, mark, err := b.place(dir, "knot")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("server:\n  rundir: %q\n  listen: %s@%s\n  udp-workers: %d\n  tcp-workers: %d\n  tcp-reuseport: on\ndatabase:\n  storage: %q\nzone:\n",
		own, addr, dnsPort, cpus(), cpus(), own)
	for zone, file := range zones {
		conf += fmt.Sprintf("  - domain: %s\n    file: %q\n", zone, file)
	}
	file := filepath.Join(own, "knot.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return b.startServer(ctx, "Knot", addr, mark, exec.Command("knotd", "-c", file))
}

// startCoreDNS builds CoreDNS where it is not there yet. What cannot be built is a note of the table, not a failure.
func (b *bench) startCoreDNS(ctx context.Context, dir string, zones map[string]string) (*nameserver, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(cache, "hostmesh-bench")
	if _, err := os.Stat(filepath.Join(bin, "coredns")); err != nil {
		fmt.Fprintf(os.Stderr, "building %s, once\n", coreDNS)
		cmd := exec.CommandContext(ctx, "go", "install", coreDNS)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOBIN="+bin, "GOFLAGS=", "CGO_ENABLED=0")
		if _, err := output(cmd); err != nil {
			return &nameserver{name: "CoreDNS", note: err.Error(), end: func() {}}, nil
		}
	}
	addr, own, mark, err := b.place(dir, "coredns")
	if err != nil {
		return nil, err
	}
	conf := ""
	for zone, file := range zones {
		conf += fmt.Sprintf("%s:%s {\n\tbind %s\n\tfile %s\n}\n", zone, dnsPort, addr, file)
	}
	file := filepath.Join(own, "Corefile")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return b.startServer(ctx, "CoreDNS", addr, mark, exec.Command(filepath.Join(bin, "coredns"), "-quiet", "-conf", file))
}

func (b *bench) startEcho(_ context.Context, _ string, _ map[string]string) (*nameserver, error) {
	addr, mark, err := loopback()
	if err != nil {
		return nil, err
	}
	p, err := b.startPeer("batches", addr+":"+dnsPort)
	if err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	return &nameserver{name: "echo", addr: addr, pid: p.pid(), end: func() { p.end(); _ = mark.Close() }}, nil
}
