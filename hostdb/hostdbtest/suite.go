package hostdbtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"hostmesh/hostdb"
)

// TestStorage tests the contract of hostdb.Storage. open opens the Storage of a directory, an empty one at first, and
// may call t.Fatal. It is called again with the same directory after Close, and must then give what was committed: a
// Storage that is not durable keeps a map by directory. Close is called on everything opened.
func TestStorage(t *testing.T, open func(t *testing.T, dir string) hostdb.Storage) {
	tests := []struct {
		name string
		test func(t *testing.T, s *subject)
	}{
		{"Empty", testEmpty},
		{"PutGet", testPutGet},
		{"EmptyValue", testEmptyValue},
		{"Delete", testDelete},
		{"PutsOfOneKeyInOrder", testOrderInBatch},
		{"BinaryKeys", testBinaryKeys},
		{"ScanOrder", testScanOrder},
		{"ScanPrefixAndFrom", testScanPrefixAndFrom},
		{"ScanBack", testScanBack},
		{"ScanStopsAtError", testScanStops},
		{"ScanPanic", testScanPanic},
		{"ScanSnapshot", func(t *testing.T, s *subject) { testScanSnapshot(t, s, []byte("k")) }},
		{"ScanSnapshotOfAll", func(t *testing.T, s *subject) { testScanSnapshot(t, s, nil) }},
		{"SlicesAreNotKept", testSlices},
		{"GetReturnsACopy", testGetCopy},
		{"LargeValues", testLargeValues},
		{"LongKeys", testLongKeys},
		{"BatchLimits", testBatchLimits},
		{"Reopen", testReopen},
		{"ReopenAfterDelete", testReopenAfterDelete},
		{"Atomic", testAtomic},
		{"ConcurrentCommits", testConcurrentCommits},
		{"CommitOrderOfOneKey", testCommitOrder},
		{"Closed", testClosed},
		{"CloseDuringUse", testCloseDuringUse},
		{"RandomAgainstModel", testModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &subject{t: t, dir: t.TempDir(), open: open}
			s.Storage = open(t, s.dir)
			t.Cleanup(func() { _ = s.Close() }) // most often for the second time
			test.test(t, s)
		})
	}
}

// subject is the Storage under test, with helpers that end the test on an error.
type subject struct {
	hostdb.Storage
	t    *testing.T
	dir  string
	open func(t *testing.T, dir string) hostdb.Storage
}

func (s *subject) reopen() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Fatalf("Close: %v", err)
	}
	s.Storage = s.open(s.t, s.dir)
}

