package api

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"hostmesh/hostdb"
)

// An access list goes with its key, so a rename within a transaction opens nothing that the list closes.
func TestTxnRenameTakesTheAccessListAlong(t *testing.T) {
	d := newDB(t)
	acl := func(text string) hostdb.ACL {
		a, err := hostdb.ParseACL([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	d.update(func(tx *hostdb.Tx) error {
		return errors.Join(tx.SetPerms("tags", hostdb.DefaultKey, acl("bob: {data: RW, members: RW, perms: RW}")),
			tx.SetPerms("tags", "web", acl("bob: {data: RW, data/LB: RO, members: RO, perms: RO}")),
			tx.Put("tags", "alone", hostdb.Document{}), tx.SetPerms("tags", "alone", acl("bob: {data: RW}")))
	})
	const renamed, again = `{"op":"rename","id":"tags/web","newname":"x"}`, `{"op":"rename","id":"tags/x","newname":"y"}`
	for _, c := range []struct {
		effects string
		status  int
	}{
		{renamed + `,{"op":"put_path","id":"tags/x/LB/VIP","value":"10.1.0.9"}`, 403},
		{renamed + `,{"op":"delete_path","id":"tags/x/LB"}`, 403},
		{renamed + `,{"op":"put","id":"tags/x","value":{"DNS":{"TTL":30}}}`, 403},
		{renamed + `,{"op":"delete","id":"tags/x"}`, 403},
		{renamed + `,{"op":"set_perms","id":"tags/x","value":{"bob":{"data":"RW"}}}`, 403},
		{renamed + `,{"op":"add_member","id":"tags/x/members/web2"}`, 403},
		{renamed + `,{"op":"set_members","id":"tags/x","members":[]}`, 403},
		{renamed + `,` + again + `,{"op":"add_member","id":"tags/y/members/web2"}`, 403},
		{renamed + `,{"op":"rename","id":"tags/alone","newname":"web"},{"op":"add_member","id":"tags/x/members/web2"}`, 403},
		{renamed + `,` + again + `,{"op":"put_path","id":"tags/y/DNS/TTL","value":60}`, 200},
		{`{"op":"rename","id":"tags/alone","newname":"x"},{"op":"add_member","id":"tags/x/members/web1"}`, 200},
	} {
		w := d.do("bob", http.MethodPost, "txn", fmt.Sprintf(`{"log":"x","dry_run":true,"effects":[%s]}`, c.effects))
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.effects, w.Code, c.status, w.Body)
		}
	}
}

// A key that is deleted and made anew in one transaction has no list any more: who may make it is the namespace's matter.
func TestTxnDeleteAndPutShedsNoList(t *testing.T) {
	d := newDB(t)
	acl, err := hostdb.ParseACL([]byte("bob: {data: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	d.update(func(tx *hostdb.Tx) error {
		return errors.Join(tx.CreateNamespace("vips"), tx.Put("vips", "one", hostdb.Document{}), tx.SetPerms("vips", "one", acl))
	})
	for _, c := range []struct {
		effects string
		status  int
	}{
		{`{"op":"put","id":"vips/one","value":{"a":1}}`, 200},
		{`{"op":"delete","id":"vips/one"}`, 200},
		{`{"op":"delete","id":"vips/one"},{"op":"put","id":"vips/one","value":{"a":1}}`, 403},
	} {
		w := d.do("bob", http.MethodPost, "txn", fmt.Sprintf(`{"log":"x","dry_run":true,"effects":[%s]}`, c.effects))
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.effects, w.Code, c.status, w.Body)
		}
	}
}
