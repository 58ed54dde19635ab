package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// open makes an empty replica.
func open(t testing.TB) *hostdb.Store {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func update(t testing.TB, s *hostdb.Store, fn func(tx *hostdb.Tx) error) {
	t.Helper()
	if _, err := s.Update(t.Context(), hostdb.Request{User: "alice", Log: "test"}, fn); err != nil {
		t.Fatal(err)
	}
}

// write writes an inventory: a document a line as ID: YAML (of tags/x/members: names; of tags/x/perms: an access list).
func write(t testing.TB, s *hostdb.Store, lines string) {
	t.Helper()
	update(t, s, func(tx *hostdb.Tx) error {
		for _, members := range []bool{false, true} {
			for line := range strings.Lines(lines) {
				id, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
				if !ok {
					continue
				}
				part := strings.Split(id, "/")
				var err error
				switch what := append(part, "")[2]; {
				case (what != "") != members:
				case what == "members":
					list, perr := hostdb.ParseMembers(strings.Join(strings.Fields(text), "\n"))
					err = errors.Join(perr, tx.SetMembers(part[0], part[1], list))
				case what == "perms":
					acl, perr := hostdb.ParseACL([]byte(text))
					err = errors.Join(perr, tx.SetPerms(part[0], part[1], acl))
				default:
					doc, perr := hostdb.ParseDocument([]byte(text))
					err = errors.Join(perr, tx.Put(part[0], part[1], doc))
				}
				if err != nil {
					return fmt.Errorf("%s: %w", line, err)
				}
			}
		}
		return nil
	})
}

// exchange brings what each of two replicas lacks.
func exchange(t testing.TB, a, b *hostdb.Store) {
	t.Helper()
	one := func(from, to *hostdb.Store) {
		for origin, n := range from.View().Vector() {
			if to.View().Seq(origin) >= n {
				continue
			}
			raws, err := from.Operations(origin, to.View().Seq(origin), 64<<20)
			if err == nil {
				_, err = to.Apply(t.Context(), raws)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	one(a, b)
	one(b, a)
	if a.View().Version() != b.View().Version() && a.View().Version().String() != b.View().Version().String() {
		t.Fatal("the replicas do not hold the same")
	}
}

func examine(t testing.TB, v hostdb.View, opts Options) Report {
	t.Helper()
	r, err := Examine(t.Context(), v, opts)
	if err != nil {
		t.Fatal(err)
	}
	if r.Incomplete {
		t.Error("the report is incomplete")
	}
	return r
}

// text is a report as a test compares it.
func text(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %s", f.Check, f.Severity, f.ID)
		if f.Path != "" {
			fmt.Fprintf(&b, " at %s", f.Path)
		}
		fmt.Fprintf(&b, ": %s\n\tremedy: %s\n", f.Message, f.Remedy)
		if len(f.Related) > 0 {
			fmt.Fprintf(&b, "\trelated: %s", strings.Join(f.Related, " "))
			if f.More > 0 {
				fmt.Fprintf(&b, " and %d more", f.More)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// loadExample writes examples/inventory into s.
func loadExample(t testing.TB, s *hostdb.Store) {
	t.Helper()
	root := filepath.Join("..", "..", "examples", "inventory")
	update(t, s, func(tx *hostdb.Tx) error {
		for _, ns := range []string{hostdb.Hosts, hostdb.Tags} {
			if err := eachFile(filepath.Join(root, ns), func(key string, text []byte) error {
				doc, err := hostdb.ParseDocument(text)
				return errors.Join(err, tx.Put(ns, key, doc))
			}); err != nil {
				return err
			}
		}
		return eachFile(filepath.Join(root, hostdb.Tags, ".members"), func(key string, text []byte) error {
			list, err := hostdb.ParseMembers(string(text))
			return errors.Join(err, tx.SetMembers(hostdb.Tags, key, list))
		})
	})
}

func eachFile(dir string, fn func(key string, text []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = fn(e.Name(), text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}

// forge applies an operation that another box made, which no local write would be allowed to: receivers refuse nothing.
func forge(t testing.TB, s *hostdb.Store, origin uint64, effects ...hostdb.Effect) {
	t.Helper()
	raw := operation(origin, s.View().Seq(origin)+1, hostdb.TimeOf(time.Now()), effects...)
	if n, err := s.Apply(context.Background(), [][]byte{raw}); err != nil || n != 1 {
		t.Fatalf("%d applied: %v", n, err)
	}
}

func operation(origin, seq uint64, at hostdb.Time, effects ...hostdb.Effect) []byte {
	raw, err := cbor.Marshal(hostdb.Operation{Version: 1, Origin: origin, Seq: seq, Time: at, User: "bob", Log: "elsewhere", Node: "other", Effects: effects})
	if err != nil {
		panic(err)
	}
	return raw
}

func member(id, name string) hostdb.Effect {
	ns, key, _ := strings.Cut(id, "/")
	return hostdb.Effect{Kind: hostdb.PutMember, NS: ns, Key: key, Member: name, Order: "\x01" + name}
}
