package backup_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/backup"
	"hostmesh/hostdb/hostdbtest"
)

// filled is a replica in memory with n hosts.
func filled(t testing.TB, n int) (*hostdbtest.Memory, *hostdb.Store) {
	t.Helper()
	st := hostdbtest.NewMemory()
	store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return st, nil }, NodeID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		doc, err := hostdb.ParseDocument(fmt.Appendf(nil, "{cpu: %d, Owner: %s}", i, strings.Repeat("x", i%300)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.Update(t.Context(), hostdb.Request{User: "alice", Log: "test"}, func(tx *hostdb.Tx) error {
			return tx.Put("hosts", fmt.Sprintf("web%d", i), doc)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return st, store
}

func write(t testing.TB, st hostdb.Storage, v hostdb.View) []byte {
	t.Helper()
	h := backup.Header{Storage: 2, MeshID: "m", NodeID: "a", Build: "1.2"}
	h.Describe(v)
	var out bytes.Buffer
	trailer, err := backup.Write(t.Context(), &out, h, func(fn func(key, value []byte) error) error { return st.Scan(nil, nil, fn) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := st.(*hostdbtest.Memory); ok && int(trailer.Rows) != m.Len() {
		t.Errorf("%d rows written of %d", trailer.Rows, m.Len())
	}
	return out.Bytes()
}

func restore(t *testing.T, file []byte, into hostdb.Storage) (backup.Header, error) {
	t.Helper()
	r, err := backup.NewReader(bytes.NewReader(file))
	if err != nil {
		return backup.Header{}, err
	}
	_, err = r.Restore(t.Context(), into, nil)
	return r.Header(), err
}

func TestRoundTrip(t *testing.T) {
	st, store := filled(t, 600)
	// Rows of kinds that nobody here knows, an empty value, and one that is larger than a block.
	extra := []hostdb.Put{{Key: []byte("zz\x00\xff"), Value: []byte{}}, {Key: []byte("~"), Value: bytes.Repeat([]byte("ab\x00"), 400_000)}}
	if err := st.Commit(extra); err != nil {
		t.Fatal(err)
	}
	file := write(t, st, store.View())
	back := hostdbtest.NewMemory()
	h, err := restore(t, file, back)
	if err != nil {
		t.Fatal(err)
	}
	if h.MeshID != "m" || h.Version != store.View().Version().String() || h.Digests["hosts"] != store.View().Digest("hosts") {
		t.Errorf("header %+v", h)
	}
	if back.Len() != st.Len() {
		t.Errorf("%d rows came back of %d", back.Len(), st.Len())
	}
	err = st.Scan(nil, nil, func(key, value []byte) error {
		got, found, err := back.Get(key)
		if err != nil || !found || !bytes.Equal(got, value) {
			t.Errorf("row %q came back as %q, %t, %v", key, got, found, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expect, err := h.Expectation()
	if err != nil {
		t.Fatal(err)
	}
	r, err := hostdb.Verify(t.Context(), back, hostdb.VerifyOptions{Expect: &expect})
	if err != nil || r.Damaged() || r.Unknown != 2 {
		t.Errorf("what came back: %+v, %v", r, err)
	}
	// The header's state is held against the rows: those of another state are not taken for it.
	_, other := filled(t, 3)
	wrong := other.View().Expectation()
	if r, err = hostdb.Verify(t.Context(), back, hostdb.VerifyOptions{Expect: &wrong}); err != nil || !r.Damaged() {
		t.Errorf("rows of another replica pass for this one: %+v, %v", r, err)
	}
}

// A file in which any byte is another, or that ends anywhere, is refused, and the place is named.
func TestDamagedFile(t *testing.T) {
	st, store := filled(t, 200)
	file := write(t, st, store.View())
	refused := func(what string, file []byte) {
		t.Helper()
		_, err := restore(t, file, hostdbtest.NewMemory())
		switch {
		case err == nil:
			t.Errorf("%s: restored", what)
		case !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNotBackup):
			t.Errorf("%s: %v", what, err)
		case errors.Is(err, backup.ErrDamaged) && !strings.Contains(err.Error(), "before byte"):
			t.Errorf("%s: no place is named: %v", what, err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	places := []int{0, 15, 16, 17, 20, 21, 24, len(file) - 1, len(file) - 60}
	for range 300 {
		places = append(places, rnd.IntN(len(file)))
	}
	for _, at := range places {
		bad := bytes.Clone(file)
		bad[at] ^= 1 << rnd.IntN(8)
		refused(fmt.Sprintf("another byte at %d of %d", at, len(file)), bad)
		refused(fmt.Sprintf("cut off at %d of %d", at, len(file)), file[:at])
	}
	refused("more at the end", append(bytes.Clone(file), 0))
	refused("an empty file", nil)
}

func TestNewerForm(t *testing.T) {
	st, store := filled(t, 1)
	file := write(t, st, store.View())
	const start = len("hostmesh backup\n")
	n := binary.BigEndian.Uint32(file[start+1:])
	content := file[start+9 : start+9+int(n)]
	copy(content, bytes.Replace(content, []byte(`"format":1`), []byte(`"format":2`), 1))
	sum := crc32.Checksum(append(bytes.Clone(file[start:start+5]), content...), crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(file[start+5:], sum)
	if _, err := restore(t, file, hostdbtest.NewMemory()); !errors.Is(err, backup.ErrNewer) || !strings.Contains(err.Error(), "1.2") {
		t.Errorf("a backup of a newer hostmesh: %v", err)
	}
}
