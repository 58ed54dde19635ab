package integration

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/plan"
	"hostmesh/node/api"
)

// handOver is how long two boxes may answer in a planned hand-over, which may follow a fault, as when its preferred holder is back.
const handOver = 20 * time.Millisecond

// lbRuns is how often each fault is made: once, unless make balance says otherwise.
const lbRuns = "HOSTMESH_TEST_LB_RUNS"

// TestBalancedUnderFaults has five agents, three members and two clients, each in a network namespace of its own. The agent that holds two virtual
// addresses, one of mode nat and one of mode tcp, is killed, stopped, cut off and asked to hand over, and so is the leader of the lease group. Two
// clients connect all the time, and ask all the time who has the addresses: never two. HOSTMESH_TEST_LB_RUNS=20 makes each fault so often.
func TestBalancedUnderFaults(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		balancedUnderFaults(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip", "nft", "haproxy", "mkfs.ext4")
}

// The addresses that are balanced.
var (
	natVIP   = netip.MustParseAddr("10.77.0.100")
	proxyVIP = netip.MustParseAddr("10.77.0.101")
)

// lbSite is a mesh that balances.
type lbSite struct {
	*site
	w       wires
	modes   []string
	vips    []netip.Addr
	macs    map[string]*box
	spaces  map[*box]string
	members []*member
	ears    []*ear
	near    []*client // of the client that stays with most agents: TCP to each address, and UDP
	ping    *client
	disk    map[*box]*smallDisk
	results []string
}

func newLBSite(t *testing.T, agents int, modes ...string) *lbSite {
	addrs := map[string]string{"c1": "10.77.0.61", "c2": "10.77.0.62"}
	for i := range 3 {
		addrs[fmt.Sprintf("w%d", i+1)] = fmt.Sprintf("10.77.0.%d", i+51)
	}
	s := newBalancers(t, agents, addrs)
	s.modes = modes
	for i := range 3 {
		name := fmt.Sprintf("w%d", i+1)
		s.members = append(s.members, newMember(t, name, addrs[name], 7000))
	}
	return s
}

// newBalancers has agents, and others, each in a namespace. Nothing runs yet.
func newBalancers(t *testing.T, agents int, others map[string]string) *lbSite {
	s := &lbSite{w: wires{t}, macs: map[string]*box{}, spaces: map[*box]string{}, disk: map[*box]*smallDisk{}}
	addrs := maps.Clone(others)
	for i := range agents {
		addrs[fmt.Sprintf("a%d", i+1)] = fmt.Sprintf("10.77.0.%d", i+1)
	}
	s.w.lay(addrs)
	s.w.ip("link", "add", "br1", "type", "bridge")
	s.w.ip("link", "set", "br1", "up")
	s.site = newSite(t, 0)
	for i := range agents {
		name := fmt.Sprintf("a%d", i+1)
		b := s.newBox(addrs[name])
		b.under = []string{"ip", "netns", "exec", name}
		b.settings = append(b.settings, fmt.Sprintf("labels: {datacenter: dc1, rack: r%d}", i+1))
		s.spaces[b] = name
		s.macs[s.mac(name)] = b
	}
	return s
}

// mac is the hardware address of a namespace.
func (s *lbSite) mac(space string) string {
	return strings.TrimSpace(s.must(exec.Command("ip", "netns", "exec", space, "cat", "/sys/class/net/eth0/address")))
}

// launch starts the agents, and waits until they see each other.
func (s *lbSite) launch() {
	s.t.Helper()
	s.boxes[0].found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+s.boxes[0].addr+"]")
		}
		b.launch()
		if i == 0 {
			b.ready()
		}
	}
	for _, b := range s.boxes {
		b.ready()
	}
	s.allAlive()
}

