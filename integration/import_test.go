package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/node/api"
)

// inventory is the example, as a person would import it.
const inventory = "../examples/inventory"

// tree writes files below a new directory and returns it.
func (s *site) tree(name string, files map[string]string) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	return dir
}

// imports runs db import with a JSON report.
func (b *box) imports(args ...string) (report api.ImportReport, stderr string, code int) {
	b.site.t.Helper()
	out, stderr, code := b.hostmesh(append([]string{"db", "import", "-o", "json"}, args...)...)
	if out != "" {
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			b.site.t.Fatalf("report: %v\n%s", err, out)
		}
	}
	return report, stderr, code
}

// TestBadImport: what is wrong is told with file and line, and nothing is imported; --keep-going takes the rest and
// says what it left out.
func TestBadImport(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	b := s.boxes[0]
	dir := s.tree("bad", map[string]string{
		"hosts/good1.lab.test":    "Network: {IP: 10.9.0.1}\n",
		"hosts/good2.lab.test":    "Owner: me\n",
		"hosts/broken.lab.test":   "Owner: me\nNetwork:\n  IP: [10.9.0.2\nStatus: active\n",
		"hosts/twodocs.lab.test":  "Owner: me\n---\nOwner: you\n",
		"tags/good":               "Owner: me\n",
		"tags/.members/good":      "good1.lab.test\n# a note\n\ngood2.lab.test\n",
		"tags/dangling":           "Owner: me\n",
		"tags/.members/dangling":  "good1.lab.test\nnobody.lab.test\n",
		"tags/.members/unguarded": "good1.lab.test\n",
		"tags/.perms/good":        "ops: sometimes\n",
	})
	_, before := s.equal(s.boxes...)
	_, errs, code := b.imports(dir)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, errs, "hosts/broken.lab.test:", "hosts/twodocs.lab.test:", "tags/.members/dangling:2", "nobody.lab.test", "tags/.perms/good", "--keep-going", "nothing was")
	broken := false
	for line := range strings.Lines(errs) {
		var n int
		if _, err := fmt.Sscanf(line, "hosts/broken.lab.test:%d:", &n); err == nil {
			broken = n >= 3 && n <= 4
		}
	}
	if !broken {
		t.Errorf("the line of the broken YAML, 3 or 4, is not told:\n%s", errs)
	}
	if _, after := s.equal(s.boxes...); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("something was imported:\n%v\n%v", before, after)
	}

	report, errs, code := b.imports(dir, "--keep-going")
	if code != 0 {
		t.Errorf("--keep-going: exit code %d\n%s", code, errs)
	}
	says(t, errs, "hosts/broken.lab.test:", "hosts/twodocs.lab.test:", "tags/.members/dangling:2")
	if !report.Complete || len(report.Problems) < 4 {
		t.Errorf("--keep-going: %+v", report)
	}
	s.equal(s.boxes...)
	for _, x := range s.boxes {
		for _, id := range []string{"hosts/good1.lab.test", "hosts/good2.lab.test", "tags/good", "tags/dangling"} {
			if _, err := x.get(id); err != nil {
				t.Errorf("it is fine and was left out: %v", err)
			}
		}
		for _, id := range []string{"hosts/broken.lab.test", "hosts/nobody.lab.test"} {
			if got, err := x.get(id); err == nil {
				t.Errorf("it is wrong and was taken: %s: %s", id, got)
			}
		}
		if got, err := x.get("tags/good/members"); err != nil || got != "good1.lab.test\ngood2.lab.test" {
			t.Errorf("members of good: %q, %v", got, err)
		}
	}
	for dir, want := range map[string]string{
		filepath.Join(s.dir, "nowhere"):                           "nowhere",
		s.tree("empty", map[string]string{"README": "nothing\n"}): "no namespace here",
	} {
		if _, errs, code := b.imports(dir); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("import of %s: exit code %d\n%s", dir, code, errs)
		}
	}
}

