package raftdisk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func openAt(t testing.TB, path string, change ...func(*Config)) *Disk {
	t.Helper()
	cfg := Config{Path: path, Node: "n1", SegmentSize: 64 << 10, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&cfg)
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func entries(term uint64, from, to uint64) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "data %d/%d", term, i)})
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds checks the bounds of a log and who wrote which entry: "1:1-5 2:6-7".
func holds(t testing.TB, s raft.LogStore, want string) {
	t.Helper()
	var got []string
	logs := readLogs(t, s)
	for i := 0; i < len(logs); {
		j := i
		for j+1 < len(logs) && logs[j+1].Term == logs[i].Term {
			j++
		}
		got = append(got, fmt.Sprintf("%d:%d-%d", logs[i].Term, logs[i].Index, logs[j].Index))
		i = j + 1
	}
	if text := strings.Join(got, " "); text != want {
		t.Errorf("log is %q, want %q", text, want)
	}
}

// TestConformance: what raft expects of its stores; its own in-memory store and ours pass it.
func TestConformance(t *testing.T) {
	t.Parallel()
	mem := raft.NewInmemStore
	for _, kind := range []struct {
		name string
		make func(t *testing.T) (raft.LogStore, raft.StableStore)
	}{
		{"in memory", func(*testing.T) (raft.LogStore, raft.StableStore) { s := mem(); return s, s }},
		{"on disk", func(t *testing.T) (raft.LogStore, raft.StableStore) {
			d := openAt(t, t.TempDir())
			return d.Logs(), d.Stable()
		}},
	} {
		for name, check := range conformance {
			t.Run(kind.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				logs, stable := kind.make(t)
				check(t, logs, stable)
			})
		}
	}
}

