package vmd

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLedger(t *testing.T) {
	dir := t.TempDir()
	const a, c = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000c"
	l, entries, _, damaged, err := openLedger(dir)
	if err != nil || len(entries) != 0 || len(damaged) != 0 {
		t.Fatalf("%v %v %v", entries, damaged, err)
	}
	want := Entry{Format: ledgerFormat, UUID: a, Name: "web1", Stage: Held, Group: "g", Fence: 7, CPUs: 2, Memory: 1 << 30, IP: netip.MustParseAddr("10.1.0.9"), MAC: "52:00:00:00:00:01"}
	at := around{Fences: map[string]uint64{"g": 5}, Rests: []rested{{"prod", netip.MustParseAddr("10.1.0.8"), 1000}}}
	for _, err := range []error{l.save(want), l.save(Entry{UUID: c, Name: "web2", Stage: Kept}), l.saveAround(at), l.remove(c), l.remove(c)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "."+a+entrySuffix+".123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, entries, got, damaged, err := openLedger(dir)
	if err != nil || len(damaged) != 0 || len(entries) != 1 || entries[a] != want {
		t.Fatalf("%+v %v %v, want %+v", entries, damaged, err, want)
	}
	if got.Fences["g"] != 7 || len(got.Rests) != 1 || got.Rests[0] != at.Rests[0] {
		t.Errorf("%+v: the highest fence is that of an entry", got)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".*")); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

// TestLedgerDamage: each damage is named with its file and a remedy, costs that file alone, and makes the box unfit.
func TestLedgerDamage(t *testing.T) {
	const a, c = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000c"
	flip := func(text []byte) []byte { text[len(text)/2] ^= 1; return text }
	for name, damage := range map[string]func([]byte) []byte{
		"empty":      func([]byte) []byte { return nil },
		"cut":        func(text []byte) []byte { return text[:len(text)-5] },
		"one bit":    flip,
		"other":      func([]byte) []byte { return []byte("hello\n") },
		"first line": func(text []byte) []byte { text[0] ^= 1; return text },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, _, _, _, err := openLedger(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.save(Entry{UUID: a, Name: "web1", Stage: Held}), l.save(Entry{UUID: c, Name: "web2", Stage: Held}), l.saveAround(around{})); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, a+entrySuffix)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.Dir, cfg.Hypervisor = dir, struct{ Hypervisor }{}
			b, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.entries) != 1 || b.entries[c].Name != "web2" {
				t.Errorf("entries %+v", b.entries)
			}
			if why := b.unfit(); !strings.Contains(why, path) || !strings.Contains(why, "restart the agent") {
				t.Errorf("unfit: %q", why)
			}
			if !errors.Is(b.damaged[0], ErrDamaged) {
				t.Error(b.damaged)
			}
		})
	}
}

func TestRest(t *testing.T) {
	now := time.UnixMilli(10_000_000)
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	list := rest(nil, "prod", one, now)
	list = rest(list, "prod", one, now.Add(time.Minute)) // again, after a crash
	if len(list) != 1 || list[0].At != now.Add(time.Minute).UnixMilli() {
		t.Errorf("%+v", list)
	}
	if list = rest(list, "prod", two, now.Add(2*time.Hour)); len(list) != 1 || list[0].IP != two {
		t.Errorf("%+v: what rested long enough is forgotten", list)
	}
}

func TestTickets(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	var d Destroys
	id := func(n int) string { return string(rune('a' + n)) }
	for n := range DestroysPerHour {
		if ok, changed := d.take(id(n), now); !ok || !changed {
			t.Fatalf("%d: %t %t", n, ok, changed)
		}
	}
	if ok, changed := d.take(id(0), now); !ok || changed {
		t.Error("a ticket is taken once")
	}
	if ok, _ := d.take(id(9), now); ok {
		t.Error("one too many")
	}
	d.approve([]string{id(9)}, "alice", now)
	if ok, changed := d.take(id(9), now); !ok || !changed || len(d.Approved) != 0 {
		t.Errorf("approved: %+v", d)
	}
	if ok, _ := d.take(id(8), now); ok {
		t.Error("an approval lets one through")
	}
	later := d.fresh(now.Add(61 * time.Minute))
	if ok, _ := later.take(id(8), now.Add(61*time.Minute)); !ok || len(later.Recent) != 1 {
		t.Errorf("%+v", later)
	}
}
