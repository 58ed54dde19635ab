package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// openStore opens an empty replica in memory.
func openStore(t testing.TB, node string) *hostdb.Store {
	t.Helper()
	memory := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// db is a replica behind a handler.
type db struct {
	t     testing.TB
	store *hostdb.Store
	h     http.Handler
	first hostdb.Stamp // the revision that made what is there
}

// newDB has the users of identify: root may everything, bob the section DNS of tags and the member lists there.
func newDB(t testing.TB) *db {
	t.Helper()
	d := &db{t: t, store: openStore(t, "n")}
	acl, err := hostdb.ParseACL([]byte("bob: {data/DNS: RW, members: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	d.first = d.update(func(tx *hostdb.Tx) error {
		return errors.Join(tx.SetPerms("tags", hostdb.DefaultKey, acl),
			tx.Put("hosts", "web1", mustYAML(t, "{Mode: 0755, Weight: 1.10, Network: {IP: 10.1.0.1}}")),
			tx.Put("hosts", "web2", mustYAML(t, "{}")),
			tx.Put("tags", "web", mustYAML(t, "{DNS: {TTL: 30}, LB: {Ports: {53/udp: 53}}}")),
			tx.Put("tags", "base", mustYAML(t, "null")),
			tx.SetMembers("tags", "base", []hostdb.Member{{Name: "web2"}}),
			tx.SetMembers("tags", "web", []hostdb.Member{{Name: "web1", Text: "# the first\n"}, {Name: "@base"}, {Text: "\n# end\n"}}))
	}).Revision
	d.h = NewHandler(Config{Objects: d.store, Identify: identify})
	return d
}

func (d *db) update(fn func(*hostdb.Tx) error) hostdb.Commit {
	d.t.Helper()
	c, err := d.store.Update(context.Background(), hostdb.Request{User: "setup", Log: "setup"}, fn)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// do makes a request. header is name and value by turns.
func (d *db) do(token, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/api/v1/"+path, strings.NewReader(body))
	r.RemoteAddr = near
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.AddCookie(&http.Cookie{Name: SessionCookie, Value: token})
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w
}

// must is do for what must have a status; it reads the answer into out.
func (d *db) must(status int, out any, token, method, path, body string, header ...string) {
	d.t.Helper()
	w := d.do(token, method, path, body, header...)
	if w.Code != status {
		d.t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			d.t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
		}
	}
}

func TestObjectReads(t *testing.T) {
	d := newDB(t)
	first := d.store.View()
	var web Object
	d.must(200, &web, "", "GET", "db/tags/web?expand=members", "")
	item, _ := first.Get("tags", "web")
	at := item.Modified().UTC()
	want := Object{
		ID: "tags/web", Data: json.RawMessage(`{"DNS":{"TTL":30},"LB":{"Ports":{"53/udp":53}}}`),
		Members:  []ObjectMember{{"web1", "# the first\n"}, {"@base", ""}, {"", "\n# end\n"}},
		Expanded: []string{"web1", "web2"}, ETag: item.ETag(hostdb.Data), MembersETag: item.ETag(hostdb.Members),
		Revision: item.Revision().String(), Modified: &at,
	}
	if diff := cmp.Diff(want, web); diff != "" {
		t.Errorf("tags/web (-want +got):\n%s", diff)
	}
	w := d.do("", "GET", "db/hosts/web1", "")
	if !strings.Contains(w.Body.String(), `{"Mode":"0755","Network":{"IP":"10.1.0.1"},"Weight":1.10}`) {
		t.Errorf("numbers lose their spelling: %s", w.Body)
	}
	if i, _ := first.Get("hosts", "web1"); w.Header().Get("ETag") != i.ETag(hostdb.Data) {
		t.Errorf("ETag %s", w.Header().Get("ETag"))
	}

	// The past stays readable.
	cut := d.update(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web2") }).Revision
	for asOf, want := range map[string]string{d.first.String(): "web1 web2", cut.String(): "web1", "": "web1"} {
		var page KeyPage
		d.must(200, &page, "", "GET", "db/hosts?as-of="+asOf, "")
		var keys []string
		for _, k := range page.Keys {
			keys = append(keys, k.Key)
		}
		if strings.Join(keys, " ") != want || (page.Cursor == "") != (asOf != "") {
			t.Errorf("as-of %q: %v, cursor %q", asOf, keys, page.Cursor)
		}
	}
	d.must(200, nil, "", "GET", "db/hosts/web2?as-of="+d.first.String(), "")

	for path, status := range map[string]int{
		"db/hosts/web2": 404, "db/nowhere": 404, "db/nowhere/x": 404, "db/.system": 400, "db/.system/settings": 400,
		"db/hosts/.default": 400, "db/hosts?as-of=nonsense": 400, "db/hosts?limit=0": 422, "db/hosts?limit=10001": 422,
		"db/hosts/web1?expand=everything": 422, "db/hosts/a%2Fb": 400,
	} {
		d.must(status, nil, "", "GET", path, "")
	}
}

func TestPages(t *testing.T) {
	d := newDB(t)
	d.update(func(tx *hostdb.Tx) error {
		for i := range 25 {
			if err := tx.Put("hosts", fmt.Sprintf("db%02d", i), hostdb.Document{}); err != nil {
				return err
			}
		}
		return errors.Join(tx.CreateNamespace("vips"), tx.CreateNamespace("apps"))
	})
	c := serve(t, d.h, "")
	for _, x := range []struct {
		options ListOptions
		n       int
		first   string
	}{
		{ListOptions{Limit: 7, Prefix: "db"}, 25, "db00"}, {ListOptions{Limit: 25, Prefix: "db"}, 25, "db00"},
		{ListOptions{Limit: 1, After: "db20"}, 6, "db21"}, {ListOptions{}, 27, "db00"}, {ListOptions{Prefix: "zz"}, 0, ""},
	} {
		var keys []string
		for k, err := range c.AllKeys(t.Context(), "hosts", x.options) {
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) > 0 && k.Key <= keys[len(keys)-1] {
				t.Errorf("%+v: %s after %s", x.options, k.Key, keys[len(keys)-1])
			}
			keys = append(keys, k.Key)
		}
		if len(keys) != x.n || x.n > 0 && keys[0] != x.first {
			t.Errorf("%+v: %d keys: %v", x.options, len(keys), keys)
		}
	}
	page, err := c.Keys(t.Context(), "tags", ListOptions{})
	if err != nil || len(page.Keys) != 3 || page.Keys[0].Key != "all" || page.Total != 3 {
		t.Errorf("tags: %+v %v", page, err)
	}
	var names []string
	options := ListOptions{Limit: 2}
	for {
		page, err := c.Namespaces(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range page.Namespaces {
			names = append(names, ns.Name)
		}
		if options.After = page.Next; page.Next == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"apps", "hosts", "tags", "vips"}, names); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

func TestObjectWrites(t *testing.T) {
	d := newDB(t)
	c := serve(t, d.h, "root")
	ctx := t.Context()
	text := func(key string) string {
		return strings.ReplaceAll(d.store.View().Data("hosts", key).YAML(), "\n", "|")
	}

	got, err := c.PutObject(ctx, "hosts", "web3", json.RawMessage(`{"Weight":1.10,"Mode":"0644"}`), WriteOptions{Log: "new", Create: true})
	if err != nil || got.Acks != 1 || got.ETag == "" || got.Revision == "" || text("web3") != "Mode: '0644'|Weight: 1.10|" {
		t.Fatalf("create: %+v %v %s", got, err, text("web3"))
	}
	if diff := cmp.Diff([]Change{{ID: "hosts/web3", What: "data", Kind: "create"},
		{ID: "hosts/web3", What: "data", Kind: "set", Path: []string{"Mode"}},
		{ID: "hosts/web3", What: "data", Kind: "set", Path: []string{"Weight"}}}, got.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	// Who creates what exists, or writes what has changed, is told how it stands.
	var answer *Error
	_, err = c.PutObject(ctx, "hosts", "web3", nil, WriteOptions{Log: "again", Create: true})
	if !errors.Is(err, ErrChanged) || !errors.As(err, &answer) || len(answer.Current) != 1 || answer.Current[0].ETag != got.ETag {
		t.Errorf("create again: %v %+v", err, answer)
	}
	patched, err := c.PatchObject(ctx, "hosts", "web3", map[string]any{"Mode": nil, "Rack": map[string]any{"U": 7}}, WriteOptions{Log: "moved", IfMatch: got.ETag})
	if err != nil || text("web3") != "Rack:|  U: 7|Weight: 1.10|" {
		t.Errorf("patch: %+v %v %s", patched, err, text("web3"))
	}
	if _, err = c.DeleteObject(ctx, "hosts", "web3", WriteOptions{Log: "x", IfMatch: got.ETag}); !errors.Is(err, ErrChanged) || !errors.As(err, &answer) || answer.Current[0].ETag != patched.ETag {
		t.Errorf("delete what has changed: %v", err)
	}
	if _, err = c.PatchObject(ctx, "hosts", "nobody", nil, WriteOptions{Log: "x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("patch what is not there: %v", err)
	}
	if _, err = c.PatchObject(ctx, "hosts", "nobody", nil, WriteOptions{Log: "x", IfMatch: "*"}); !errors.Is(err, ErrChanged) {
		t.Errorf("patch what is not there, if it is: %v", err)
	}

	// A dry run says what would be, and does nothing.
	before := d.store.View().Version().String()
	dry, err := c.RenameObject(ctx, "hosts", "web2", "web20", WriteOptions{Log: "x", DryRun: true})
	if err != nil || !dry.DryRun || dry.Revision != "" || len(dry.Changes) == 0 || d.store.View().Version().String() != before {
		t.Errorf("dry run: %+v %v", dry, err)
	}
	real, err := c.RenameObject(ctx, "hosts", "web2", "web20", WriteOptions{Log: "x"})
	if diff := cmp.Diff(dry.Changes, real.Changes); err != nil || diff != "" || real.ETag == "" {
		t.Errorf("rename: %v (-dry +real):\n%s", err, diff)
	}
	if m := d.store.View().Members("tags", "base"); len(m) != 1 || m[0] != "web20" {
		t.Errorf("members after the rename: %v", m)
	}
	if _, err = c.RenameObject(ctx, "hosts", "web20", "web1", WriteOptions{Log: "x"}); !errors.Is(err, ErrConflict) {
		t.Errorf("rename onto what exists: %v", err)
	}

	// Member lists have an ETag of their own.
	web, err := c.Object(ctx, "tags", "web", ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list := append([]ObjectMember{{Name: "web3", Comment: "# new"}}, web.Members...)
	set, err := c.PutMembers(ctx, "tags", "web", list, WriteOptions{Log: "x", IfMatch: web.MembersETag})
	if err != nil || d.store.View().RawMembers("tags", "web") != "# new\nweb3\n# the first\nweb1\n@base\n\n# end" {
		t.Errorf("members: %v %q", err, d.store.View().RawMembers("tags", "web"))
	}
	if len(set.Changes) != 1 || set.Changes[0].Member != "web3" || set.MembersETag == web.MembersETag || set.ETag != web.ETag {
		t.Errorf("members: %+v", set)
	}
	if _, err := c.PutMembers(ctx, "tags", "web", nil, WriteOptions{Log: "x", IfMatch: web.MembersETag}); !errors.Is(err, ErrChanged) {
		t.Errorf("members that have changed: %v", err)
	}
	if again, err := c.PutMembers(ctx, "tags", "web", list, WriteOptions{Log: "x"}); err != nil || again.Revision != "" || len(again.Changes) != 0 {
		t.Errorf("the same again: %+v %v", again, err)
	}
	if _, err := c.DeleteObject(ctx, "hosts", "web3", WriteOptions{Log: "gone"}); err != nil || d.store.View().Exists("hosts", "web3") {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.PutObject(ctx, "hosts", "web4", 1, WriteOptions{Log: "x", Acks: 3}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "held by 1 of 3") {
		t.Errorf("acks: %v", err)
	}
	if !d.store.View().Exists("hosts", "web4") {
		t.Error("the write does not stand")
	}
}

func TestObjectWritesThatAreRefused(t *testing.T) {
	d := newDB(t)
	for _, c := range []struct {
		token, method, path, body string
		status                    int
	}{
		{"", "PUT", "db/hosts/x", `{"data":1,"log":"x"}`, 401},
		{"bob", "PUT", "db/hosts/x", `{"data":1,"log":"x"}`, 403},
		{"bob", "PUT", "db/tags/web", `{"data":{"DNS":{"TTL":60},"LB":{"Ports":{"53/udp":53}}},"log":"his section"}`, 200},
		{"bob", "PUT", "db/tags/web", `{"data":{"DNS":{"TTL":60}},"log":"another's"}`, 403},
		{"bob", "PATCH", "db/tags/web", `{"patch":{"DNS":{"TTL":90}},"log":"x"}`, 200},
		{"bob", "PATCH", "db/tags/web", `{"patch":{"LB":null},"log":"x"}`, 403},
		{"bob", "DELETE", "db/tags/web?log=x", ``, 403},
		{"bob", "POST", "db/tags/web/rename", `{"newname":"web2","log":"x"}`, 403},
		{"bob", "PUT", "db/tags/web/members", `{"members":[],"log":"x"}`, 200},
		{"root", "PUT", "db/hosts/x", `{"data":1,"log":" "}`, 400},
		{"root", "PUT", "db/hosts/x", `{"data":1}`, 422},
		{"root", "PUT", "db/hosts/x", `{"log":"x"}`, 422},
		{"root", "PUT", "db/hosts/x", `{"data":{"a":1,"a":2},"log":"x"}`, 400},
		{"root", "PUT", "db/hosts/x", `{"data":1,"log":"x"`, 400},
		{"root", "PUT", "db/nowhere/x", `{"data":1,"log":"x"}`, 404},
		{"root", "PUT", "db/.system/settings", `{"data":1,"log":"x"}`, 400},
		{"root", "PUT", "db/hosts/.x", `{"data":1,"log":"x"}`, 400},
		{"root", "DELETE", "db/hosts/x?log=x", ``, 404},
		{"root", "DELETE", "db/hosts/x", ``, 422},
		{"root", "PUT", "db/tags/web/members", `{"members":[{"name":"nobody"}],"log":"x"}`, 404},
		{"root", "PUT", "db/tags/base/members", `{"members":[{"name":"@base"}],"log":"x"}`, 400},
		{"root", "PUT", "db/tags/web/members", `{"members":[{"name":"web1","comment":"no mark"}],"log":"x"}`, 400},
		{"root", "PUT", "db/tags/web/members", `{"members":[{"name":"web1"},{"name":"web1"}],"log":"x"}`, 400},
		{"root", "PUT", "db/tags/web/members", `{"members":[{"name":""},{"name":"web1"}],"log":"x"}`, 400},
		{"root", "PUT", "db/tags/all/members", `{"members":[],"log":"x"}`, 400},
		{"root", "PUT", "db/hosts/x", `{"log":"x","data":"` + strings.Repeat("x", hostdb.MaxData+1) + `"}`, 413},
		{"root", "PUT", "db/hosts/x", `{"log":"x","data":"` + strings.Repeat("x", maxObjectBody) + `"}`, 413},
	} {
		w := d.do(c.token, c.method, c.path, c.body)
		if w.Code != c.status {
			t.Errorf("%s: %s %s %.80s: %d, want %d: %.300s", c.token, c.method, c.path, c.body, w.Code, c.status, w.Body)
		}
		var p struct{ Detail string }
		if err := json.Unmarshal(w.Body.Bytes(), &p); c.status >= 400 && (err != nil || p.Detail == "") {
			t.Errorf("%s %s: no problem document: %s", c.method, c.path, w.Body)
		}
	}
	d.must(400, nil, "root", "PUT", "db/hosts/x", `{"data":1,"log":"x"}`, "If-None-Match", `"abc"`)
	// Who may not write is not told whether a condition holds.
	d.must(403, nil, "bob", "PUT", "db/hosts/web1", `{"data":1,"log":"x"}`, "If-Match", `"abc"`)
	w := d.do("root", "PUT", "db/hosts/web1", `{"data":1,"log":"x"}`, "If-Match", `"abc"`)
	if w.Code != 412 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("412: %d %s", w.Code, w.Header())
	}
}
