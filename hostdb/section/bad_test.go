package section

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// TestMessages checks documents line by line against testdata/*.txt: "- " begins a document in flow style on one line;
// the lines below it are what is wrong with it, with its severity.
func TestMessages(t *testing.T) {
	for _, ns := range []string{hostdb.Hosts, hostdb.Tags} {
		name := filepath.Join("testdata", ns+".txt")
		have, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for line := range strings.Lines(string(have)) {
			text, isDoc := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "- ")
			if !isDoc {
				if line == "\n" || line[0] == '#' {
					want.WriteString(line)
				}
				continue
			}
			want.WriteString(line)
			for _, p := range Check(ns, parse(t, text)) {
				want.WriteString("  " + p.Severity.String() + ": " + p.String() + "\n")
			}
		}
		current(t, name, []byte(want.String()))
	}
}

func TestValidate(t *testing.T) {
	var none hostdb.Document
	v := Validator{}

	_, err := v.Validate("tags", "dc1", none, parse(t, "DNS: {Zone: dc1.example.com, TTL: soon}"))
	want := `tags/dc1: DNS/TTL: "soon" is not a duration in seconds; expected a number of seconds such as 30`
	if err == nil || err.Error() != want || !errors.Is(err, hostdb.ErrInvalid) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var invalid *InvalidError
	if !errors.As(err, &invalid) || invalid.ID != "tags/dc1" || invalid.Problems[0].Path != hostdb.PathOf("DNS", "TTL") || invalid.Problems[0].Value != "soon" {
		t.Errorf("as *InvalidError: %+v", invalid)
	}

	many := parse(t, "Service: {Port: x}\nMySQL: {VIP: 1, MaxLag: 2, Failover: 3}")
	if _, err = v.Validate("tags", "t", none, many); !strings.HasSuffix(err.Error(), "; and 2 more") {
		t.Errorf("many problems: %v", err)
	}

	warnings, err := v.Validate("hosts", "h", none, parse(t, "Network: {IP: somewhere}"))
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "hosts/h: Network/IP: ") {
		t.Errorf("host facts: %v, %v", warnings, err)
	}
	if warnings, err = v.Validate("routers", "r", none, parse(t, "DNS: 1")); warnings != nil || err != nil {
		t.Errorf("other namespace: %v, %v", warnings, err)
	}

	// What was broken before only warns; what the write breaks, or breaks differently, is refused.
	old := parse(t, "DNS: {Zone: dc1.example.com, TTL: soon}")
	warnings, err = v.Validate("tags", "dc1", old, parse(t, "DNS: {Zone: dc1.example.com, TTL: soon, NS: ns1}"))
	if err != nil || len(warnings) != 1 {
		t.Errorf("an old mistake: %v, %v", warnings, err)
	}
	warnings, err = v.Validate("tags", "dc1", old, parse(t, "DNS: {Zone: dc1.example.com, TTL: later, NS: ns1}"))
	if err == nil || len(warnings) != 0 {
		t.Errorf("a new mistake in its place: %v, %v", warnings, err)
	}
}

// TestReadsOn checks that what is wrong leaves the rest readable.
func TestReadsOn(t *testing.T) {
	tag, problems := TagOf(parse(t, `
DNS: {Zone: dc1.example.com, TTL: soon, Reverse: [10.1.0.0/17, 10.2.0.0/16, x], Records: {"a b": {A: 10.0.0.1}, www: {A: [x, 10.0.0.2]}, mx: 5}}
LB: 5
Service: {Port: 80, Proto: sctp}
`))
	d := tag.DNS
	if d == nil || d.TTL != 30*time.Second || len(d.Reverse) != 2 || len(d.Records) != 1 || len(d.Records["www"].A) != 1 {
		t.Errorf("DNS %+v", d)
	}
	if tag.LB != nil || tag.Service == nil || tag.Service.Proto != TCP || tag.Service.Port != 80 {
		t.Errorf("LB %+v, Service %+v", tag.LB, tag.Service)
	}
	if len(problems) != 7 {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
}
