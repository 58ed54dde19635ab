package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/node"
	"hostmesh/node/api"
)

// TestBackupAndRestore makes a backup while writes go on, founds another mesh with it, and gives a mesh that lost its last writes
// back what the backup has. A damaged file restores nothing.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	b := s.boxes[0]
	for i := range 20 {
		b.mustPut(fmt.Sprintf("hosts/before-%d", i), "Owner: me\n")
	}
	writing, stop := make(chan error, 1), make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				writing <- nil
				return
			default:
			}
			if err := b.put(fmt.Sprintf("hosts/meanwhile-%d", i), "Owner: me\n"); err != nil {
				writing <- err
				return
			}
		}
	}()
	file := filepath.Join(s.dir, "site.backup")
	out, errs, code := b.hostmesh("db", "backup", file)
	close(stop)
	if err := <-writing; err != nil || code != 0 {
		t.Fatalf("backup: %d %s%s; write meanwhile: %v", code, out, errs, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info, err)
	}
	if _, errs, code := b.hostmesh("db", "backup", file); code != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("over a file that is there: %d %s", code, errs)
	}
	for _, args := range [][]string{{"db", "verify"}, {"db", "verify", file}, {"db", "verify", "--data-dir", b.dir}, {"db", "compact"}} {
		if out, errs, code := b.hostmesh(args...); code != 0 {
			t.Errorf("%v: %d %s%s", args, code, out, errs)
		}
	}
	if err := readAs(b, s.token); err == nil || !strings.Contains(err.Error(), "administrator") {
		t.Errorf("a backup for who is no administrator: %v", err)
	}

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		bad := bytes.Clone(whole)
		at := rand.IntN(len(bad))
		bad[at] ^= 0x10
		if i == 5 {
			bad, at = whole[:len(whole)/2], len(whole)/2
		}
		name, dir := s.write("bad.backup", string(bad)), filepath.Join(s.dir, "bad")
		if _, errs, code := b.hostmesh("db", "verify", name); code != 1 {
			t.Errorf("damage at byte %d is not found: %s", at, errs)
		}
		if _, errs, code := b.hostmesh("db", "restore", name, "--data-dir", dir, "--new-mesh"); code != 1 {
			t.Errorf("damage at byte %d is restored: %s", at, errs)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a damaged backup leaves something behind: %v", err)
		}
	}

	// Another mesh, with another key: the users cannot be opened.
	other := s.newBox(loopback(t))
	text, errs, code := other.hostmesh("db", "restore", file, "--data-dir", other.dir, "--new-mesh", "-o", "json")
	var res node.RestoreResult
	if err := json.Unmarshal([]byte(text), &res); code != 0 || err != nil {
		t.Fatalf("restore: %d %s%s %v", code, text, errs, err)
	}
	if !res.NewMesh || !res.KeyMade || fmt.Sprint(res.SealedUsers()) != "[ann]" || !res.Verify.Sound {
		t.Errorf("restored: %+v", res)
	}
	if out, errs, code := other.hostmesh("db", "verify", "--data-dir", other.dir); code != 0 || !strings.Contains(out, "sound") {
		t.Errorf("verify of what was restored: %d %s%s", code, out, errs)
	}
	if _, errs, code := other.hostmesh("db", "restore", file, "--data-dir", other.dir); code != 1 || !strings.Contains(errs, "not empty") {
		t.Errorf("restore over it: %d %s", code, errs)
	}
	cmd := exec.Command(b.binary, "agent", "--data-dir", other.dir, "--key-file", res.KeyFile, "--addr", other.addr, "--check")
	if out, errs, code := output(t, cmd); code != 0 {
		t.Errorf("an agent would not start on it: %d %s%s", code, out, errs)
	}

	// A new node of the same mesh, after both others lost what they had since the backup: here, of a second one.
	again := filepath.Join(s.dir, "again.backup")
	b.mustPut("hosts/last", "Owner: me\n")
	s.equal(s.boxes[:2]...)
	_, want := s.equal(s.boxes[0], s.boxes[1])
	if out, errs, code := b.hostmesh("db", "backup", again); code != 0 {
		t.Fatalf("backup: %s%s", out, errs)
	}
	third := s.newBox(loopback(t))
	if out, errs, code := third.hostmesh("db", "restore", again, "--data-dir", third.dir, "--key-file", s.keyFile); code != 0 || strings.Contains(out, "sealed") {
		t.Fatalf("restore: %d %s%s", code, out, errs)
	}
	third.settings = append(third.settings, "join: ["+b.addr+"]")
	third.start()
	_, have := s.equal(s.boxes[0], s.boxes[1], third)
	if have.Namespaces["hosts"] != want.Namespaces["hosts"] {
		t.Errorf("digest of hosts %s, want %s", have.Namespaces["hosts"], want.Namespaces["hosts"])
	}
	third.mustPut("hosts/of-the-third", "Owner: me\n")
	s.equal(s.boxes[0], s.boxes[1], third)
}

