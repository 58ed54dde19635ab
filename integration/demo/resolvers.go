package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"hostmesh/integration/wires"
)

// sceneVariable has the program show one scene alone, in the namespaces that it was started in.
const sceneVariable = "HOSTMESH_DEMO_SCENE"

// showResolvers shows elastic DNS in namespaces of its own for network, mounts and processes: with the process that has them all of it ends.
func (d *demo) showResolvers(ctx context.Context) error {
	title(9, "Elastic DNS: resolvers behind one address, which no single box has to hold")
	if os.Geteuid() != 0 {
		fact("this scene makes a network of its own, and needs root: it is left out")
		return nil
	}
	for _, tool := range []string{"ip", "unbound", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			fact("this scene needs %s (packaging/deps.sh demo, as root): it is left out", tool)
			return nil
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-hostmesh", d.binary, "-inventory", d.inventory)
	cmd.Env = append(os.Environ(), sceneVariable+"=resolvers")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
			fact("this machine gives no namespaces, even to root (%v): the scene is left out", err)
			return nil
		}
		return fmt.Errorf("the scene of resolvers: %w", err)
	}
	return nil
}

// vip is what clients ask; the resolvers are on the boxes themselves.
const vip = "10.77.0.100"

// resolvers is the scene.
type resolvers struct {
	*demo
	boxes   map[string]*agent // by name
	clients []string          // addresses of the client
}

// playResolvers is the process that showResolvers starts.
func playResolvers(ctx context.Context, d *demo) error {
	if os.Getpid() != 1 {
		return errors.New("the scene is for a process that has namespaces of its own: make demo shows it, as root")
	}
	if err := wires.PrivateMounts(); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("a /proc of its own: %w", err)
	}
	r := &resolvers{demo: d, boxes: map[string]*agent{}}
	for _, step := range []func(context.Context) error{r.lay, r.begin, r.balance, r.add, r.lose, r.remove} {
		if err := step(ctx); err != nil {
			for _, a := range r.boxes {
				a.printLogTail(os.Stderr)
			}
			return err
		}
	}
	return nil
}

func run(ctx context.Context, tool string, args ...string) error {
	_, err := output(exec.CommandContext(ctx, tool, args...))
	return err
}

