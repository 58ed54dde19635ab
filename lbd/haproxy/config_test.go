package haproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/plan"
)

// try asks the real HAProxy about a file.
func try(t interface {
	Helper()
	Fatalf(string, ...any)
}, dir, text string) {
	t.Helper()
	file := filepath.Join(dir, "try.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	if out, err := exec.Command("haproxy", "-c", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
}

func TestRenderGolden(t *testing.T) {
	set := Settings{Socket: "/run/hostmesh/1.sock", User: "haproxy", Group: "haproxy", Root: "/run/hostmesh/root", TLSDir: "/etc/hostmesh/balancer.d", Timeouts: DefaultTimeouts(), Files: DefaultFiles, Prints: map[string]string{"shop": "2048 bytes of 2026-11-29T10:00:00Z"}}
	shop := with(web(443, 8080, 3), func(s *plan.Service) {
		s.Tag, s.TLS, s.Balance, s.Drain = "shop", "shop", section.BySource, 20*time.Minute
		s.Ports = append(s.Ports, plan.Forward{Port: 8443, Proto: section.TCP, To: 9090})
		s.Backends[1].State, s.Backends[2].State = plan.Draining, plan.Out
	})
	six := with(web(3306, 3306, 1), func(s *plan.Service) {
		s.Tag, s.Mode, s.VIP = "db six/ü", section.Conn, netip.MustParseAddr("2001:db8::f1")
		s.Backends[0].Addr = netip.MustParseAddr("2001:db8::1")
	})
	nat := with(web(80, 80, 1), func(s *plan.Service) { s.Tag, s.Mode = "nat", section.NAT })
	empty := with(web(81, 80, 0), func(s *plan.Service) { s.Tag = "empty" })
	text, err := Render(set, []*plan.Service{shop, six, nat, empty})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.cfg", text)
	again, err := Render(set, []*plan.Service{empty, nat, six, shop})
	if err != nil || again != text {
		t.Errorf("in another order it is another file: %v", err)
	}
	set.Root, set.User, set.Group = "", "", ""
	text, err = Render(set, []*plan.Service{six, empty})
	if err != nil {
		t.Fatal(err)
	}
	try(t, t.TempDir(), strings.ReplaceAll(text, "/run/hostmesh", t.TempDir()))
	for _, c := range []struct {
		s    *plan.Service
		want string
	}{
		{with(shop, func(s *plan.Service) { s.TLS = "../../etc/passwd" }), "is no plain name"},
		{with(shop, func(s *plan.Service) { s.TLS = "a\nglobal" }), "is no plain name"},
		{with(shop, func(s *plan.Service) { s.Ports[0].Proto = section.UDP }), "only mode nat carries it"},
		{with(shop, func(s *plan.Service) { s.VIP = netip.Addr{} }), "no VIP"},
		{with(shop, func(s *plan.Service) { s.Backends[0].Addr = netip.MustParseAddr("fe80::1%eth0") }), "no address that can be used"},
	} {
		if _, err := Render(set, []*plan.Service{c.s}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "tags/shop: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestNames checks that whatever a tag is called, its id is safe, its own, and leads back.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z_\n ;"'#{}$\\.:-]{0,20}`), rapid.StringN(200, 260, 1000))
		a, b := names.Draw(t, "a"), names.Draw(t, "b")
		x, y := idOf(a), idOf(b)
		if (a == b) != (x == y) {
			t.Fatalf("%q and %q are %s and %s", a, b, x, y)
		}
		if len(x) > maxID || strings.ContainsFunc(x, func(r rune) bool { return r > 0x7e || !idByte(byte(r)) }) {
			t.Fatalf("%q is %q", a, x)
		}
		back, ok := tagOf(x)
		if ok && back != a || !ok && a != "" && !strings.Contains(x, "__") {
			t.Fatalf("%q is %q, and that is %q %t", a, x, back, ok)
		}
	})
	for _, id := range []string{"", "_", "_g0", "_4", "a_61", "_7E"} {
		if tag, ok := tagOf(id); ok {
			t.Errorf("%q is taken for the id of %q", id, tag)
		}
	}
}

// TestHostile has HAProxy read files made of hostile names: nothing of them becomes a word of the file.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	hostile := []string{
		"a\nglobal\n    maxconn 1", "web 1", "#", "'; del", "$(HOME)", "${HOME}", `"`, `\`, "ünï", "a,b", "%[env(HOME)]", "f.web:80",
		strings.Repeat("ü", 120), "tag\r\nfrontend x\n bind :1", "-f", ".", "..", "_5f", "{[(<>)]}",
	}
	var services []*plan.Service
	for i, tag := range hostile {
		services = append(services, with(web(uint16(1000+i), 80, 2), func(s *plan.Service) {
			s.Tag, s.Version = tag, tag
			s.Backends[0].Host, s.Backends[0].Why = tag, tag
		}))
	}
	text, err := Render(Settings{Timeouts: DefaultTimeouts(), Socket: filepath.Join(dir, "it's a socket"), Prints: map[string]string{}}, services)
	if err != nil {
		t.Fatal(err)
	}
	try(t, dir, text)
	count := map[string]int{}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			count[words[0]]++
		}
	}
	want := map[string]int{"global": 1, "frontend": len(hostile), "backend": len(hostile), "server": 2 * len(hostile), "bind": len(hostile), "maxconn": 0}
	for word, n := range want {
		if count[word] != n {
			t.Errorf("%d lines begin with %s, want %d\n%s", count[word], word, n, text)
		}
	}
	if _, err := ask(context.Background(), "/nowhere", "show info; disable server x/y"); !errors.Is(err, ErrCommand) {
		t.Errorf("two commands in one: %v", err)
	}
}

func TestServerIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var addrs []netip.Addr
		for _, n := range rapid.SliceOfNDistinct(rapid.Uint32(), 1, 50, rapid.ID).Draw(t, "addrs") {
			addrs = append(addrs, netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
		}
		ids := serverIDs(addrs)
		seen := map[uint32]bool{}
		for a, id := range ids {
			if id == 0 || id >= 1<<31 || seen[id] {
				t.Fatalf("%s is %d", a, id)
			}
			seen[id] = true
		}
	})
}

// TestAdjustments is what is said to HAProxy, as a table.
func TestAdjustments(t *testing.T) {
	a1, a2 := netip.MustParseAddr(backendAddr(1)), netip.MustParseAddr(backendAddr(2))
	const be = "b.web:80"
	state := func(s plan.State, c plan.Cause) func(*plan.Service) {
		return func(x *plan.Service) { x.Backends[0].State, x.Backends[0].Cause = s, c }
	}
	s1, s2 := be+"/"+a1.String(), be+"/"+a2.String()
	ids := serverIDs([]netip.Addr{a1, a2})
	for _, c := range []struct {
		name   string
		have   []server
		change func(*plan.Service)
		want   []string
	}{
		{"nothing", []server{{be, a1, ready}, {be, a2, ready}}, nil, nil},
		{"a new one", []server{{be, a1, ready}}, nil, []string{fmt.Sprintf("add server %s %s:8080 id %d", s2, a2, ids[a2]), "set server " + s2 + " state ready"}},
		{"a new one that is out", []server{{be, a2, ready}}, state(plan.Out, plan.Unchecked), []string{fmt.Sprintf("add server %s %s:8080 id %d", s1, a1, ids[a1])}},
		{"one that drains", []server{{be, a1, ready}, {be, a2, ready}}, state(plan.Draining, plan.Drained), []string{"set server " + s1 + " state drain"}},
		{"one that drains, after a reload", []server{{be, a1, maint}, {be, a2, ready}}, state(plan.Draining, plan.Drained), nil},
		{"its time is over", []server{{be, a1, drain}, {be, a2, ready}}, state(plan.Out, plan.Drained), []string{"set server " + s1 + " state maint", "shutdown sessions server " + s1}},
		{"its check fails", []server{{be, a1, ready}, {be, a2, ready}}, state(plan.Out, plan.Failing), []string{"set server " + s1 + " state maint"}},
		{"it is back", []server{{be, a1, maint}, {be, a2, ready}}, nil, []string{"set server " + s1 + " state ready"}},
		{"it stopped draining", []server{{be, a1, drain}, {be, a2, ready}}, nil, []string{"set server " + s1 + " state ready"}},
		{"it left", []server{{be, a1, drain}, {be, a2, ready}}, func(s *plan.Service) { s.Backends = s.Backends[1:] }, []string{"set server " + s1 + " state maint", "shutdown sessions server " + s1, "del server " + s1}},
	} {
		s := web(80, 8080, 2)
		if c.change != nil {
			c.change(s)
		}
		var have []string
		for _, x := range adjustments(c.have, []*plan.Service{s}) {
			have = append(have, x.text)
		}
		if strings.Join(have, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, want %q", c.name, have, c.want)
		}
	}
}

func TestReadAnswers(t *testing.T) {
	list, err := readServers("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n3 b.web:80 12345 10.0.0.1 10.0.0.1 2 8 1\n3 b.web:80 2 2001:db8::1 2001:db8::1 2 4 1\n3 b.web:80 7 10.0.0.2 10.0.0.2 0 5 1\n\n")
	have := ""
	for _, s := range list {
		have += fmt.Sprintf("%s %s %s, ", s.backend, s.addr, s.mode)
	}
	if err != nil || have != "b.web:80 10.0.0.1 drain, b.web:80 2001:db8::1 ready, b.web:80 10.0.0.2 maint, " {
		t.Errorf("%s %v", have, err)
	}
	for _, bad := range []string{"1\n# be_id be_name srv_id srv_name\n1 b x y", "# a b\n1 2\n"} {
		if _, err := readServers(bad); !errors.Is(err, ErrCommand) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := readStats(""); err == nil {
		t.Error("no counters are read")
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n3 b.web:80 12345 10.0.0.1 10.0.0.1 2 8\n")
	f.Add("# pxname,svname,scur\nf.web:80,FRONTEND,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readServers(text)
		if err == nil {
			for _, s := range list {
				if !s.addr.IsValid() {
					t.Fatalf("%+v", s)
				}
			}
		}
		rows, err := readStats(text)
		if err == nil {
			named(rows, []*plan.Service{web(80, 80, 1)})
		}
	})
}

func TestAlerts(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[NOTICE]   (1) : haproxy version is 2.6\n[ALERT]    (1) : config : parsing [/x/next.cfg:7] : unknown keyword 'x'\n[ALERT]    (1) : config : Fatal errors found in configuration.\n", "config : parsing [/x/next.cfg:7] : unknown keyword 'x'"},
		{"Segmentation fault", "Segmentation fault"},
	} {
		if have := alerts(c.text); have != c.want {
			t.Errorf("%q, want %q", have, c.want)
		}
	}
	for _, c := range []struct {
		text string
		want bool
	}{{"Starting frontend f.web:80: cannot bind", true}, {"frontend f.web:8080: x", false}, {"frontend f.my-f.web:80 x", false}, {"'f.web:80'", true}, {"", false}} {
		if have := namesProxy(c.text, "f.web:80"); have != c.want {
			t.Errorf("%q names it: %t", c.text, have)
		}
	}
}
