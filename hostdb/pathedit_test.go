package hostdb_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// FuzzPathEdit puts, renames and deletes at a path of a document, and holds the outcome against what must be so: an error
// is one that people can act on and changes nothing; a success changes that place alone, reads back from its own text,
// and comes back after a restart.
func FuzzPathEdit(f *testing.F) {
	for _, doc := range []string{"a: {b: 1}\nc: [x, y]\n", "", "1", "[a, b]", "a: {}\n", "a: null\nb: '010'\n"} {
		for _, path := range []string{"a", "a/b", "c/x", "a/b/c", "c", "new/x", "a/"} {
			for _, what := range []byte("pdr") {
				f.Add(doc, path, "{v: 1}", what)
			}
		}
	}
	kinds := []error{hostdb.ErrNotFound, hostdb.ErrNoParent, hostdb.ErrNotMapping, hostdb.ErrExists, hostdb.ErrInvalid, hostdb.ErrTooLarge, hostdb.ErrBadName}
	f.Fuzz(func(t *testing.T, text, path, value string, what byte) {
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil || len(text) > 1<<12 || len(path) > 1<<10 {
			return
		}
		val, err := hostdb.ParseDocument([]byte(value))
		if err != nil || path == "" {
			return
		}
		b := openBox(t, "a")
		if _, err := b.store.Update(context.Background(), hostdb.Request{}, put("hosts", "h", doc)); err != nil {
			return
		}
		steps := strings.Split(path, "/")
		before := b.store.View().Data("hosts", "h")
		_, err = b.store.Update(context.Background(), hostdb.Request{}, func(tx *hostdb.Tx) error {
			switch what % 3 {
			case 0:
				return tx.PutPath("hosts", "h", steps, val)
			case 1:
				return tx.DeletePath("hosts", "h", steps)
			}
			return tx.RenamePath("hosts", "h", steps, "renamed")
		})
		after := b.store.View().Data("hosts", "h")
		if err != nil {
			foreseen := false
			for _, k := range kinds {
				foreseen = foreseen || errors.Is(err, k)
			}
			if !foreseen || !after.Equal(before) {
				t.Fatalf("%q at %q of %q: %v; left %q", what%3, path, text, err, after.YAML())
			}
			return
		}
		back, err := hostdb.ParseDocument([]byte(after.YAML()))
		if err != nil || !back.Equal(after) {
			t.Fatalf("%q at %q of %q gives a text that reads back otherwise (%v):\n%s", what%3, path, text, err, after.YAML())
		}
		list, _ := before.At(steps[:len(steps)-1]...).Value()
		if !list.IsSequence() {
			got := after.At(steps...)
			switch what % 3 {
			case 0:
				if got.YAML() != val.YAML() {
					t.Fatalf("put %q at %q of %q: %q stands there", value, path, text, got.YAML())
				}
			case 1:
				if got.Exists() {
					t.Fatalf("deleted %q of %q: %q stands there", path, text, got.YAML())
				}
			}
		}
		for key, sub := range before.Keys() {
			if key != steps[0] && !(what%3 == 2 && key == "renamed") && !after.At(key).Equal(sub) {
				t.Fatalf("%q at %q of %q changed %s to %q", what%3, path, text, key, after.At(key).YAML())
			}
		}
		b.restart(t)
		if again := b.store.View().Data("hosts", "h"); !again.Equal(after) {
			t.Fatalf("a restart changed %q to %q", after.YAML(), again.YAML())
		}
	})
}
