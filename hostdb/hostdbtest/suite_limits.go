package hostdbtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// largest is what a Storage must take as one value: a document of 1 MiB, with what is stored around it.
const largest = 1200 << 10

// noise is incompressible, and the same for the same arguments.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(b) // it returns no error
	return b
}

func testLargeValues(t *testing.T, s *subject) {
	// Both sides of powers of two, where an implementation may store a value in another way.
	sizes := []int{64<<10 - 1, 64 << 10, 512<<10 - 1, 512 << 10, 512<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, largest}
	check := func() {
		t.Helper()
		for i, n := range sizes {
			s.want(fmt.Sprintf("large/%02d", i), string(noise(n, 1)))
		}
		var got []int
		for i, p := range s.scan([]byte("large/"), nil) {
			got = append(got, len(p.value))
			if p.value != string(noise(sizes[i], 1)) {
				t.Fatalf("scanned %s of %d bytes has wrong contents", p.key, len(p.value))
			}
		}
		if !slices.Equal(got, sizes) {
			t.Fatalf("scanned sizes %v, want %v", got, sizes)
		}
	}
	for i, n := range sizes {
		s.commit([]hostdb.Put{{Key: fmt.Appendf(nil, "large/%02d", i), Value: noise(n, 1)}})
	}
	check()
	s.reopen()
	check()

	// Replaced by shorter ones, and again by larger ones.
	for i := range sizes {
		s.put(fmt.Sprintf("large/%02d", i), "short")
	}
	for i := range sizes {
		s.want(fmt.Sprintf("large/%02d", i), "short")
	}
	for i, n := range sizes {
		s.commit([]hostdb.Put{{Key: fmt.Appendf(nil, "large/%02d", i), Value: noise(n, 1)}})
	}
	check()
	s.commit([]hostdb.Put{{Key: []byte("large/08"), Value: noise(600<<10, 2)}})
	s.want("large/08", string(noise(600<<10, 2)))
	s.commit([]hostdb.Put{{Key: []byte("large/08")}})
	s.wantNone("large/08")
	s.reopen()
	s.wantNone("large/08")
	s.want("large/07", string(noise(sizes[7], 1)))
}

func testLongKeys(t *testing.T, s *subject) {
	long := strings.Repeat("k", 16<<10)
	s.put(long, "1", long+"x", "2")
	s.want(long, "1")
	s.want(long+"x", "2")
	s.wantKeys([]byte(long), nil, long, long+"x")

	// A key that is too long is refused with its whole batch, not cut, and the Storage goes on.
	huge := strings.Repeat("h", 200<<10)
	err := s.Commit([]hostdb.Put{{Key: []byte("beside"), Value: []byte("1")}, {Key: []byte(huge), Value: []byte("1")}})
	if err == nil {
		s.want(huge, "1")
		s.want("beside", "1")
	} else {
		s.wantNone("beside")
	}
	if _, found, err := s.Get([]byte(huge[:65000])); found || err != nil {
		t.Errorf("Get of a part of the key: %v, %v", found, err)
	}
	s.put("after", "1")
	s.want("after", "1")
}