// lay makes three boxes and a client, each a network namespace with a link to one bridge.
func (r *resolvers) lay(ctx context.Context) error {
	steps := [][]string{{"link", "set", "lo", "up"}, {"link", "add", "br0", "type", "bridge"}, {"link", "set", "br0", "up"}}
	for i, name := range []string{"node1", "node2", "node3", "client"} {
		addr := fmt.Sprintf("10.77.0.%d", i+1)
		if name != "client" {
			r.boxes[name] = &agent{demo: r.demo, name: name, addr: addr, dir: filepath.Join(r.dir, name)}
		}
		steps = append(steps, [][]string{
			{"netns", "add", name}, {"link", "add", "to-" + name, "type", "veth", "peer", "name", "eth0", "netns", name},
			{"link", "set", "to-" + name, "master", "br0", "up"}, {"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "address", "add", addr + "/24", "dev", "eth0"}, {"-n", name, "link", "set", "eth0", "up"},
		}...)
	}
	for i := range 12 { // a client stays with one resolver: it takes some to see all of them
		a := fmt.Sprintf("10.77.0.%d", 160+i)
		r.clients = append(r.clients, a)
		steps = append(steps, []string{"-n", "client", "address", "add", a + "/24", "dev", "eth0"})
	}
	for _, args := range steps {
		if err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// begin starts an unbound and an agent on each box. They end with this process.
func (r *resolvers) begin(ctx context.Context) error {
	began := time.Now()
	first := r.boxes["node1"]
	if _, err := first.hostmesh(ctx, "init", "--data-dir", first.dir, "--key-file", r.keyFile, "--name", first.name); err != nil {
		return err
	}
	example := filepath.Join(filepath.Dir(r.inventory), "elastic-dns", "unbound.conf")
	for _, name := range []string{"node1", "node2", "node3"} {
		a := r.boxes[name]
		conf := fmt.Sprintf("include: %q\nserver:\n\tidentity: %q\n\tchroot: \"\"\n\tusername: \"\"\n\tpidfile: \"\"\n\tdirectory: %q\n\tnum-threads: 1\n", example, name, r.dir)
		if err := os.WriteFile(a.dir+".unbound", []byte(conf), 0o600); err != nil {
			return err
		}
		agent := fmt.Sprintf("name: %s\naddr: %s\nkey_file: %s\ndata_dir: %s\ndns: {listen: none}\nlabels: {datacenter: demo, rack: %s}\n", name, a.addr, r.keyFile, a.dir, name)
		if name != "node1" {
			agent += "join: [" + first.addr + "]\n"
		}
		if err := os.WriteFile(a.dir+".yaml", []byte(agent), 0o600); err != nil {
			return err
		}
		log, err := os.Create(a.dir + ".log")
		if err != nil {
			return err
		}
		resolver := exec.Command("ip", "netns", "exec", name, "unbound", "-d", "-c", a.dir+".unbound")
		a.cmd = exec.Command("ip", "netns", "exec", name, r.binary, "agent", "--config", a.dir+".yaml")
		a.cmd.Stdout, a.cmd.Stderr, resolver.Stdout, resolver.Stderr = log, log, log, log
		err = errors.Join(resolver.Start(), a.cmd.Start(), log.Close())
		if err != nil {
			return err
		}
		a.ended = make(chan struct{})
		go func() { _ = a.cmd.Wait(); close(a.ended) }()
	}
	for _, a := range r.boxes {
		err := a.until(ctx, 30*time.Second, "see three members", func() (bool, error) {
			text, err := a.hostmesh(ctx, "members", "-o", "json")
			return err == nil && strings.Count(text, `"alive"`) == 3, nil
		})
		if err != nil {
			return err
		}
	}
	timed(time.Since(began), "three boxes in a network of their own, each with an agent and unbound")
	return nil
}

// balance writes what is to be, and waits until the client is answered.
func (r *resolvers) balance(ctx context.Context) error {
	began := time.Now()
	first := r.boxes["node1"]
	set := [][2]string{{"tags/office", "Subnet: {CIDR: 10.77.0.0/24, VIPs: 10.77.0.96/27}"},
		{"tags/resolvers", "LB: {VIP: " + vip + ", Ports: {53/udp: 53, 53/tcp: 53}, Balance: source, Check: {Type: dns, Interval: 1s}}"}}
	for name, a := range r.boxes {
		set = append(set, [2]string{"hosts/" + name, "Network: {IP: " + a.addr + "}"})
	}
	for _, s := range set {
		if _, err := first.hostmesh(ctx, "db", "set", s[0], s[1], "-m", "elastic DNS"); err != nil {
			return err
		}
	}
	for _, name := range []string{"node1", "node2"} {
		if _, err := first.hostmesh(ctx, "tag", "add", name, "resolvers", "-m", "elastic DNS"); err != nil {
			return err
		}
	}
	if err := r.answered(ctx, "node1", "node2"); err != nil {
		return err
	}
	timed(time.Since(began), "resolvers on node1 and node2 are tagged, and answer behind %s", vip)
	addr, err := output(exec.CommandContext(ctx, "ip", "netns", "exec", "client", "dig", "@"+vip, "localhost", "+short", "+time=5"))
	if err != nil {
		return err
	}
	holder, err := r.holder(ctx)
	if err != nil {
		return err
	}
	fact("dig @%s localhost   %s; %s holds the address", vip, strings.TrimSpace(addr), holder)
	return nil
}

// add tags the third.
func (r *resolvers) add(ctx context.Context) error {
	began := time.Now()
	if _, err := r.boxes["node2"].hostmesh(ctx, "tag", "add", "node3", "resolvers", "-m", "mornings are slow"); err != nil {
		return err
	}
	if err := r.answered(ctx, "node1", "node2", "node3"); err != nil {
		return err
	}
	timed(time.Since(began), "hostmesh tag add node3 resolvers, at node2: checked, and it answers clients")
	return nil
}

// lose has another box hold the address, as before a reboot, and then kills the agent of that one.
func (r *resolvers) lose(ctx context.Context) error {
	first, err := r.holder(ctx)
	if err != nil {
		return err
	}
	next := "node2" // not the first: so young a mesh has one that grants duties, and it is that
	if first == next {
		next = "node3"
	}
	gap, err := r.silence(ctx, func() error {
		_, err := r.boxes["node1"].hostmesh(ctx, "duties", "move", "lb/"+vip, next)
		return errors.Join(err, r.heldBy(ctx, next))
	})
	if err != nil {
		return err
	}
	timed(gap, "hostmesh duties move lb/%s %s: handed over; longest silence", vip, next)

	gap, err = r.silence(ctx, func() error {
		if err := r.boxes[next].kill(); err != nil {
			return err
		}
		return r.heldBy(ctx, r.alive()...)
	})
	if err != nil {
		return err
	}
	if err := r.answered(ctx, r.alive()...); err != nil { // a resolver whose agent died is out: its box is likely to be
		return err
	}
	now, err := r.holder(ctx)
	if err != nil {
		return err
	}
	timed(gap, "the agent of %s was killed with -9: %s holds it; longest silence", next, now)
	left, err := output(exec.CommandContext(ctx, "ip", "-n", next, "-brief", "address", "show", "dev", "eth0"))
	if err != nil {
		return err
	}
	fact("ip address on %s   %s", next, strings.Join(strings.Fields(left), " "))
	if strings.Contains(left, vip+"/") {
		return fmt.Errorf("%s was killed, and still has %s", next, vip)
	}
	return nil
}

// silence is the longest time without an answer while something is done, and a moment longer.
func (r *resolvers) silence(ctx context.Context, do func() error) (gap time.Duration, err error) {
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { gap = r.longestGap(ctx, stop) })
	if err = do(); err == nil {
		r.pause(ctx, 500*time.Millisecond)
	}
	close(stop)
	watching.Wait()
	return gap, err
}

func (r *resolvers) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// heldBy waits until one of these boxes has the address, and no other.
func (r *resolvers) heldBy(ctx context.Context, names ...string) error {
	return r.boxes[names[0]].until(ctx, 30*time.Second, "see the address held", func() (bool, error) {
		holders := 0
		for name := range r.boxes {
			has, err := r.has(ctx, name)
			if err != nil || has && !slices.Contains(names, name) {
				return false, err
			}
			if has {
				holders++
			}
		}
		return holders == 1, nil
	})
}

// remove untags one.
func (r *resolvers) remove(ctx context.Context) error {
	names := r.alive()
	gone, stays := names[len(names)-1], names[0]
	began := time.Now()
	if _, err := r.boxes[stays].hostmesh(ctx, "tag", "remove", gone, "resolvers", "-m", "it is noon"); err != nil {
		return err
	}
	if err := r.answered(ctx, stays); err != nil {
		return err
	}
	timed(time.Since(began), "hostmesh tag remove %s resolvers: new queries go elsewhere", gone)
	table, err := r.boxes[stays].hostmesh(ctx, "lb", "show", "resolvers")
	if err != nil {
		return err
	}
	begun := false
	for line := range strings.Lines(table) {
		if begun = begun || strings.HasPrefix(line, "BACKEND"); begun {
			fact("  %s", strings.TrimRight(line, "\n"))
		}
	}
	return nil
}

// alive are the boxes whose agent runs, sorted.
func (r *resolvers) alive() (names []string) {
	for name, a := range r.boxes {
		if a.running() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// holder is the box that has the address, by the kernel's word.
func (r *resolvers) holder(ctx context.Context) (string, error) {
	for name := range r.boxes {
		if has, err := r.has(ctx, name); has || err != nil {
			return name, err
		}
	}
	return "", fmt.Errorf("nobody has %s", vip)
}

func (r *resolvers) has(ctx context.Context, name string) (bool, error) {
	text, err := output(exec.CommandContext(ctx, "ip", "-n", name, "-brief", "address", "show", "dev", "eth0"))
	return strings.Contains(text, " "+vip+"/"), err
}

// ask asks for the name of who answers, once, from one of the client's addresses; "" = nobody did.
func (r *resolvers) ask(from string) string {
	c, err := r.dial(from)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	q, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("id.server."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassCHAOS}}}).Pack()
	if err != nil {
		return ""
	}
	buf := make([]byte, 512)
	if _, err = c.Write(q); err != nil {
		return ""
	}
	n, err := c.Read(buf)
	if err != nil {
		return ""
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:n]); err != nil || len(m.Answers) == 0 {
		return ""
	}
	if txt, ok := m.Answers[0].Body.(*dnsmessage.TXTResource); ok && len(txt.TXT) > 0 {
		return txt.TXT[0]
	}
	return ""
}

