package integration

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// serial is what this box's DNS says is the serial of a zone; 0 when it does not say.
func (b *box) serial(zone string) uint32 {
	var mname, rname string
	var n uint32
	if _, err := fmt.Sscan(b.dig(zone, "soa"), &mname, &rname, &n); err != nil {
		return 0
	}
	return n
}

// sameSerial waits until all boxes that run have one serial for a zone, above another.
func (s *site) sameSerial(zone string, above uint32) uint32 {
	s.t.Helper()
	var n uint32
	s.wait(fmt.Sprintf("one serial of %s above %d", zone, above), func() error {
		all := s.running()
		n = all[0].serial(zone)
		for _, b := range all {
			if got := b.serial(zone); got != n || got <= above {
				return fmt.Errorf("%s has %d, %s has %d", all[0].name, n, b.name, got)
			}
		}
		return nil
	})
	return n
}

// TestSerial: agents with equal content have equal serials of their zones, which grow with each change, stay through a
// restart in order, and never fall.
func TestSerial(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	s.lab()
	last := s.sameSerial("lab.test", 0)
	for i := range 3 {
		s.boxes[i].mustPut("hosts/web1.lab.test/Network/IP", fmt.Sprintf("10.9.3.%d", i))
		s.equal(s.boxes...)
		for _, b := range s.boxes {
			b.answers("web1.lab.test", fmt.Sprintf("10.9.3.%d", i))
		}
		last = s.sameSerial("lab.test", last)
	}

	// One is away while another changes: it takes over what the others have agreed on.
	away := s.boxes[2]
	away.stop()
	s.boxes[0].mustPut("hosts/web1.lab.test/Network/IP", "10.9.3.9")
	s.boxes[0].answers("web1.lab.test", "10.9.3.9")
	s.boxes[1].answers("web1.lab.test", "10.9.3.9")
	last = s.sameSerial("lab.test", last)
	away.start()
	away.answers("web1.lab.test", "10.9.3.9")
	if got := s.sameSerial("lab.test", last-1); got != last {
		t.Errorf("%d became %d when a box came back, and nothing changed", last, got)
	}
	for _, b := range s.boxes {
		b.stop()
	}
	for _, b := range s.boxes {
		b.start()
		b.answers("web1.lab.test", "10.9.3.9")
	}
	if got := s.sameSerial("lab.test", last-1); got != last {
		t.Errorf("%d became %d when all were started again, and nothing changed", last, got)
	}

	// A killed one does not know which serials it has given out last, and may leave some out.
	for _, b := range s.boxes {
		b.kill()
	}
	for _, b := range s.boxes {
		b.start()
		b.answers("web1.lab.test", "10.9.3.9")
	}
	t.Logf("serial %d; after all were killed %d", last, s.sameSerial("lab.test", last-1))
}

// status is how dig says a question ended: NOERROR, NXDOMAIN, REFUSED.
func (b *box) digStatus(args ...string) string {
	b.site.t.Helper()
	all := append([]string{"@" + b.addr, "-p", "7953", "+time=2", "+tries=2"}, args...)
	out, err := exec.Command("dig", all...).Output()
	if err != nil {
		return fmt.Sprintf("dig %s: %v: %s", strings.Join(args, " "), err, out)
	}
	_, rest, _ := strings.Cut(string(out), "status: ")
	status, _, _ := strings.Cut(rest, ",")
	return status
}

// TestCurlAndDig asks with the programs that people have: HTTPS under the mesh's own authority, HTTP/1.1 with HostDB's
// reason phrases, a session that one box gave and another takes, and DNS of both transports.
func TestCurlAndDig(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	s.lab()
	first, second := s.boxes[0], s.boxes[1]
	curl := func(args ...string) string {
		t.Helper()
		return s.must(exec.Command("curl", append([]string{"-sS", "--max-time", "20"}, args...)...))
	}
	// The authority is the same at every node: what one wrote down vouches for the other.
	ca := filepath.Join(first.dir, "web-ca.crt")
	at := func(b *box, path string) string { return "https://" + b.addr + ":7951" + path }
	token := strings.TrimSpace(curl("--cacert", ca, at(second, "/v1/auth/session"), "--data-urlencode", "username=ann", "--data-urlencode", "password="+s.password))
	said := curl("-i", "--cacert", ca, "-X", "PUT", at(first, "/v1/hosts/web2.lab.test"),
		"--data-urlencode", "value=Network: {IP: 10.9.4.2}", "--data-urlencode", "log=by curl", "--data-urlencode", "session="+token)
	if !strings.HasPrefix(said, "HTTP/1.1 201 ") || !strings.Contains(said, "\r\nHostmesh-Acks: 2\r\n") {
		t.Errorf("PUT by HTTPS: %s", said)
	}
	s.equal(s.boxes...)
	if got := curl("--cacert", ca, at(second, "/v1/hosts/web2.lab.test/Network/IP")); strings.TrimSpace(got) != "10.9.4.2" {
		t.Errorf("GET by HTTPS: %q", got)
	}
	said = curl("-i", second.url("/v1/hosts/nobody.lab.test"))
	line, _, _ := strings.Cut(said, "\r\n")
	if !strings.HasPrefix(line, "HTTP/1.1 404 ") || !strings.Contains(line, "nobody.lab.test") || !strings.Contains(said, "\r\nCallTrace: 4041: ") {
		t.Errorf("GET of what is not there: %s", said)
	}
	if got := curl(second.url("/v1/hosts/web1.lab.test?meta=parents&from=tags")); got != "all\nlab" && got != "lab" {
		t.Errorf("parents: %q", got)
	}
	if got := curl(second.url("/v1/tags/lab/members")); got != "web1.lab.test" {
		t.Errorf("members: %q", got)
	}
	var exit *exec.ExitError
	if _, err := exec.Command("curl", "-sS", "--max-time", "20", at(first, "/healthz")).Output(); !errors.As(err, &exit) || exit.ExitCode() != 60 {
		t.Errorf("HTTPS without the authority: %v, want curl's exit code 60", err)
	}
	if got := curl("--cacert", ca, at(first, "/healthz")); got != "ok\n" {
		t.Errorf("healthz: %q", got)
	}

	for _, b := range s.boxes {
		for _, transport := range []string{"+notcp", "+tcp"} {
			for _, q := range []struct{ name, kind, want string }{
				{"web1.lab.test", "a", "NOERROR"},
				{"web1.lab.test", "mx", "NOERROR"},
				{"WEB1.Lab.TEST", "a", "NOERROR"},
				{"nobody.lab.test", "a", "NXDOMAIN"},
				{"lab.test", "soa", "NOERROR"},
				{"www.example.org", "a", "REFUSED"},
				{"nobody.node.mesh.internal", "a", "NXDOMAIN"},
			} {
				if got := b.digStatus(transport, q.name, q.kind); got != q.want {
					t.Errorf("%s %s %s at %s: %s, want %s", q.name, q.kind, transport, b.name, got, q.want)
				}
			}
		}
		if got := b.dig("lab.tag.mesh.internal"); got != "10.9.0.1" {
			t.Errorf("the tag's members at %s: %q", b.name, got)
		}
	}
}
