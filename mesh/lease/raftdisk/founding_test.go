package raftdisk

import (
	"encoding/binary"
	"errors"
	"hash/crc64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// resum gives a snapshot that was changed its right checksum.
func resum(b []byte) []byte {
	n := len(b) - footerSize
	binary.LittleEndian.PutUint64(b[n+8:], crc64.Checksum(b[:n], crc64Table))
	return b
}

// TestFounding: a directory founds one group, once.
func TestFounding(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "raft")
	d := openAt(t, dir)
	if _, ok := d.Group(); ok || d.Pending() {
		t.Error("a new directory has a group")
	}
	if err := d.Bootstrapped(); err == nil {
		t.Error("what was never begun ended")
	}
	g := Group{ID: "0123", Generation: 1, Datacenter: "dc1", Home: true}
	must(t, d.Found(g))
	must(t, d.Found(g))
	must(t, d.Close())
	d = openAt(t, dir)
	if got, ok := d.Group(); got != g || !ok || !d.Pending() {
		t.Errorf("group %+v, %v, pending %v", got, ok, d.Pending())
	}
	if err := d.Found(Group{ID: "other"}); !errors.Is(err, ErrFounded) || !strings.Contains(err.Error(), "0123") {
		t.Errorf("a second group: %v", err)
	}
	must(t, d.Logs().StoreLogs(entries(1, 1, 1)))
	must(t, d.Found(g)) // after a crash between bootstrapping and noting it
	must(t, d.Bootstrapped())
	must(t, d.Bootstrapped())
	if err := d.Found(g); !errors.Is(err, ErrFounded) || d.Pending() {
		t.Errorf("the same again: %v, pending %v", err, d.Pending())
	}
	g.Generation++
	must(t, d.SetGroup(g))
	must(t, d.Close())
	d = openAt(t, dir)
	if got, _ := d.Group(); got != g || d.Pending() {
		t.Errorf("group %+v, pending %v", got, d.Pending())
	}
	id := d.RaftID()
	must(t, d.Reset("it was removed"))
	if _, ok := d.Group(); ok || d.Pending() || d.RaftID() == id || d.Discarded() != "it was removed" {
		t.Errorf("after a reset: group %v, pending %v, id %s, %q", ok, d.Pending(), d.RaftID(), d.Discarded())
	}
	holds(t, d.Logs(), "")
	must(t, d.Logs().StoreLogs(entries(1, 1, 1)))
	if err := d.Found(g); !errors.Is(err, ErrFounded) || !strings.Contains(err.Error(), "raft state") {
		t.Errorf("with raft state: %v", err)
	}
	if err := d.Reset(""); err == nil {
		t.Error("a reset without a reason")
	}
	if !regexp.MustCompile(`^n1\.[0-9a-f]{16}$`).MatchString(d.RaftID()) {
		t.Errorf("raft id %q", d.RaftID())
	}
}

// TestPrivate: nobody else can read any of it.
func TestPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "raft")
	must(t, os.Mkdir(dir, 0o755))
	d := openAt(t, dir)
	must(t, d.SetGroup(Group{ID: "g"}))
	must(t, d.Logs().StoreLogs(entries(1, 1, 9)))
	writeSnapshot(t, d, 3, "state")
	must(t, d.Reset("test"))
	n := 0
	must(t, filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if err == nil && st.IsDir() {
			want = 0o700
		}
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s has mode %s, %v", path, st.Mode(), err)
		}
		n++
		return nil
	}))
	if n < 12 {
		t.Errorf("only %d files", n)
	}
}

