package rest

import (
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// lists keeps the lists of namespaces and keys as they are asked for, until the replica changes: their Mtime costs a look
// at each key. It holds text and no View, which would keep what the replica has long left behind.
type lists struct {
	mu      sync.Mutex // guards the fields below; held while a list is made, so that it is made once
	applied uint64     // the state that the answers are of
	answers map[string]answer
}

// get is the list of ns in v ("" for that of namespaces), made by build if need be.
func (l *lists) get(v hostdb.View, ns string, build func(v hostdb.View, ns string) answer) answer {
	applied := v.Applied()
	l.mu.Lock()
	defer l.mu.Unlock()
	if applied < l.applied { // a request that began before the newest write
		return build(v, ns)
	}
	if l.answers == nil || applied > l.applied {
		l.applied, l.answers = applied, map[string]answer{}
	}
	a, ok := l.answers[ns]
	if !ok {
		a = build(v, ns)
		l.answers[ns] = a
	}
	return a
}

func namespaces(v hostdb.View, _ string) answer {
	a := answer{format: asLines, sorted: true}
	list := slices.DeleteFunc(v.Namespaces(), func(ns string) bool { return ns == hostdb.System })
	a.text = strings.Join(list, "\n")
	for _, ns := range list {
		if t := modified(v, ns); t.After(a.mtime) {
			a.mtime = t
		}
	}
	return a
}

func keys(v hostdb.View, ns string) answer {
	var b strings.Builder
	for key := range v.Keys(ns) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key)
	}
	return answer{text: b.String(), format: asLines, sorted: true, mtime: modified(v, ns)}
}

// modified is when the newest data of a namespace was written. Upstream has the time of the last creation or deletion.
func modified(v hostdb.View, ns string) (newest time.Time) {
	for key := range v.Keys(ns) {
		item, _ := v.Get(ns, key)
		if t := item.Modified(); t.After(newest) {
			newest = t
		}
	}
	return newest
}
