package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

func TestTxn(t *testing.T) {
	d := newDB(t)
	c := serve(t, d.h, "root")
	ctx := t.Context()
	v := d.store.View()
	web, _ := v.Get("tags", "web")
	no, spelt := false, "Mode: 0640\n"
	txn := Txn{
		Log: "a new server",
		Compares: []Compare{
			{ID: "tags/web", ETag: web.ETag(hostdb.Data)}, {ID: "tags/web", ETag: web.ETag(hostdb.Members)},
			{ID: "tags/web", Revision: web.Revision().String()}, {ID: "hosts/web3", Exists: &no},
			{ID: "tags/web/DNS/TTL", Equals: json.RawMessage("30")}, {ID: "tags/web/DNS", Equals: json.RawMessage(`{"TTL": 30}`)},
			{ID: "tags/web", Path: []string{"LB", "Ports", "53/udp"}, Equals: json.RawMessage("53")},
			{ID: "tags/web/DNS/Zone", Exists: &no},
		},
		Effects: []Effect{
			{Op: "put", ID: "hosts/web3", YAML: &spelt},
			{Op: "put_path", ID: "hosts/web3/Weight", Value: json.RawMessage("1.10")},
			{Op: "add_member", ID: "tags/web/members/web3"},
			{Op: "rename", ID: "hosts/web3", NewName: "web30"}, // it sees what was done before it
			{Op: "put_path", ID: "tags/web", Path: []string{"LB", "Ports", "80/tcp"}, Value: json.RawMessage("8080")},
			{Op: "delete_path", ID: "tags/web/DNS"},
			{Op: "rename_path", ID: "tags/web/LB", NewName: "Balance"},
			{Op: "set_members", ID: "tags/base", Members: []ObjectMember{{Name: "web1"}, {Name: "web2"}}},
			{Op: "rename_member", ID: "tags/base/members/web2", NewName: "web30"},
			{Op: "remove_member", ID: "tags/base/members/web1"},
			{Op: "set_perms", ID: "tags/base", Value: json.RawMessage(`{"bob": {"data": "RW"}}`)},
			{Op: "delete", ID: "hosts/web2"},
		},
	}
	dry := txn
	dry.DryRun = true
	would, err := c.Txn(ctx, dry, 0)
	if err != nil || !would.DryRun || d.store.View().Version() != v.Version() {
		t.Fatalf("dry run: %+v %v", would, err)
	}
	did, err := c.Txn(ctx, txn, 1)
	if err != nil || did.Revision == "" || did.Acks != 1 {
		t.Fatalf("%+v %v", did, err)
	}
	if diff := cmp.Diff(would.Changes, did.Changes); diff != "" {
		t.Errorf("it did other than it would (-would +did):\n%s", diff)
	}
	after := d.store.View()
	got := fmt.Sprintf("%s|%s|%s|%s", after.Data("hosts", "web30").YAML(), after.Data("tags", "web").YAML(),
		after.RawMembers("tags", "web"), after.RawMembers("tags", "base"))
	want := "Mode: 0640\nWeight: 1.10\n|Balance:\n  Ports:\n    53/udp: 53\n    80/tcp: 8080\n|# the first\nweb1\n@base\nweb30\n\n# end|web30"
	if got != want || after.Exists("hosts", "web2") || after.Exists("hosts", "web3") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if after.Applied() != v.Applied()+1 {
		t.Errorf("%d operations", after.Applied()-v.Applied())
	}

	// Now nothing of it holds any more, and nothing is done.
	var answer *Error
	_, err = c.Txn(ctx, txn, 0)
	if !errors.Is(err, ErrChanged) || !errors.As(err, &answer) {
		t.Fatalf("again: %v", err)
	}
	var failed []int
	now, _ := after.Get("tags", "web")
	for _, x := range answer.Current {
		failed = append(failed, x.Compare)
		if x.ID != "tags/web" || x.ETag != now.ETag(hostdb.Data) || x.MembersETag != now.ETag(hostdb.Members) || !x.Exists {
			t.Errorf("%+v", x)
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2, 4, 5, 6}, failed); diff != "" || d.store.View().Version() != after.Version() {
		t.Errorf("compares that failed (-want +got):\n%s", diff)
	}
}

