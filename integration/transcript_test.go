package integration

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb/rest/resttest"
)

// TestTranscript plays what clients ask of /v1 and must be answered against three agents, over HTTP and HTTPS in turn: each
// request goes to another agent than the one before, so that what is written at one is read at another.
func TestTranscript(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.users = s.write("users.yaml", resttest.Users)
	s.boxes[0].found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+s.boxes[0].addr+"]")
		}
		b.start()
	}
	s.allAlive()
	for id, text := range resttest.Perms {
		if _, err := s.boxes[0].api.Put(t.Context(), id, []byte(text), "who may write"); err != nil {
			t.Fatal(err)
		}
	}
	s.equal(s.boxes...)

	authority, err := os.ReadFile(filepath.Join(s.boxes[0].dir, "web-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatal("the authority of the mesh's web servers is no certificate")
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 4},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	resttest.Run(t, resttest.Mesh{
		Node: func(i int) (string, *http.Client) {
			b := s.boxes[i%len(s.boxes)]
			if i/len(s.boxes)%2 == 1 {
				return "https://" + b.addr + ":7951", client
			}
			return "http://" + b.addr + ":7950", client
		},
		WaitEqual: func() { s.equal(s.boxes...) },
		ReadOnly: func(on bool, why string) {
			if _, err := s.boxes[1].api.SetReadOnly(t.Context(), on, why); err != nil {
				t.Fatal(err)
			}
			s.equal(s.boxes...)
		},
	})
}

// TestHistoryIsOne: what one agent accepted can be read, asked about and taken back at another.
func TestHistoryIsOne(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	one, two, three := s.boxes[0], s.boxes[1], s.boxes[2]
	run := func(b *box, args ...string) string {
		t.Helper()
		out, errs, code := b.hostmesh(args...)
		if code != 0 {
			t.Fatalf("hostmesh %s at %s: exit %d: %s%s", strings.Join(args, " "), b.name, code, out, errs)
		}
		return out
	}
	const host = "hosts/web1.lab.test"
	one.mustPut(host, "{Network: {IP: 10.9.0.1}, Owner: shop}")
	s.equal(s.boxes...)
	two.mustPut(host+"/Network/IP", "10.9.0.2")
	s.equal(s.boxes...)
	lines := strings.Split(run(three, "hostdb", "revisions", host), "\n")
	if len(lines) < 2 || run(one, "hostdb", "revisions", host) != strings.Join(lines, "\n") {
		t.Fatalf("revisions at the third are %q, at the first %q", lines, run(one, "hostdb", "revisions", host))
	}
	first, _, _ := strings.Cut(lines[1], " ")
	for _, b := range s.boxes {
		if got, err := b.get(host + "/Network/IP?revision=" + first); err != nil || got != "10.9.0.1" {
			t.Errorf("%s says that the address was %q, %v", b.name, got, err)
		}
	}
	run(three, "db", "rollback", host, first, "-m", "the new address is taken")
	s.equal(s.boxes...)
	for _, b := range s.boxes {
		if got, err := b.get(host + "/Network/IP"); err != nil || got != "10.9.0.1" {
			t.Errorf("after a rollback at the third, %s says %q, %v", b.name, got, err)
		}
		if log := run(b, "db", "log", host); !strings.Contains(log, "the new address is taken") {
			t.Errorf("the log at %s does not tell of the rollback:\n%s", b.name, log)
		}
	}
	// A revision over several keys is taken back at another agent than the one that made it.
	one.mustPut("tags/web", "{}")
	s.equal(s.boxes...)
	two.mustPut("tags/web/members/web1.lab.test", "")
	s.equal(s.boxes...)
	if _, err := one.api.Delete(t.Context(), host, "sold"); err != nil {
		t.Fatal(err)
	}
	s.equal(s.boxes...)
	last, _, _ := strings.Cut(run(two, "hostdb", "revisions", host), " ")
	run(two, "db", "undo", last, "-m", "not sold after all")
	s.equal(s.boxes...)
	for _, b := range s.boxes {
		if got, err := b.get("tags/web/members"); err != nil || got != "web1.lab.test" {
			t.Errorf("after the undo, %s has the members %q, %v", b.name, got, err)
		}
	}
	// What was long ago is settled once everybody was asked after it.
	s.wait("the first revision is settled at the second", func() error {
		_, settled, err := two.api.GetAsOf(t.Context(), host, first)
		if err == nil && !settled {
			err = errors.New("it is not")
		}
		return err
	})
}
