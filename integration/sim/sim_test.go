package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// small makes a mesh in virtual time for a test.
func small(t *testing.T, n, joiners int, fn func(w *world) error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(n, joiners, 1, 1, defaultModel())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if err := errors.Join(fn(w), w.sound(), w.close()); err != nil {
			t.Error(err)
		}
	})
}

// A write reaches 80 agents, of which 64 are children of its writer, in two hops, and costs each of them one push. A message that is lost
// takes 200 ms more, and two may be one behind the other.
func TestWriteReachesAll(t *testing.T) {
	const n = 80
	small(t, n, 0, func(w *world) error {
		c, err := w.measure(8, w.running())
		if err != nil {
			return err
		}
		m := w.model
		theory := m.fsync + time.Duration(depth(n))*(m.otherRack.to+m.service+m.fsync) + 5*time.Millisecond
		if c.Half > theory || c.WorstAll > theory+2*m.resend+pushWait {
			t.Errorf("half of the agents show a write after %s, and all after %s at worst: want %s, and at most two losses more", c.Half, c.WorstAll, theory)
		}
		rest, busy, err := w.traffic(15*time.Second, 10*time.Second)
		if err != nil {
			return err
		}
		if rest.Mean < 50 || rest.Mean > 600 {
			t.Errorf("at rest a node sends %.0f bytes a second: want a comparison every 3 s, which is small", rest.Mean)
		}
		if most := rest.Mean + 2*writesPerSecond*(pushBytes+answerBytes); busy.Mean < rest.Mean || busy.Mean > most {
			t.Errorf("with %d writes a second a node sends %.0f bytes a second: want at most %.0f", writesPerSecond, busy.Mean, most)
		}
		return nil
	})
}

// Sick agents that everybody takes for alive do not keep a write from the others for longer than it takes to see that they do not answer.
func TestSickAgentsKeepNothingFromOthers(t *testing.T) {
	small(t, 80, 0, func(w *world) error {
		c, err := w.sicken(mute, 4)
		if err == nil && c.WorstAll > 2*pushWait {
			t.Errorf("a write reached the healthy ones after %s at worst: want %s", c.WorstAll, 2*pushWait)
		}
		return err
	})
}

func TestRackThatComesBackIsEqualSoon(t *testing.T) {
	small(t, 60, 0, func(w *world) error {
		r, err := w.loseRack(20 * time.Second)
		if err == nil && (r.Took > 10*time.Second || r.Writes < 20) {
			t.Errorf("all were equal %s after the rack came back, with %d writes: want 10 s, after 20 writes or more", r.Took, r.Writes)
		}
		return err
	})
}

func TestMassRestart(t *testing.T) {
	small(t, 60, 0, func(w *world) error {
		r, err := w.restartAll(10 * time.Second)
		if err == nil && (r.Took > 15*time.Second || r.Writes < 50 || r.Flow.Peak > 32<<20) {
			t.Errorf("all were equal %s after the last was up, with %d writes; one agent sent %.0f bytes within a second", r.Took, r.Writes, r.Flow.Peak)
		}
		return err
	})
}

func TestMassJoin(t *testing.T) {
	small(t, 15, 45, func(w *world) error {
		j, err := w.joinAll(5 * time.Second)
		if err == nil && (j.Longest > 5*time.Second || j.Flow.Peak > 40<<20 || j.Each > 2<<20) {
			t.Errorf("a joiner had the state after %s at worst, an old agent sent %.0f bytes within a second, and all %.0f for each joiner", j.Longest, j.Flow.Peak, j.Each)
		}
		return err
	})
}

// What the simulation holds against the agents is found when it is there.
func TestLossIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(3, 0, 1, 1, defaultModel())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.close() }()
		w.ledger.add(12345, 1)
		if err := w.sound(); err == nil || !strings.Contains(err.Error(), "lacks acknowledged writes") {
			t.Errorf("a write that nobody holds: %v", err)
		}
		w.ledger.runs = nil
		w.agents[1].line.side.Store(1)
		time.Sleep(4 * time.Second)
		if err := w.write(w.agents[1], nil); err != nil {
			t.Fatal(err)
		}
		if err := w.sound(); err == nil || !strings.Contains(err.Error(), "at version") {
			t.Errorf("an agent that is cut off: %v", err)
		}
		w.agents[1].line.side.Store(0)
		if _, err := w.settle(patience); err != nil {
			t.Error(err)
		}
	})
}

// An fsync takes its time, and nothing else of a storage does.
func TestDiskTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{hostdbtest.NewMemory(), 2 * time.Millisecond}
		s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return d, nil }, NodeID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = s.Update(context.Background(), hostdb.Request{User: "alice"}, func(tx *hostdb.Tx) error {
			return tx.Put(hostdb.Hosts, hostName(1), hostDocument(1, 1))
		})
		if took := time.Since(began); err != nil || took != d.fsync {
			t.Errorf("a write takes %s: %v", took, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDiskIsAStorage(t *testing.T) {
	disks := map[string]*hostdbtest.Memory{}
	hostdbtest.TestStorage(t, func(t *testing.T, dir string) hostdb.Storage {
		m := disks[dir]
		if m == nil {
			m = hostdbtest.NewMemory()
		} else {
			m = m.Reopen()
		}
		disks[dir] = m
		return &disk{m, 0}
	})
}

func TestDepthOfTheTree(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 65: 1, 66: 2, 4161: 2, 4162: 3} {
		if got := depth(n); got != want {
			t.Errorf("a tree over %d nodes: %d hops, want %d", n, got, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The page has a place for each table, and its plots are those that are drawn.
func TestPageHasItsTablesAndPlots(t *testing.T) {
	all, err := recall(filepath.Join("..", "..", "docs", "sim", "results.json"))
	if err != nil || len(all) == 0 {
		t.Fatalf("the results that the page shows: %d, %v", len(all), err)
	}
	dir := t.TempDir()
	if err := draw(dir, all, defaultModel()); err != nil {
		t.Fatal(err)
	}
	drawn, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(drawn) == 0 {
		t.Fatalf("%d plots: %v", len(drawn), err)
	}
	page := read(t, filepath.Join("..", "..", "docs", "simulation.md"))
	for _, path := range drawn {
		name := filepath.Base(path)
		if read(t, path) != read(t, filepath.Join("..", "..", "docs", "sim", name)) {
			t.Errorf("docs/sim/%s is not what the results say: run go run ./integration/sim -draw", name)
		}
		if !strings.Contains(page, "sim/"+name) {
			t.Errorf("docs/simulation.md does not show %s", name)
		}
	}
	for name, table := range tables(all, defaultModel()) {
		if !strings.Contains(page, fmt.Sprintf("<!-- table %s -->\n\n%s", name, table)) {
			t.Errorf("the table %s in docs/simulation.md is not what the results say: run go run ./integration/sim -draw", name)
		}
	}
}
