package rest

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/hostdb"
)

// keptBytes bounds the text of the answers that are kept.
const keptBytes = 8 << 20

// lists keeps what was made of many keys (lists, expanded members, parents, derived) as it is asked for, until the replica
// changes. It holds text and no View, which would keep what the replica has long left behind. A hit takes no lock.
type lists struct{ kept atomic.Pointer[keptAnswers] }

// keptAnswers are those of one state.
type keptAnswers struct {
	applied uint64
	bytes   atomic.Int64
	answers sync.Map // listKey -> answer
}

// listKey names an answer: what it is, and of what.
type listKey struct{ what, ns, key string }

// get is the answer k in v, made by build if need be.
func (l *lists) get(v hostdb.View, k listKey, build func() answer) answer {
	applied := v.Applied()
	kept := l.kept.Load()
	for kept == nil || kept.applied < applied {
		fresh := &keptAnswers{applied: applied}
		if l.kept.CompareAndSwap(kept, fresh) {
			kept = fresh
			break
		}
		kept = l.kept.Load()
	}
	if kept.applied > applied { // a request that began before the newest write
		return build()
	}
	if a, ok := kept.answers.Load(k); ok {
		return a.(answer)
	}
	a := build()
	if size := int64(len(a.text) + len(k.ns) + len(k.key) + 256); kept.bytes.Add(size) <= keptBytes {
		kept.answers.Store(k, a)
	} else {
		kept.bytes.Add(-size)
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