var conformance = map[string]func(*testing.T, raft.LogStore, raft.StableStore){
	"empty": func(t *testing.T, s raft.LogStore, v raft.StableStore) {
		holds(t, s, "")
		for _, i := range []uint64{0, 1, 1 << 63} {
			if err := s.GetLog(i, new(raft.Log)); err != raft.ErrLogNotFound {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		must(t, s.DeleteRange(1, 10))
		must(t, s.StoreLogs(nil))
		holds(t, s, "")
		if n, err := v.GetUint64([]byte("no")); n != 0 || err != nil && err.Error() != "not found" {
			t.Errorf("%d, %v", n, err)
		}
		if b, err := v.Get([]byte("no")); b != nil || err != nil && err.Error() != "not found" {
			t.Errorf("%q, %v", b, err)
		}
	},
	"entries": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		want := raft.Log{Index: 1, Term: 7, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Date(2300, 1, 2, 3, 4, 5, 6, time.UTC)}
		must(t, s.StoreLog(&want))
		must(t, s.StoreLogs(entries(8, 2, 4)))
		var got raft.Log
		must(t, s.GetLog(1, &got))
		if !got.AppendedAt.Equal(want.AppendedAt) {
			t.Errorf("appended at %s, want %s", got.AppendedAt, want.AppendedAt)
		}
		got.AppendedAt = want.AppendedAt
		if !reflect.DeepEqual(got, want) {
			t.Errorf("entry is %+v, want %+v", got, want)
		}
		must(t, s.GetLog(4, &got))
		if string(got.Data) != "data 8/4" || got.Extensions != nil || !got.AppendedAt.IsZero() {
			t.Errorf("entry is %+v", got)
		}
		if err := s.GetLog(5, &got); err != raft.ErrLogNotFound {
			t.Errorf("behind the end: %v", err)
		}
		holds(t, s, "7:1-1 8:2-4")
	},
	"overlap": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		must(t, s.StoreLogs(entries(1, 1, 5)))
		must(t, s.StoreLogs(entries(2, 4, 7)))
		holds(t, s, "1:1-3 2:4-7")
		must(t, s.StoreLogs(entries(3, 7, 7)))
		holds(t, s, "1:1-3 2:4-6 3:7-7")
	},
	"delete the beginning": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		must(t, s.StoreLogs(entries(1, 1, 100)))
		must(t, s.DeleteRange(1, 40))
		holds(t, s, "1:41-100")
		if err := s.GetLog(40, new(raft.Log)); err != raft.ErrLogNotFound {
			t.Error(err)
		}
		must(t, s.StoreLogs(entries(2, 101, 101)))
		must(t, s.DeleteRange(41, 41))
		holds(t, s, "1:42-100 2:101-101")
	},
	"delete the end": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		must(t, s.StoreLogs(entries(1, 1, 100)))
		must(t, s.DeleteRange(60, 100))
		holds(t, s, "1:1-59")
		must(t, s.StoreLogs(entries(2, 60, 61)))
		holds(t, s, "1:1-59 2:60-61")
	},
	"delete all": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		must(t, s.StoreLogs(entries(1, 1, 10)))
		must(t, s.DeleteRange(1, 10))
		holds(t, s, "")
		must(t, s.StoreLogs(entries(2, 1, 2)))
		holds(t, s, "2:1-2")
	},
	"large": func(t *testing.T, s raft.LogStore, _ raft.StableStore) {
		big := []byte(strings.Repeat("0123456789", 30_000))
		for i := range uint64(4) {
			must(t, s.StoreLogs([]*raft.Log{{Index: 2*i + 1, Term: 1, Data: big}, {Index: 2*i + 2, Term: 1, Data: []byte("x")}}))
		}
		var got raft.Log
		must(t, s.GetLog(7, &got))
		if string(got.Data) != string(big) {
			t.Error("it is another one")
		}
		holds(t, s, "1:1-8")
	},
	"stable": func(t *testing.T, _ raft.LogStore, v raft.StableStore) {
		for term := range uint64(9) {
			must(t, v.SetUint64([]byte("CurrentTerm"), term))
			must(t, v.Set([]byte("LastVoteCand"), fmt.Appendf(nil, "node %d", term)))
			n, err := v.GetUint64([]byte("CurrentTerm"))
			if n != term || err != nil {
				t.Errorf("term %d, %v, want %d", n, err, term)
			}
			b, err := v.Get([]byte("LastVoteCand"))
			if string(b) != fmt.Sprintf("node %d", term) || err != nil {
				t.Errorf("vote %q, %v", b, err)
			}
		}
	},
}

// What a caller does with its memory afterwards is its own affair.
func TestStoredDataIsOurs(t *testing.T) {
	t.Parallel()
	s := openAt(t, t.TempDir()).Logs()
	data := []byte("before")
	must(t, s.StoreLog(&raft.Log{Index: 1, Data: data}))
	copy(data, "behind")
	var l raft.Log
	must(t, s.GetLog(1, &l))
	if string(l.Data) != "before" {
		t.Errorf("entry is %q", l.Data)
	}
}

// Orders that raft never gives are refused, and change nothing.
func TestWrongOrder(t *testing.T) {
	t.Parallel()
	d := openAt(t, t.TempDir())
	s := d.Logs()
	if err := s.StoreLogs(entries(1, 5, 6)); !errors.Is(err, ErrOrder) {
		t.Errorf("a beginning that no snapshot leads up to: %v", err)
	}
	must(t, s.StoreLogs(entries(1, 1, 10)))
	if err := s.StoreLogs(entries(1, 12, 13)); !errors.Is(err, ErrOrder) || !strings.Contains(err.Error(), "1 to 10") {
		t.Errorf("a gap: %v", err)
	}
	if err := s.StoreLogs(append(entries(1, 11, 11), entries(1, 13, 13)...)); !errors.Is(err, ErrOrder) {
		t.Errorf("a gap inside: %v", err)
	}
	if err := s.DeleteRange(4, 5); !errors.Is(err, ErrOrder) {
		t.Errorf("the middle: %v", err)
	}
	must(t, s.DeleteRange(1, 5))
	if err := s.StoreLogs(entries(1, 3, 3)); !errors.Is(err, ErrOrder) {
		t.Errorf("before the beginning: %v", err)
	}
	holds(t, s, "1:6-10")
	writeSnapshot(t, d, 20, "state")
	must(t, s.StoreLogs(entries(2, 21, 22)))
	holds(t, s, "2:21-22")
	if err := d.Stable().Set([]byte("k"), make([]byte, slotSize)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a value without room: %v", err)
	}
	if m, ok := s.(raft.MonotonicLogStore); !ok || !m.IsMonotonic() {
		t.Error("raft is not told that there are no gaps")
	}
}

