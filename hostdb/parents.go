package hostdb

import "slices"

// ParentFinder answers View.Parents for many hosts of one view and namespace: what lies above a key is looked up once. It is
// not safe for concurrent use.
type ParentFinder struct {
	s     *snapshot
	ns    string
	above map[string][]string // key -> itself and the keys that inherit from it
	// What was answered last: hosts of one place mostly have the same tags.
	holders []string
	active  bool
	list    []string
}

// ParentFinder makes one.
func (v View) ParentFinder(ns string) *ParentFinder {
	return &ParentFinder{s: v.snap(), ns: ns, above: map[string][]string{}}
}

// Of is what View.Parents gives. Callers must not change it.
func (f *ParentFinder) Of(host string) []string {
	if !f.s.hostExists(host) {
		return nil
	}
	holders, _ := f.s.holders.get(id(f.ns, host))
	active := false
	if f.ns == Tags {
		_, active = f.s.active.get(host)
	}
	if active == f.active && slices.Equal(holders, f.holders) {
		return f.list
	}
	var out []string
	for _, key := range holders {
		if e, _ := f.s.entries.get(id(f.ns, key)); e.exists() {
			out = append(out, f.from(key)...)
		}
	}
	if active {
		out = append(out, f.from(AllTag)...)
	}
	slices.Sort(out)
	f.holders, f.active, f.list = holders, active, slices.Clip(slices.Compact(out))
	return f.list
}

func (f *ParentFinder) from(key string) []string {
	list, known := f.above[key]
	if !known {
		list = []string{key}
		f.s.ancestors(f.ns, "@"+key, func(k string) { list = append(list, k) })
		f.above[key] = list
	}
	return list
}
