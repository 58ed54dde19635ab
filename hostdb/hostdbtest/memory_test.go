package hostdbtest

import (
	"errors"
	"fmt"
	"testing"

	"hostmesh/hostdb"
)

func TestMemory(t *testing.T) {
	disks := map[string]*Memory{}
	TestStorage(t, func(t *testing.T, dir string) hostdb.Storage {
		m := disks[dir]
		if m == nil {
			m = NewMemory()
		} else {
			m = m.Reopen()
		}
		disks[dir] = m
		return m
	})
}

func one(key, value string) []hostdb.Put {
	return []hostdb.Put{{Key: []byte(key), Value: []byte(value)}}
}

func has(t *testing.T, m *Memory, key string) bool {
	t.Helper()
	_, found, err := m.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFailNextCommit(t *testing.T) {
	m, broken := NewMemory(), errors.New("broken")
	m.FailNextCommit(broken)
	if err := m.Commit(one("a", "1")); !errors.Is(err, broken) {
		t.Errorf("Commit: %v", err)
	}
	if has(t, m, "a") {
		t.Error("the failed batch was stored")
	}
	m.FailNextCommitStored(broken)
	if err := m.Commit(one("b", "1")); !errors.Is(err, broken) {
		t.Errorf("Commit: %v", err)
	}
	if !has(t, m, "b") {
		t.Error("the batch whose answer was lost was not stored")
	}
	if err := m.Commit(one("c", "1")); err != nil {
		t.Errorf("Commit after the failures: %v", err)
	}
	if m.Len() != 2 || m.Commits() != 2 {
		t.Errorf("%d keys, %d commits; want 2, 2", m.Len(), m.Commits())
	}
}

func TestHooks(t *testing.T) {
	m, no := NewMemory(), errors.New("no")
	var crashes []*Memory
	m.SetHooks(Hooks{
		Before: func(b []hostdb.Put) error {
			if string(b[0].Key) == "refused" {
				return no
			}
			crashes = append(crashes, m.Snapshot())
			return nil
		},
		After: func([]hostdb.Put) error { crashes = append(crashes, m.Snapshot()); return nil },
	})
	for i := range 10 {
		if err := m.Commit(one(fmt.Sprint(i), "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(one("refused", "")); !errors.Is(err, no) || has(t, m, "refused") {
		t.Errorf("Commit refused by a hook: %v", err)
	}
	if len(crashes) != 20 {
		t.Fatalf("%d snapshots, want 20", len(crashes))
	}
	for i, c := range crashes {
		if want := (i + 1) / 2; c.Len() != want {
			t.Errorf("snapshot %d has %d keys, want %d", i, c.Len(), want)
		}
	}
}

func TestSnapshotIsIndependent(t *testing.T) {
	m := NewMemory()
	if err := m.Commit(one("a", "1")); err != nil {
		t.Fatal(err)
	}
	c := m.Snapshot()
	if err := c.Commit(one("b", "1")); err != nil {
		t.Fatal(err)
	}
	if err := m.Commit([]hostdb.Put{{Key: []byte("a")}}); err != nil {
		t.Fatal(err)
	}
	if has(t, m, "b") || !has(t, c, "a") || has(t, m, "a") || m.Len() != 0 || c.Len() != 2 {
		t.Error("a change of one is seen in the other")
	}
	if err := m.Close(); err != nil || m.Snapshot().Len() != 0 {
		t.Errorf("Snapshot after Close, %v", err)
	}
}

func TestSetMaxBatch(t *testing.T) {
	m := NewMemory()
	m.SetMaxBatch(4, 2)
	for _, test := range []struct {
		batch []hostdb.Put
		ok    bool
	}{
		{one("ab", "cd"), true},
		{one("ab", "cde"), false},
		{append(one("a", "b"), one("c", "d")...), true},
		{append(one("a", ""), append(one("b", ""), one("c", "")...)...), false},
	} {
		if err := m.Commit(test.batch); errors.Is(err, hostdb.ErrBatchTooLarge) == test.ok {
			t.Errorf("Commit(%q): %v", test.batch, err)
		}
	}
	if b, p := m.Snapshot().MaxBatch(); b != 4 || p != 2 {
		t.Errorf("a snapshot has limits %d, %d", b, p)
	}
}