// readAs asks for a backup with a session, and returns why it is refused.
func readAs(b *box, token string) error {
	c, err := api.NewClient(api.ClientConfig{Server: "http://" + b.addr + ":7950", Token: token})
	if err != nil {
		return err
	}
	defer c.Close()
	stream, err := c.Backup(b.site.t.Context())
	if err == nil {
		stream.Close()
	}
	return err
}

// TestRemoveNode removes a box while another is away: that one hears of it when it is back. The removed box is let in by nobody and
// says what to do; with an empty directory it joins as a new node.
func TestRemoveNode(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	a, b, c := s.boxes[0], s.boxes[1], s.boxes[2]
	id := c.status().Node.ID
	if _, errs, code := a.hostmesh("node", "remove", c.name, "--yes"); code != 1 || !strings.Contains(errs, "alive") {
		t.Errorf("removal of a live member: %d %s", code, errs)
	}
	if _, errs, code := a.hostmesh("node", "remove", c.name); code != 2 || !strings.Contains(errs, "--yes") {
		t.Errorf("removal without an answer: %d %s", code, errs)
	}
	if _, errs, code := a.hostmesh("node", "remove", "nobody", "--yes"); code != 1 || !strings.Contains(errs, "no member") {
		t.Errorf("removal of nobody: %d %s", code, errs)
	}
	c.stop()
	b.stop()
	a.sees(c, "left")
	out, errs, code := a.hostmesh("node", "remove", c.name, "--yes", "-m", "sold")
	if code != 0 || !strings.Contains(out, id) {
		t.Fatalf("remove: %d %s%s", code, out, errs)
	}
	if out, _, code := a.hostmesh("node", "remove", id, "--yes"); code != 0 || !strings.Contains(out, "before") {
		t.Errorf("once more: %d %s", code, out)
	}
	if out, _, _ := a.hostmesh("members"); strings.Contains(out, c.name) {
		t.Errorf("members still has it:\n%s", out)
	}
	if out, _, _ := a.hostmesh("members", "--all"); !strings.Contains(out, "removed") {
		t.Errorf("members --all has it not:\n%s", out)
	}
	b.start()
	s.wait("the one that was away forgets it, too", func() error {
		members, err := b.api.Members(t.Context())
		for _, m := range members {
			if m.ID == id {
				return fmt.Errorf("it is still %s", m.State)
			}
		}
		return err
	})
	c.launch()
	s.wait("the removed box says that it was removed", func() error {
		st, err := c.api.Status(t.Context())
		if err != nil {
			return err
		}
		for _, p := range st.Problems {
			if strings.Contains(p.Text, "removed from the mesh") && strings.Contains(p.Remedy, "empty data directory") {
				return nil
			}
		}
		return fmt.Errorf("it says %v", st.Problems)
	})
	for _, x := range []*box{a, b} {
		if out, _, _ := x.hostmesh("members"); strings.Contains(out, id[:8]) {
			t.Errorf("%s let it in again:\n%s", x.name, out)
		}
	}
	c.kill()
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	c.start()
	s.allAlive()
	s.equal(a, b, c)
}
