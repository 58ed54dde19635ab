package zonefile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
)

func openStore(t testing.TB) *hostdb.Store {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32), Validator: section.Validator{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *hostdb.Store, id, yaml string) {
	t.Helper()
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	ns, key, _ := strings.Cut(id, "/")
	if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }); err != nil {
		t.Fatal(err)
	}
}

// imported writes what a file becomes, and returns the records that are served of it then and those of the file.
func imported(t testing.TB, s *hostdb.Store, text, origin, tag string) (p *Plan, served, file []string) {
	t.Helper()
	f, err := Read(t.Context(), []byte(text), origin)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = Make(s.View(), f, tag); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, p.Write); err != nil {
		t.Fatal(err)
	}
	z := zone.Compile(s.View(), mesh.View{}, zone.DefaultOptions())
	for rr := range z.Records(f.Origin) {
		served = append(served, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	for _, rr := range f.Records {
		file = append(file, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(served)
	slices.Sort(file)
	return p, served, file
}

// The zone that is made of a file has the file's records, but for those that are told.
func TestRoundTrip(t *testing.T) {
	text, err := os.ReadFile("testdata/lab.test.zone")
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	p, served, file := imported(t, s, string(text), "lab.test", "lab")
	if diff := cmp.Diff(file, served); diff != "" {
		t.Errorf("file and zone differ (-file +zone):\n%s", diff)
	}
	if len(p.Problems) > 0 {
		t.Errorf("%q", p.Problems)
	}
	wantHosts := []string{"a.b.deep.lab.test", "ldap.lab.test", "mail.lab.test", "node-1.lab.test", "node-2.lab.test", "node-3.lab.test", "node-4.lab.test", "node-5.lab.test", "ns1.lab.test", "web1.lab.test"}
	if diff := cmp.Diff(wantHosts, slices.Sorted(maps.Keys(p.Hosts))); diff != "" {
		t.Errorf("hosts:\n%s", diff)
	}
	if got := s.View().Data("hosts", "web1.lab.test").YAML(); got != "Network:\n  IP: 10.1.0.11\n  cname:\n    - shop.lab.test\n    - www.lab.test\n" {
		t.Errorf("web1:\n%s", got)
	}
	z := zone.Compile(s.View(), mesh.View{}, zone.DefaultOptions())
	soa := z.SOA("lab.test.")
	if soa.Ns != "ns1.lab.test." || soa.Mbox != "hostmaster.lab.test." || soa.Minttl != 300 || soa.Hdr.Ttl != 3600 || soa.Refresh>>8 != 3600>>8 {
		t.Errorf("SOA: %s", soa)
	}
	// What is exported and read again is the same.
	var b strings.Builder
	if err := z.WriteZone(&b, "lab.test"); err != nil {
		t.Fatal(err)
	}
	again, err := Read(t.Context(), []byte(b.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	for _, rr := range again.Records {
		exported = append(exported, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(exported)
	if diff := cmp.Diff(file, exported); diff != "" {
		t.Errorf("file and exported zone differ:\n%s", diff)
	}
}

// A reverse zone follows from the hosts that are there, where it can.
func TestReverseZone(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/web1.lab.test", "Network: {IP: 10.1.0.11}")
	put(t, s, "hosts/two.lab.test", "Network: {IP: 10.1.0.12}")
	p, served, file := imported(t, s, `$TTL 300
$ORIGIN 1.10.in-addr.arpa.
@ SOA ns1.lab.test. hostmaster.lab.test. 1 3600 600 86400 60
  NS ns1.lab.test.
11.0 PTR web1.lab.test.
12.0 PTR other.lab.test.
13.0 PTR two.lab.test.
$GENERATE 1-3 $.9 PTR pool-$.lab.test.
`, "", "")
	if diff := cmp.Diff(file, served); diff != "" {
		t.Errorf("file and zone differ:\n%s", diff)
	}
	if p.Tag != "1.10.in-addr.arpa" || !slices.Equal(p.Known, []string{"web1.lab.test"}) || p.Names != 6 || p.Section.At("Reverse").YAML() != "- 10.1.0.0/16\n" {
		t.Errorf("%+v\n%s", p, p.Section.YAML())
	}
}

func TestHostsThatAreThere(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/same.lab.test", "{Network: {IP: 10.1.0.1}, Owner: [ops]}")
	put(t, s, "hosts/other.lab.test", "Network: {IP: 10.1.0.99}")
	put(t, s, "hosts/named", "Network: {IP: 10.1.0.3, FQDN: third.lab.test}")
	p, served, file := imported(t, s, "$TTL 60\n@ SOA ns1 h 1 9 3 4 5\n@ NS ns1.example.net.\nsame A 10.1.0.1\nother A 10.1.0.2\nthird A 10.1.0.3\n", "lab.test.", "")
	if diff := cmp.Diff(file, served); diff != "" {
		t.Errorf("file and zone differ:\n%s", diff)
	}
	if len(p.Hosts) != 0 || !slices.Equal(p.Known, []string{"named", "same.lab.test"}) {
		t.Errorf("%+v", p)
	}
	told := strings.Join(p.Problems, "\n")
	if !strings.Contains(told, "hosts/other.lab.test is there and has the address 10.1.0.99") || !strings.Contains(told, "SOA") {
		t.Errorf("%q", told)
	}
	if s.View().Data("hosts", "same.lab.test").Text("Network", "IP") != "10.1.0.1" || s.View().Data("hosts", "other.lab.test").Text("Network", "IP") != "10.1.0.99" {
		t.Error("a host was changed")
	}
}

// What cannot be taken is told, and the rest is taken.
func TestNotTaken(t *testing.T) {
	s := openStore(t)
	p, served, _ := imported(t, s, `$ORIGIN lab.test.
$TTL 60
@ SOA ns1 h 1 3600 600 86400 5
@ NS ns1.example.net.
good A 10.1.0.1
outside.example.org. A 10.1.0.2
ch CH TXT "chaos"
@ DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
with\032blank A 10.1.0.3
0/25 NS ns.example.net.
mixed 60 TXT "a"
mixed 60 MX 10 good
mixed 90 CAA 0 issue "x"
alias CNAME good
`, "", "")
	told := strings.Join(p.Problems, "\n")
	for _, want := range []string{"outside.example.org.", "CH TXT", "DNSKEY", `with\ blank`, "0/25", "its time to live becomes 60"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not told in:\n%s", want, told)
		}
	}
	if text := strings.Join(served, "\n"); len(served) != 6 || !strings.Contains(text, "good.lab.test. 60 IN A 10.1.0.1") {
		t.Errorf("served:\n%s", text)
	}
}

func TestBadFiles(t *testing.T) {
	s := openStore(t)
	put(t, s, "tags/taken", "DNS: {Zone: taken.test}")
	for _, c := range []struct{ text, zone, tag, want string }{
		{"", "", "", "no SOA"},
		{"", "lab.test", "", "empty"},
		{"@ SOA ns h 1 2 3 4 5\n", "", "", "--zone"},
		{"$INCLUDE /etc/passwd\n", "lab.test", "", "line: 1"},
		{"$INCLUDE other.zone\n", "lab.test", "", "put the included file in its place"},
		{"@ 60 SOA ns h 1 2 3 4 5\nweb 60 A 10.1.1\n", "lab.test", "", "line: 2"},
		{"example.org. 60 SOA ns h 1 2 3 4 5\n", "lab.test", "", "is that of example.org."},
		{". 60 SOA ns. h. 1 2 3 4 5\n", "", "", "root zone"},
		{"a 60 A 10.0.0.1\n", "a b..c", "", "not a name in DNS"},
		{"$GENERATE 1-99999999999 a$ A 10.0.0.1\n", "lab.test", "", "line: 1"},
		{"@ 60 SOA ns h 1 2 3 4 5\n", "taken.test", "", "tag taken makes the zone taken.test already"},
		{"@ 60 SOA ns h 1 2 3 4 5\n", "lab.test", "taken", "has a section DNS already"},
		{"@ 60 SOA ns h 1 2 3 4 5\n", "lab.test", "a/b", "slash"},
	} {
		f, err := Read(t.Context(), []byte(c.text), c.zone)
		if err == nil {
			_, err = Make(s.View(), f, c.tag)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q in it", c.text, err, c.want)
		}
		if err != nil && !errors.Is(err, hostdb.ErrInvalid) && !errors.Is(err, hostdb.ErrExists) && !errors.Is(err, hostdb.ErrBadName) {
			t.Errorf("%q: %v wraps no sentinel", c.text, err)
		}
	}
}

// Whatever a file says, in whatever order: what is served is the file, but for what is told.
func TestRoundTripOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := []string{"@", "a", "b", "c.d", "*.w", "_x", "cut", "ns.cut", "lab.test"}
		datas := []string{"A 10.0.0.1", "A 10.0.0.2", "AAAA 2001:db8::1", "TXT \"t\"", "MX 10 a", "CNAME a", "CNAME b.lab.test.", "NS ns.cut", "SRV 1 2 3 b", "PTR a", "SSHFP 1 1 aa"}
		var b strings.Builder
		fmt.Fprintln(&b, "$ORIGIN lab.test.\n@ 60 SOA ns h 1 3600 600 86400 5\n@ 60 NS ns.example.net.")
		cname := map[string]bool{}
		other := map[string]bool{"@": true}
		for range rapid.IntRange(0, 14).Draw(rt, "records") {
			n, d := rapid.SampledFrom(names).Draw(rt, "name"), rapid.SampledFrom(datas).Draw(rt, "data")
			isAlias := strings.HasPrefix(d, "CNAME")
			if isAlias && (other[n] || cname[n]) || !isAlias && cname[n] {
				continue // no server would take such a file
			}
			cname[n], other[n] = cname[n] || isAlias, other[n] || !isAlias
			fmt.Fprintf(&b, "%s %d %s\n", n, rapid.SampledFrom([]int{60, 60, 60, 30}).Draw(rt, "ttl"), d)
		}
		s := openStore(t)
		defer s.Close()
		p, served, file := imported(t, s, b.String(), "", "lab")
		without := func(list []string) []string { // times to live that were told to change
			var out []string
			for _, x := range list {
				f := strings.Fields(x)
				out = append(out, f[0]+" "+strings.Join(f[2:], " "))
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		if len(p.Problems) > 0 {
			for _, x := range p.Problems {
				if !strings.Contains(x, "its time to live becomes") {
					rt.Fatalf("not taken: %s\n%s", x, &b)
				}
			}
			served, file = without(served), without(file)
		}
		// A set of mixed times to live has the lowest (RFC 2181 section 5.2).
		if diff := cmp.Diff(without(file), without(served)); diff != "" {
			rt.Fatalf("file and zone differ:\n%s\n%s\n%s", diff, &b, p.Section.YAML())
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add("@ 60 SOA ns h 1 2 3 4 5\nweb 60 A 10.1.1.1\n", "lab.test")
	f.Add("$GENERATE 1-3 a$ A 10.0.0.$\n", "lab.test")
	f.Fuzz(func(t *testing.T, text, origin string) {
		if strings.Contains(text, "$GENERATE") && len(text) > 200 {
			return // each line of it may be 65,536 records
		}
		z, err := Read(t.Context(), []byte(text), origin)
		if err != nil {
			return
		}
		for _, rr := range z.Records {
			if !dns.IsFqdn(rr.Header().Name) {
				t.Errorf("%q is relative", rr.Header().Name)
			}
		}
		if _, err := Make(hostdb.View{}, z, ""); err != nil && !errors.Is(err, hostdb.ErrBadName) {
			t.Errorf("%v", err)
		}
	})
}
