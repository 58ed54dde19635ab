package dnsd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/dnsd/zone"
)

const testZone = "x.test."

func content(n int) zone.Hash { return zone.Hash{0: 1, 3: uint64(n)} }

func clockAt(unix int64) func() time.Time { return func() time.Time { return time.Unix(unix, 0) } }

func TestSerialRule(t *testing.T) {
	s := NewSerials(clockAt(1000))
	set := func(n int, want uint32) {
		t.Helper()
		if got := s.Set(testZone, content(n)); got != want {
			t.Errorf("content %d: serial %d, want %d", n, got, want)
		}
	}
	set(1, 1000)
	set(1, 1000)
	set(2, 1001)
	set(1, 1002) // an old content is a change too
	if s.Heard(testZone, content(9), 1500) {
		t.Error("another content was adopted")
	}
	set(1, 1002)
	if !s.Heard(testZone, content(1), 1400) || s.Heard(testZone, content(1), 1300) {
		t.Error("the own content must be adopted when it is higher, and only then")
	}
	set(1, 1400)
	set(3, 1501)
	s.Heard(testZone, content(4), 1600)
	set(4, 1600) // heard for this content, and nothing heard is higher
	s.Heard(testZone, content(5), 1700)
	s.Heard(testZone, content(6), 1800)
	set(5, 1801) // a secondary may have 1800

	for _, c := range []struct {
		name   string
		now    int64
		heard  map[int]uint32
		serial uint32
	}{
		{"alone", 1000, nil, 1000},
		{"same content", 1000, map[int]uint32{1: 700, 2: 900}, 700},
		{"other content, older", 1000, map[int]uint32{2: 900}, 1000},
		{"other content, newer", 1000, map[int]uint32{2: 5000}, 5001},
		{"clock at zero", 0, nil, 1},
		{"before the wrap", 1<<32 - 2, map[int]uint32{2: 1<<32 - 1}, 1},
		{"after the wrap", 1<<32 - 2, map[int]uint32{2: 5}, 6},
	} {
		s := NewSerials(clockAt(c.now))
		for n, serial := range c.heard {
			s.Heard(testZone, content(n), serial)
		}
		if got := s.Set(testZone, content(1)); got != c.serial {
			t.Errorf("%s: serial %d, want %d", c.name, got, c.serial)
		}
	}
}

// Nodes change, talk, stop, crash and start again in any order. A serial never falls, not even over a restart, and
// grows with each change; two nodes with equal content agree once they have talked.
func TestSerialProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "hostmesh-serials-") // thousands of writes: fsync costs nothing there
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		type node struct {
			*Serials
			file    serialFile
			content int
			serial  uint32 // as last served
		}
		base := rapid.SampledFrom([]int64{1, 1000, 1<<32 - 5}).Draw(t, "unix time")
		nodes := make([]*node, 3)
		start := func(i int) {
			n := nodes[i]
			n.Serials = NewSerials(clockAt(base + int64(i)))
			if err := n.file.load(n.Serials); err != nil {
				t.Fatal(err)
			}
		}
		serve := func(n *node) (was, now uint32) {
			was, n.serial = n.serial, n.Set(testZone, content(n.content))
			if _, err := n.file.reserve(n.Serials); err != nil {
				t.Fatal(err)
			}
			return was, n.serial
		}
		for i := range nodes {
			nodes[i] = &node{file: serialFile{filepath.Join(dir, string(rune('a'+i)))}}
			start(i)
			serve(nodes[i])
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
			n := nodes[i]
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				to := rapid.IntRange(0, 3).Draw(t, "content")
				changed := to != n.content
				n.content = to
				if was, now := serve(n); changed && !newer(now, was) || !changed && now != was {
					t.Fatalf("changed %v: %d, then %d", changed, was, now)
				}
			case 2, 3:
				o := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "peer")]
				for _, x := range n.Own() {
					o.Heard(x.Zone, x.Hash, x.Serial)
				}
				for _, x := range o.Own() {
					n.Heard(x.Zone, x.Hash, x.Serial)
				}
				for _, x := range []*node{n, o} {
					if was, now := serve(x); now != was && !newer(now, was) {
						t.Fatalf("fell from %d to %d", was, now)
					}
				}
				if n.content == o.content && n.serial != o.serial {
					t.Fatalf("equal content, but %d and %d", n.serial, o.serial)
				}
			case 4:
				if err := n.file.settle(n.Serials); err != nil {
					t.Fatal(err)
				}
				start(i)
				if was, now := serve(n); now != was {
					t.Fatalf("an orderly restart: %d, then %d", was, now)
				}
			case 5:
				start(i)
				if was, now := serve(n); now != was && !newer(now, was) {
					t.Fatalf("a crash: %d, then %d", was, now)
				}
			}
		}
	})
}

func TestSerialFileOfNewerVersion(t *testing.T) {
	f := serialFile{filepath.Join(t.TempDir(), serialFileName)}
	for text, want := range map[string]string{`{"version":99}`: "install the newer hostmesh", `{"version`: f.path} {
		if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.load(NewSerials(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A burst of changes is one write, not one for each.
func TestSerialFileIsNotWrittenPerChange(t *testing.T) {
	f, s := serialFile{filepath.Join(t.TempDir(), serialFileName)}, NewSerials(clockAt(1000))
	writes := 0
	for i := range reserveAhead {
		s.Set(testZone, content(i+1))
		wrote, err := f.reserve(s)
		if err != nil {
			t.Fatal(err)
		}
		if wrote {
			writes++
		}
	}
	if writes != 1 {
		t.Errorf("%d changes were %d writes", reserveAhead, writes)
	}
}

// A peer that tells of ever new zones does not make us remember them all, and nothing of ours suffers.
func TestHeardZonesAreBounded(t *testing.T) {
	s := NewSerials(nil)
	ours := zone.Hash{1}
	was := s.Set("x.test.", ours)
	for i := range 3 * maxHeardZones {
		s.Heard(fmt.Sprintf("z%d.test.", i), zone.Hash{2}, 7)
	}
	s.Heard(strings.Repeat("x", maxOrigin+1), zone.Hash{2}, 7)
	if len(s.zones) > maxHeardZones {
		t.Errorf("%d zones are remembered", len(s.zones))
	}
	if !s.Heard("x.test.", ours, was+5) || s.Set("x.test.", ours) != was+5 {
		t.Error("what is said of our own zone is not heard")
	}
	if s.Set("new.test.", ours) == 0 {
		t.Error("a new zone of ours has no serial")
	}
}
