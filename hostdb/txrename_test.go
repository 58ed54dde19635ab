package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// guard protects what says so from being deleted or getting a smaller Size.
type guard struct{}

func (guard) Validate(ns, key string, before, after hostdb.Document) ([]string, error) {
	if before.Text("Protected") != "true" || after.Text("Size") >= before.Text("Size") {
		return nil, nil
	}
	return nil, fmt.Errorf("%s/%s: %w", ns, key, hostdb.ErrProtected)
}

// A name is not what is protected: neither a detour over another name nor another's name lifts it.
func TestProtectionFollowsRenames(t *testing.T) {
	big, small := parse(t, "{Protected: true, Size: 2}"), parse(t, "{Protected: true, Size: 1}")
	type step = func(*hostdb.Tx) error
	ren := func(from, to string) step {
		return func(tx *hostdb.Tx) error { return tx.Rename("hosts", from, to) }
	}
	del := func(key string) step { return func(tx *hostdb.Tx) error { return tx.Delete("hosts", key) } }
	for _, c := range []struct {
		name    string
		refused bool
		steps   []step
	}{
		{"deleted", true, []step{del("a")}},
		{"deleted under another name", true, []step{ren("a", "x"), del("x")}},
		{"deleted under a third name", true, []step{ren("a", "x"), ren("x", "y"), del("y")}},
		{"deleted under its own name again", true, []step{ren("a", "x"), ren("x", "a"), del("a")}},
		{"made smaller under another name", true, []step{ren("a", "x"), put("hosts", "x", small)}},
		{"made smaller under its own name again", true, []step{ren("a", "x"), ren("x", "a"), put("hosts", "a", small)}},
		{"replaced by another that takes its name", true, []step{del("a"), ren("b", "a")}},
		{"its name passed on by another that goes on", true, []step{del("a"), ren("b", "a"), ren("a", "x")}},
		{"renamed, and its name taken by another that goes", true, []step{ren("a", "x"), ren("b", "a"), del("a"), del("x")}},
		{"renamed", false, []step{ren("a", "x")}},
		{"renamed twice", false, []step{ren("a", "x"), ren("x", "y")}},
		{"exchanged with another", false, []step{ren("a", "x"), ren("b", "a"), ren("x", "b")}},
		{"renamed, and its name taken by a smaller one", false, []step{ren("a", "x"), put("hosts", "a", small)}},
		{"renamed, and its name taken by a smaller one that moves on", false, []step{ren("a", "x"), put("hosts", "a", small), ren("a", "y")}},
		{"renamed, and its name taken by one that goes", false, []step{ren("a", "x"), ren("b", "a"), del("a")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := hostdb.Open(hostdb.Config{
				OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: "n", Validator: guard{},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			all := func(steps ...step) error {
				_, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "x"}, func(tx *hostdb.Tx) error {
					for _, do := range steps {
						if err := do(tx); err != nil {
							return err
						}
					}
					return nil
				})
				return err
			}
			if err := all(put("hosts", "a", big), put("hosts", "b", parse(t, "{Size: 0}"))); err != nil {
				t.Fatal(err)
			}
			if err := all(c.steps...); errors.Is(err, hostdb.ErrProtected) != c.refused || !c.refused && err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// The history of a key that was renamed twice in one write leads to where it was before.
func TestHistoryOfWhatWasRenamedTwiceAtOnce(t *testing.T) {
	b := openBox(t, "a")
	first := write(t, b, put("hosts", "web1", parse(t, "{CPU: 2}")))
	write(t, b, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Rename("hosts", "web1", "x"), tx.Rename("hosts", "x", "web2"))
	})
	then, err := b.store.At(t.Context(), first.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok, err := b.store.Formerly(t.Context(), then, first.Revision, "hosts", "web2"); name != "web1" || !ok || err != nil {
		t.Errorf("web2 was called %q then (%v, %v)", name, ok, err)
	}
	list, _, err := b.store.Revisions(t.Context(), hostdb.RevisionQuery{Scope: hostdb.Scope{NS: "hosts", Key: "web2"}, Limit: 10})
	if err != nil || len(list) != 2 {
		t.Errorf("%d revisions of web2, %v", len(list), err)
	}
}
