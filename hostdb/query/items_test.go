package query_test

import (
	"slices"
	"testing"

	"hostmesh/hostdb"
)

// TestItemsAreKeysAndGet: both ways through a namespace see the same.
func TestItemsAreKeysAndGet(t *testing.T) {
	for _, v := range []hostdb.View{{}, small(t), inventory(t)} {
		for _, ns := range []string{hostdb.Hosts, hostdb.Tags, "vips", "nothing"} {
			var keys []string
			for key, item := range v.Items(ns) {
				keys = append(keys, key)
				if got, ok := v.Get(ns, key); !ok || got != item {
					t.Errorf("%s/%s is another item", ns, key)
				}
			}
			if want := slices.Collect(v.Keys(ns)); !slices.Equal(keys, want) {
				t.Errorf("%s: %q, want %q", ns, keys, want)
			}
			for key := range v.Items(ns) {
				if key != keys[0] {
					t.Errorf("%s begins with %s", ns, key)
				}
				break
			}
		}
	}
}
