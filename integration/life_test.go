package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGoodbye: SIGTERM and SIGINT end an agent soon and with 0, and the others know that it left and did not fail.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	first, second, third := s.boxes[0], s.boxes[1], s.boxes[2]
	second.mustPut("hosts/a", "Owner: me\n")

	t.Logf("SIGTERM ends an agent in %s", third.stop())
	first.sees(third, "left")
	second.sees(third, "left")
	out, errs, code := first.hostmesh("status")
	if code != 0 {
		t.Errorf("status where one was stopped in order: exit code %d\n%s%s", code, out, errs)
	}
	first.mustPut("hosts/b", "Owner: me\n")
	third.start()
	s.allAlive()
	s.equal(s.boxes...)

	third.signal(syscall.SIGINT)
	third.gone()
	if code := third.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGINT: %s", third.cmd.ProcessState)
	}
	first.sees(third, "left")

	// Clients that hold on to their connections do not hold up the end.
	for range 3 {
		if resp, err := second.web.Get(second.url("/healthz")); err != nil {
			t.Error(err)
		} else {
			resp.Body.Close()
		}
	}
	t.Logf("with clients connected, in %s", second.stop())

	// Whoever asks twice means it: the second signal ends it at once, and nothing that was acknowledged is lost.
	first.mustPut("hosts/c", "Owner: me\n")
	begin := time.Now()
	first.signal(syscall.SIGTERM)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		_ = first.cmd.Process.Signal(sig) // it may be gone already
	}
	first.gone()
	t.Logf("asked three times, in %s: %s", time.Since(begin), first.cmd.ProcessState)
	first.start()
	if got, err := first.get("hosts/c"); err != nil || got != "Owner: me" {
		t.Errorf("hosts/c: %q, %v", got, err)
	}
}

// TestTotalOutage kills all agents at once. Each serves what it has as soon as it is started, with nobody else there and
// nobody to join, and the mesh forms again from what each remembers.
func TestTotalOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	s.lab()
	for i, b := range s.boxes {
		b.mustPut(fmt.Sprintf("hosts/at-%d", i), "Owner: me\n")
	}
	_, before := s.equal(s.boxes...)
	for _, b := range s.boxes {
		s.wait(b.name+" has written down whom it knows", func() error {
			text, err := os.ReadFile(filepath.Join(b.dir, "peers.json"))
			for _, other := range s.boxes {
				if err == nil && other != b && !strings.Contains(string(text), other.addr) {
					err = fmt.Errorf("%s is not in %s", other.addr, text)
				}
			}
			return err
		})
	}
	for _, b := range s.boxes {
		b.kill()
	}
	for _, b := range s.boxes {
		b.settings = nil // no join: what it knows is in its data directory
	}

	// A joiner first, alone: it is not the founder, and reaches nobody.
	last := s.boxes[2]
	took := last.start()
	if _, d := s.equal(last); fmt.Sprint(d) != fmt.Sprint(before) {
		t.Errorf("alone it has %v, before the outage %v", d, before)
	}
	dns, web := last.answers("web1.lab.test", "10.9.0.1")
	t.Logf("alone: ready after %s, answers by HTTP %s later, by DNS %s later", took, web, dns)
	begin := time.Now()
	last.mustPut("hosts/while-alone", "Owner: me\n")
	t.Logf("alone it takes a write in %s", time.Since(begin))
	st := last.status()
	if st.Mesh.Members != 3 || st.Mesh.Alive != 1 {
		t.Errorf("alone it knows %d members, %d alive; want 3 and 1", st.Mesh.Members, st.Mesh.Alive)
	}

	s.boxes[0].launch()
	s.boxes[1].launch()
	s.boxes[0].ready()
	s.boxes[1].ready()
	t.Logf("the mesh is whole %s after the others are ready", s.allAlive())
	took, _ = s.equal(s.boxes...)
	t.Logf("and equal %s later", took)
	for _, b := range s.boxes {
		if _, err := b.get("hosts/while-alone"); err != nil {
			t.Error(err)
		}
	}
}

// TestNoNameService: an agent whose join names cannot be resolved starts, serves what it has, and says what it tries.
func TestNoNameService(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	b := s.boxes[1]
	b.mustPut("hosts/a", "Owner: me\n")
	s.equal(s.boxes...)
	b.stop()
	b.settings = []string{"join: [no-such-host.invalid]"}
	b.start()
	if got, err := b.get("hosts/a"); err != nil || got != "Owner: me" {
		t.Errorf("hosts/a: %q, %v", got, err)
	}
	// The peer list leads it back all the same.
	s.allAlive()

	// One that has nothing waits, says so, and serves what needs no data.
	x := s.newBox(loopback(t))
	x.settings = []string{"join: [no-such-host.invalid]"}
	x.launch()
	s.wait("an agent that finds nobody says that it is not ready", func() error {
		status, text, err := x.do(http.MethodGet, "/readyz", nil)
		if err == nil && status != http.StatusServiceUnavailable {
			err = fmt.Errorf("%d %s", status, text)
		}
		return err
	})
	if status, text, err := x.do(http.MethodGet, "/healthz", nil); err != nil || status != http.StatusOK {
		t.Errorf("healthz: %d %q %v", status, text, err)
	}
	if status, text, err := x.do(http.MethodGet, "/metrics", nil); err != nil || status != http.StatusOK {
		t.Errorf("metrics: %d %q %v", status, text, err)
	}
	s.wait("it logs the name that it cannot resolve", func() error {
		if len(x.logged("no-such-host.invalid", "level=WARN")) == 0 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	x.stop()
}

// TestWithoutLibvirt: the build without libvirt's binding is a member like any other.
func TestWithoutLibvirt(t *testing.T) {
	t.Parallel()
	path, err := build("hostmesh-nolibvirt", []string{"CGO_ENABLED=0"}, "nolibvirt")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, 2)
	other := s.boxes[1]
	other.binary = path
	s.start()
	s.lab()
	other.mustPut("hosts/web1.lab.test/Network/IP", "10.9.7.7")
	s.boxes[0].answers("web1.lab.test", "10.9.7.7")
	other.answers("web1.lab.test", "10.9.7.7")
	for _, b := range s.boxes {
		out, errs, code := b.hostmesh("version", "-o", "json")
		var v struct{ Libvirt bool }
		if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil {
			t.Fatalf("version: %d %v %s%s", code, err, out, errs)
		}
		if want := b != other; v.Libvirt != want || b.status().Node.Build.Libvirt != want {
			t.Errorf("%s: libvirt is %v by version and %v by status, want %v", b.name, v.Libvirt, b.status().Node.Build.Libvirt, want)
		}
	}
	s.equal(s.boxes...)
}
