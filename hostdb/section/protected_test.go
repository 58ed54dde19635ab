package section

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

func TestProtectedHosts(t *testing.T) {
	storage := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return storage, nil }, NodeID: "a", Validator: Validator{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const vm = "VM: {CPUs: 4, Memory: 8GiB, Disk: 40GiB, Image: debian-12}\n"
	parse := func(text string) hostdb.Document {
		d, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	put := func(name, text string) func(*hostdb.Tx) error {
		return func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, name, parse(text)) }
	}
	path := func(value string, p ...string) func(*hostdb.Tx) error {
		return func(tx *hostdb.Tx) error { return tx.PutPath(hostdb.Hosts, "db1", p, parse(value)) }
	}
	update := func(override string, fn func(*hostdb.Tx) error) error {
		_, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "test", Override: override}, fn)
		return err
	}
	for _, c := range []struct {
		name      string
		do        func(*hostdb.Tx) error
		protected string // part of the refusal; "" when it is allowed
	}{
		{"make it", put("db1", "Protected: yes\n"+vm), ""},
		{"delete it", func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, "db1") }, "delete it"},
		{"fewer CPUs", path("2", "VM", "CPUs"), "VM/CPUs"},
		{"less memory", path("4GiB", "VM", "Memory"), "VM/Memory"},
		{"smaller disk", path("8GiB", "VM", "Disk"), "VM/Disk"},
		{"no VM", func(tx *hostdb.Tx) error { return tx.DeletePath(hostdb.Hosts, "db1", []string{"VM"}) }, "take away its VM"},
		{"end the protection and shrink at once", put("db1", "VM: {CPUs: 1}\n"), "VM/CPUs"},
		{"grow", path("16GiB", "VM", "Memory"), ""},
		{"another field", path("shop", "Owner"), ""},
		{"rename", func(tx *hostdb.Tx) error { return tx.Rename(hostdb.Hosts, "db1", "db2") }, ""},
		{"rename back", func(tx *hostdb.Tx) error { return tx.Rename(hostdb.Hosts, "db2", "db1") }, ""},
	} {
		err := update("", c.do)
		if c.protected == "" && err != nil || c.protected != "" && (!errors.Is(err, hostdb.ErrProtected) || !strings.Contains(err.Error(), c.protected)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.protected)
		}
	}
	if err := update("sold", func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, "db1") }); err != nil {
		t.Fatalf("with an override: %v", err)
	}
	list, _, err := s.Revisions(context.Background(), hostdb.RevisionQuery{Limit: 1})
	if err != nil || len(list) != 1 || list[0].Log != "test (protection lifted: sold)" {
		t.Errorf("the log says %+v, %v", list, err)
	}
	// Without protection nothing of this is asked for, and an override that was not needed leaves no trace.
	if err := update("", put("web1", vm)); err != nil {
		t.Fatal(err)
	}
	if err := update("just in case", func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, "web1") }); err != nil {
		t.Fatal(err)
	}
	if list, _, _ := s.Revisions(context.Background(), hostdb.RevisionQuery{Limit: 1}); list[0].Log != "test" {
		t.Errorf("the log says %q", list[0].Log)
	}
}