// begin starts the agents, writes what is to be balanced, and has clients use it.
func (s *lbSite) begin() {
	t := s.t
	t.Helper()
	s.launch()
	for i := range s.members {
		s.puts(fmt.Sprintf("hosts/w%d", i+1), fmt.Sprintf("Network: {IP: 10.77.0.%d}\n", i+51))
	}
	s.puts("tags/net", "Subnet: {CIDR: 10.77.0.0/24, VIPs: 10.77.0.96/27, Datacenter: dc1}\n")
	for _, mode := range s.modes {
		vip, udp := natVIP, ", 7000/udp: 7000"
		if mode != "nat" {
			vip, udp = proxyVIP, ""
		}
		s.vips = append(s.vips, vip)
		s.puts("tags/"+mode, fmt.Sprintf("LB: {VIP: %s, Ports: {7000/tcp: 7000%s}, Mode: %s, Check: {Type: tcp, Interval: 500ms}}\n", vip, udp, mode))
		s.puts("tags/"+mode+"/members", "w1\nw2\nw3\n")
	}
	for _, mode := range []string{"c1", "c2"} {
		s.w.run("ip", "netns", "exec", mode, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	}
	for i, space := range []string{"c1", "c2"} {
		s.ears = append(s.ears, newEar(t, space, netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", 61+i)), s.vips))
	}
	for i, vip := range s.vips {
		s.near = append(s.near, newClient(t, "c1", s.modes[i], netip.AddrPortFrom(vip, 7000)))
	}
	if slices.Contains(s.modes, "nat") {
		s.ping = newPinger(t, "c1", "udp", netip.AddrPortFrom(natVIP, 7000))
	}
	t.Cleanup(func() {
		for _, c := range s.clients() {
			c.end()
		}
	})
	for _, c := range s.clients() {
		c.serves(t)
	}
}

func (s *lbSite) clients() []*client {
	if s.ping == nil {
		return s.near
	}
	return append(slices.Clone(s.near), s.ping)
}

// puts writes over the socket of the first agent that runs, which no network namespace hides.
func (s *lbSite) puts(id, value string) {
	s.t.Helper()
	b := s.running()[0]
	if _, err := b.api.Put(s.t.Context(), id, []byte(value), "test"); err != nil {
		s.t.Fatal(err)
	}
}

// leader leads the lease group, by the word of a box.
func (s *lbSite) leader(asked *box) (*box, error) {
	v, err := asked.api.DutyVoters(s.t.Context())
	if err != nil {
		return nil, err
	}
	for _, b := range s.boxes {
		if b.name == v.LeaderName {
			return b, nil
		}
	}
	return nil, errors.New("nobody leads")
}

// settle waits until all agents run and see each other, three vote, and clients are served. It returns the leader.
func (s *lbSite) settle() (lead *box) {
	s.t.Helper()
	s.allAlive()
	(&dutiesSite{site: s.site}).voters(s.boxes[0], 3)
	for _, c := range s.clients() {
		c.serves(s.t)
	}
	s.wait("there is a leader", func() (err error) { lead, err = s.leader(s.boxes[0]); return err })
	return lead
}

// moves has a box hold all addresses.
func (s *lbSite) moves(to *box) {
	s.t.Helper()
	for _, vip := range s.vips {
		s.wait(to.name+" holds "+plan.Duty(vip), func() error {
			_, err := to.api.MoveDuty(s.t.Context(), plan.Duty(vip), to.name)
			return err
		})
	}
	s.answeredBy(s.ears[0], to)
}

// answeredBy waits until a box and no other answers for all addresses.
func (s *lbSite) answeredBy(e *ear, boxes ...*box) {
	s.t.Helper()
	s.wait("a box answers for the addresses", func() error {
		for _, vip := range s.vips {
			who := s.who(e, vip, 300*time.Millisecond)
			if len(who) != 1 || !slices.Contains(boxes, who[0]) {
				return fmt.Errorf("for %s answer %v", vip, names(who))
			}
		}
		return nil
	})
}

// who answered for an address in the last moments.
func (s *lbSite) who(e *ear, vip netip.Addr, last time.Duration) (out []*box) {
	for _, a := range e.since(time.Now().Add(-last), vip) {
		if b := s.macs[a.mac]; a.plain && !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	return out
}

func names(list []*box) string {
	var out []string
	for _, b := range list {
		if b == nil {
			out = append(out, "a stranger")
			continue
		}
		out = append(out, b.name)
	}
	return strings.Join(out, " ")
}

// others are all boxes but some.
func (s *lbSite) others(but ...*box) (out []*box) {
	for _, b := range s.boxes {
		if !slices.Contains(but, b) {
			out = append(out, b)
		}
	}
	return out
}

// loses lets what a namespace sends, or what is sent to it, or both, get lost without a sign.
func (s *lbSite) loses(space string, sent, heard bool) {
	s.t.Helper()
	s.w.run("nft", "add", "table", "bridge", "cut")
	s.w.run("nft", "add", "chain", "bridge", "cut", "forward", "{ type filter hook forward priority 0; }")
	if sent {
		s.w.run("nft", "add", "rule", "bridge", "cut", "forward", "iifname", "to-"+space, "drop")
	}
	if heard {
		s.w.run("nft", "add", "rule", "bridge", "cut", "forward", "oifname", "to-"+space, "drop")
	}
}

func (s *lbSite) finds() {
	s.t.Helper()
	s.w.run("nft", "delete", "table", "bridge", "cut")
}

// split puts some namespaces on another bridge.
func (s *lbSite) split(bridge string, spaces ...string) {
	s.t.Helper()
	for _, name := range spaces {
		s.w.ip("link", "set", "to-"+name, "master", bridge)
	}
}

// has reports whether the kernel of a box has an address, by the word of netlink.
func (s *lbSite) has(b *box, vip netip.Addr) bool {
	s.t.Helper()
	return strings.Contains(s.must(exec.Command("ip", "-n", s.spaces[b], "-o", "address")), " "+vip.String()+"/")
}

// fault is one line of the matrix.
type fault struct {
	name string
	// planned: nobody is to be refused, and both boxes may answer for a moment.
	planned bool
	// stays: the addresses stay where they are.
	stays bool
	// elects: the leader goes. Its election takes about a second; when it takes longer than what is left of the holder's lease, as on a busy machine, the
	// addresses move, once.
	elects bool
	// late is how many announcements there may be by a box that does not have the address any more, while another has.
	late int
	// bystander: the holder does not vote, because the leader goes as well, and a majority has to be left.
	bystander bool
	// breaks does it to the holder, and waits for what is to follow; mends undoes it.
	breaks func(s *lbSite, holder, lead *box)
	mends  func(s *lbSite, holder, lead *box)
}

// life is the longest that an address lives without the agent: its lifetime, what the kernel is late, and a second in the worst case.
const life = 3300 * time.Millisecond

func lbFaults() []fault {
	restart := func(s *lbSite, b *box) {
		for _, vip := range s.vips {
			if s.has(b, vip) {
				s.t.Errorf("%s was killed, and still has %s", b.name, vip)
			}
		}
		b.start()
	}
	return []fault{
		{name: "move", planned: true, breaks: func(s *lbSite, holder, lead *box) { s.moves(s.others(holder, lead)[0]) }},
		{name: "drain", planned: true, breaks: func(s *lbSite, holder, lead *box) {
			if out, errs, code := lead.hostmesh("node", "drain", holder.name, "-m", "new memory"); code != 0 {
				s.t.Errorf("%d %s%s", code, out, errs)
			}
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) {
			if out, errs, code := lead.hostmesh("node", "undrain", holder.name); code != 0 {
				s.t.Errorf("%d %s%s", code, out, errs)
			}
		}},
		{name: "agent stopped in order", planned: true, breaks: func(s *lbSite, holder, lead *box) {
			holder.stop()
			s.answeredBy(s.ears[0], s.others(holder)...)
			if out := s.must(exec.Command("ip", "netns", "exec", s.spaces[holder], "nft", "list", "tables")); strings.Contains(out, "hostmesh") {
				s.t.Errorf("%s left its rules: %s", holder.name, out)
			}
		}, mends: func(s *lbSite, holder, lead *box) { holder.start() }},
		{name: "kill -9", breaks: func(s *lbSite, holder, lead *box) {
			holder.kill()
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) { restart(s, holder) }},
		{name: "SIGSTOP", late: 1, breaks: func(s *lbSite, holder, lead *box) {
			holder.signal(syscall.SIGSTOP)
			s.answeredBy(s.ears[0], s.others(holder)...)
			time.Sleep(time.Second)
			holder.signal(syscall.SIGCONT)
			time.Sleep(2 * time.Second) // that is when it could do harm
		}},
		{name: "what it sends is lost", breaks: func(s *lbSite, holder, lead *box) {
			s.loses(s.spaces[holder], true, false)
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) { s.finds() }},
		{name: "what it is sent is lost", breaks: func(s *lbSite, holder, lead *box) {
			s.loses(s.spaces[holder], false, true)
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) { s.finds() }},
		{name: "cut off", breaks: func(s *lbSite, holder, lead *box) {
			s.loses(s.spaces[holder], true, true)
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) { s.finds() }},
		{name: "partition, on the side of few", breaks: func(s *lbSite, holder, lead *box) {
			s.split("br1", s.spaces[holder], "c2")
			s.answeredBy(s.ears[0], s.others(holder)...)
		}, mends: func(s *lbSite, holder, lead *box) { s.split("br0", s.spaces[holder], "c2") }},
		{name: "partition, on the side of most", stays: true, breaks: func(s *lbSite, holder, lead *box) {
			other := s.others(holder, lead)[0]
			s.split("br1", s.spaces[other], "c2")
			time.Sleep(5 * time.Second) // more than a lease lasts
		}, mends: func(s *lbSite, holder, lead *box) { s.split("br0", s.spaces[s.others(holder, lead)[0]], "c2") }},
		{name: "leader killed", stays: true, elects: true, breaks: func(s *lbSite, holder, lead *box) {
			lead.kill()
			time.Sleep(4 * time.Second)
		}, mends: func(s *lbSite, holder, lead *box) { restart(s, lead) }},
		{name: "leader and holder killed", bystander: true, breaks: func(s *lbSite, holder, lead *box) {
			lead.kill()
			holder.kill()
			s.answeredBy(s.ears[0], s.others(holder, lead)...)
		}, mends: func(s *lbSite, holder, lead *box) { restart(s, lead); restart(s, holder) }},
		{name: "full disk at the leader", stays: true, elects: true, breaks: func(s *lbSite, holder, lead *box) {
			s.disk[lead].fill(0, 1<<30, 0)
			time.Sleep(4 * time.Second)
		}, mends: func(s *lbSite, holder, lead *box) { s.disk[lead].clear() }},
	}
}

func balancedUnderFaults(t *testing.T) {
	runs := 1
	if text := os.Getenv(lbRuns); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: want a number from 1", lbRuns, text)
		}
		runs = n
	}
	s := newLBSite(t, 5, "nat", "tcp")
	for _, b := range s.boxes {
		d := newSmallDisk(b)
		s.disk[b] = d
	}
	s.begin()
	s.changes()
	only := regexp.MustCompile(os.Getenv("HOSTMESH_TEST_LB_ONLY"))
	for _, f := range lbFaults() {
		if !only.MatchString(f.name) {
			continue
		}
		for range runs {
			s.cell(f)
			if t.Failed() {
				t.Fatal("the rest would follow from that")
			}
		}
	}
	for _, line := range s.results {
		t.Log(line)
	}
	for _, b := range s.boxes {
		b.stop()
	}
}

// changes takes a member out of a tag at one agent, and puts it back: by then the holder's kernel must know.
func (s *lbSite) changes() {
	t := s.t
	t.Helper()
	s.settle()
	began := time.Now()
	s.puts("tags/nat/members", "w1\nw2\n")
	serves := func() int {
		n := 0
		for _, a := range s.near[0].since(time.Now().Add(-500 * time.Millisecond)) {
			if a.by == "w3\n" {
				n++
			}
		}
		return n
	}
	s.wait("w3 gets no connection any more", func() error {
		if n := serves(); time.Since(began) < 500*time.Millisecond || n > 0 {
			return fmt.Errorf("%d in half a second", n)
		}
		return nil
	})
	last := began
	for _, a := range s.near[0].since(began) {
		if a.by == "w3\n" {
			last = a.began
		}
	}
	t.Logf("a member that is taken out gets its last connection %d ms after the write began", last.Sub(began).Milliseconds())
	s.puts("tags/nat/members", "w1\nw2\nw3\n")
	took := s.wait("w3 is back", func() error {
		if serves() == 0 {
			return errors.New("it gets no connection")
		}
		return nil
	})
	t.Logf("one that is put in has its first connection, after its checks, within %s", took.Round(time.Millisecond))
}

// cell makes a fault once, and judges what clients saw of it.
func (s *lbSite) cell(f fault) {
	t := s.t
	t.Helper()
	lead := s.settle()
	holder := s.holderFor(f, lead)
	s.moves(holder)
	s.settle()
	from := time.Now()
	time.Sleep(300 * time.Millisecond)
	f.breaks(s, holder, lead)
	for _, c := range s.clients() {
		c.serves(t)
	}
	until := time.Now()
	var line strings.Builder
	fmt.Fprintf(&line, "%-32s", f.name)
	for i, vip := range s.vips {
		list := s.near[i].since(from)
		lists := [][]saying{s.ears[0].since(from, vip), s.ears[1].since(from, vip)}
		both := overlap(spans(lists...))
		stays, moved := f.stays, ""
		for _, x := range spans(lists...) {
			if b := s.macs[x.mac]; b != holder && f.elects {
				stays, moved = false, b.name
			}
		}
		fmt.Fprintf(&line, " %s: without service %4d ms, two answered for %d ms;", s.modes[i], without(list).Milliseconds(), both.Milliseconds())
		slow, lost, broken := 0, 0, 0
		for _, a := range list {
			switch {
			case a.began.After(until):
			case errors.Is(a.err, syscall.ECONNRESET):
				broken++ // it was connected, and the next holder does not know of it, as of every connection of that moment
			case a.err != nil:
				lost++
				if f.planned || stays {
					t.Errorf("%s, %s: an attempt to connect was lost: %v", f.name, s.modes[i], a.err)
				}
			case !a.quick():
				slow++
			}
		}
		fmt.Fprintf(&line, " of %d attempts %d lost, %d late, %d broken;", len(list), lost, slow, broken)
		if n := late(lists...); n > f.late {
			t.Errorf("%s: a box announced %s %d times while another answered for it", f.name, vip, n)
		}
		if both > life {
			t.Errorf("%s: two boxes answered for %s for %s", f.name, vip, both)
		}
		if both > handOver && !f.planned {
			t.Errorf("%s: two boxes answered for %s for %s: %s", f.name, vip, both, s.story(from, lists))
		}
		if moved != "" {
			fmt.Fprintf(&line, " moved to %s;", moved)
		}
		if stays {
			for _, x := range spans(lists...) {
				if s.macs[x.mac] != holder {
					t.Errorf("%s: %s was answered for by %s, and not by %s alone", f.name, vip, names([]*box{s.macs[x.mac]}), holder.name)
				}
			}
		}
	}
	if s.ping != nil {
		fmt.Fprintf(&line, " udp: without service %d ms", without(s.ping.since(from)).Milliseconds())
	}
	t.Log(line.String())
	s.results = append(s.results, line.String())
	if f.mends != nil {
		f.mends(s, holder, lead)
	}
}

// holderFor chooses the box to which it happens: one that votes, which is harder to get over.
func (s *lbSite) holderFor(f fault, lead *box) *box {
	s.t.Helper()
	v, err := lead.api.DutyVoters(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, b := range s.others(lead) {
		votes := slices.ContainsFunc(v.Voters, func(x api.DutyVoter) bool { return x.Name == b.name && x.Voter })
		if votes != f.bystander {
			return b
		}
	}
	s.t.Fatalf("of %v none is fit to be the holder", v)
	return nil
}

// story tells who answered when.
func (s *lbSite) story(from time.Time, lists [][]saying) string {
	var out []string
	for _, x := range spans(lists...) {
		out = append(out, fmt.Sprintf("%s from %d to %d ms", names([]*box{s.macs[x.mac]}), x.first.Sub(from).Milliseconds(), x.last.Sub(from).Milliseconds()))
	}
	return strings.Join(out, ", ")
}
