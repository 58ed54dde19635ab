package hostdbtest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hostmesh/hostdb"
)

// testAtomic looks for half a batch while batches are written.
func testAtomic(t *testing.T, s *subject) {
	const keys, rounds = 20, 60
	batch := func(n int) []hostdb.Put {
		var b []hostdb.Put
		for i := range keys {
			b = append(b, hostdb.Put{Key: fmt.Appendf(nil, "k%02d", i), Value: fmt.Appendf(nil, "%06d", n)})
		}
		return b
	}
	s.commit(batch(0))
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := ""
			for !done.Load() {
				seen := map[string]int{}
				err := s.Scan([]byte("k"), nil, func(_, v []byte) error { seen[string(v)]++; return nil })
				if err != nil {
					t.Errorf("Scan: %v", err)
					return
				}
				for v, n := range seen {
					if len(seen) != 1 || n != keys || v < last {
						t.Errorf("a scan saw %v after %s, want %d values of one batch", seen, last, keys)
						return
					}
					last = v
				}
			}
		})
	}
	for n := 1; n <= rounds; n++ {
		s.commit(batch(n))
	}
	done.Store(true)
	readers.Wait()
}

func testConcurrentCommits(t *testing.T, s *subject) {
	const writers, each = 16, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				batch := []hostdb.Put{
					{Key: fmt.Appendf(nil, "a/%02d/%02d", w, i), Value: fmt.Appendf(nil, "%d %d", w, i)},
					{Key: fmt.Appendf(nil, "b/%02d/%02d", w, i), Value: bytes.Repeat([]byte{byte(w)}, 1000)},
					{Key: fmt.Appendf(nil, "newest/%02d", w), Value: fmt.Appendf(nil, "%d", i)},
				}
				if err := s.Commit(batch); err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				if got, found, err := s.Get(batch[0].Key); err != nil || !found || !bytes.Equal(got, batch[0].Value) {
					t.Errorf("own write: %q, %v, %v", got, found, err)
				}
			}
		})
	}
	wg.Wait()
	for _, reopen := range []bool{false, true} {
		if reopen {
			s.reopen()
		}
		if a, b := len(s.scan([]byte("a/"), nil)), len(s.scan([]byte("b/"), nil)); a != writers*each || b != a {
			t.Errorf("%d and %d keys, want %d", a, b, writers*each)
		}
		for w := range writers {
			s.want(fmt.Sprintf("newest/%02d", w), fmt.Sprint(each-1))
		}
	}
}