// TestTxnThatIsRefused: one bad effect, and nothing happens; the answer says which it was.
func TestTxnThatIsRefused(t *testing.T) {
	d := newDB(t)
	before := d.store.View().Version()
	const good = `{"op":"put","id":"tags/web","value":{"DNS":{"TTL":1},"LB":{"Ports":{"53/udp":53}}}}`
	many := strings.Repeat(`{"op":"delete","id":"hosts/x"},`, maxTxnEffects) + good
	for _, c := range []struct {
		name, token, body string
		status            int
		says              string
	}{
		{"nobody", "", `{"log":"x","effects":[` + good + `]}`, 401, ""},
		{"no log", "root", `{"log":"","effects":[` + good + `]}`, 400, "log is blank"},
		{"nothing to do", "root", `{"log":"x","effects":[]}`, 400, "nothing to do"},
		{"too many", "root", `{"log":"x","effects":[` + many + `]}`, 422, ""},
		{"too long", "root", `{"log":"x","effects":[{"op":"put","id":"hosts/x","value":"` + strings.Repeat("x", maxTxnBody) + `"}]}`, 413, ""},
		{"another's section", "bob", `{"log":"x","effects":[` + good + `,{"op":"put_path","id":"tags/web/LB/VIP","value":1}]}`, 403, "body.effects[1]"},
		{"a section by the whole", "bob", `{"log":"x","effects":[{"op":"put","id":"tags/web","value":{"DNS":{}}}]}`, 403, "body.effects[0]"},
		{"a section by its new name", "bob", `{"log":"x","effects":[{"op":"rename_path","id":"tags/web/DNS","newname":"LB2"}]}`, 403, "LB2"},
		{"perms given to oneself first", "bob", `{"log":"x","effects":[{"op":"set_perms","id":"tags/web","value":{"bob":{"data":"RW"}}},{"op":"delete","id":"tags/web"}]}`, 403, "body.effects[0]"},
		{"a host in another's list", "bob", `{"log":"x","effects":[{"op":"delete","id":"hosts/web1"}]}`, 403, ""},
		{"not there", "root", `{"log":"x","effects":[` + good + `,{"op":"delete","id":"hosts/x"}]}`, 404, "body.effects[1]"},
		{"exists", "root", `{"log":"x","effects":[{"op":"rename","id":"hosts/web1","newname":"web2"}]}`, 409, "exists"},
		{"the system's", "root", `{"log":"x","effects":[{"op":"put","id":".system/settings","value":1}]}`, 400, ""},
		{"the system's, compared", "root", `{"log":"x","compare":[{"id":".system/settings","exists":true}],"effects":[` + good + `]}`, 400, "body.compare[0]"},
		{"no value", "root", `{"log":"x","effects":[{"op":"put","id":"hosts/x"}]}`, 400, "either value or yaml"},
		{"two values", "root", `{"log":"x","effects":[{"op":"put","id":"hosts/x","value":1,"yaml":"1"}]}`, 400, "either value or yaml"},
		{"a value too many", "root", `{"log":"x","effects":[{"op":"delete","id":"hosts/web1","value":1}]}`, 400, "takes no value"},
		{"a path too many", "root", `{"log":"x","effects":[{"op":"put","id":"hosts/web1/a","value":1}]}`, 400, "NAMESPACE/KEY"},
		{"a path twice", "root", `{"log":"x","effects":[{"op":"put_path","id":"hosts/web1/a","path":["a"],"value":1}]}`, 400, "one of them"},
		{"no path", "root", `{"log":"x","effects":[{"op":"delete_path","id":"hosts/web1"}]}`, 400, "path is missing"},
		{"no member", "root", `{"log":"x","effects":[{"op":"add_member","id":"tags/web"}]}`, 400, "members/NAME"},
		{"no new name", "root", `{"log":"x","effects":[{"op":"rename","id":"hosts/web1"}]}`, 400, "newname"},
		{"an op that is none", "root", `{"log":"x","effects":[{"op":"destroy","id":"hosts/web1"}]}`, 422, ""},
		{"bad YAML", "root", `{"log":"x","effects":[{"op":"put","id":"hosts/x","yaml":"a: [1"}]}`, 400, "invalid YAML"},
		{"a bad access list", "root", `{"log":"x","effects":[{"op":"set_perms","id":"tags/web","value":["bob"]}]}`, 400, "access list"},
		{"nothing compared", "root", `{"log":"x","compare":[{"id":"hosts/web1"}],"effects":[` + good + `]}`, 400, "exactly one"},
		{"two things compared", "root", `{"log":"x","compare":[{"id":"hosts/web1","exists":true,"etag":"x"}],"effects":[` + good + `]}`, 400, "exactly one"},
		{"null compared", "root", `{"log":"x","compare":[{"id":"hosts/web1/Gone","equals":null}],"effects":[` + good + `]}`, 412, "hosts/web1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := d.do(c.token, "POST", "txn", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d, want %d and %q: %.500s", w.Code, c.status, c.says, w.Body)
			}
			if d.store.View().Version() != before {
				t.Fatal("something was written")
			}
		})
	}
	d.must(200, nil, "bob", "POST", "txn", `{"log":"his own","effects":[`+good+`,{"op":"add_member","id":"tags/web/members/web2"}]}`)
	d.must(504, nil, "root", "POST", "txn?acks=2", `{"log":"x","effects":[{"op":"put","id":"hosts/x","value":1}]}`)
}