// TestSnapshotWithinLog: raft deletes the whole log after it took in a snapshot. What is behind the snapshot stays if the log agrees
// with it, for it may have been acknowledged; otherwise all goes.
func TestSnapshotWithinLog(t *testing.T) {
	t.Parallel()
	for term, want := range map[uint64]string{3: "3:6-10", 2: ""} {
		d := openAt(t, t.TempDir())
		must(t, d.Logs().StoreLogs(entries(term, 1, 10)))
		writeSnapshot(t, d, 5, "state") // of term 3
		must(t, d.Logs().DeleteRange(1, 10))
		holds(t, d.Logs(), want)
		must(t, d.Close())
		holds(t, openAt(t, d.cfg.Path).Logs(), want)
	}
	d := openAt(t, t.TempDir())
	must(t, d.Logs().StoreLogs(entries(3, 1, 10)))
	writeSnapshot(t, d, 5, "state")
	must(t, d.Logs().DeleteRange(1, 5))
	must(t, d.Logs().DeleteRange(6, 10)) // a conflict right behind it
	holds(t, d.Logs(), "")
	must(t, d.Logs().StoreLogs(entries(4, 6, 7)))
	holds(t, d.Logs(), "4:6-7")
}

func writeSnapshot(t testing.TB, d *Disk, index uint64, text string) string {
	t.Helper()
	conf := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "b"}}}
	sink, err := d.Snapshots().Create(1, index, 3, conf, index, nil)
	must(t, err)
	_, err = sink.Write([]byte(text))
	must(t, err)
	must(t, sink.Close())
	must(t, sink.Close())
	return sink.ID()
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openAt(t, dir)
	must(t, d.Logs().StoreLogs(entries(3, 1, 30)))
	for i := range uint64(3) {
		writeSnapshot(t, d, 10+i, fmt.Sprint("state ", i))
	}
	sink, err := d.Snapshots().Create(1, 20, 3, raft.Configuration{}, 1, nil)
	must(t, err)
	_, err = sink.Write([]byte("not to be"))
	must(t, err)
	must(t, sink.Cancel())
	_, err = d.Snapshots().Create(1, 25, 3, raft.Configuration{}, 1, nil) // the process ends with it
	must(t, err)
	check := func(d *Disk) {
		t.Helper()
		metas, err := d.Snapshots().List()
		must(t, err)
		if len(metas) != 2 || metas[0].Index != 12 || metas[1].Index != 11 || metas[0].Size != 7 || metas[0].Configuration.Servers[0].Address != "b" {
			t.Errorf("snapshots %+v", metas)
		}
	}
	check(d)
	must(t, d.Close())
	if _, err := d.Snapshots().Create(1, 25, 3, raft.Configuration{}, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed directory: %v", err)
	}
	d = openAt(t, dir)
	check(d)
	names, err := osFS{}.ReadDir(filepath.Join(dir, stateDir, snapshotDir))
	must(t, err)
	if len(names) != 2 {
		t.Errorf("files %q", names)
	}
	if _, _, err := d.Snapshots().Open("../vote"); err == nil {
		t.Error("it opens any file")
	}
	// The newest goes bad. The log still has all that was in it; then it has not.
	must(t, d.Close())
	spoil(t, filepath.Join(dir, stateDir, snapshotDir, names[1]), -40)
	d = openAt(t, dir)
	if metas, _ := d.Snapshots().List(); len(metas) != 1 || metas[0].Index != 11 {
		t.Errorf("snapshots %+v", metas)
	}
	must(t, d.Logs().DeleteRange(11, 30))
	must(t, d.Close())
	refuses(t, dir, ErrDamaged, "12", "cannot be read")
}