// testCommitOrder: of two commits, one begun after the other returned wins, also after reopening, however many others
// share the fsync.
func testCommitOrder(t *testing.T, s *subject) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range 8 {
		wg.Go(func() {
			for range 10 {
				mu.Lock()
				n++
				err := s.Commit([]hostdb.Put{{Key: []byte("k"), Value: fmt.Append(nil, n)}})
				mu.Unlock()
				if err == nil {
					err = s.Commit([]hostdb.Put{{Key: []byte("other"), Value: []byte("1")}})
				}
				if err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s.want("k", "80")
	s.reopen()
	s.want("k", "80")
}

func testClosed(t *testing.T, s *subject) {
	s.put("a", "1")
	for i := range 3 {
		if err := s.Close(); err != nil {
			t.Errorf("Close, call %d: %v", i+1, err)
		}
	}
	if _, found, err := s.Get([]byte("a")); err == nil || found {
		t.Errorf("Get after Close: %v, %v", found, err)
	}
	err := s.Scan(nil, nil, func(_, _ []byte) error { t.Error("callback after Close"); return nil })
	if err == nil {
		t.Error("Scan after Close: no error")
	}
	if err := s.Commit([]hostdb.Put{{Key: []byte("a"), Value: []byte("2")}}); err == nil {
		t.Error("Commit after Close: no error")
	}
	if err := s.Commit(nil); err == nil {
		t.Error("empty Commit after Close: no error")
	}
	s.Storage = s.open(t, s.dir)
	s.want("a", "1")
}

// testCloseDuringUse: Close waits for or refuses what is under way, and what was acknowledged is there afterwards.
func testCloseDuringUse(t *testing.T, s *subject) {
	for i := range 50 {
		s.put(fmt.Sprintf("r/%02d", i), "1")
	}
	var wg sync.WaitGroup
	var acked [4]int
	started := make(chan struct{}, 8)
	for w := range acked {
		wg.Go(func() {
			for i := 0; ; i++ {
				err := s.Commit([]hostdb.Put{{Key: fmt.Appendf(nil, "w/%d/%06d", w, i), Value: []byte("1")}})
				if err != nil {
					return
				}
				acked[w]++
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
		wg.Go(func() {
			for i := 0; ; i++ {
				n := 0
				err := s.Scan([]byte("r/"), nil, func(_, _ []byte) error {
					n++
					_, _, err := s.Get([]byte("r/00")) // from within, which must not deadlock with Close
					return err
				})
				if err != nil {
					return
				}
				if n != 50 {
					t.Errorf("a scan ended after %d pairs without an error", n)
				}
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wg.Wait()
	s.Storage = s.open(t, s.dir)
	for w, n := range acked {
		got := len(s.scan(fmt.Appendf(nil, "w/%d/", w), nil))
		if got < n {
			t.Errorf("writer %d: %d commits were acknowledged, %d are there", w, n, got)
		}
	}
}

// testModel compares with a map after random batches and reopenings. The seed is fixed.
func testModel(t *testing.T, s *subject) {
	r := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	key := func() string { return fmt.Sprintf("%c/%c%c", 'a'+r.IntN(4), 'a'+r.IntN(6), 'a'+r.IntN(6)) }
	value := func() []byte {
		switch r.IntN(40) {
		case 0:
			return noise(600<<10+r.IntN(600<<10), r.Uint64())
		case 1:
			return []byte{}
		}
		return noise(r.IntN(300), r.Uint64())
	}
	for range 120 {
		switch r.IntN(20) {
		case 0:
			s.reopen()
		case 1:
			err := s.Commit([]hostdb.Put{{Key: []byte(key())}, {Value: make([]byte, 64<<20)}})
			if !errors.Is(err, hostdb.ErrBatchTooLarge) {
				t.Fatalf("Commit of 64 MiB: %v", err)
			}
		}
		var batch []hostdb.Put
		size := 0
		for range 1 + r.IntN(12) {
			p := hostdb.Put{Key: []byte(key())}
			if r.IntN(4) > 0 {
				p.Value = value()
			}
			if size += len(p.Key) + len(p.Value); size > largest {
				break
			}
			batch = append(batch, p)
		}
		s.commit(batch)
		for _, p := range batch {
			if p.Value == nil {
				delete(model, string(p.Key))
			} else {
				model[string(p.Key)] = string(p.Value)
			}
		}
		k := key()
		if v, ok := model[k]; ok {
			s.want(k, v)
		} else {
			s.wantNone(k)
		}
		prefix, from := k[:r.IntN(3)], key()
		var want []pair
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if len(k) >= len(prefix) && k[:len(prefix)] == prefix && k >= from {
				want = append(want, pair{k, model[k]})
			}
		}
		if got := s.scan([]byte(prefix), []byte(from)); !slices.Equal(got, want) {
			t.Fatalf("Scan(%q, %q) gave %d pairs, want %d, or other values", prefix, from, len(got), len(want))
		}
		var back []pair
		for k, v := range model {
			if strings.HasPrefix(k, prefix) && k <= from {
				back = append(back, pair{k, v})
			}
		}
		slices.SortFunc(back, func(a, b pair) int { return strings.Compare(b.key, a.key) })
		if got := s.scanBack([]byte(prefix), []byte(from)); !slices.Equal(got, back) {
			t.Fatalf("ScanBack(%q, %q) gave %d pairs, want %d, or other values", prefix, from, len(got), len(back))
		}
	}
}
