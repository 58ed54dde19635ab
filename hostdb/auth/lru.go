package auth

import "container/list"

// lru is a map of at most max entries that forgets the one that was set longest ago. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order *list.List // of *lruEntry; the front was set last
	at    map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int) lru[K, V] {
	return lru[K, V]{max: max, order: list.New(), at: map[K]*list.Element{}}
}

// get is the value of k, the zero V when it is not there.
func (l *lru[K, V]) get(k K) (v V) {
	if e := l.at[k]; e != nil {
		v = e.Value.(*lruEntry[K, V]).value
	}
	return v
}

func (l *lru[K, V]) set(k K, v V) {
	if e := l.at[k]; e != nil {
		e.Value.(*lruEntry[K, V]).value = v
		l.order.MoveToFront(e)
		return
	}
	if l.order.Len() >= l.max {
		oldest := l.order.Remove(l.order.Back()).(*lruEntry[K, V])
		delete(l.at, oldest.key)
	}
	l.at[k] = l.order.PushFront(&lruEntry[K, V]{k, v})
}

func (l *lru[K, V]) delete(k K) {
	if e := l.at[k]; e != nil {
		l.order.Remove(e)
		delete(l.at, k)
	}
}
