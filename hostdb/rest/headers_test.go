package rest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// operations are the operations that the site's store made, oldest first.
func (s *site) operations() []*hostdb.Operation {
	s.t.Helper()
	raws, err := s.store.Operations(s.store.Origin(), 0, 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	var ops []*hostdb.Operation
	for _, raw := range raws {
		op, err := hostdb.ParseOperation(raw)
		if err != nil {
			s.t.Fatal(err)
		}
		ops = append(ops, op)
	}
	return ops
}

func (s *site) lastLog() string {
	ops := s.operations()
	return ops[len(ops)-1].User + ": " + ops[len(ops)-1].Log
}

func (s *site) want(r response, status string) {
	s.t.Helper()
	if !strings.HasPrefix(r.Status, status) {
		s.t.Errorf("%s, want %s", r.Status, status)
	}
	s.wellFormed(status, r)
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	before := time.Now().Add(-time.Second).Unix()
	put := s.do("PUT", "/v1/hosts/web1", s.as("value", "a: 1"))
	s.want(put, created)
	get := s.do("GET", "/v1/hosts/web1", "")
	if m, err := strconv.ParseInt(get.Header.Get("Mtime"), 10, 64); err != nil || m < before || m > time.Now().Unix()+1 {
		t.Errorf("Mtime %q", get.Header.Get("Mtime"))
	}
	for _, name := range []string{"Mtime", "Etag", "Hostmesh-Version"} {
		if put.Header.Get(name) == "" || put.Header.Get(name) != get.Header.Get(name) {
			t.Errorf("%s: %q after the PUT, %q by GET", name, put.Header.Get(name), get.Header.Get(name))
		}
	}
	if put.Header.Get("Hostmesh-Revision") == "" || put.Header.Get("Hostmesh-Acks") != "1" {
		t.Errorf("a PUT has revision %q and acks %q", put.Header.Get("Hostmesh-Revision"), put.Header.Get("Hostmesh-Acks"))
	}
	again := s.do("PUT", "/v1/hosts/web1", s.as("value", "a: 1"))
	s.want(again, created)
	if _, ok := again.Header["Hostmesh-Revision"]; ok || again.Header.Get("Hostmesh-Version") != put.Header.Get("Hostmesh-Version") {
		t.Error("a PUT of what is there has a revision or another version")
	}
	odd := s.do("PUT", "/v1/hosts/web1", s.as("value", "Odd: 1"))
	if w := odd.Header["Hostmesh-Warning"]; len(w) != 1 || w[0] != "Odd: are you sure?" {
		t.Errorf("Hostmesh-Warning %q", w)
	}

	s.want(s.do("PUT", "/v1/tags/web", s.as("value", "")), created)
	for _, target := range []string{"/v1/tags/web/members", "/v1/tags/web/members?raw=1", "/v1/tags/web/perms",
		"/v1/tags/x?foreach=hosts", "/v1/hosts/nope?meta=parents&from=tags"} {
		if m, ok := s.do("GET", target, "").Header["Mtime"]; !ok || m[0] != "" {
			t.Errorf("%s has Mtime %q, want an empty one", target, m)
		}
	}
	for _, target := range []string{"/v1", "/v1/hosts", "/v1/hosts/web1/Odd", "/v1/hosts/web1?meta=derived&from=tags"} {
		if m := s.do("HEAD", target, "").Header.Get("Mtime"); m == "" {
			t.Errorf("%s has no Mtime", target)
		}
	}
	member := s.do("PUT", "/v1/tags/web/members/web1", s.as())
	if member.Header.Get("Mtime") == "" {
		t.Error("no Mtime after a member was put")
	}
	rename := s.do("POST", "/v1/hosts/web1", s.as("newname", "web2"))
	if m, ok := rename.Header["Mtime"]; !ok || m[0] != "" {
		t.Errorf("after a rename Mtime is %q, want an empty one", m)
	}
	del := s.do("DELETE", "/v1/hosts/web2?"+s.as(), "")
	if _, ok := del.Header["Mtime"]; ok || del.body != "" {
		t.Errorf("a DELETE answers %v, %q", del.Header, del.body)
	}
	head, full := s.do("HEAD", "/v1/tags", ""), s.do("GET", "/v1/tags", "")
	if head.Header.Get("Content-Length") != strconv.Itoa(len(full.body)) {
		t.Errorf("HEAD says Content-Length %s of %d", head.Header.Get("Content-Length"), len(full.body))
	}
}

func TestSessions(t *testing.T) {
	s := newSite(t)
	for form, want := range map[string]string{
		"username=alice&password=secret":              found,
		"password=secret&username=alice&x=%":          found,
		"username=alice&password=wrong":               "401 Invalid credentials",
		"username=nobody&password=secret":             "401 Invalid credentials",
		"username='$(id)'&password=';id;'":            "401 Invalid credentials",
		"username=alice":                              "400 Missing username or password",
		"password=secret":                             "400 Missing username or password",
		"username=far&password=secret":                "403 far may not log in from 127.0.0.1",
		"username=alice&password=secret%0d%0aX-Evil:": "401 Invalid credentials",
	} {
		r := s.do("POST", "/v1/auth/session", form)
		s.want(r, want)
		cookie, right := r.Header.Get("Set-Cookie"), ""
		if r.StatusCode == 200 {
			right = "HostDB=" + r.body + "; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Strict"
		}
		if cookie != right {
			t.Errorf("%s: cookie %q", form, cookie)
		}
	}
	s.want(s.do("POST", "/v1/auth/session?username=alice&password=secret", ""), found)
	whoami := func(target, want, body string, header ...string) {
		t.Helper()
		r := s.do("GET", target, "", header...)
		s.want(r, want)
		if r.body != body {
			t.Errorf("%s: %q, want %q", target, r.body, body)
		}
	}
	whoami("/v1/auth/session/"+s.token, found, "alice")
	whoami("/v1/auth/session/"+s.token+"/", found, "alice")
	whoami("/v1/auth/session", found, "bob", "Cookie: a=b; HostDB="+s.bobToken)
	whoami("/v1/auth/session/"+s.token, found, "alice", "Cookie: HostDB="+s.bobToken)
	whoami("/v1/auth/session", "401 No session token", "")
	whoami("/v1/auth/session/garbage", "401 Session token seems to be corrupted", "")
	other, err := auth.Open(auth.Config{SessionKey: []byte(strings.Repeat("y", 32))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Identify(s.token, netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Error("a token of one mesh is taken in another")
	}
	s.want(s.do("PUT", "/v1/auth/session", "x=y"), "405 ")
	s.want(s.do("DELETE", "/v1/auth/can_modify", ""), "405 ")

	for query, want := range map[string]string{
		"user=alice&id=hosts/web1":               "1",
		"user=alice&id=/hosts/web1/":             "1",
		"user=alice&id=hosts/nope/members":       "1",
		"user=alice&id=hosts":                    "1",
		"user=alice&id=locked/box":               "0",
		"user=alice&id=nope/box":                 "0",
		"user=nobody&id=hosts/web1":              "0",
		"user=bob&id=tags/web":                   "0",
		"user=bob&id=tags/web/DNS/Zone":          "1",
		"user=bob&id=tags/web/LB":                "0",
		"user=alice":                             "400",
		"user=&id=hosts/web1":                    "400",
		"id=hosts/web1":                          "400",
		"user=alice&id=":                         "405",
		"user=alice&id=.system/users":            "400",
		"user=alice&id=tags/.default/perms":      "1",
		"user=alice&id=locked/.default/perms":    "0",
		"user=alice&id=hosts/web1/members/other": "1",
	} {
		r := s.do("GET", "/v1/auth/can_modify?"+query, "")
		if len(want) == 1 && (r.StatusCode != 200 || r.body != want) || len(want) == 3 && r.Status[:3] != want {
			t.Errorf("can_modify?%s: %s %q, want %s", query, r.Status, r.body, want)
		}
		s.wellFormed(query, r)
	}
}

func TestOrderOfChecks(t *testing.T) {
	s := newSite(t)
	ask := func(method, target, form, want string, header ...string) {
		t.Helper()
		r := s.do(method, target, form, header...)
		if code, _, _ := strings.Cut(r.Header.Get("CallTrace"), ":"); code != want {
			t.Errorf("%s %s %s: %s, want %s", method, target, form, r.Header.Get("CallTrace"), want)
		}
		s.wellFormed(target, r)
	}
	s.readOnly(true, "moving house")
	ask("PUT", "/v1", "", "4031")
	ask("PUT", "/v1/..", "", "4031")
	ask("BREW", "/v1/locked", "", "4050")
	ask("PUT", "/v1/locked/box", "", "4031")
	ask("POST", "/v1/auth/session", "", "4031")
	ask("GET", "/v1/auth/can_modify", "", "4031")
	ask("GET", "/v1/locked", "", "")
	ask("GET", "/v1/auth/session/"+s.token, "", "")
	s.want(s.do("PUT", "/v1/locked/box", ""), "403 HostDB is in read-only mode: moving house")
	s.readOnly(false, "")
	ask("PUT", "/v1", "", "4051")
	ask("PUT", "/v1/locked/box", "", "4012")
	ask("PUT", "/v1/locked/box", "session=", "4012")
	ask("PUT", "/v1/locked/box", "session=&log=x", "4012", "Cookie: HostDB="+s.token)
	ask("PUT", "/v1/locked/box", "", "4001", "Cookie: HostDB="+s.token)
	ask("PUT", "/v1/locked/box", "session="+s.token, "4001")
	ask("PUT", "/v1/locked/box", "log=+%09+&session="+s.token, "4001")
	ask("POST", "/v1/locked/box", "session="+s.token, "4001")
	ask("POST", "/v1/locked/box", "log=x&session="+s.token, "4001")
	ask("POST", "/v1/locked/box", "log=x&newname=&session="+s.token, "4002")
	ask("POST", "/v1/locked/box", "log=x&newname=y&session="+s.token, "4033")
	ask("POST", "/v1/hosts/box", "log=x&newname=y&session="+s.token, "4042")
	ask("PUT", "/v1/hosts/box/a", "log=x&value=[&session="+s.token, "4042")
	ask("PUT", "/v1/hosts/box?log=query", "log=&value=1&session="+s.token, "4001") // the body goes before the query
	ask("PUT", "/v1/hosts/box?session=garbage", "log=x&value=1&session="+s.token, "")
	ask("PUT", "/v1/hosts/box", "log=x&value=1", "", "Cookie: HostDB="+s.token)
	ask("PUT", "/v1/hosts/box", "log="+strings.Repeat("x", hostdb.MaxLog+1)+"&value=1&session="+s.token, "4130")
}

func TestARenameThatTouchesAClosedListChangesNothing(t *testing.T) {
	s := newSite(t)
	s.update(func(tx *hostdb.Tx) error {
		return errors.Join(tx.Put("hosts", "web1", hostdb.Document{}), tx.AddMember("locked", "box", "web1"))
	})
	version := s.store.View().Version().String()
	s.run([]step{
		{"POST", "/v1/hosts/web1", "web2", "403 ", "4033", ""},
		{"DELETE", "/v1/hosts/web1", "", "403 ", "4033", ""},
		{"GET", "/v1/hosts", "", found, "", "web1"},
	})
	if s.store.View().Version().String() != version {
		t.Error("something changed")
	}
}

func TestSectionPermissions(t *testing.T) {
	s := newSite(t)
	s.run([]step{{"PUT", "/v1/tags/z", "{DNS: {TTL: 1}, LB: {VIP: 10.0.0.1}}", created, "", ""}})
	as := func(token, method, target, want string, fields ...string) {
		t.Helper()
		v := url.Values{"session": {token}, "log": {"x"}}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		r := s.do(method, target, v.Encode())
		if !strings.HasPrefix(r.Status, want) {
			t.Errorf("%s %s %v: %s, want %s", method, target, fields, r.Status, want)
		}
	}
	bob := s.bobToken
	as(bob, "PUT", "/v1/tags/z/DNS/TTL", "201", "value", "2")
	as(bob, "PUT", "/v1/tags/z/LB/VIP", "403", "value", "10.0.0.2")
	as(bob, "PUT", "/v1/tags/z", "201", "value", "{DNS: {TTL: 3}, LB: {VIP: 10.0.0.1}}")
	as(bob, "PUT", "/v1/tags/z", "403", "value", "{DNS: {TTL: 3}, LB: {VIP: 10.0.0.2}}")
	as(bob, "PUT", "/v1/tags/z", "403", "value", "{DNS: {TTL: 3}}")
	as(bob, "PUT", "/v1/tags/z", "403", "value", "{DNS: {TTL: 3}, LB: {VIP: 10.0.0.1}}") // nothing changes, nothing is his
	as(bob, "PUT", "/v1/tags/z", "403", "value", "text")
	as(bob, "PUT", "/v1/tags/new", "403", "value", "{DNS: {TTL: 3}}")
	as(bob, "POST", "/v1/tags/z/DNS", "403", "newname", "LB2")
	as(bob, "DELETE", "/v1/tags/z", "403")
	as(bob, "DELETE", "/v1/tags/z/DNS", "200")
	as(s.token, "PUT", "/v1/tags/z/perms", "201", "value", "{alice: {data/LB: RO}}")
	as(s.token, "PUT", "/v1/tags/z", "403", "value", "{LB: {VIP: 10.0.0.9}}")
	as(s.token, "PUT", "/v1/tags/z", "201", "value", "{LB: {VIP: 10.0.0.1}, Owner: me}")
	as(s.token, "DELETE", "/v1/tags/z", "403")
}

func TestWhatClientsSend(t *testing.T) {
	s := newSite(t)
	s.run([]step{{"PUT", "/v1/hosts/a", "x: 1", created, "", ""}, {"PUT", "/v1/hosts/b", "x: 1", created, "", ""},
		{"PUT", "/v1/hosts/c", "x: 1", created, "", ""}})
	for _, c := range []struct{ target, want string }{
		{"/v1/hosts/a?log=100%%20done&session=" + s.token, "alice: 100% done"},
		{"/v1/hosts/b?log=a%20;%20b&session=" + s.token, "alice: a ; b"},
		{"/v1/hosts/c?log=x=y%3D%&session=" + s.token, "alice: x=y=%"},
	} {
		s.want(s.do("DELETE", c.target, ""), deleted)
		if got := s.lastLog(); got != c.want {
			t.Errorf("%s is logged as %q, want %q", c.target, got, c.want)
		}
	}
	form := "Content-Type: application/x-www-form-urlencoded"
	s.want(s.do("PUT", "/v1/hosts/d", s.as("value", "p: 100%20 + 1"), form), created)
	if r := s.do("GET", "/v1/hosts/d", ""); r.body != "p: 100%20 + 1\n" {
		t.Errorf("decoded other than once: %q", r.body)
	}
	chunked := request("PUT", "/v1/hosts/e?"+s.as(), "", form, "Transfer-Encoding: chunked") + "7\r\nvalue=1\r\n0\r\n\r\n"
	s.want(s.raw(chunked, "PUT"), created)
}

func TestBodies(t *testing.T) {
	s := newSite(t)
	query := "?" + s.as()
	put := func(target, contentType, body, want string) {
		t.Helper()
		s.want(s.do("PUT", target+query, body, "Content-Type: "+contentType), want)
	}
	get := func(target, want string, header ...string) {
		t.Helper()
		if r := s.do("GET", target, "", header...); r.body != want {
			t.Errorf("%s: %q, want %q", target, r.body, want)
		}
	}
	put("/v1/hosts/a", "application/yaml; charset=utf-8", "IP: 010\nlist: [1, x]\n", created)
	get("/v1/hosts/a", "IP: 010\nlist:\n  - 1\n  - x\n")
	get("/v1/hosts/a", `{"IP":"010","list":[1,"x"]}`+"\n", "Accept: text/html, application/json;q=0.9")
	get("/v1/hosts/a/list", `[1,"x"]`+"\n", "Accept: application/json")
	get("/v1/hosts", `["a"]`+"\n", "Accept: application/json")
	get("/v1/hosts?search=b", "[]\n", "Accept: application/json")
	get("/v1/hosts/a?search=IP", "IP: 010", "Accept: application/json")
	put("/v1/hosts/b", "application/json", `{"n": 1.10, "s": "010", "e": "a\/b \ud83d\ude00", "z": null, "l": [true, {"k": []}]}`, created)
	get("/v1/hosts/b", "e: a/b \U0001f600\nl:\n  - true\n  - k: []\nn: 1.10\ns: '010'\nz: null\n")
	put("/v1/hosts/b", "application/json", `{"n": 1} x`, "400 Invalid JSON")
	put("/v1/hosts/b", "application/json", `{"n": 1}}`, "400 Invalid JSON")
	put("/v1/hosts/b", "application/json", "{", "400 Invalid JSON")
	put("/v1/hosts/b", "application/octet-stream", "a: 1", "415 ")
	put("/v1/hosts/b", "multipart/form-data; boundary=x", "--x--", "415 ")
	put("/v1/hosts/b", "application/x-www-form-urlencoded", "Network:\n  IP: 10.0.0.1\n", "400 The body is no form")
	s.want(s.do("PUT", "/v1/hosts/b"+query, "x", "Content-Type: text/yaml", "Content-Encoding: gzip"), "415 ")
	put("/v1/tags/t", "text/yaml", "", created)
	put("/v1/tags/t/members", "text/plain", "# two\na\nb\n", created)
	get("/v1/tags/t/members?raw=1", "# two\na\nb")
	put("/v1/tags/t/members", "application/json", `["b"]`, created)
	get("/v1/tags/t/members", "b")
	put("/v1/tags/t/members", "application/json", `["b\na"]`, "400 ")
	put("/v1/tags/t/members", "application/json", `["#b"]`, "400 ")
	put("/v1/tags/t/members", "application/json", `{"a": 1}`, "400 A member list in JSON")
	put("/v1/tags/t/perms", "application/json", `{"alice": {"perms": "RW"}}`, created)
	get("/v1/tags/t/perms", "alice:\n  perms: RW\n")

	// Too large: refused by what Content-Length says, without the body, and when more comes than may.
	announced := request("PUT", "/v1/hosts/c"+query, "", "Content-Length: 1000000000")
	r := s.raw(announced, "PUT")
	s.want(r, "413 ")
	if !r.Close {
		t.Error("the connection stays open with an unread body on it")
	}
	big := strings.Repeat("x", maxFormBody+1)
	s.want(s.raw(request("PUT", "/v1/hosts/c"+query, "", "Transfer-Encoding: chunked")+
		strconv.FormatInt(int64(len(big)), 16)+"\r\n"+big+"\r\n0\r\n\r\n", "PUT"), "413 ")
	// A form needs three bytes for one.
	s.want(s.do("PUT", "/v1/hosts/c", "value="+strings.Repeat("%78", 1<<20-2)+"&"+s.as()), created)
}

func TestAcks(t *testing.T) {
	s := newSite(t)
	s.store.SetAcker(acker(2))
	ask := func(acks, value, want, held string) {
		t.Helper()
		r := s.do("PUT", "/v1/hosts/a?acks="+acks, s.as("value", value))
		s.want(r, want)
		if r.Header.Get("Hostmesh-Acks") != held {
			t.Errorf("acks=%s: held by %q, want %q", acks, r.Header.Get("Hostmesh-Acks"), held)
		}
	}
	ask("", "1", created, "2")
	ask("1", "2", created, "2")
	ask("3", "3", created, "3")
	ask("4", "4", "504 Written as revision", "3")
	ask("x", "5", "400 Bad acks", "")
	ask("0", "5", "400 Bad acks", "")
	if r := s.do("GET", "/v1/hosts/a", ""); r.body != "4\n" {
		t.Errorf("after a 504 the write does not stand: %q", r.body)
	}
}

func TestIfMatch(t *testing.T) {
	s := newSite(t)
	first := s.do("PUT", "/v1/hosts/a", s.as("value", "x: 1")).Header.Get("Etag")
	s.want(s.do("PUT", "/v1/hosts/a/x", s.as("value", "2"), "If-Match: "+first), created)
	s.want(s.do("PUT", "/v1/hosts/a/x", s.as("value", "3"), "If-Match: "+first), "412 ")
	s.want(s.do("DELETE", "/v1/hosts/a?"+s.as(), "", `If-Match: "x", `+first), "412 ")
	now := s.do("GET", "/v1/hosts/a/x", "")
	if now.body != "2\n" {
		t.Errorf("a refused write wrote %q", now.body)
	}
	s.want(s.do("PUT", "/v1/hosts/b", s.as("value", "3"), "If-Match: *"), "412 ")
	s.want(s.do("PUT", "/v1/locked/box", s.as("value", "3"), "If-Match: *"), "403 ")
	s.want(s.do("DELETE", "/v1/hosts/a?"+s.as(), "", `If-Match: "x", `+now.Header.Get("Etag")), deleted)
}

func TestFailuresOfTheStore(t *testing.T) {
	s := newSite(t)
	s.memory.FailNextCommit(hostdb.ErrStorageFull)
	r := s.do("PUT", "/v1/hosts/a", s.as("value", "1"))
	s.want(r, "503 ")
	if !strings.HasPrefix(r.Header.Get("CallTrace"), "5032: ") {
		t.Errorf("a full disk: %s", r.Header.Get("CallTrace"))
	}
	s.want(s.do("GET", "/v1/hosts", ""), found)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	r = s.do("PUT", "/v1/hosts/a", s.as("value", "1"))
	if !strings.HasPrefix(r.Header.Get("CallTrace"), "5032: ") {
		t.Errorf("a closed store: %s", r.Header.Get("CallTrace"))
	}
	s.want(s.do("GET", "/v1/tags", ""), found)
}

// Every sentinel of hostdb must have a code: one that has none is a 500 for something that the client did.
func TestEverySentinelHasACode(t *testing.T) {
	for err, want := range map[error]code{
		hostdb.ErrBadName: 4000, hostdb.ErrInvalid: 4000, hostdb.ErrTooLarge: 4130, hostdb.ErrNotFound: 4041,
		hostdb.ErrNoParent: 4042, hostdb.ErrNoNamespace: 4033, hostdb.ErrExists: 4002, hostdb.ErrCycle: 4000,
		hostdb.ErrReadOnly: 4031, hostdb.ErrWrittenOver: 4120, hostdb.ErrNotMapping: 5001, hostdb.ErrNotAllowed: 4051, hostdb.ErrDenied: 4033, hostdb.ErrClock: 5030,
		hostdb.ErrUnavailable: 5032, hostdb.ErrClosed: 5032, hostdb.ErrBusy: 5034, hostdb.ErrStorageFull: 5032,
		context.Canceled: 5034,
	} {
		f, foreseen := asFailure(err)
		if f.code != want || !foreseen {
			t.Errorf("%v is %d, want %d", err, f.code, want)
		}
	}
	f, foreseen := asFailure(errors.New("open /etc/shadow: oh"))
	if f.code != codeInternal || foreseen || strings.Contains(f.message, "/etc") {
		t.Errorf("an unforeseen error shows %v", f)
	}
}

// The unix socket's server sets the identity: it goes before every session, and an administrator passes all.
func TestIdentityOfTheConnection(t *testing.T) {
	s := newSite(t)
	h := New(Config{Store: s.store, Auth: s.auth})
	s.addr = s.listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(auth.WithIdentity(r.Context(), auth.Identity{User: "root(carol)", Admin: true, Via: "socket"})))
	}), nil)
	s.want(s.do("PUT", "/v1/locked/box", "value=1&log=x&session=garbage"), created)
	if got := s.lastLog(); got != "root(carol): x" {
		t.Errorf("logged as %q", got)
	}
	if r := s.do("GET", "/v1/auth/session", ""); r.body != "root(carol)" {
		t.Errorf("whoami: %q", r.body)
	}
	s.want(s.do("PUT", "/v1/nope/box", "value=1&log=x"), "403 there is no namespace nope")
	s.want(s.do("PUT", "/v1/locked/box", "value=1"), "400 Missing parameter: log")
}