// TestImportTwice: the example goes in without a complaint; again it changes nothing, at any box; and other name
// servers accept every zone that comes of it.
func TestImportTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	first, second := s.boxes[0], s.boxes[1]
	report, errs, code := first.imports(inventory, "-m", "the example")
	if code != 0 || !report.Complete || len(report.Problems) > 0 || report.Keys.Created < 240 {
		t.Fatalf("exit code %d, %+v\n%s", code, report, errs)
	}
	took, once := s.equal(s.boxes...)
	t.Logf("imported %d keys in %d ms, %d operations; equal %s later", report.Keys.Created, report.Millis, report.Operations, took)

	for _, b := range s.boxes {
		report, errs, code = b.imports(inventory)
		if code != 0 || report.Operations != 0 {
			t.Errorf("again at %s: exit code %d, %+v\n%s", b.name, code, report, errs)
		}
		for _, x := range []api.ImportTally{report.Keys, report.Members, report.Perms} {
			if x.Created != 0 || x.Changed != 0 || x.Unchanged == 0 {
				t.Errorf("again at %s: %+v", b.name, report)
			}
		}
	}
	if _, again := s.equal(s.boxes...); fmt.Sprint(again) != fmt.Sprint(once) {
		t.Errorf("the second import changed something:\n%v\n%v", once, again)
	}

	// A person's change is put back by another import, and by that alone.
	second.mustPut("hosts/web1.dc1.example.com/Owner", "somebody")
	s.equal(s.boxes...)
	report, errs, code = first.imports(inventory)
	if code != 0 || report.Keys.Changed != 1 || report.Keys.Created != 0 {
		t.Errorf("after a change: exit code %d, %+v\n%s", code, report, errs)
	}
	s.equal(s.boxes...)

	checkZones(s)
}

// checkZones has named-checkzone, nsd-checkzone and kzonecheck read every zone of the example, at each box, and asks dig for what is in them.
func checkZones(s *site) {
	t := s.t
	t.Helper()
	want := []string{"dc1.example.com", "dc2.example.com", "1.10.in-addr.arpa", "2.10.in-addr.arpa"}
	for _, b := range s.boxes {
		var zones []string
		s.wait(b.name+" serves the zones of the example", func() error {
			list, err := b.api.Zones(t.Context())
			if err != nil {
				return err
			}
			zones = zones[:0]
			for _, z := range list {
				zones = append(zones, strings.TrimSuffix(z.Name, "."))
			}
			for _, z := range want {
				if !slices.Contains(zones, z) {
					return fmt.Errorf("%s is not among %q", z, zones)
				}
			}
			return nil
		})
		reverse6 := 0
		for _, zone := range zones {
			out, errs, code := b.hostmesh("dns", "zone", zone)
			if code != 0 {
				t.Errorf("dns zone %s: exit code %d\n%s", zone, code, errs)
				continue
			}
			if strings.HasSuffix(zone, "ip6.arpa") {
				reverse6++
			}
			file := s.write("zone-of-"+b.name+"-"+zone, out)
			for _, checker := range [][]string{{"named-checkzone", "-i", "local", zone, file}, {"nsd-checkzone", zone, file}, {"kzonecheck", "-o", zone, file}} {
				said, errs, code := output(t, exec.Command(checker[0], checker[1:]...))
				if code != 0 {
					t.Errorf("%s %s: %s%s\n%s", checker[0], zone, said, errs, out)
				}
				t.Logf("%s: %d lines, %s: %s", zone, strings.Count(out, "\n"), checker[0], lastLines(said+errs, 1))
			}
		}
		if reverse6 < 2 {
			t.Errorf("%d reverse zones of IPv6, want those of both datacenters: %q", reverse6, zones)
		}
		if _, errs, code := b.hostmesh("dns", "zone", "no.such.zone"); code != 1 || !strings.Contains(errs, "no.such.zone") {
			t.Errorf("dns zone of one that is not there: exit code %d, %s", code, errs)
		}
		for _, q := range []struct {
			args []string
			want string
		}{
			{[]string{"web1.dc1.example.com"}, "10.1.8.11"},
			{[]string{"web1.dc1.example.com", "aaaa"}, "2001:db8:1:8::11"},
			{[]string{"-x", "10.1.8.11"}, "web1.dc1.example.com."},
			{[]string{"-x", "2001:db8:1:8::11"}, "web1.dc1.example.com."},
			{[]string{"dc1.example.com", "mx", "+tcp"}, "10 mail1.dc1.example.com."},
			{[]string{"www.dc1.example.com", "cname"}, "web1.dc1.example.com."},
			{[]string{"gw.dc1.example.com"}, "10.1.0.1"},
			{[]string{"box2.node.mesh.internal"}, s.boxes[1].addr},
		} {
			if got := b.dig(q.args...); !slices.Contains(strings.Split(got, "\n"), q.want) {
				t.Errorf("dig %s at %s: %q, want %s in it", strings.Join(q.args, " "), b.name, got, q.want)
			}
		}
	}
}
