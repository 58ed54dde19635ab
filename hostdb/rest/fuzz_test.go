package rest

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// FuzzID reads paths of URLs, and the ids that stand in parameters.
func FuzzID(f *testing.F) {
	for _, p := range []string{"/v1", "/v1/hosts/a", "//v1//tags/a/members/@b/", "/v1/a/b/c%2Fd/e", "/v1/tags/.default/perms", "/v1/auth/session/x", "/v1/%2e%2e/x", "/v1/a/b/perms/c", "/v1/.system/a"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if id, err := parseID(path, verbatim); err == nil && id.ns == hostdb.System {
			t.Errorf("%q reaches .system", path)
		} else if _, foreseen := asFailure(err); err != nil && (!foreseen || id.kind != kindNone) {
			t.Errorf("%q: %v with %+v", path, err, id)
		}
		got, err := parseURLPath(path)
		if err != nil {
			if fl, foreseen := asFailure(err); !foreseen || fl.code.status() != 400 && fl.code.status() != 404 {
				t.Errorf("%q: %v", path, err)
			}
			if got.kind != kindNone {
				t.Errorf("%q: %v with %+v", path, err, got)
			}
			return
		}
		for _, name := range []string{got.ns, got.key, strings.TrimPrefix(got.member, "@")} {
			if name != "" && !(name == hostdb.DefaultKey && got.kind == kindPerms) && hostdb.CheckName(name) != nil {
				t.Errorf("%q: %q passes as a name", path, name)
			}
		}
		if got.ns == hostdb.System {
			t.Errorf("%q reaches .system", path)
		}
		if got.kind == kindSession || got.kind == kindCanModify {
			return
		}
		// What an id is read as, escaped again, is read as the same.
		var parts []string
		for _, p := range append([]string{got.ns, got.key}, got.path...) {
			if p != "" {
				parts = append(parts, url.PathEscape(p))
			}
		}
		switch got.kind {
		case kindMembers, kindPerms:
			parts = append(parts, got.kind.String())
		case kindMember:
			parts = append(parts, "members", url.PathEscape(got.member))
		}
		if again, err := parseURLPath("/v1/" + strings.Join(parts, "/")); err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%q is %+v, again %+v, %v", path, got, again, err)
		}
	})
}

// FuzzParams holds the lenient parser against the strict one: what the strict one understands, both read alike.
func FuzzParams(f *testing.F) {
	for _, q := range []string{"a=b&c=d", "log=100%%20done&session=x", "a=%2;b&&=&c", "a+b=c+d%20e", "%", "a=%zz"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		var p params
		p.parse(query)
		if len(p.list) > maxParams {
			t.Errorf("%d parameters are kept", len(p.list))
		}
		strict, err := url.ParseQuery(query)
		if err != nil || len(p.list) == maxParams {
			return
		}
		for name, values := range strict {
			if got := p.get(name); got != values[0] {
				t.Errorf("%q: %q is %q, want %q", query, name, got, values[0])
			}
		}
	})
}

