package hostdb_test

import (
	"slices"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// What was written to a key while it was deleted elsewhere is listed until somebody who has seen that makes the key anew, or
// deletes it again; who has not seen it settles nothing.
func TestProveLateEditIsSettled(t *testing.T) {
	conflicts := func(b *box) int {
		return len(slices.Collect(b.store.View().Conflicts("hosts", "web1")))
	}
	for _, c := range []struct {
		name   string
		unseen bool // the key is made anew before the late edit arrives
		then   func(*hostdb.Tx) error
		listed int // after it
	}{
		{"made anew", false, put("hosts", "web1", parse(t, "{cpu: 8}")), 0},
		{"made anew by who has not seen it", true, put("hosts", "other", parse(t, "1")), 1},
		{"deleted again by who has seen it", true, remove("hosts", "web1"), 0},
		{"deleted and made anew at once", true, func(tx *hostdb.Tx) error {
			if err := tx.Delete("hosts", "web1"); err != nil {
				return err
			}
			return tx.Put("hosts", "web1", parse(t, "{cpu: 8}"))
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := openBox(t, "a"), openBox(t, "b")
			write(t, a, put("hosts", "web1", parse(t, "{cpu: 2}")))
			exchange(t, a, b)
			a.clock.now = a.clock.now.Add(10 * time.Millisecond)
			write(t, a, remove("hosts", "web1"))
			if c.unseen {
				a.clock.now = a.clock.now.Add(10 * time.Millisecond)
				write(t, a, put("hosts", "web1", parse(t, "{cpu: 8}")))
			}
			b.clock.now = a.clock.now.Add(time.Second)
			a.clock.now = b.clock.now
			write(t, b, func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web1", []string{"disk"}, parse(t, "9")) })
			exchange(t, a, b)
			if conflicts(a) != 1 || conflicts(b) != 1 {
				t.Fatalf("a late edit is listed %d and %d times", conflicts(a), conflicts(b))
			}
			write(t, a, c.then)
			exchange(t, a, b)
			for _, x := range []*box{a, b} {
				if conflicts(x) != c.listed {
					t.Errorf("at %s %v are listed, want %d", x.name, slices.Collect(x.store.View().Conflicts("hosts", "web1")), c.listed)
				}
				x.restart(t)
				if conflicts(x) != c.listed {
					t.Errorf("after a restart at %s %v are listed, want %d", x.name, slices.Collect(x.store.View().Conflicts("hosts", "web1")), c.listed)
				}
			}
		})
	}
}
