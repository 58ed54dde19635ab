package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/integration/wires"
	"hostmesh/node/api"
)

// balanced is what the child of lbchange and lbforward measured.
type balanced struct {
	Change                []time.Duration // from a write to the holder's kernel
	Connections, Requests [2][]float64    // a second: through our rules, and through those written by hand, in turns
}

// lbChange measures how long a change of members needs from a write on any node to the kernel of the one that holds the address.
func (b *bench) lbChange(ctx context.Context) error {
	got, err := b.balance(ctx, "change", b.count(40, 6))
	if err != nil {
		return err
	}
	worst := quantile(got.Change, 1)
	b.table.add(row{
		what:     "lb: write on a node -> holder's kernel",
		measured: fmt.Sprintf("p50 %s, worst %s (n=%d)", ms(median(got.Change)), ms(worst), len(got.Change)),
		budget:   "< 200 ms",
		met:      when(worst < 200*time.Millisecond),
	})
	return nil
}

// lbForward sets wrk through our rules beside wrk through rules written by hand on another box.
func (b *bench) lbForward(ctx context.Context) error {
	got, err := b.balance(ctx, "forward", b.count(10, 2))
	if err != nil {
		return err
	}
	for _, x := range []struct {
		what string
		got  [2][]float64
	}{{"lb: connections through nat", got.Connections}, {"lb: requests through nat", got.Requests}} {
		p := pairs{x.got[0], x.got[1]}
		b.table.add(row{
			what:     x.what,
			measured: fmt.Sprintf("%.0f a second (n=%d)", median(p.ours), len(p.ours)),
			budget:   ">= 95 % of rules by hand",
			peer:     fmt.Sprintf("%.3f of %.0f", p.ratio(), median(p.theirs)),
			met:      when(p.ratio() >= 0.95),
		})
	}
	return nil
}

