package hostdb

import (
	"iter"
	"strings"
)

// Items yields the keys of ns, sorted by byte, each with its item: what Keys and Get give, in one walk.
func (v View) Items(ns string) iter.Seq2[string, Item] {
	return func(yield func(string, Item) bool) {
		all := ns != Tags // whether tags/all was yielded or need not be
		for k, e := range v.snap().entries.from(id(ns, "")) {
			if e.ns != ns || !strings.HasPrefix(k, ns+"\x00") {
				break
			}
			if e.key == "" || !e.exists() {
				continue
			}
			if !all && e.key >= AllTag {
				all = true
				if e.key != AllTag && !yield(AllTag, Item{}) {
					return
				}
			}
			if !yield(e.key, Item{e}) {
				return
			}
		}
		if !all {
			yield(AllTag, Item{})
		}
	}
}