// dial makes a socket in the client's network. The thread that goes there ends with it.
func (r *resolvers) dial(from string) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var fd int
		if fd, err = unix.Open("/run/netns/client", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			c, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(vip), Port: 53})
		}
	}()
	<-done
	return c, err
}

// answered waits until all of these answer the client, and no other does.
func (r *resolvers) answered(ctx context.Context, names ...string) error {
	var seen []string
	err := r.boxes[r.alive()[0]].until(ctx, 30*time.Second, "see the client answered by "+strings.Join(names, ", "), func() (bool, error) {
		seen = nil
		for _, from := range r.clients {
			if by := r.ask(from); !slices.Contains(seen, by) {
				seen = append(seen, by)
			}
		}
		slices.Sort(seen)
		return slices.Equal(seen, names), nil
	})
	if err != nil {
		return fmt.Errorf("%w; last it was %q", err, seen)
	}
	return nil
}

// longestGap asks 50 times a second, and returns the longest time in which nothing that was asked was answered.
func (r *resolvers) longestGap(ctx context.Context, stop <-chan struct{}) (longest time.Duration) {
	var mu sync.Mutex // guards answered
	var answered []time.Time
	var asking sync.WaitGroup
	for i, more := 0, true; more; i++ {
		asking.Go(func() {
			began := time.Now()
			if r.ask(r.clients[i%len(r.clients)]) != "" {
				mu.Lock()
				answered = append(answered, began)
				mu.Unlock()
			}
		})
		select {
		case <-stop:
			more = false
		case <-ctx.Done():
			more = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	asking.Wait()
	slices.SortFunc(answered, time.Time.Compare)
	for i := 1; i < len(answered); i++ {
		longest = max(longest, answered[i].Sub(answered[i-1]))
	}
	return longest
}