// balance measures in a process that has namespaces of its own for network, mounts and processes: with it all ends.
func (b *bench) balance(ctx context.Context, what string, turns int) (got balanced, err error) {
	if os.Getuid() != 0 {
		return got, errors.New("a network of its own takes root: run it as root")
	}
	if _, err := exec.LookPath("wrk"); err != nil && what == "forward" {
		return got, fmt.Errorf("%w: packaging/deps.sh bench installs it", err)
	}
	dir, err := os.MkdirTemp(b.dir, "l")
	if err != nil {
		return got, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, b.self, "-child", "balance", b.binary, dir, what, strconv.Itoa(turns), b.pick(3*time.Second, time.Second).String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	text, err := output(cmd)
	if err != nil {
		return got, err
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return got, fmt.Errorf("the child said %q: %w", text, err)
	}
	return got, nil
}

const (
	balancedVIP = "10.77.0.100"
	byHandVIP   = "10.77.0.9" // of a box that has rules and no agent
)

// balancer is the child: three boxes with agents, three members, a box with rules written by hand, and a client.
type balancer struct {
	binary, dir string
	turn        time.Duration
	clients     map[string]*api.Client
}

// balanceChild is the process that balance starts.
func balanceChild(binary, dir, what string, turns int, turn time.Duration) error {
	if os.Getpid() != 1 {
		return errors.New("it is for a process that has namespaces of its own")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w := &balancer{binary: binary, dir: dir, turn: turn, clients: map[string]*api.Client{}}
	if err := wires.PrivateMounts(); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("a /proc of its own: %w", err)
	}
	if err := w.lay(ctx); err != nil {
		return err
	}
	if err := w.begin(ctx); err != nil {
		return err
	}
	var got balanced
	var err error
	if what == "change" {
		got.Change, err = w.changes(ctx, turns)
	} else {
		err = w.forward(ctx, turns, &got)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

func (w *balancer) lay(ctx context.Context) error {
	steps := [][]string{{"ip", "link", "set", "lo", "up"}, {"ip", "link", "add", "br0", "type", "bridge"}, {"ip", "link", "set", "br0", "up"}}
	for name, addr := range map[string]string{"a1": "10.77.0.1", "a2": "10.77.0.2", "a3": "10.77.0.3", "hand": byHandVIP, "c1": "10.77.0.61", "w1": "10.77.0.51", "w2": "10.77.0.52", "w3": "10.77.0.53"} {
		steps = append(steps, [][]string{
			{"ip", "netns", "add", name}, {"ip", "link", "add", "to-" + name, "type", "veth", "peer", "name", "eth0", "netns", name},
			{"ip", "link", "set", "to-" + name, "master", "br0", "up"}, {"ip", "-n", name, "link", "set", "lo", "up"},
			{"ip", "-n", name, "address", "add", addr + "/24", "dev", "eth0"}, {"ip", "-n", name, "link", "set", "eth0", "up"},
		}...)
	}
	steps = append(steps, []string{"ip", "netns", "exec", "hand", "sysctl", "-qw", "net.ipv4.ip_forward=1"}, []string{"ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000"})
	hand := "add table ip byhand\n" +
		"add chain ip byhand pre { type nat hook prerouting priority dstnat; }\nadd chain ip byhand post { type nat hook postrouting priority srcnat; }\n" +
		"add rule ip byhand pre ip daddr " + byHandVIP + " tcp dport 80 dnat to numgen inc mod 3 map { 0 : 10.77.0.51, 1 : 10.77.0.52, 2 : 10.77.0.53 }\n" +
		"add rule ip byhand post ct status dnat masquerade\n"
	file := filepath.Join(w.dir, "byhand.nft")
	if err := os.WriteFile(file, []byte(hand), 0o600); err != nil {
		return err
	}
	steps = append(steps, []string{"ip", "netns", "exec", "hand", "nft", "-f", file})
	for _, s := range steps {
		if _, err := output(exec.CommandContext(ctx, s[0], s[1:]...)); err != nil {
			return err
		}
	}
	return nil
}

// begin starts members and agents, and waits until the address is held and served.
func (w *balancer) begin(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(w.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	start := func(space string, args ...string) error {
		cmd := exec.Command("ip", append([]string{"netns", "exec", space}, args...)...)
		cmd.Stdout, cmd.Stderr = log, log
		return cmd.Start()
	}
	for _, m := range []string{"w1", "w2", "w3"} {
		if err := start(m, self, "-child", "reply", ":80"); err != nil {
			return err
		}
	}
	key := filepath.Join(w.dir, "key")
	if _, err := output(exec.CommandContext(ctx, w.binary, "init", "--data-dir", filepath.Join(w.dir, "a1"), "--key-file", key, "--name", "a1")); err != nil {
		return err
	}
	for i, name := range []string{"a1", "a2", "a3"} {
		args := []string{w.binary, "agent", "--name", name, "--addr", fmt.Sprintf("10.77.0.%d", i+1), "--data-dir", filepath.Join(w.dir, name), "--key-file", key, "--dns", "none"}
		if i > 0 {
			args = append(args, "--join", "10.77.0.1")
		}
		if err := start(name, args...); err != nil {
			return err
		}
		if w.clients[name], err = api.NewClient(api.ClientConfig{Socket: filepath.Join(w.dir, name, "agent.sock")}); err != nil {
			return err
		}
	}
	alive := func() bool {
		for _, c := range w.clients {
			list, err := c.Members(ctx)
			n := 0
			for _, m := range list {
				if m.State == "alive" {
					n++
				}
			}
			if err != nil || n < 3 {
				return false
			}
		}
		return true
	}
	if err := w.until(ctx, "three agents see each other", alive); err != nil {
		return err
	}
	for _, d := range [][2]string{
		{"hosts/w1", "Network: {IP: 10.77.0.51}"}, {"hosts/w2", "Network: {IP: 10.77.0.52}"}, {"hosts/w3", "Network: {IP: 10.77.0.53}"},
		{"tags/net", "Subnet: {CIDR: 10.77.0.0/24, VIPs: 10.77.0.96/27}"},
		{"tags/web", "LB: {VIP: " + balancedVIP + ", Ports: {80/tcp: 80}, Balance: round-robin, Check: {Type: tcp, Interval: 500ms}}"},
		{"tags/web/members", "w1\nw2\nw3\n"},
	} {
		if _, err := w.clients["a1"].Put(ctx, d[0], []byte(d[1]), "bench"); err != nil {
			return err
		}
	}
	served := func() bool {
		_, err := w.wrk(ctx, balancedVIP, true, time.Second)
		return err == nil
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		served = func() bool { return true }
	}
	return errors.Join(w.until(ctx, "the address is held", func() bool { return w.holder(ctx) != "" }), w.until(ctx, "the address is served", served))
}

func (w *balancer) until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(filepath.Join(w.dir, "log"))
			return fmt.Errorf("never: %s\n%s", what, text[max(0, len(text)-4000):])
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (w *balancer) holder(ctx context.Context) string {
	s, err := w.clients["a1"].LBService(ctx, "web")
	if err != nil || s.Holder == nil || s.Holder.Phase != "held" {
		return ""
	}
	return s.Holder.Name
}

// errMoved says that the address went to another node amid a measurement.
var errMoved = errors.New("the address has moved")

// changes takes a member out and puts it back, each time at the next of the nodes that do not hold the address.
func (w *balancer) changes(ctx context.Context, turns int) ([]time.Duration, error) {
	for range 3 {
		list, err := w.changesAt(ctx, turns)
		if !errors.Is(err, errMoved) {
			return list, err
		}
	}
	return nil, errMoved
}

// changesAt is changes at the node that holds the address now.
func (w *balancer) changesAt(ctx context.Context, turns int) ([]time.Duration, error) {
	// At first the leader holds it, until the others have said that they can, which may be half a minute later.
	settled, name := time.Now(), w.holder(ctx)
	if err := w.until(ctx, "the address stays", func() bool {
		if now := w.holder(ctx); now != name {
			settled, name = time.Now(), now
		}
		return name != "" && time.Since(settled) > 3*time.Second
	}); err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(listening, "ip", "netns", "exec", name, "nft", "monitor")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		stop()
		return nil, err
	}
	defer func() { stop(); _ = cmd.Wait() }() // it was killed
	var mu sync.Mutex                         // guards seen
	var seen []time.Time
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), " element ") {
				mu.Lock()
				seen = append(seen, time.Now())
				mu.Unlock()
			}
		}
	}()
	after := func(from time.Time) (d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for _, at := range seen {
			if at.After(from) {
				return at.Sub(from)
			}
		}
		return 0
	}
	var writers []*api.Client
	for n, c := range w.clients {
		if n != name {
			writers = append(writers, c)
		}
	}
	var list []time.Duration
	for i := range turns + 1 {
		for _, members := range []string{"w1\nw2\n", "w1\nw2\nw3\n"} {
			if err := w.pause(ctx, 300*time.Millisecond); err != nil {
				return nil, err
			}
			began := time.Now()
			if _, err := writers[i%len(writers)].Put(ctx, "tags/web/members", []byte(members), "bench"); err != nil {
				return nil, err
			}
			var took time.Duration
			if i == 0 { // before it listens, nothing is heard
				err = w.pause(ctx, time.Second)
			} else if err = w.until(ctx, "the kernel's rules change", func() bool {
				took = after(began)
				return took > 0 || time.Since(began) > 2*time.Second && w.holder(ctx) != name
			}); err == nil && took == 0 {
				err = errMoved
			}
			if i > 0 {
				list = append(list, took)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

func (w *balancer) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// forward has wrk ask through both, in turns: ours, by hand, by hand, ours.
func (w *balancer) forward(ctx context.Context, turns int, got *balanced) error {
	for _, keep := range []bool{false, true} {
		to := &got.Connections
		if keep {
			to = &got.Requests
		}
		for range turns {
			var sum [2]float64
			for _, side := range []int{0, 1, 1, 0} {
				n, err := w.wrk(ctx, []string{balancedVIP, byHandVIP}[side], keep, w.turn)
				if err != nil {
					return err
				}
				sum[side] += n / 2
			}
			to[0], to[1] = append(to[0], sum[0]), append(to[1], sum[1])
		}
	}
	return nil
}

var perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// wrk asks all the time, and returns how many answers came a second. keep: over connections that stay.
func (w *balancer) wrk(ctx context.Context, addr string, keep bool, d time.Duration) (float64, error) {
	args := []string{"netns", "exec", "c1", "wrk", "-t", "1", "-c", "16", "-d", fmt.Sprintf("%ds", max(1, int(d.Seconds())))}
	if !keep {
		args = append(args, "-H", "Connection: close")
	}
	text, err := output(exec.CommandContext(ctx, "ip", append(args, "http://"+addr+"/")...))
	if err != nil {
		return 0, err
	}
	m := perSecond.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("wrk says %q", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err == nil && n == 0 {
		err = fmt.Errorf("wrk got no answer from %s", addr)
	}
	return n, err
}

// serveReply is a member: it says little, and at once.
func serveReply(addr string) error {
	srv := &http.Server{Addr: addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok\n") })}
	return srv.ListenAndServe()
}