func spoil(t testing.TB, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	if at < 0 {
		at += int64(len(data))
	}
	data[at] ^= 0x55
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data[at:at+1], at)
	must(t, err)
	must(t, f.Close())
}

func refuses(t testing.TB, dir string, want error, words ...string) {
	t.Helper()
	d, err := Open(Config{Path: dir, Node: "n1"})
	if err == nil {
		d.Close()
		t.Fatalf("it opens %s", dir)
	}
	if !errors.Is(err, want) {
		t.Errorf("refused with %v, want %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("refused with %q, which does not say %q", err, w)
		}
	}
}

// TestDamage: what was acknowledged and is bad is named, and the remedy works. What may have been torn is cut off.
func TestDamage(t *testing.T) {
	t.Parallel()
	make5 := func(t *testing.T) (dir string, at []int64) {
		dir = t.TempDir()
		d := openAt(t, dir)
		must(t, d.Stable().SetUint64([]byte("CurrentTerm"), 3))
		must(t, d.SetGroup(Group{ID: "g"}))
		for i := range uint64(5) {
			at = append(at, d.log.at)
			must(t, d.Logs().StoreLogs(entries(3, 2*i+1, 2*i+2)))
		}
		must(t, d.Close())
		return dir, at
	}
	seg := func(dir string, n uint64) string { return filepath.Join(dir, stateDir, segmentName(n)) }
	for name, c := range map[string]struct {
		do    func(t *testing.T, dir string, at []int64)
		words []string // "" = it opens
		holds string
	}{
		"last record":        {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), at[4]+recordSize+8+recordSize+2) }, nil, "3:1-9"},
		"last batch":         {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), at[4]+30) }, nil, "3:1-8"},
		"length of the last": {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), at[4]+7) }, nil, "3:1-8"},
		"record before":      {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), at[3]+30) }, []string{segmentName(1), "at byte", "discard"}, ""},
		"length before":      {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), at[1]+6) }, []string{segmentName(1)}, ""},
		"header":             {func(t *testing.T, dir string, at []int64) { spoil(t, seg(dir, 1), 20) }, []string{"header"}, ""},
		"all segments gone":  {func(t *testing.T, dir string, at []int64) { must(t, os.Remove(seg(dir, 1))); removeSpare(t, dir) }, []string{"no segments"}, ""},
		"first segment gone": {func(t *testing.T, dir string, at []int64) { must(t, os.Remove(seg(dir, 1))); touch(t, seg(dir, 2)) }, []string{"header"}, ""},
		"cut to nothing":     {func(t *testing.T, dir string, at []int64) { must(t, os.Truncate(seg(dir, 1), 0)) }, []string{"header"}, ""},
		"votes":              {func(t *testing.T, dir string, at []int64) { spoilVotes(t, dir) }, []string{voteFile, "slot"}, ""},
		"votes gone":         {func(t *testing.T, dir string, at []int64) { must(t, os.Remove(filepath.Join(dir, stateDir, voteFile))) }, []string{voteFile, "gone"}, ""},
		"state gone":         {func(t *testing.T, dir string, at []int64) { must(t, os.RemoveAll(filepath.Join(dir, stateDir))) }, []string{"gone"}, ""},
		"snapshots gone": {func(t *testing.T, dir string, at []int64) {
			must(t, os.RemoveAll(filepath.Join(dir, stateDir, snapshotDir)))
		}, []string{"gone"}, ""},
		"group":               {func(t *testing.T, dir string, at []int64) { spoil(t, filepath.Join(dir, groupFile), 0) }, []string{groupFile}, ""},
		"fingerprint":         {func(t *testing.T, dir string, at []int64) { spoil(t, filepath.Join(dir, fingerprintFile), 0) }, []string{fingerprintFile}, ""},
		"foreign file of log": {func(t *testing.T, dir string, at []int64) { touch(t, filepath.Join(dir, stateDir, "log-notes")) }, nil, "3:1-10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, at := make5(t)
			c.do(t, dir, at)
			if c.words == nil {
				d := openAt(t, dir)
				holds(t, d.Logs(), c.holds)
				last, err := d.Logs().LastIndex()
				must(t, err)
				must(t, d.Logs().StoreLogs(entries(4, last+1, last+1)))
				must(t, d.Close())
				d = openAt(t, dir)
				holds(t, d.Logs(), fmt.Sprintf("%s 4:%d-%d", c.holds, last+1, last+1))
				return
			}
			refuses(t, dir, ErrDamaged, append(c.words, dir)...)
			refuses(t, dir, ErrDamaged)
			d := openAt(t, dir, func(c *Config) { c.Discard = "it was damaged" })
			if has, err := d.HasState(); has || err != nil || d.Discarded() != "it was damaged" {
				t.Errorf("state %v, %v, discarded %q", has, err, d.Discarded())
			}
			if _, ok := d.Group(); ok || d.Pending() {
				t.Error("the group outlived the state")
			}
			must(t, d.Close())
			if d = openAt(t, dir); d.Discarded() != "" {
				t.Errorf("discarded again: %q", d.Discarded())
			}
		})
	}
}

