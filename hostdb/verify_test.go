package hostdb_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// filledBox is a replica with something of everything: two origins, deletes, renames, members, an access list, an operation in
// chunks and registers in parts.
func filledBox(t *testing.T) *box {
	t.Helper()
	a, b := openBox(t, "a"), openBox(t, "b")
	a.storage.SetMaxBatch(32<<10, 400)
	for i := range 20 {
		write(t, a, put("hosts", fmt.Sprintf("web%d", i), parse(t, fmt.Sprintf("{cpu: %d, Network: {IP: 10.0.0.%d}}", i, i))))
	}
	write(t, a, put("tags", "web", parse(t, "{DNS: {TTL: 30}}")), func(tx *hostdb.Tx) error {
		return tx.SetMembers("tags", "web", []hostdb.Member{{Name: "web1", Text: "# one\n"}, {Name: "web2"}, {Name: "web3"}})
	})
	exchange(t, a, b)
	write(t, b, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web3") })
	write(t, b, func(tx *hostdb.Tx) error { return tx.Rename("hosts", "web4", "db4") })
	write(t, a, put("hosts", "web3", parse(t, "{cpu: 99}")))
	write(t, b, put("hosts", "web3", parse(t, "{disk: 1}")))
	exchange(t, a, b)
	var long strings.Builder
	for i := range 420 {
		fmt.Fprintf(&long, "field-%d: %016x%016x\n", i, rand.Uint64(), rand.Uint64())
	}
	write(t, a, put("hosts", "long", parse(t, long.String())))
	acl, err := hostdb.ParseACL([]byte("ops: {data: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, a, func(tx *hostdb.Tx) error { return tx.SetPerms("tags", "web", acl) })
	a.restart(t)
	write(t, a, put("hosts", "after", parse(t, "{}")))
	return a
}

func verify(t *testing.T, st hostdb.Storage) hostdb.VerifyReport {
	t.Helper()
	r, err := hostdb.Verify(t.Context(), st, hostdb.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifySound(t *testing.T) {
	b := filledBox(t)
	r, err := b.store.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Damaged() || !r.Whole || r.Rubbish != 0 || r.Unknown != 0 || r.Redo != 0 || r.Origins != 3 || r.Operations != b.store.View().Applied() {
		t.Errorf("a sound replica: %+v", r)
	}
	v := b.store.View()
	for ns, digest := range r.Digests {
		if v.Digest(ns) != digest {
			t.Errorf("digest of %s is %s, the view has %s", ns, digest, v.Digest(ns))
		}
	}
	if len(r.Digests) < 2 || int(r.Rows) != b.storage.Len() {
		t.Errorf("%d digests, %d rows of %d", len(r.Digests), r.Rows, b.storage.Len())
	}
	if empty := verify(t, hostdbtest.NewMemory()); empty.Damaged() {
		t.Errorf("nothing at all: %+v", empty)
	}
}

// A crash at any commit leaves a replica that is sound: what it left undone or behind is counted, and is no damage.
func TestVerifyAfterACrash(t *testing.T) {
	b := openBox(t, "a")
	b.storage.SetMaxBatch(8<<10, 60)
	var states []*hostdbtest.Memory
	b.storage.SetHooks(hostdbtest.Hooks{After: func([]hostdb.Put) error { states = append(states, b.storage.Snapshot()); return nil }})
	for i := range 6 {
		write(t, b, put("hosts", fmt.Sprintf("web%d", i), parse(t, "{cpu: 2}")))
	}
	write(t, b, put("tags", "web", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web1") })
	write(t, b, func(tx *hostdb.Tx) error {
		for i := range 200 {
			if err := tx.Put("hosts", fmt.Sprintf("many%d", i), parse(t, "{cpu: 2, memory: 4}")); err != nil {
				return err
			}
		}
		return nil
	})
	write(t, b, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web1") })
	redo, rubbish := uint64(0), uint64(0)
	for i, st := range states {
		r := verify(t, st)
		if r.Damaged() {
			t.Fatalf("after commit %d: %+v", i, r.Findings)
		}
		redo, rubbish = redo+r.Redo, rubbish+r.Rubbish
	}
	if redo == 0 || rubbish == 0 {
		t.Errorf("%d states, and none had something to redo (%d) or rubbish (%d): the test crashes at the wrong moments", len(states), redo, rubbish)
	}
}

// Whatever byte of a row is damaged, it is found, but for what nothing else knows: the wall time of a line of the apply log,
// and rows that are rubbish.
func TestVerifyFindsDamage(t *testing.T) {
	b := filledBox(t)
	var rows []hostdb.Put
	err := b.storage.Scan(nil, nil, func(key, value []byte) error {
		rows = append(rows, hostdb.Put{Key: bytes.Clone(key), Value: bytes.Clone(value)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[byte]int{}
	check := func(what string, puts ...hostdb.Put) {
		t.Helper()
		st := b.storage.Snapshot()
		if err := st.Commit(puts); err != nil {
			t.Fatal(err)
		}
		r := verify(t, st)
		if !r.Damaged() {
			t.Errorf("%s of row %q is not found", what, puts[0].Key)
		}
		for _, f := range r.Findings {
			if f.Where == "" || f.What == "" || f.Remedy == "" {
				t.Errorf("a finding that does not help: %+v", f)
			}
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, row := range rows {
		kind := row.Key[0]
		if kinds[kind]++; kinds[kind] > 8 && rnd.IntN(10) > 0 {
			continue
		}
		if kind == 'u' || kind == 'm' && !strings.HasSuffix(string(row.Key), "format") {
			continue
		}
		check("the loss", hostdb.Put{Key: row.Key})
		at := rnd.IntN(len(row.Value))
		if kind == 'a' {
			at = 8 + rnd.IntN(len(row.Value)-8)
		}
		bad := bytes.Clone(row.Value)
		bad[at] ^= 1 << rnd.IntN(8)
		if kind == 'm' {
			bad = bad[:4]
		}
		check(fmt.Sprintf("damage at byte %d", at), hostdb.Put{Key: row.Key, Value: bad})
		if len(row.Value) > 1 {
			check("the cutting", hostdb.Put{Key: row.Key, Value: row.Value[:len(row.Value)/2]})
		}
	}
	for _, kind := range "acehkmotv" {
		if kinds[byte(kind)] == 0 {
			t.Errorf("no row of kind %c was damaged", kind)
		}
	}
}
