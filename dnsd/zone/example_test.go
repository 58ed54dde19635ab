package zone

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// ask returns "RCODE: record; record | authority | additional" with single blanks and without TTL and class.
func ask(z *Zones, qname, qtype string) string {
	a := z.Lookup(dns.Fqdn(qname), dns.StringToType[qtype])
	short := func(rrs []dns.RR) string {
		var out []string
		for _, rr := range rrs {
			f := strings.Fields(rr.String())
			out = append(out, strings.Join(append([]string{f[0], f[3]}, f[4:]...), " "))
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	}
	text := dns.RcodeToString[a.Rcode] + ": " + short(a.Answer)
	if a.Rcode != dns.RcodeRefused && !a.Authoritative {
		text = "referral: " + short(a.Answer)
	}
	if len(a.Authority) > 0 {
		if a.Authority[0].Header().Rrtype == dns.TypeSOA {
			text += " | SOA " + a.Authority[0].Header().Name
		} else {
			text += " | " + short(a.Authority)
		}
	}
	if len(a.Additional) > 0 {
		text += " + " + short(a.Additional)
	}
	return text
}

type question struct{ name, typ, want string }

func askAll(t *testing.T, z *Zones, list []question) {
	t.Helper()
	for _, q := range list {
		if got := ask(z, q.name, q.typ); got != q.want {
			t.Errorf("%s %s\n got %s\nwant %s", q.name, q.typ, got, q.want)
		}
	}
}

func TestExampleInventory(t *testing.T) {
	s := openStore(t)
	loadExample(t, s)
	z := Compile(s.View(), aMesh("box11.dc1.example.com=127.0.0.11", "box12.dc1.example.com=127.0.0.12 failed"), DefaultOptions())
	for _, p := range z.Problems() {
		t.Errorf("problem: %+v", p)
	}
	askAll(t, z, []question{
		{"web1.dc1.example.com", "A", "NOERROR: web1.dc1.example.com. A 10.1.8.11"},
		{"WEB1.dc1.example.com", "AAAA", "NOERROR: WEB1.dc1.example.com. AAAA 2001:db8:1:8::11"},
		{"11.8.1.10.in-addr.arpa", "PTR", "NOERROR: 11.8.1.10.in-addr.arpa. PTR web1.dc1.example.com."},
		{"1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR",
			"NOERROR: 1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR web1.dc1.example.com."},
		{"www.dc1.example.com", "A", "NOERROR: web1.dc1.example.com. A 10.1.8.11; www.dc1.example.com. CNAME web1.dc1.example.com."},
		{"bastion.dc2.example.com", "A", "NOERROR: bastion.dc2.example.com. CNAME jump1.dc2.example.com.; jump1.dc2.example.com. A 10.2.1.21"},
		{"track.dc1.example.com", "A", "NOERROR: shipping-web-dc1.vip.mesh.internal. A 10.1.0.49; track.dc1.example.com. CNAME shipping-web-dc1.vip.mesh.internal."},
		{"_ldap._tcp.dc2.example.com", "SRV", "NOERROR: _ldap._tcp.dc2.example.com. SRV 0 50 636 ldap1.dc2.example.com.; _ldap._tcp.dc2.example.com. SRV 10 50 636 ldap1.dc1.example.com." +
			" + ldap1.dc1.example.com. A 10.1.1.41; ldap1.dc2.example.com. A 10.2.1.41"},
		{"_tcp.dc1.example.com", "A", "NOERROR:  | SOA dc1.example.com."},
		{"x.y.dev.dc1.example.com", "A", "NOERROR: dev1.dc1.example.com. A 10.1.25.11; x.y.dev.dc1.example.com. CNAME dev1.dc1.example.com."},
		{"dc1.example.com", "TXT", `NOERROR: dc1.example.com. TXT "v=spf1 mx -all"`},
		{"_dmarc.dc1.example.com", "TXT", `NOERROR: _dmarc.dc1.example.com. TXT "v=DMARC1; p=reject"`},
		{"gw.dc1.example.com", "A", "NOERROR: gw.dc1.example.com. A 10.1.0.1"},
		{"box10.dc1.example.com", "A", "NXDOMAIN:  | SOA dc1.example.com."},
		{"web1.dc1.example.com", "MX", "NOERROR:  | SOA dc1.example.com."},
		{"example.com", "A", "REFUSED: "},
		{"box11.node.mesh.internal", "A", "NOERROR: box11.node.mesh.internal. A 127.0.0.11"},
		{"box12.dc1.example.com.node.mesh.internal", "A", "NOERROR: box12.dc1.example.com.node.mesh.internal. A 127.0.0.12"},
		{"ns.mesh.internal", "A", "NOERROR: ns.mesh.internal. A 127.0.0.11"},
		{"mesh.internal", "NS", "NOERROR: mesh.internal. NS ns.mesh.internal. + ns.mesh.internal. A 127.0.0.11"},
		{"ldap.tag.mesh.internal", "A", "NOERROR: ldap.tag.mesh.internal. A 10.1.1.41; ldap.tag.mesh.internal. A 10.1.1.42; ldap.tag.mesh.internal. A 10.2.1.41"},
		{"resolvers-dc1.vip.mesh.internal", "A", "NOERROR: resolvers-dc1.vip.mesh.internal. A 10.1.0.53"},
		{"shipping-db-dc1.vip.mesh.internal", "A", "NOERROR: shipping-db-dc1.vip.mesh.internal. A 10.1.0.60"},
		{"vip.mesh.internal", "A", "NOERROR:  | SOA mesh.internal."},
		{"decommissioned.vip.mesh.internal", "A", "NXDOMAIN:  | SOA mesh.internal."},
	})
	mx := ask(z, "dc1.example.com", "MX")
	for _, want := range []string{"MX 10 mail1.dc1.example.com.", "MX 30 mail1.dc2.example.com.", "mail1.dc1.example.com. A 10.1.1.71"} {
		if !strings.Contains(mx, want) {
			t.Errorf("MX answer lacks %s: %s", want, mx)
		}
	}
	srv := ask(z, "_grafana._tcp.tag.mesh.internal", "SRV")
	if want := "_grafana._tcp.tag.mesh.internal. SRV 0 1 3000 "; !strings.Contains(srv, want) {
		t.Errorf("SRV answer %q lacks %q", srv, want)
	}
	if got := ask(z, "grafana.tag.mesh.internal", "SRV"); !strings.Contains(got, "grafana.tag.mesh.internal. SRV 0 1 3000 ") {
		t.Errorf("SRV at the tag: %s", got)
	}
	if boxes := ask(z, "boxes-dc1.tag.mesh.internal", "A"); !strings.Contains(boxes, "A 10.1.0.11;") || strings.Contains(boxes, "A 10.1.0.12;") {
		t.Errorf("a failed box must be left out: %s", boxes)
	}
	checkZones(t, z)
}

// checkZones gives every zone to named-checkzone.
func checkZones(t *testing.T, z *Zones) {
	t.Helper()
	bin, err := exec.LookPath("named-checkzone")
	if err != nil {
		t.Fatalf("named-checkzone is needed (Debian: bind9-utils): %v", err)
	}
	z = z.WithSerials(func(string, Hash) uint32 { return 42 })
	for _, i := range z.Infos() {
		file := filepath.Join(t.TempDir(), "zone")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := z.WriteZone(f, i.Origin); err != nil {
			t.Fatal(err)
		}
		f.Close()
		out, err := exec.Command(bin, i.Origin, file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf("loaded serial %d\nOK", 42)) {
			t.Errorf("named-checkzone %s: %v\n%s", i.Origin, err, out)
		}
	}
}