func touch(t testing.TB, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	must(t, err)
	must(t, f.Close())
}

func removeSpare(t testing.TB, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, stateDir, segmentName(2))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func spoilVotes(t testing.TB, dir string) {
	t.Helper()
	for i := range int64(2) {
		spoil(t, filepath.Join(dir, stateDir, voteFile), i*slotSize+20)
	}
}

// A newer form is refused, whatever is asked, and nothing is changed.
func TestNewerFormats(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, dir string){
		fingerprintFile: func(t *testing.T, dir string) {
			replaceText(t, filepath.Join(dir, fingerprintFile), `"version": 1`, `"version": 2`)
		},
		groupFile: func(t *testing.T, dir string) {
			replaceText(t, filepath.Join(dir, groupFile), `"version": 1`, `"version": 2`)
		},
		"snapshot": func(t *testing.T, dir string) {
			m, err := filepath.Glob(filepath.Join(dir, stateDir, snapshotDir, "*"))
			must(t, err)
			replaceText(t, m[0], `"version":1,"meta"`, `"version":2,"meta"`)
		},
		"segment": func(t *testing.T, dir string) { setByte(t, filepath.Join(dir, stateDir, segmentName(1)), 8, 2) },
		"vote": func(t *testing.T, dir string) {
			setByte(t, filepath.Join(dir, stateDir, voteFile), 8, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := openAt(t, dir)
			must(t, d.SetGroup(Group{ID: "g"}))
			must(t, d.Logs().StoreLogs(entries(1, 1, 9)))
			writeSnapshot(t, d, 3, "state")
			id := d.RaftID()
			must(t, d.Close())
			do(t, dir)
			refuses(t, dir, ErrFormat, "upgrade", "version 2", dir)
			if d, err := Open(Config{Path: dir, Node: "n1", Discard: "because"}); !errors.Is(err, ErrFormat) {
				t.Errorf("to be discarded: %v, %v", d, err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, fingerprintFile)); err != nil || !strings.Contains(string(text), id) {
				t.Errorf("it was changed: %s, %v", text, err)
			}
		})
	}
}

func replaceText(t testing.TB, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %s: %s", path, from, text)
	}
	out := []byte(strings.Replace(string(text), from, to, 1))
	if strings.HasPrefix(filepath.Base(path), snapshotPrefix) {
		out = resum(out)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) // the same inode
	must(t, err)
	_, err = f.Write(out)
	must(t, err)
	must(t, f.Close())
}

func setByte(t testing.TB, path string, at int64, b byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{b}, at)
	must(t, err)
	must(t, f.Close())
}
