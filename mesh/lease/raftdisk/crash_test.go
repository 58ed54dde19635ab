package raftdisk

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// stateOf is all that a directory says, as text. The raft id is apart.
type stateOf struct{ Log, Vote, Snap, Group string }

func logText(logs []raft.Log) string {
	var b strings.Builder
	for _, l := range logs {
		fmt.Fprintf(&b, "%d/%d/%d:%.8s%d+%s@%d ", l.Index, l.Term, l.Type, l.Data, len(l.Data), l.Extensions, l.AppendedAt.UnixNano())
	}
	return b.String()
}

func readLogs(t rapid.TB, s raft.LogStore) []raft.Log {
	t.Helper()
	first, err := s.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if first == 0 && last == 0 {
		return nil
	}
	var out []raft.Log
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatalf("entry %d of %d to %d: %v", i, first, last, err)
		}
		out = append(out, l)
	}
	return out
}

func observe(t rapid.TB, d *Disk) stateOf {
	t.Helper()
	var s stateOf
	s.Log = logText(readLogs(t, d.Logs()))
	for _, k := range []string{"CurrentTerm", "LastVoteTerm"} {
		v, err := d.Stable().GetUint64([]byte(k))
		if err != nil {
			t.Fatal(err)
		}
		s.Vote += fmt.Sprint(k, "=", v, " ")
	}
	v, err := d.Stable().Get([]byte("LastVoteCand"))
	if err != nil {
		t.Fatal(err)
	}
	s.Vote += string(v)
	metas, err := d.Snapshots().List()
	if err != nil {
		t.Fatal(err)
	}
	if len(metas) > 0 {
		_, r, err := d.Snapshots().Open(metas[0].ID)
		if err != nil {
			t.Fatalf("snapshot %s: %v", metas[0].ID, err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		s.Snap = fmt.Sprintf("%d/%d %s", metas[0].Index, metas[0].Term, text)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g, ok := d.Group()
	s.Group = fmt.Sprint(g, ok, d.Pending())
	return s
}

// crashWorld is a directory under test.
type crashWorld struct {
	fs   *memFS
	cfg  Config
	disk *Disk
	rand *rand.Rand

	id   string
	logs []raft.Log // as it is in memory
	now  stateOf    // the same and the rest
	// maybe are further states that a restart may find, for what failed. A later success of the same kind takes them away.
	maybe map[string][]string
	term  uint64
	snap  uint64
}

func (w *crashWorld) open(t *rapid.T) {
	d, err := openDisk(w.cfg)
	if err != nil {
		t.Fatalf("open after it: %v", err)
	}
	w.disk = d
}

// do runs an operation in which at most one thing happens. It reports what came of it.
func (w *crashWorld) do(t *rapid.T, at int, what fault, op func() error) (err error, died bool) {
	begin := w.fs.step
	w.fs.fault = func(step int, _ string) fault {
		if step == begin+at {
			return what
		}
		return works
	}
	defer func() {
		w.fs.fault = nil
		if r := recover(); r != nil {
			if _, is := r.(powerLoss); !is {
				panic(r)
			}
			died = true
		}
	}()
	return op(), false
}

// settle compares with what a restart finds: for each part one of the states that are allowed.
func (w *crashWorld) settle(t *rapid.T, allowed map[string][]string) {
	got := observe(t, w.disk)
	for part, pair := range map[string][2]string{
		"log": {got.Log, w.now.Log}, "vote": {got.Vote, w.now.Vote}, "snap": {got.Snap, w.now.Snap}, "group": {got.Group, w.now.Group},
	} {
		may := append(append([]string{pair[1]}, w.maybe[part]...), allowed[part]...)
		if !slices.Contains(may, pair[0]) {
			t.Fatalf("%s is\n%q, may be\n%q", part, pair[0], may)
		}
	}
	w.logs, w.now, w.maybe = readLogs(t, w.disk.Logs()), got, map[string][]string{}
	w.snap, _ = w.disk.snapshots.newest()
	w.id = w.disk.RaftID()
}

// prefixes are the logs that an append may leave when it is cut off.
func prefixes(base, batch []raft.Log) (all []string, whole []raft.Log) {
	from := batch[0].Index
	whole = slices.Clone(base)
	if n := len(base); n > 0 {
		if from > base[n-1].Index+1 {
			whole = nil
			all = append(all, "")
		} else {
			whole = whole[:from-base[0].Index]
		}
	}
	for _, l := range batch {
		whole = append(whole, l)
		all = append(all, logText(whole))
	}
	return all, whole
}

// TestCrashAtEveryStep: whatever happens at whatever step of whatever operation, a restart finds the state before it or after it,
// never damage, and never less than was acknowledged.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &crashWorld{fs: newMemFS(), maybe: map[string][]string{}}
		w.cfg = Config{Path: "/raft", Node: "n1", SegmentSize: minSegment, FS: w.fs}
		w.rand = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		w.open(t)
		w.now = observe(t, w.disk)
		w.id = w.disk.RaftID()
		w.term = 1
		restart := func(t *rapid.T, allowed map[string][]string) {
			w.fs.restart(w.rand)
			w.open(t)
			if id := w.disk.RaftID(); id != w.id {
				t.Fatalf("raft id %s became %s: %s", w.id, id, w.disk.Discarded())
			}
			w.settle(t, allowed)
		}
		chance := func(t *rapid.T, kinds ...fault) (int, fault) {
			return rapid.IntRange(1, 16).Draw(t, "at"), rapid.SampledFrom(kinds).Draw(t, "fault")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if got := observe(t, w.disk); got != w.now {
					t.Fatalf("state is\n%+v, want\n%+v", got, w.now)
				}
			},
			"append": func(t *rapid.T) {
				last := w.snap
				first := w.snap + 1
				if n := len(w.logs); n > 0 {
					first, last = w.logs[0].Index, w.logs[n-1].Index
				}
				from := rapid.SampledFrom([]uint64{last + 1, last + 1, max(first, last), max(w.snap, last) + 1}).Draw(t, "from")
				if len(w.logs) == 0 {
					from = w.snap + 1
				}
				if from < max(w.disk.log.head, 1) {
					return
				}
				w.term += uint64(rapid.IntRange(0, 1).Draw(t, "term"))
				var batch []raft.Log
				var args []*raft.Log
				for i := range rapid.IntRange(1, 4).Draw(t, "entries") {
					l := raft.Log{Index: from + uint64(i), Term: w.term, Data: []byte(strings.Repeat(string(rune('a'+w.rand.IntN(26))), rapid.SampledFrom([]int{0, 3, 700, 3000, 6000}).Draw(t, "size")))}
					batch = append(batch, l)
					args = append(args, &batch[i])
				}
				for i := range batch {
					args[i] = &batch[i]
				}
				after, whole := prefixes(w.logs, batch)
				at, what := chance(t, works, works, dies, fails)
				err, died := w.do(t, at, what, func() error { return w.disk.Logs().StoreLogs(args) })
				switch {
				case died:
					restart(t, map[string][]string{"log": after})
				case err != nil:
					w.maybe["log"] = append(w.maybe["log"], after...)
				default:
					w.logs, w.now.Log = whole, logText(whole)
					delete(w.maybe, "log")
				}
			},
			"delete": func(t *rapid.T) {
				if len(w.logs) == 0 {
					return
				}
				first, last := w.logs[0].Index, w.logs[len(w.logs)-1].Index
				var whole []raft.Log
				from, to := first, last
				if rapid.Bool().Draw(t, "tail") {
					if w.snap >= last {
						return // a conflict begins behind what is committed
					}
					from = rapid.Uint64Range(max(first, w.snap+1), last).Draw(t, "first of it")
					whole = slices.Clone(w.logs[:from-first])
				} else {
					if w.snap < first {
						return // raft deletes what a snapshot has
					}
					to = min(last, rapid.Uint64Range(first, w.snap).Draw(t, "last of it"))
					whole = slices.Clone(w.logs[to-first+1:])
				}
				at, what := chance(t, works, dies, fails)
				err, died := w.do(t, at, what, func() error { return w.disk.Logs().DeleteRange(from, to) })
				switch {
				case died:
					restart(t, map[string][]string{"log": {logText(whole)}})
				case err != nil:
					w.maybe["log"] = append(w.maybe["log"], logText(whole))
				default:
					w.logs, w.now.Log = whole, logText(whole)
					delete(w.maybe, "log")
				}
			},
			"vote": func(t *rapid.T) {
				w.term++
				cand := fmt.Sprint("cand", w.term)
				before := w.now.Vote
				mid := func(a, b uint64, c string) string {
					return fmt.Sprintf("CurrentTerm=%d LastVoteTerm=%d %s", a, b, c)
				}
				var a, b uint64
				var c string
				fmt.Sscanf(before, "CurrentTerm=%d LastVoteTerm=%d %s", &a, &b, &c)
				at, what := chance(t, works, dies)
				_, died := w.do(t, at, what, func() error {
					s := w.disk.Stable()
					if err := s.SetUint64([]byte("CurrentTerm"), w.term); err != nil {
						return err
					}
					if err := s.SetUint64([]byte("LastVoteTerm"), w.term); err != nil {
						return err
					}
					return s.Set([]byte("LastVoteCand"), []byte(cand))
				})
				all := []string{mid(w.term, b, c), mid(w.term, w.term, c), mid(w.term, w.term, cand)}
				if died {
					restart(t, map[string][]string{"vote": all})
				} else {
					w.now.Vote = all[2]
				}
			},
			"snapshot": func(t *rapid.T) {
				// Of what is in the log, or from elsewhere, beyond it.
				last := w.snap
				if n := len(w.logs); n > 0 {
					last = w.logs[n-1].Index
				}
				index := rapid.Uint64Range(w.snap+1, max(last, w.snap)+5).Draw(t, "index")
				text := fmt.Sprint("state ", w.rand.Uint64())
				after := fmt.Sprintf("%d/%d %s", index, w.term, text)
				at, what := chance(t, works, dies, fails)
				err, died := w.do(t, at, what, func() error {
					sink, err := w.disk.Snapshots().Create(1, index, w.term, raft.Configuration{}, 1, nil)
					if err != nil {
						return err
					}
					if _, err := sink.Write([]byte(text)); err != nil {
						return err
					}
					return sink.Close()
				})
				switch {
				case died:
					restart(t, map[string][]string{"snap": {after}})
				case err != nil:
					w.maybe["snap"] = append(w.maybe["snap"], after)
				default:
					w.snap, w.now.Snap = index, after
				}
			},
			"group": func(t *rapid.T) {
				g := Group{ID: fmt.Sprint("g", w.rand.IntN(3)), Generation: w.rand.Uint64N(5)}
				at, what := chance(t, works, dies, fails)
				has, pending := false, false
				if old, ok := w.disk.Group(); ok {
					has, pending = true, w.disk.Pending()
					if old.ID != g.ID {
						pending = false
					}
				}
				hasState, err := w.disk.HasState()
				if err != nil {
					t.Fatal(err)
				}
				op := func() error { return w.disk.SetGroup(g) }
				after := fmt.Sprint(g, true, pending)
				switch {
				case !has && !hasState:
					op = func() error { return w.disk.Found(g) }
					after = fmt.Sprint(g, true, true)
				case w.disk.Pending() && rapid.Bool().Draw(t, "done"):
					op = w.disk.Bootstrapped
					was, _ := w.disk.Group()
					after = fmt.Sprint(was, true, false)
				}
				err, died := w.do(t, at, what, op)
				switch {
				case died:
					restart(t, map[string][]string{"group": {after}})
				case err != nil:
					w.maybe["group"] = append(w.maybe["group"], after)
				default:
					w.now.Group = after
					delete(w.maybe, "group")
				}
			},
			"keep": func(t *rapid.T) {
				at, what := chance(t, works, dies, fails)
				_, died := w.do(t, at, what, func() error { w.disk.keep(); return nil })
				if died {
					restart(t, nil)
				}
			},
			"power": func(t *rapid.T) {
				restart(t, nil)
			},
			"restart": func(t *rapid.T) {
				if err := w.disk.Close(); err != nil {
					t.Fatal(err)
				}
				at, what := chance(t, works, dies, fails)
				var d *Disk
				err, died := w.do(t, at, what, func() (err error) { d, err = openDisk(w.cfg); return err })
				if died || err != nil {
					restart(t, nil)
					return
				}
				w.disk = d
				w.settle(t, nil)
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					return
				}
				old := w.id
				at, what := rapid.IntRange(1, 70).Draw(t, "at"), rapid.SampledFrom([]fault{works, dies, fails}).Draw(t, "fault")
				err, died := w.do(t, at, what, func() error { return w.disk.Reset("test") })
				if died || err != nil {
					w.fs.restart(w.rand)
					w.open(t)
				}
				if w.id = w.disk.RaftID(); w.id == old {
					if !died && err == nil {
						t.Fatal("it kept its raft id")
					}
					w.settle(t, nil)
					return
				}
				if d := w.disk.Discarded(); d != "test" && (!died && err == nil) {
					t.Fatalf("discarded %q", d)
				}
				w.logs, w.snap, w.maybe = nil, 0, map[string][]string{}
				w.now = stateOf{Vote: "CurrentTerm=0 LastVoteTerm=0 ", Group: fmt.Sprint(Group{}, false, false)}
				if got := observe(t, w.disk); got != w.now {
					t.Fatalf("after a reset: %+v", got)
				}
				if has, err := w.disk.HasState(); has || err != nil {
					t.Fatalf("after a reset it has state: %v", err)
				}
			},
		})
	})
}

// TestCrashWhileMade: the first Open ends at each of its steps, and the next one works.
func TestCrashWhileMade(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		for seed := range uint64(6) {
			m := newMemFS()
			m.fault = func(step int, _ string) fault {
				if step == at {
					return dies
				}
				return works
			}
			cfg := Config{Path: "/raft", Node: "n1", SegmentSize: minSegment, FS: m}
			died := func() (died bool) {
				defer func() { died = recover() != nil }()
				_, err := openDisk(cfg)
				if err != nil {
					t.Error(err)
				}
				return false
			}()
			if !died {
				if at < 10 {
					t.Errorf("it took %d steps: this shows nothing", at)
				}
				return
			}
			m.restart(rand.New(rand.NewPCG(seed, uint64(at))))
			d, err := openDisk(cfg)
			if err != nil {
				t.Fatalf("died at step %d, seed %d: %v", at, seed, err)
			}
			if d.Discarded() != "" || d.Pending() || !strings.HasPrefix(d.RaftID(), "n1.") {
				t.Errorf("died at step %d: %q, %q", at, d.Discarded(), d.RaftID())
			}
		}
	}
}
