package zone

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
)

func openStore(t testing.TB) *hostdb.Store {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func update(t testing.TB, s *hostdb.Store, fn func(tx *hostdb.Tx) error) {
	t.Helper()
	if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn); err != nil {
		t.Fatal(err)
	}
}

func document(t testing.TB, text string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return d
}

func put(t testing.TB, s *hostdb.Store, id, yaml string) {
	t.Helper()
	ns, key, _ := strings.Cut(id, "/")
	doc := document(t, yaml) // not inside the update: a test that ends there would leave the store locked
	update(t, s, func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) })
}

func members(t testing.TB, s *hostdb.Store, tag string, names ...string) {
	t.Helper()
	list, err := hostdb.ParseMembers(strings.Join(names, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, tag, list) })
}

// loadExample writes examples/inventory into s.
func loadExample(t testing.TB, s *hostdb.Store) {
	t.Helper()
	root := filepath.Join("..", "..", "examples", "inventory")
	update(t, s, func(tx *hostdb.Tx) error {
		for _, ns := range []string{"hosts", "tags"} {
			if err := eachFile(filepath.Join(root, ns), func(key string, text []byte) error {
				d, err := hostdb.ParseDocument(text)
				if err != nil {
					return err
				}
				return tx.Put(ns, key, d)
			}); err != nil {
				return err
			}
		}
		return eachFile(filepath.Join(root, "tags", ".members"), func(key string, text []byte) error {
			list, err := hostdb.ParseMembers(string(text))
			if err != nil {
				return err
			}
			return tx.SetMembers("tags", key, list)
		})
	})
}

func eachFile(dir string, fn func(key string, text []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || e.Type()&fs.ModeType != 0 {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := fn(e.Name(), text); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}

// aMesh has a member for each name=address; a state may follow after a blank.
func aMesh(list ...string) mesh.View {
	var ms []mesh.Member
	for i, text := range list {
		text, state, _ := strings.Cut(text, " ")
		name, addr, _ := strings.Cut(text, "=")
		m := mesh.Member{ID: fmt.Sprintf("%032x", i+1), Name: name, Addr: netip.MustParseAddr(addr), State: mesh.StateAlive}
		if state != "" {
			if err := m.State.UnmarshalText([]byte(state)); err != nil {
				panic(err)
			}
		}
		ms = append(ms, m)
	}
	return mesh.NewView(fmt.Sprintf("%032x", 1), ms)
}

// dump is everything that Zones say, for comparison.
func dump(t testing.TB, z *Zones) string {
	t.Helper()
	var b strings.Builder
	for _, i := range z.Infos() {
		fmt.Fprintf(&b, "== %s %v %s %d\n", i.Origin, i.Tags, i.Hash, i.Records)
		if err := z.WriteZone(&b, i.Origin); err != nil {
			t.Fatal(err)
		}
		zn := z.byText(i.Origin)
		fmt.Fprintf(&b, "cuts %d wild %d names %d\n", zn.cuts, zn.wild, zn.nodes.len())
		for n, nd := range zn.names() {
			fmt.Fprintf(&b, "%s %d %d\n", n, nd.children, len(nd.claims))
			l, _ := nd.live()
			if l == nil {
				l = nd.alias()
			}
			if l != nil {
				a := l.answer(z)
				for _, set := range append(slices.Clone(a.sets), a.srv...) {
					fmt.Fprintln(&b, set.rrs)
				}
			}
		}
	}
	for _, p := range z.Problems() {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}