// TestMoved: what the fingerprint sees, and what it does not.
func TestMoved(t *testing.T) {
	t.Parallel()
	sh := func(script string) func(t *testing.T, dir, other string) string {
		return func(t *testing.T, dir, other string) string {
			t.Helper()
			cmd := exec.Command("sh", "-ec", script)
			cmd.Env = append(os.Environ(), "DIR="+dir, "OTHER="+other, "BACKUP="+t.TempDir()+"/b")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", script, err, out)
			}
			if strings.Contains(script, "$OTHER") {
				return other
			}
			return dir
		}
	}
	for name, c := range map[string]struct {
		do     func(t *testing.T, dir, other string) string
		keeps  bool
		change func(*Config)
	}{
		"nothing":                         {sh("true"), true, nil},
		"mv":                              {sh(`mv "$DIR" "$OTHER"`), true, nil},
		"mv and back":                     {sh(`mv "$DIR" "$BACKUP"; mv "$BACKUP" "$DIR"`), true, nil},
		"cp -a":                           {sh(`cp -a "$DIR" "$OTHER"`), false, nil},
		"cp -a over it":                   {sh(`cp -a "$DIR" "$BACKUP"; rm -r "$DIR"; cp -a "$BACKUP" "$DIR"`), false, nil},
		"cp -al":                          {sh(`cp -al "$DIR" "$OTHER"`), false, nil},
		"tar over it":                     {sh(`tar -C "$DIR" -cf "$BACKUP" .; tar -C "$DIR" -xf "$BACKUP"`), false, nil},
		"tar of the state over it":        {sh(`tar -C "$DIR" -cf "$BACKUP" state; tar -C "$DIR" -xf "$BACKUP"`), false, nil},
		"one file, as rsync does it":      {sh(`cp -a "$DIR"/state/vote "$DIR"/state/.vote.x; mv "$DIR"/state/.vote.x "$DIR"/state/vote`), false, nil},
		"a segment, as rsync does it":     {sh(`cd "$DIR"/state; cp -a log-0000000000000001 x; mv x log-0000000000000001`), false, nil},
		"the fingerprint removed":         {sh(`rm "$DIR"/fingerprint.json`), false, nil},
		"fingerprint and group removed":   {sh(`rm "$DIR"/fingerprint.json "$DIR"/group.json`), false, nil},
		"another machine":                 {sh("true"), false, func(c *Config) { c.FS = onMachine{osFS{}, "m2"} }},
		"a machine that lost its id":      {sh("true"), false, func(c *Config) { c.FS = onMachine{osFS{}, ""} }},
		"another node":                    {sh("true"), false, func(c *Config) { c.Node = "n2" }},
		"state set back in the same file": {sh(`cp "$DIR"/state/vote "$BACKUP"; cat "$BACKUP" >"$DIR"/state/vote`), true, nil}, // nobody can see that
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			on := func(c *Config) { c.FS = onMachine{osFS{}, "m1"} }
			d := openAt(t, filepath.Join(base, "raft"), on)
			must(t, d.Found(Group{ID: "g"}))
			must(t, d.Stable().SetUint64([]byte("CurrentTerm"), 3))
			must(t, d.Logs().StoreLogs(entries(3, 1, 9)))
			id := d.RaftID()
			must(t, d.Close())
			dir := c.do(t, d.cfg.Path, filepath.Join(base, "other"))
			change := on
			if c.change != nil {
				change = c.change
			}
			d = openAt(t, dir, on, change)
			if c.keeps {
				if d.RaftID() != id || d.Discarded() != "" || !d.Pending() {
					t.Errorf("raft id %s became %s: %q", id, d.RaftID(), d.Discarded())
				}
				holds(t, d.Logs(), "3:1-9")
				return
			}
			if has, err := d.HasState(); has || err != nil || d.RaftID() == id || d.Discarded() == "" || d.Pending() {
				t.Errorf("state %v, %v, raft id %s became %s, discarded %q, pending %v", has, err, id, d.RaftID(), d.Discarded(), d.Pending())
			}
			t.Logf("discarded: %s", d.Discarded())
			if _, err := os.Stat(filepath.Join(dir, asideDir, stateDir, voteFile)); err != nil {
				t.Errorf("what was discarded is not kept: %v", err)
			}
			id = d.RaftID()
			must(t, d.Close())
			if d = openAt(t, dir, on, change); d.RaftID() != id || d.Discarded() != "" {
				t.Errorf("raft id %s became %s: %q", id, d.RaftID(), d.Discarded())
			}
		})
	}
}

// onMachine is the real file system on a machine of that id.
type onMachine struct {
	FS
	id string
}

func (m onMachine) MachineID() (string, error) { return m.id, nil }

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Path: "/x"}, {Path: t.TempDir(), Node: "a.b"}, {Path: t.TempDir(), Node: "a", SegmentSize: 12}, {Path: "/proc/nowhere/raft", Node: "a"}} {
		if d, err := Open(c); err == nil || !strings.Contains(err.Error(), "raft directory") {
			t.Errorf("%+v: %v, %v", c, d, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	touch(t, file)
	if _, err := Open(Config{Path: file, Node: "a"}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}
