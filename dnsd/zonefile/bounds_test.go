package zonefile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/mesh"
)

const soaLine = "$TTL 60\n@ SOA a b 1 2 3 4 5\n"

// A few bytes of $GENERATE become as many records as they say, be they taken or not, and as many bytes.
func TestWhatComesOutIsBounded(t *testing.T) {
	most := bounds{records: 3000, bytes: 1 << 20}
	for name, text := range map[string]string{
		"records of another class": strings.Repeat("$GENERATE 0-999 a$ CH A 1.2.3.4\n", 3),
		"duplicates":               strings.Repeat("$GENERATE 0-999 a A 1.2.3.4\n", 3),
		"starts of authority":      strings.Repeat("@ SOA a b 1 2 3 4 5\n", 3000),
		"long records":             "$GENERATE 0-999 a$ TXT " + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 10) + "\n",
	} {
		if f, err := read(t.Context(), []byte(soaLine+text), "lab.test", most); !errors.Is(err, hostdb.ErrTooLarge) {
			t.Errorf("%s: %v, %v", name, f != nil, err)
		}
	}
	if f, err := read(t.Context(), []byte(soaLine+"$GENERATE 0-2998 a$ A 1.2.3.4\n"), "lab.test", most); err != nil || len(f.Records) != 2999 {
		t.Errorf("as many as may be: %v", err)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	f, err := Read(t.Context(), []byte(soaLine+"$GENERATE 1-3000 a$ CH A 1.2.3.4\n$GENERATE 1-50 b$.elsewhere.test. A 1.2.3.4\nlong CH TXT "+strings.Repeat(strings.Repeat("x", 250)+" ", 20)+"\n"), "lab.test")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Problems) != maxProblems || f.MoreProblems != 2001 {
		t.Errorf("%d problems and %d more", len(f.Problems), f.MoreProblems)
	}
	p, err := Make(openStore(t).View(), f, "")
	if err != nil {
		t.Fatal(err)
	}
	if last := p.Problems[len(p.Problems)-1]; len(p.Problems) != maxProblems+1 || last != "2051 more are not listed" {
		t.Errorf("%d problems, the last is %q", len(p.Problems), last)
	}
	if f, err = Read(t.Context(), []byte(soaLine+"long CH TXT "+strings.Repeat(strings.Repeat("x", 250)+" ", 20)+"\n"), "lab.test"); err != nil || len(f.Problems) != 1 || len(f.Problems[0]) > 400 {
		t.Errorf("%v, %.500q", err, f.Problems)
	}
}

// Who does not wait any more has nothing read for him.
func TestReadingEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, []byte(soaLine+"$GENERATE 0-65535 a$ A 1.2.3.4\n"), "lab.test"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What lies below delegations is found by the names above it, not by a look at all delegations.
func TestManyDelegations(t *testing.T) {
	const n = 20_000
	text := soaLine + fmt.Sprintf("$GENERATE 1-%d c$ NS ns.c$\n$GENERATE 1-%d ns.c$ A 10.0.0.1\n$GENERATE 1-%d h$ A 10.0.0.2\nno.glue A 10.0.0.3\nc1.glue A 10.0.0.4\n", n, n, n)
	f, err := Read(t.Context(), []byte(text), "lab.test")
	if err != nil {
		t.Fatal(err)
	}
	p := &planner{view: openStore(t).View(), file: f, sets: map[string][]dns.RR{}, cuts: map[string]bool{}}
	p.sort()
	below := 0
	for _, name := range p.owners {
		if p.belowCut(name) {
			below++
		}
	}
	if len(p.cuts) != n || below != 2*n {
		t.Errorf("%d cuts, %d names at or below them", len(p.cuts), below)
	}
	if cost := testing.AllocsPerRun(10, func() { p.belowCut("a.b.c.d.e.h1.lab.test.") }); cost != 0 {
		t.Errorf("%v allocations", cost)
	}
}

// A time to live whose highest bit is set is none (RFC 2181 section 8).
func TestTimesToLiveBeyondTheirRange(t *testing.T) {
	for ttl, want := range map[string]uint32{"4294967295": 0, "2147483648": 0, "2147483647": 2147483647, "0": 0} {
		s := openStore(t)
		f, err := Read(t.Context(), []byte("$TTL "+ttl+"\n@ SOA a b 1 2 3 4 5\n@ NS ns1\nns1 A 10.0.0.1\nwww A 10.0.0.2\nx TXT hello\n"), "lab.test")
		if err != nil {
			t.Fatal(err)
		}
		p, err := Make(s.View(), f, "")
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(strings.Join(p.Problems, "\n"), "RFC 2181 section 8"); told != (len(ttl) == 10 && ttl != "2147483647") {
			t.Errorf("%s: problems %q", ttl, p.Problems)
		}
		if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, p.Write); err != nil {
			t.Fatal(err)
		}
		n := 0
		for rr := range zone.Compile(s.View(), mesh.View{}, zone.DefaultOptions()).Records("lab.test.") {
			if n++; rr.Header().Ttl != want {
				t.Errorf("%s: %v", ttl, rr)
			}
		}
		if n != 4 {
			t.Errorf("%s: %d records", ttl, n)
		}
	}
}

// The times of a SOA that no section takes are served as the longest ones; one that makes no sense takes no other with it.
func TestTimesOfSOA(t *testing.T) {
	const longest = 1<<31 - 1
	for _, c := range []struct {
		times                           string
		problems                        []string
		refresh, retry, expire, minimum uint32
	}{
		{"4294967295 2147483648 3000000000 2200000000", []string{"expire of 3000000000", "minimum of 2200000000", "refresh of 4294967295", "retry of 2147483648"},
			longest, longest, longest, longest},
		{"3600 600 2147483647 60", nil, 3600, 600, longest, 60},
		{"3600 0 86400 60", []string{"Retry"}, 3600, 300, 86400, 60},
		{"3600 600 60 70", []string{"Expire"}, 3600, 600, 604800, 70},
	} {
		s := openStore(t)
		p, served, file := imported(t, s, "$ORIGIN lab.test.\n$TTL 300\n@ SOA ns1 hostmaster 1 "+c.times+"\n NS ns1\nns1 A 10.0.0.1\n", "", "lab")
		if diff := cmp.Diff(file, served); diff != "" {
			t.Errorf("%s: file and zone differ (-file +zone):\n%s", c.times, diff)
		}
		if len(p.Problems) != len(c.problems) {
			t.Errorf("%s: %q", c.times, p.Problems)
			continue
		}
		for i, want := range c.problems {
			if !strings.Contains(p.Problems[i], want) {
				t.Errorf("%s: %q does not name %s", c.times, p.Problems[i], want)
			}
		}
		soa := zone.Compile(s.View(), mesh.View{}, zone.DefaultOptions()).SOA("lab.test.")
		near := func(got, want uint32) bool { return got/8 == want/8 || got>>12 == want>>12 } // the low bits are those of the content
		if !near(soa.Refresh, c.refresh) || !near(soa.Retry, c.retry) || !near(soa.Expire, c.expire) || soa.Minttl != c.minimum || soa.Mbox != "hostmaster.lab.test." {
			t.Errorf("%s: %v", c.times, soa)
		}
	}
}