func testBatchLimits(t *testing.T, s *subject) {
	size, puts := s.MaxBatch()
	if size < largest || puts < 1000 {
		t.Fatalf("MaxBatch is %d bytes, %d puts; want at least %d, 1000", size, puts, largest)
	}
	refused := func(batch []hostdb.Put) {
		t.Helper()
		if err := s.Commit(batch); !errors.Is(err, hostdb.ErrBatchTooLarge) {
			t.Fatalf("Commit over the limit: %v, want ErrBatchTooLarge", err)
		}
		s.wantKeys(nil, nil, "keep")
	}
	s.put("keep", "1")
	most := evenBatch(puts, size)
	refused(append(slices.Clone(most), hostdb.Put{Key: []byte{}}))               // one put more
	refused([]hostdb.Put{{Key: []byte("k"), Value: noise(size, 1)}})             // one byte more
	refused(append(slices.Clone(most[1:]), hostdb.Put{Key: noise(20<<10, 1)}))   // a delete's key counts too
	refused([]hostdb.Put{{Key: []byte("keep")}, {Value: noise(size, 1)}})        // with a delete that must not happen
	refused(append(slices.Clone(most), evenBatch(puts, size)...))                // far over
	refused([]hostdb.Put{{Key: []byte("k"), Value: make([]byte, 8*size)}})       // far over, in one put
	refused(slices.Repeat([]hostdb.Put{{Key: []byte("keep")}}, puts+1))          // no bytes to speak of
	s.commit(slices.Repeat([]hostdb.Put{{Key: []byte("keep"), Value: nil}}, 10)) // and it goes on

	// Whatever its shape, a batch within the limit is taken.
	shapes := map[string][]hostdb.Put{
		"many puts":     most,
		"many, no data": evenBatch(puts, 0),
		"one value":     {{Key: []byte("k"), Value: noise(size-1, 1)}},
		"long keys":     keyBatch(size, 16<<10),
		"two values": {{Key: noise(1000, 1), Value: noise(size/2-1000, 1)},
			{Key: noise(1000, 2), Value: noise(size/2-1000, 1)}},
		"large values, long keys": largeBatch(size),
		"deletes":                 slices.Repeat([]hostdb.Put{{Key: []byte("keep")}}, puts),
	}
	for name, batch := range shapes {
		if err := s.Commit(batch); err != nil {
			t.Errorf("%s: Commit within the limit: %v", name, err)
			continue
		}
		last := batch[len(batch)-1]
		if got, found, err := s.Get(last.Key); err != nil || found != (last.Value != nil) || !bytes.Equal(got, last.Value) {
			t.Errorf("%s: Get = %d bytes, %v, %v", name, len(got), found, err)
		}
	}
}

// evenBatch is so many puts of equal size with so many bytes in all, if that many are possible.
func evenBatch(puts, size int) []hostdb.Put {
	batch := make([]hostdb.Put, puts)
	for i := range batch {
		key := fmt.Appendf(nil, "%07d", i)
		batch[i] = hostdb.Put{Key: key, Value: noise(max(0, size/puts-len(key)), uint64(i))}
	}
	return batch
}

// keyBatch is all keys.
func keyBatch(size, key int) []hostdb.Put {
	var batch []hostdb.Put
	for i := range size / key {
		batch = append(batch, hostdb.Put{Key: noise(key, uint64(i)), Value: []byte{}})
	}
	return batch
}

// largeBatch is as many values of a little over half a MiB as fit, under long keys.
func largeBatch(size int) []hostdb.Put {
	const key, value = 16 << 10, 512<<10 + 1
	var batch []hostdb.Put
	for i := range size / (key + value) {
		batch = append(batch, hostdb.Put{Key: noise(key, uint64(i)), Value: noise(value, uint64(i))})
	}
	return batch
}

func testReopen(t *testing.T, s *subject) {
	want := []pair{}
	for i := range 3 {
		for j := range 50 {
			p := pair{fmt.Sprintf("k%d/%02d", i, j), fmt.Sprintf("value %d of %d", j, i)}
			s.put(p.key, p.value)
			want = append(want, p)
		}
		s.reopen()
		if got := s.scan(nil, nil); !slices.Equal(got, want) {
			t.Fatalf("after reopening %d times: %d pairs, want %d", i+1, len(got), len(want))
		}
	}
}

func testReopenAfterDelete(t *testing.T, s *subject) {
	s.put("a", "1", "b", "1")
	s.reopen()
	s.commit([]hostdb.Put{{Key: []byte("a")}})
	s.reopen()
	s.wantNone("a")
	s.put("a", "2")
	s.reopen()
	s.want("a", "2")
	s.want("b", "1")
}
