package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestRestoredCopy puts a box's data directory back to an older copy, as a restored backup or a rolled-back disk does,
// after it has written since: it gets its own writes back from the others, writes on, and nobody's history forks.
func TestRestoredCopy(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	b := s.boxes[2]
	b.mustPut("hosts/before", "Owner: me\n")
	s.equal(s.boxes...)
	b.stop()
	backup := filepath.Join(s.dir, "backup")
	s.must(exec.Command("cp", "-a", b.dir, backup))
	b.start()
	for i := range 30 {
		b.mustPut(fmt.Sprintf("hosts/since-%d", i), "Owner: me\n")
	}
	s.equal(s.boxes...)

	b.kill()
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, b.dir); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.mustPut("hosts/since-29", "Owner: somebody else\n")
	b.mustPut("hosts/after", "Owner: me\n")
	took, _ := s.equal(s.boxes...)
	t.Logf("the restored box is equal to the others after %s", took)
	for _, x := range s.boxes {
		for id, want := range map[string]string{"before": "me", "since-0": "me", "since-28": "me", "since-29": "somebody else", "after": "me"} {
			if got, err := x.get("hosts/" + id); err != nil || got != "Owner: "+want {
				t.Errorf("%s: hosts/%s is %q, %v; want Owner: %s", x.name, id, got, err, want)
			}
		}
		if st := x.status(); st.HostDB.Forks != 0 {
			t.Errorf("%s sees %d forks", x.name, st.HostDB.Forks)
		}
	}
}

// TestKilledDuringImport kills the agent that imports. Whatever was written is whole, all boxes agree on it, and the
// same import again completes it.
func TestKilledDuringImport(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	b := s.boxes[0]
	files := map[string]string{}
	for i := range 3000 {
		files[fmt.Sprintf("hosts/h%d.lab.test", i)] = fmt.Sprintf("Network: {IP: 10.9.%d.%d}\nOwner: me\n", i/250, i%250)
	}
	dir := s.tree("many", files)
	var wg sync.WaitGroup
	var report string
	var code int
	wg.Go(func() {
		out, errs, c := b.hostmesh("db", "import", dir)
		report, code = out+errs, c
	})
	s.wait("the import has begun", func() error {
		select {
		case <-t.Context().Done():
			return nil
		default:
		}
		st, err := s.boxes[1].api.Status(t.Context())
		if err == nil && st.HostDB.Hosts == 0 {
			err = fmt.Errorf("nothing is there")
		}
		return err
	})
	b.kill()
	wg.Wait()
	t.Logf("import of a killed agent: exit code %d\n%s", code, lastLines(report, 3))
	if code == 0 && s.boxes[1].status().HostDB.Hosts != 3000 {
		t.Errorf("it says that it is done: %s", report)
	}
	begin := time.Now()
	b.start()
	s.equal(s.boxes...)
	t.Logf("ready and equal %s after the restart, with %d hosts", time.Since(begin), b.status().HostDB.Hosts)
	again, errs, c := b.imports(dir)
	if c != 0 || !again.Complete || again.Keys.Created+again.Keys.Unchanged != 3000 || again.Keys.Changed != 0 {
		t.Errorf("again: exit code %d, %+v\n%s", c, again, errs)
	}
	s.equal(s.boxes...)
	for _, x := range s.boxes {
		if n := x.status().HostDB.Hosts; n != 3000 {
			t.Errorf("%s has %d hosts", x.name, n)
		}
	}
}
