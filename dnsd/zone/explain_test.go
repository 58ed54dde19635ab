package zone

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

func TestAsk(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/web1.x.test", "Network: {IP: 10.0.0.1, cname: www}")
	put(t, s, "tags/x", "DNS: {Zone: x.test, TTL: 60}")
	members(t, s, "x", "web1.x.test")
	z := Compile(s.View(), aMesh("web1.x.test=127.0.0.1"), DefaultOptions())
	r, err := z.Ask("WWW.x.test", "")
	if err != nil || r.Rcode != "NOERROR" || r.Zone != "x.test" || !r.Authoritative || r.Type != "A" ||
		!slices.Equal(r.Answer, []string{"WWW.x.test. 60 IN CNAME web1.x.test.", "web1.x.test. 60 IN A 10.0.0.1"}) &&
			!slices.Equal(r.Answer, []string{"www.x.test. 60 IN CNAME web1.x.test.", "web1.x.test. 60 IN A 10.0.0.1"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := z.Ask("none.x.test.", "type65"); err != nil || r.Rcode != "NXDOMAIN" || len(r.Authority) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := z.Ask("example.org", "MX"); err != nil || r.Rcode != "REFUSED" || r.Zone != "" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range [][2]string{{"a..b", "A"}, {"x.test", "NOTYPE"}, {"x.test", "AXFR"}} {
		if _, err := z.Ask(bad[0], bad[1]); !errors.Is(err, hostdb.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestScopes(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/web1.x.test", "Network: {IP: 10.0.0.1, cname: www}")
	put(t, s, "tags/web", "Service: {Port: 80}")
	members(t, s, "web", "web1.x.test")
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {hand: {A: 10.0.0.9}}}")
	members(t, s, "x", "@web")
	z := Compile(s.View(), aMesh(), DefaultOptions())
	for name, want := range map[string][]string{
		"www.x.test":            {"hosts/web1.x.test data Network", "tags/web members web1.x.test", "tags/x members @web"},
		"hand.x.test":           {"tags/x data DNS/Records/hand"},
		"gone.x.test":           {"hosts/gone.x.test", "tags/x data DNS/Records/gone"},
		"web.tag.mesh.internal": {"tags/web members", "hosts/web1.x.test data Network", "hosts/web1.x.test data Status"},
	} {
		var got []string
		for _, sc := range z.Scopes(name) {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", sc.NS, sc.Key, sc.What, strings.Join(sc.Path, "/")+sc.Member)))
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %q is not in %q", name, w, got)
			}
		}
	}
}

func TestExplainLiveName(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/up.test", "Network: {IP: 10.0.0.1}")
	put(t, s, "hosts/failed.test", "Network: {IP: 10.0.0.2}")
	put(t, s, "hosts/left.test", "Network: {IP: 10.0.0.3}")
	put(t, s, "hosts/retired.test", "{Network: {IP: 10.0.0.4}, Status: retired}")
	put(t, s, "hosts/bare.test", "Owner: [x]")
	put(t, s, "hosts/vm.test", "Network: {IP: 10.0.0.6}")
	put(t, s, "tags/web", "{}")
	members(t, s, "web", "bare.test", "failed.test", "left.test", "retired.test", "up.test", "vm.test")
	m := aMesh("up.test=127.0.0.1", "failed.test=127.0.0.2 failed", "left.test=127.0.0.3 left", "other.test=127.0.0.9")
	z := Compile(s.View(), m, DefaultOptions())
	show := func(z *Zones) (out []string) {
		e, err := z.Explain("web.tag.mesh.internal")
		if err != nil || e.Kind != KindLive || e.Tag != "web" {
			t.Fatalf("%+v, %v", e, err)
		}
		for _, m := range e.Members {
			out = append(out, fmt.Sprintf("%s %v %s", m.Host, m.In, m.Why))
		}
		return append(out, fmt.Sprintf("all %v frozen %v", e.All, e.Frozen))
	}
	want := []string{
		"bare.test false it has no address (Network/IP, Network/IPv6)",
		"failed.test false its agent failed",
		"left.test false its agent left",
		"retired.test false its Status is retired",
		"up.test true its agent is alive",
		"vm.test true it runs no agent, so nothing is known against it",
		"all false frozen false",
	}
	if got := show(z); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	// Under mass suspicion who is in stays in.
	z = z.Update(s.View(), aMesh("up.test=127.0.0.1 failed", "failed.test=127.0.0.2 failed", "left.test=127.0.0.3 left", "other.test=127.0.0.9").WithMassSuspicion(true))
	got := show(z)
	if got[4] != "up.test true its agent failed, and who is left out stays as it was: too many failed at once" || got[6] != "all false frozen true" {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	// When nobody remains, all are answered.
	members(t, s, "web", "failed.test", "retired.test")
	z = Compile(s.View(), m, DefaultOptions())
	if got := show(z); got[0] != "failed.test true its agent failed" || got[2] != "all true frozen false" {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestExplainRecords(t *testing.T) {
	s := openStore(t)
	put(t, s, "hosts/web1.x.test", "Network: {IP: 10.0.0.1, cname: hand}")
	put(t, s, "tags/x", "DNS: {Zone: x.test, Records: {hand: {A: 10.0.0.9}, '*.w': {TXT: t}, sub: {NS: ns.example.org.}, a.b: {A: 10.0.0.8}}}")
	members(t, s, "x", "web1.x.test")
	z := Compile(s.View(), aMesh(), DefaultOptions())
	for name, want := range map[string]string{
		"web1.x.test":     "records at web1.x.test: hosts/web1.x.test true",
		"hand.x.test":     "records at hand.x.test: tags/x true, hosts/web1.x.test false",
		"z.w.x.test":      "wildcard at *.w.x.test: tags/x true",
		"q.sub.x.test":    "delegated at sub.x.test: tags/x true",
		"b.x.test":        "empty at b.x.test:",
		"nobody.x.test":   "nothing at nobody.x.test:",
		"www.example.org": "not-ours at www.example.org:",
	} {
		e, err := z.Explain(name)
		if err != nil {
			t.Fatal(err)
		}
		var by []string
		for _, r := range e.Records {
			by = append(by, fmt.Sprintf("%s %v", r.Key, r.Answered))
		}
		if got := strings.TrimSpace(fmt.Sprintf("%s at %s: %s", e.Kind, e.At, strings.Join(by, ", "))); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
