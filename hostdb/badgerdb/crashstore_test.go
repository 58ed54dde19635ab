package badgerdb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"hostmesh/hostdb"
)

// crashPlan says how a child ends: by SIGKILL at a step of its storage, or when its parent kills it.
type crashPlan struct {
	Round int
	// At is the number of the step of the storage, commits and fsyncs counted together from the opening, from which on the process
	// kills itself at the first place that Where names; 0 for never.
	At int64
	// Where in that step: before the commit, after it and before anybody knows, or just when a fsync begins or has ended.
	Where string
}

var crashPlaces = []string{"before commit", "after commit", "before fsync", "after fsync"}

const crashPlanVar = "BADGERDB_TEST_PLAN"

// told is a line that a child prints: a write that was acknowledged.
type told struct {
	Key, Value, Revision string
	// Twin is a second host that the same operation wrote.
	Twin string
}

// killing is a storage whose process ends at one of its steps.
type killing struct {
	*DB
	plan crashPlan
	step atomic.Int64
}

func (k *killing) at(where string, step int64) {
	if k.plan.Where == where && k.plan.At > 0 && step >= k.plan.At {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
}

func (k *killing) Commit(batch []hostdb.Put) error {
	n := k.step.Add(1)
	k.at("before commit", n)
	err := k.DB.Commit(batch)
	k.at("after commit", n)
	return err
}

func (k *killing) sync(f *os.File) error {
	n := k.step.Add(1)
	k.at("before fsync", n)
	err := datasync(f)
	k.at("after fsync", n)
	return err
}

// storeOn opens a replica on a directory.
func storeOn(dir string, plan crashPlan) (*hostdb.Store, error) {
	return hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) {
		db, err := open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable)
		if err != nil {
			return nil, err
		}
		k := &killing{DB: db, plan: plan}
		db.writer.work.Lock()
		db.writer.wal.syncFile = k.sync
		db.writer.work.Unlock()
		return k, nil
	}})
}

// hostText is a document of a host. Some are large, and some larger than the memtable's share for one batch.
func hostText(round, writer, n int) string {
	size := 20 + n*97%700
	if n%9 == 8 {
		size = 150_000
	}
	return fmt.Sprintf("n: %d-%d-%d\npad: %s\n", round, writer, n, strings.Repeat("x", size))
}

// storeChild has six writers write hosts, two in each operation, and prints what was acknowledged. It ends when it is killed.
func storeChild(dir string) error {
	var plan crashPlan
	if err := json.Unmarshal([]byte(os.Getenv(crashPlanVar)), &plan); err != nil {
		return err
	}
	store, err := storeOn(dir, plan)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range 6 {
		go func() {
			for n := 0; ; n++ {
				line := told{Key: fmt.Sprintf("h%d-%d-%d", plan.Round, w, n), Value: hostText(plan.Round, w, n)}
				line.Twin = line.Key + "-twin"
				doc, err := hostdb.ParseDocument([]byte(line.Value))
				if err != nil {
					errs <- err
					return
				}
				c, err := store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
					if err := tx.Put("hosts", line.Key, doc); err != nil {
						return err
					}
					return tx.Put("hosts", line.Twin, doc)
				})
				if err != nil {
					errs <- err
					return
				}
				line.Revision = c.Revision.String()
				text, err := json.Marshal(line)
				if err == nil {
					_, err = os.Stdout.Write(append(text, '\n')) // one write
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKillAtEveryStep runs a replica with six writers in a process that ends with SIGKILL: by itself at a step of its storage, which
// the rounds go through one by one, or by its parent's hand at any moment. Rounds go on on one directory. Each finds all that
// was ever acknowledged, exactly; both hosts of an operation or none; and a log whose fold is what is shown.
//
// HOSTMESH_TEST_CRASHES sets how many rounds there are; without it 24.
func TestKillAtEveryStep(t *testing.T) {
	t.Parallel()
	rounds := 24
	if text := os.Getenv("HOSTMESH_TEST_CRASHES"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("HOSTMESH_TEST_CRASHES=%s: %v", text, err)
		}
	}
	dir := t.TempDir()
	ledger := map[string]told{}
	self := 0
	for round := range rounds {
		plan := crashPlan{Round: round}
		kill := -1 // acknowledgements after which the parent kills
		if round%4 == 3 {
			kill = rand.IntN(60)
		} else {
			plan.At = int64(1 + self/len(crashPlaces))
			if self >= 12 {
				plan.At = 1 + rand.Int64N(80)
			}
			plan.Where = crashPlaces[self%len(crashPlaces)]
			self++
		}
		oneCrash(t, dir, plan, kill, ledger)
		checkStore(t, dir, plan, ledger)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d operations were acknowledged in %d rounds", len(ledger), rounds)
	if len(ledger) < rounds {
		t.Errorf("only %d operations in %d rounds: this shows nothing", len(ledger), rounds)
	}
}

// oneCrash runs a child until it is killed, and notes what it said.
func oneCrash(t *testing.T, dir string, plan crashPlan, kill int, ledger map[string]told) {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := childCommand(t, "store", dir)
	cmd.Env = append(cmd.Env, crashPlanVar+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { _ = cmd.Process.Kill() }) // it may be gone
	defer stop()
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		if kill >= 0 && n >= kill {
			stop()
		}
		text, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break // a line that was cut is no acknowledgement that a client has seen
		}
		if err != nil {
			t.Fatal(err)
		}
		var line told
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatalf("the child said %q: %v", text, err)
		}
		ledger[line.Key] = line
	}
	_ = cmd.Wait() // it was killed
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("%+v: the child ended by itself, status %d: %s", plan, code, stderr.String())
	}
}

// checkStore opens what the child left.
func checkStore(t *testing.T, dir string, plan crashPlan, ledger map[string]told) {
	t.Helper()
	store, err := storeOn(dir, crashPlan{})
	if err != nil {
		t.Fatalf("%+v: %v", plan, err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	known := map[string]bool{}
	err = store.EachRevision(t.Context(), hostdb.Stamp{}, func(r hostdb.Revision) error {
		known[r.ID.String()] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	view := store.View()
	for _, line := range ledger {
		for _, key := range []string{line.Key, line.Twin} {
			if item, ok := view.Get("hosts", key); !ok || item.YAML() != line.Value {
				t.Errorf("%+v: %s was acknowledged as %.40q, there: %v %.40q", plan, key, line.Value, ok, item.YAML())
			}
		}
		if !known[line.Revision] {
			t.Errorf("%+v: revision %s of %s is not in history", plan, line.Revision, line.Key)
		}
	}
	for key := range view.Keys("hosts") {
		twin, is := strings.CutSuffix(key, "-twin")
		if !is {
			twin = key + "-twin"
		}
		if !view.Exists("hosts", twin) {
			t.Errorf("%+v: half an operation: %s without %s", plan, key, twin)
		}
	}
	report, err := store.Verify(t.Context(), nil)
	if err != nil || report.Damaged() || !report.Whole {
		t.Errorf("%+v: verified: %+v, %v", plan, report.Findings, err)
	}
}
