package badgerdb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"hostmesh/hostdb"
)

// A directory full of what was replaced and deleted gets smaller, and holds what it held.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	db, err := open(Config{Dir: dir}, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := func(round, i int) []byte { // random enough not to be packed
		var out []byte
		for n := range 200 {
			sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d", round, i, n))
			out = append(out, sum[:]...)
		}
		return out
	}
	const rounds = 12
	for round := range rounds {
		for i := range 100 {
			if err := db.Commit([]hostdb.Put{{Key: fmt.Appendf(nil, "key %d", i), Value: value(round, i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var deleted []hostdb.Put
	for i := range 50 {
		deleted = append(deleted, hostdb.Put{Key: fmt.Appendf(nil, "key %d", i)})
	}
	if err := db.Commit(deleted); err != nil {
		t.Fatal(err)
	}
	// Of what is in memory the tables know nothing: it goes there when the directory is closed.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = open(Config{Dir: dir}, 2<<20); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var phases []string
	done, err := db.Compact(t.Context(), func(phase string) { phases = append(phases, phase) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d to %d bytes", done.Before, done.After)
	if fmt.Sprint(phases) != fmt.Sprint([]string{PhaseSweep, PhaseMerge}) {
		t.Errorf("phases %q", phases)
	}
	if db.Stats().Level0 != 0 || db.Stats().LSM > 1<<20 {
		t.Errorf("after it: %+v", db.Stats())
	}
	n := 0
	err = db.Scan(nil, nil, func(key, got []byte) error {
		var i int
		if _, err := fmt.Sscanf(string(key), "key %d", &i); err != nil || i < 50 || string(got) != string(value(rounds-1, i)) {
			t.Errorf("%q holds something else: %v", key, err)
		}
		n++
		return nil
	})
	if err != nil || n != 50 {
		t.Errorf("%d keys, %v", n, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Compact(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a compaction that nobody waits for: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Compact(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("compact of a closed directory: %v", err)
	}
}