func (s *subject) put(pairs ...string) {
	s.t.Helper()
	var batch []hostdb.Put
	for i := 0; i < len(pairs); i += 2 {
		batch = append(batch, hostdb.Put{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	s.commit(batch)
}

func (s *subject) commit(batch []hostdb.Put) {
	s.t.Helper()
	if err := s.Commit(batch); err != nil {
		s.t.Fatalf("Commit: %v", err)
	}
}

func (s *subject) want(key, value string) {
	s.t.Helper()
	got, found, err := s.Get([]byte(key))
	if err != nil || !found || string(got) != value {
		s.t.Fatalf("Get(%s) = %s, %v, %v; want %s", short(key), short(string(got)), found, err, short(value))
	}
}

func (s *subject) wantNone(key string) {
	s.t.Helper()
	got, found, err := s.Get([]byte(key))
	if err != nil || found || got != nil {
		s.t.Fatalf("Get(%s) = %s, %v, %v; want nothing", short(key), short(string(got)), found, err)
	}
}

type pair struct{ key, value string }

func (s *subject) scan(prefix, from []byte) []pair {
	s.t.Helper()
	var all []pair
	err := s.Scan(prefix, from, func(k, v []byte) error {
		all = append(all, pair{string(k), string(v)})
		return nil
	})
	if err != nil {
		s.t.Fatalf("Scan(%q, %q): %v", prefix, from, err)
	}
	return all
}

func (s *subject) scanBack(prefix, from []byte) []pair {
	s.t.Helper()
	var all []pair
	err := s.ScanBack(prefix, from, func(k, v []byte) error {
		all = append(all, pair{string(k), string(v)})
		return nil
	})
	if err != nil {
		s.t.Fatalf("ScanBack(%q, %q): %v", prefix, from, err)
	}
	return all
}

func (s *subject) wantKeys(prefix, from []byte, want ...string) {
	s.t.Helper()
	var got []string
	for _, p := range s.scan(prefix, from) {
		got = append(got, p.key)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("Scan(%q, %q): keys %q, want %q", prefix, from, got, want)
	}
}

func short(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%q... (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func testEmpty(t *testing.T, s *subject) {
	s.wantNone("a")
	s.wantKeys(nil, nil)
	s.wantKeys([]byte("a"), []byte("ab"))
	s.commit(nil)
	s.commit([]hostdb.Put{})
	s.wantKeys(nil, nil)
}

func testPutGet(t *testing.T, s *subject) {
	s.put("a", "1", "b", "2")
	s.put("b", "3")
	s.want("a", "1")
	s.want("b", "3")
	s.wantNone("")
	s.wantNone("ab")
	s.wantNone("c")
}

func testEmptyValue(t *testing.T, s *subject) {
	for range 2 {
		s.commit([]hostdb.Put{{Key: []byte("e"), Value: []byte{}}})
		got, found, err := s.Get([]byte("e"))
		if err != nil || !found || len(got) != 0 {
			t.Fatalf("Get = %q, %v, %v; want an empty value that is there", got, found, err)
		}
		s.wantKeys(nil, nil, "e")
		s.reopen()
	}
	s.want("e", "")
}

func testDelete(t *testing.T, s *subject) {
	s.put("a", "1", "b", "2", "c", "3")
	s.commit([]hostdb.Put{{Key: []byte("b")}, {Key: []byte("never there")}})
	s.wantNone("b")
	s.wantKeys(nil, nil, "a", "c")
	s.put("b", "again")
	s.want("b", "again")
	s.wantKeys(nil, nil, "a", "b", "c")
}

func testOrderInBatch(t *testing.T, s *subject) {
	k, v := []byte("k"), []byte("v")
	s.commit([]hostdb.Put{{Key: k, Value: []byte("1")}, {Key: k, Value: []byte("2")}})
	s.want("k", "2")
	s.commit([]hostdb.Put{{Key: k, Value: v}, {Key: k}})
	s.wantNone("k")
	s.commit([]hostdb.Put{{Key: k}, {Key: k, Value: v}})
	s.want("k", "v")
	long := bytes.Repeat([]byte("long "), 250_000)
	s.commit([]hostdb.Put{{Key: k, Value: long}, {Key: k, Value: v}})
	s.want("k", "v")
	s.commit([]hostdb.Put{{Key: k, Value: v}, {Key: k, Value: long}})
	s.want("k", string(long))
}

func testBinaryKeys(t *testing.T, s *subject) {
	keys := []string{"\x00", "\x00\x00", "\x00\x01", "!badger!head", "!badger!txn", "a", "a\x00", "a\x00b", "a\xff", "b",
		"d", "é", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff"}
	slices.Sort(keys)
	var batch []hostdb.Put
	for _, k := range keys {
		batch = append(batch, hostdb.Put{Key: []byte(k), Value: []byte("of " + k)})
	}
	s.commit(batch)
	for _, reopen := range []bool{false, true} {
		if reopen {
			s.reopen()
		}
		for _, k := range keys {
			s.want(k, "of "+k)
		}
		s.wantKeys(nil, nil, keys...)
	}
	s.wantKeys([]byte("a"), nil, "a", "a\x00", "a\x00b", "a\xff")
	s.wantKeys([]byte("a\x00"), nil, "a\x00", "a\x00b")
	s.wantKeys([]byte("\xff"), nil, "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff")
	s.wantKeys([]byte("\xff\xff"), []byte("\xff\xff\x00"), "\xff\xff\xff")
	s.wantKeys([]byte("!badger!"), nil, "!badger!head", "!badger!txn")
}

func testScanOrder(t *testing.T, s *subject) {
	for i := range 500 {
		n := i * 7919 % 500 // each once, in no order
		s.put(fmt.Sprintf("k%04d", n), fmt.Sprint(n))
	}
	all := s.scan(nil, nil)
	if len(all) != 500 {
		t.Fatalf("%d pairs, want 500", len(all))
	}
	for i, p := range all {
		if want := (pair{fmt.Sprintf("k%04d", i), fmt.Sprint(i)}); p != want {
			t.Fatalf("pair %d is %v, want %v", i, p, want)
		}
	}
}

func testScanPrefixAndFrom(t *testing.T, s *subject) {
	s.put("a", "", "ab", "", "abc", "", "abd", "", "b", "", "ba", "", "c", "")
	for _, reopen := range []bool{false, true} {
		if reopen {
			s.reopen()
		}
		s.wantKeys(nil, nil, "a", "ab", "abc", "abd", "b", "ba", "c")
		s.wantKeys([]byte{}, []byte{}, "a", "ab", "abc", "abd", "b", "ba", "c")
		s.wantKeys([]byte("ab"), nil, "ab", "abc", "abd")
		s.wantKeys([]byte("ab"), []byte("ab"), "ab", "abc", "abd")
		s.wantKeys([]byte("ab"), []byte("abc"), "abc", "abd")
		s.wantKeys([]byte("ab"), []byte("abc\x00"), "abd")
		s.wantKeys([]byte("ab"), []byte("a"), "ab", "abc", "abd")
		s.wantKeys([]byte("ab"), []byte("abz"))
		s.wantKeys([]byte("ab"), []byte("c"))
		s.wantKeys([]byte("x"), nil)
		s.wantKeys(nil, []byte("b"), "b", "ba", "c")
		s.wantKeys(nil, []byte("d"))
	}
}

func testScanBack(t *testing.T, s *subject) {
	s.put("a", "1", "ab", "2", "abc", "3", "abd", "4", "ab\xff\xff", "5", "b", "6", "ba", "7", "c", "8")
	for _, reopen := range []bool{false, true} {
		if reopen {
			s.reopen()
		}
		for _, c := range []struct {
			prefix, from string
			nilFrom      bool
			want         []string
		}{
			{"", "", true, []string{"c", "ba", "b", "ab\xff\xff", "abd", "abc", "ab", "a"}},
			{"", "b", false, []string{"b", "ab\xff\xff", "abd", "abc", "ab", "a"}},
			{"", "az", false, []string{"ab\xff\xff", "abd", "abc", "ab", "a"}},
			{"ab", "", true, []string{"ab\xff\xff", "abd", "abc", "ab"}},
			{"ab", "abc", false, []string{"abc", "ab"}},
			{"ab", "abcc", false, []string{"abc", "ab"}},
			{"ab", "ab", false, []string{"ab"}},
			{"ab", "a", false, nil},
			{"ab", "z", false, []string{"ab\xff\xff", "abd", "abc", "ab"}},
			{"x", "", true, nil},
		} {
			from := []byte(c.from)
			if c.nilFrom {
				from = nil
			}
			var got []string
			for _, p := range s.scanBack([]byte(c.prefix), from) {
				got = append(got, p.key)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("ScanBack(%q, %q): keys %q, want %q", c.prefix, c.from, got, c.want)
			}
		}
	}
	stop := errors.New("stop")
	if err := s.ScanBack(nil, nil, func(_, _ []byte) error { return stop }); err != stop {
		t.Errorf("ScanBack = %v, want the very error of the callback", err)
	}
}

func testScanStops(t *testing.T, s *subject) {
	s.put("a", "", "b", "", "c", "")
	stop := errors.New("stop")
	var seen []string
	err := s.Scan(nil, nil, func(k, _ []byte) error {
		seen = append(seen, string(k))
		if string(k) == "b" {
			return stop
		}
		return nil
	})
	if err != stop || !slices.Equal(seen, []string{"a", "b"}) {
		t.Errorf("Scan = %v after %q, want the very error of the callback after a, b", err, seen)
	}
}

func testScanPanic(t *testing.T, s *subject) {
	s.put("a", "1")
	func() {
		defer func() {
			if r := recover(); r != "of the callback" {
				t.Errorf("recovered %v, want the panic of the callback", r)
			}
		}()
		_ = s.Scan(nil, nil, func(_, _ []byte) error { panic("of the callback") })
	}()
	s.put("b", "2")
	s.wantKeys(nil, nil, "a", "b")
	if err := s.Close(); err != nil {
		t.Errorf("Close after it: %v", err)
	}
}

func testScanSnapshot(t *testing.T, s *subject, prefix []byte) {
	for i := range 100 {
		s.put(fmt.Sprintf("k%02d", i), "old")
	}
	n := 0
	err := s.Scan(prefix, nil, func(k, v []byte) error {
		if n == 0 { // changed before, at and after where the scan is
			s.put("k00", "new", "k000", "new", "k50", "new", "k505", "new", "k99", "new", "k999", "new")
			s.commit([]hostdb.Put{{Key: []byte("k70")}})
			s.want("k50", "new") // while Get sees the newest
			s.wantNone("k70")
		}
		if want := fmt.Sprintf("k%02d", n); string(k) != want || string(v) != "old" {
			t.Errorf("pair %d is %q: %q, want %q: old", n, k, v, want)
		}
		n++
		return nil
	})
	if err != nil || n != 100 {
		t.Errorf("Scan = %v after %d pairs, want 100", err, n)
	}
	if got := len(s.scan([]byte("k"), nil)); got != 102 {
		t.Errorf("a later scan sees %d pairs, want 102", got)
	}
}

func testSlices(t *testing.T, s *subject) {
	key, value := []byte("key"), []byte("value")
	batch := []hostdb.Put{{Key: key, Value: value}}
	s.commit(batch)
	copy(key, "xxx")
	copy(value, "xxxxx")
	batch[0] = hostdb.Put{}
	s.want("key", "value")
	s.wantKeys(nil, nil, "key")
	s.reopen()
	s.want("key", "value")

	prefix, from := []byte("k"), []byte("k")
	err := s.Scan(prefix, from, func(_, _ []byte) error {
		prefix[0], from[0] = 'z', 'z'
		return nil
	})
	if err != nil {
		t.Errorf("Scan: %v", err)
	}
}

func testGetCopy(t *testing.T, s *subject) {
	s.put("a", "value")
	got, _, err := s.Get([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "xxxxx")
	s.want("a", "value")
	s.put("a", "other")
	if string(got) != "xxxxx" {
		t.Errorf("the slice of Get changed to %q by a later Commit", got)
	}
}
