package integration

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestBalancerWithoutRights: an agent that may not change addresses, on a box without HAProxy, runs as any other; it holds no virtual address, and says
// why. That is a note as long as somebody holds them, and wrong when nobody does.
func TestBalancerWithoutRights(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		balancerWithoutRights(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip", "setpriv", "haproxy")
}

func balancerWithoutRights(t *testing.T) {
	s := newBalancers(t, 2, map[string]string{"w1": "10.77.0.51", "c1": "10.77.0.61"})
	s.vips = []netip.Addr{natVIP, proxyVIP}
	able, poor := s.boxes[0], s.boxes[1]
	poor.under = append(poor.under, "setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw")
	poor.settings = append(poor.settings, "lb: {haproxy: /usr/sbin/no-haproxy}")
	newMember(t, "w1", "10.77.0.51", 7000)
	s.launch()
	s.puts("hosts/w1", "Network: {IP: 10.77.0.51}\n")
	s.puts("tags/net", "Subnet: {CIDR: 10.77.0.0/24, VIPs: 10.77.0.96/27, Datacenter: dc1}\n")
	s.puts("tags/nat", fmt.Sprintf("LB: {VIP: %s, Ports: {7000/tcp: 7000}}\n", natVIP))
	s.puts("tags/tcp", fmt.Sprintf("LB: {VIP: %s, Ports: {7000/tcp: 7000}, Mode: tcp}\n", proxyVIP))
	for _, tag := range []string{"nat", "tcp"} {
		s.puts("tags/"+tag+"/members", "w1\n")
	}
	s.ears = append(s.ears, newEar(t, "c1", netip.MustParseAddr("10.77.0.61"), s.vips))
	s.answeredBy(s.ears[0], able)

	says := func(what string, code int, args []string, want ...string) {
		t.Helper()
		s.wait(what, func() error {
			out, errs, got := poor.hostmesh(args...)
			for _, w := range want {
				if !strings.Contains(out, w) {
					return fmt.Errorf("%s does not say %q:\n%s%s", args, w, out, errs)
				}
			}
			if got != code {
				return fmt.Errorf("%s: exit code %d, want %d:\n%s%s", args, got, code, out, errs)
			}
			return nil
		})
	}
	lacks := "CAP_NET_ADMIN"
	says("status has a note", 0, []string{"status"}, "nothing is wrong", "lb: this node cannot hold 2 of 2 virtual addresses: ", lacks)
	says("the doctor has a note", 0, []string{"doctor", "--check", "node"}, "note     lb: this node cannot hold 2 of 2 virtual addresses: ", lacks)
	says("the duties know", 0, []string{"duties", "explain", "lb/" + natVIP.String()}, lacks)
	says("it shows the holder's table", 0, []string{"lb", "list"}, able.name)
	able.kill()
	says("status is wrong", 1, []string{"status"}, "nobody holds VIP "+natVIP.String()+" of tags/nat, "+proxyVIP.String()+" of tags/tcp, so clients get no answer", lacks)
	says("the list says why", 0, []string{"lb", "list"}, "nobody holds the VIP", "nobody holds "+natVIP.String()+" and 1 more; the node that answers does not: ", lacks)
	says("one tag says why", 0, []string{"lb", "explain", "tcp"}, "nobody holds the VIP; the node that answers does not: ", lacks)
	poor.stop()
}
