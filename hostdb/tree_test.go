package hostdb

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Pairs that come together make the tree that they make one by one, node for node, and change none that others hold.
func TestTreeWith(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.StringMatching(`[a-e]{1,3}`)
		old := rapid.MapOf(keys, rapid.Int()).Draw(t, "old")
		added := rapid.MapOf(keys, rapid.Int()).Draw(t, "added")
		before := treeOfMap(old)
		want, all := before, maps.Clone(old)
		for k, v := range added {
			want, all[k] = want.set(k, v), v
		}
		got := before.with(treeOfMap(added))
		if got.len() != len(all) || !maps.Equal(maps.Collect(got.all()), all) {
			t.Fatalf("%v with %v is %v, of %d keys", old, added, maps.Collect(got.all()), got.len())
		}
		if !maps.Equal(maps.Collect(before.all()), old) {
			t.Fatalf("%v became %v", old, maps.Collect(before.all()))
		}
		if !sameShape(got.root, want.root) {
			t.Fatal("its shape depends on how it was made")
		}
		// What differs is found without a look at what is shared: each key whose node was made anew is an added one or above one.
		var changed []string
		got.diff(before, func(k string, a int, inA bool, b int, inB bool) bool {
			if a != b || inA != inB {
				changed = append(changed, k)
			}
			return true
		})
		var really []string
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if v, was := old[k]; !was || v != all[k] {
				really = append(really, k)
			}
		}
		if !slices.Equal(changed, really) {
			t.Fatalf("diff finds %q, want %q", changed, really)
		}
	})
}

func sameShape[V comparable](a, b *treeNode[string, V]) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.key == b.key && a.val == b.val && a.pri == b.pri && sameShape(a.left, b.left) && sameShape(a.right, b.right)
}

func TestPathIs(t *testing.T) {
	steps := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "ab", "b"}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		a, b := steps.Draw(t, "a"), steps.Draw(t, "b")
		if got, want := PathOf(a...).is(b), PathOf(a...) == PathOf(b...); got != want {
			t.Fatalf("%q is the path of %q: %v, want %v", PathOf(a...), b, got, want)
		}
	})
}
