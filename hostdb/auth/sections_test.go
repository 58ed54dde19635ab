package auth

import (
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// TestAllowChange: bob owns the section DNS, carol all but it, dave everything, erin nothing.
func TestAllowChange(t *testing.T) {
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: "n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	doc := func(text string) hostdb.Document {
		t.Helper()
		if text == "" {
			return hostdb.Document{}
		}
		d, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	acl, err := hostdb.ParseACL([]byte("bob: {data/DNS: RW}\ncarol: {data: RW, data/DNS: RO}\ndave: {data: RW}\n"))
	if err != nil {
		t.Fatal(err)
	}
	const was = "{DNS: {TTL: 30}, LB: {VIP: 10.1.0.1}}"
	_, err = store.Update(t.Context(), hostdb.Request{}, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Put("tags", "web", doc(was)), tx.SetPerms("tags", "web", acl))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, before, after, may string }{
		{"nothing changes", was, was, "carol dave"},
		{"DNS changes", was, "{DNS: {TTL: 60}, LB: {VIP: 10.1.0.1}}", "bob dave"},
		{"DNS goes", was, "{LB: {VIP: 10.1.0.1}}", "bob dave"},
		{"LB changes", was, "{DNS: {TTL: 30}, LB: {VIP: 10.1.0.2}}", "carol dave"},
		{"both change", was, "{DNS: {TTL: 60}, LB: {VIP: 10.1.0.2}}", "dave"},
		{"a new section", was, "{DNS: {TTL: 30}, LB: {VIP: 10.1.0.1}, Group: {}}", "carol dave"},
		{"it is deleted", was, "", "dave"},
		{"it is no mapping any more", was, "text", "dave"},
		{"it is made", "", "{DNS: {TTL: 30}}", "dave"},
		{"null becomes a mapping", "null", "{DNS: {TTL: 30}}", "dave"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, user := range []string{"bob", "carol", "dave", "erin"} {
				err := Identity{User: user}.AllowChange(store.View(), "tags", "web", doc(c.before), doc(c.after))
				if may := strings.Contains(c.may, user); may != (err == nil) {
					t.Errorf("%s: %v", user, err)
				}
				if err != nil && !errors.Is(err, hostdb.ErrDenied) {
					t.Errorf("%s: %v is no denial", user, err)
				}
			}
			if err := (Identity{User: "root", Admin: true}).AllowChange(store.View(), "tags", "web", doc(c.before), doc(c.after)); err != nil {
				t.Errorf("an administrator: %v", err)
			}
		})
	}
	for _, c := range []struct {
		path    []string
		newname string
		may     string
	}{
		{[]string{"DNS", "TTL"}, "", "bob dave"},
		{[]string{"DNS"}, "", "bob dave"},
		{[]string{"DNS"}, "LB2", "dave"},
		{[]string{"DNS", "TTL"}, "Time", "bob dave"},
		{[]string{"LB", "VIP"}, "", "carol dave"},
		{nil, "", "carol dave"},
	} {
		for _, user := range []string{"bob", "carol", "dave", "erin"} {
			err := Identity{User: user}.AllowPath(store.View(), "tags", "web", c.path, c.newname)
			if may := strings.Contains(c.may, user); may != (err == nil) {
				t.Errorf("%s at %q (%s): %v", user, c.path, c.newname, err)
			}
		}
	}
}