// FuzzHandler sends whatever a client may: never a panic, always valid HTTP in the form that clients rely on.
func FuzzHandler(f *testing.F) {
	s := newSite(f)
	h := New(Config{Store: s.store, Auth: s.auth, Settled: func(hostdb.Stamp) bool { return false }})
	first := s.write("alice", "x", nil, put("hosts", "b", "x: 1"))
	s.write("alice", "y", nil, func(tx *hostdb.Tx) error { return tx.Rename("hosts", "b", "a") })
	f.Add("GET", "/v1/hosts/a/b?search=x", "", "", false)
	f.Add("PUT", "/v1/tags/a/members?log=x", "value=a", "", true)
	f.Add("PUT", "/v1/hosts/a?log=x&acks=2", `{"a": [1]}`, "application/json", true)
	f.Add("PUT", "/v1/hosts/a/b/c?log=%&x;y", "a: &x [*x]", "text/yaml", true)
	f.Add("POST", "/v1/hosts/a?log=x", "newname=b%0d%0a", "", true)
	f.Add("DELETE", "/v1/hosts/a?log=x", "", "", true)
	f.Add("GET", "/v1/x/y/z?foreach=hosts&meta=derived", "", "", false)
	f.Add("GET", "/v1/hosts/a?meta=revisions&limit=3&before=1.0000000000000001", "", "If-None-Match: *", false)
	f.Add("GET", "/v1/hosts/b?meta=blame&as-of=2100-01-01&search=x{3}", "", "Accept: application/json", false)
	f.Add("GET", "/v1/hosts/b/x?revision="+first.String()+"&meta=parents&from=tags", "", "", false)
	f.Add("GET", "/v1/hosts?limit=2&after=a&as-of=5m", "", "Cookie: HostDB=x", false)
	f.Add("PUT", "/v1/hosts/a?log=x&dry_run=true", "value=a", "Accept: application/json", true)
	f.Add("PUT", "/v1/tags/a/perms?log=x", "value={a: {data: RW}}", "If-None-Match: *, W/\"x\"", true)
	f.Fuzz(func(t *testing.T, method, target, body, header string, in bool) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			return // net/http would refuse it
		}
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		req.RemoteAddr = "127.0.0.1:1"
		name, value, ok := strings.Cut(header, ": ")
		if !ok { // of seeds that are older than other headers here
			name, value = "Content-Type", header
		}
		req.Header.Set(name, value)
		if in {
			req = req.WithContext(auth.WithIdentity(req.Context(), auth.Identity{User: "root", Admin: true}))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		trace := ""
		for name, values := range w.Header() {
			for _, v := range values {
				if name == "CallTrace" {
					trace = v
				}
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%s %s: header %s: %q", method, target, name, v)
				}
			}
		}
		if w.Code == 500 && strings.HasPrefix(trace, "5000") || w.Code >= 400 != (trace != "") || w.Code >= 400 && w.Body.Len() > 0 {
			t.Errorf("%s %s %q: %d %q", method, target, body, w.Code, trace)
		}
		if trace != "" && !strings.HasPrefix(trace, strconv.Itoa(w.Code)) {
			t.Errorf("%s %s %q: %d with %q", method, target, body, w.Code, trace)
		}
		if method == "GET" && w.Code == 200 && w.Header().Get("Content-Length") == "" {
			t.Errorf("%s: no Content-Length", target)
		}
	})
}

// What is put is what is got, by way of a form, of YAML and of JSON.
func TestPutThenGet(t *testing.T) {
	s := newSite(t)
	scalar := rapid.OneOf(
		rapid.SampledFrom([]string{"1.10", "010", "yes", "00:11:22:33:44:55", "2024-01-01", "null", "~", "''", "1e3", "'#x'", "\"a\\nb\"", "{}", "[]", "[a, [b, {c: 010}]]"}),
		rapid.Map(rapid.StringMatching(`[a-zA-Z0-9 %+&=;é/:#'-]{1,20}`), func(text string) string {
			return "'" + strings.ReplaceAll(text, "'", "''") + "'"
		}))
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		seen := map[string]bool{}
		for range rapid.IntRange(1, 6).Draw(rt, "entries") {
			outer := rapid.StringMatching(`[A-Za-z][A-Za-z0-9_.]{0,8}`).Draw(rt, "key")
			if seen[strings.ToLower(outer)] {
				continue
			}
			seen[strings.ToLower(outer)] = true
			if rapid.Bool().Draw(rt, "nested") {
				b.WriteString("'" + outer + "':\n  in: " + scalar.Draw(rt, "value") + "\n")
			} else {
				b.WriteString("'" + outer + "': " + scalar.Draw(rt, "value") + "\n")
			}
		}
		text := b.String()
		want, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			rt.Fatalf("%q: %v", text, err)
		}
		if want.Text("Bad") != "" || want.Text("Odd") != "" {
			return // what the test's validator looks at
		}
		check := func(r response, want hostdb.Document) {
			if r.StatusCode != 201 {
				rt.Fatalf("%q: %s", text, r.Status)
			}
			got := s.do("GET", "/v1/hosts/p", "")
			doc, err := hostdb.ParseDocument([]byte(got.body))
			if err != nil || !doc.Equal(want) {
				rt.Fatalf("put %q, got %q: %v", text, got.body, err)
			}
		}
		check(s.do("PUT", "/v1/hosts/p", s.as("value", text)), want)
		check(s.do("PUT", "/v1/hosts/p?"+s.as(), text, "Content-Type: application/yaml"), want)
		asJSON := s.do("GET", "/v1/hosts/p", "", "Accept: application/json").body
		fromJSON, err := hostdb.ParseDocument([]byte(asJSON))
		if err != nil {
			rt.Fatalf("%q: %v", asJSON, err)
		}
		check(s.do("PUT", "/v1/hosts/p?"+s.as(), asJSON, "Content-Type: application/json"), fromJSON)
	})
}
