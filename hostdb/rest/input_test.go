package rest

import (
	"maps"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// HEAD is GET without the body, wherever there is a GET.
func TestHeadIsGetWithoutTheBody(t *testing.T) {
	s := newSite(t)
	first := s.write("alice", "x", nil, put("hosts", "a", "x: {y: 1}"))
	s.write("alice", "y", nil, put("tags", "t", "z: 1"))
	s.write("alice", "y", nil, func(tx *hostdb.Tx) error { return tx.AddMember("tags", "t", "a") })
	s.want(s.do("PUT", "/v1/tags/t/perms", s.as("value", "{bob: {data: RW}}")), created)
	for _, target := range []string{
		"/v1", "/v1/hosts", "/v1/hosts?limit=1&search=a", "/v1/hosts/a", "/v1/hosts/a/x", "/v1/hosts/a/x/y", "/v1/tags/t/members",
		"/v1/tags/t/members?raw=1", "/v1/tags/t/members/a", "/v1/tags/t/perms", "/v1/tags/.default/perms",
		"/v1/hosts/a?meta=parents&from=tags", "/v1/hosts/a?meta=derived&from=tags", "/v1/hosts/a?meta=revisions",
		"/v1/hosts/a?meta=blame", "/v1/hosts/*?foreach=hosts", "/v1/hosts/a?revision=" + first.String(),
		"/v1/auth/session/" + s.token, "/v1/auth/can_modify?user=alice&id=hosts/a",
		"/v1/hosts/nope", "/v1/hosts/a?search=(", "/v1/hosts/a?meta=what", "/v1/..",
	} {
		get, head := s.do("GET", target, ""), s.do("HEAD", target, "")
		get.Header.Del("Date")
		head.Header.Del("Date")
		if head.Status != get.Status || head.body != "" || !maps.EqualFunc(head.Header, get.Header, func(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }) {
			t.Errorf("%s\nGET  %s %v\nHEAD %s %v %q", target, get.Status, get.Header, head.Status, head.Header, head.body)
		}
		if get.StatusCode == 200 && get.body == "" {
			t.Errorf("%s: nothing to compare", target)
		}
	}
}

// What a hostile or careless client sends is refused with a reason, or stored as text; never half of it.
func TestBadInput(t *testing.T) {
	s := newSite(t)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, c := range "bcdefghi" {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 10) + "]\n"
	}
	for _, c := range []struct{ name, value, want, body string }{
		{"aliases that explode", bomb, "400 ", ""},
		{"64 levels", strings.Repeat("[", 63) + "1" + strings.Repeat("]", 63), created, "..."},
		{"too many levels", strings.Repeat("[", 65) + strings.Repeat("]", 65), "400 ", ""},
		{"duplicate keys", "a: 1\na: 2\n", "400 ", ""},
		{"a tag", "!!python/object:os.system x\n", "400 ", ""},
		{"NaN", "a: .nan\nb: NaN\n", created, "a: .nan\nb: NaN\n"},
		{"CRLF", "a: 1\r\nb: |\r\n  x\r\n  y\r\n", created, "a: 1\nb: |\n  x\n  y\n"},
		{"a byte order mark", "\ufeffa: 1\n", created, "a: 1\n"},
		{"no UTF-8", "a: \xff\xfe\n", "400 ", ""},
		{"a NUL", "a: x\x00y\n", "400 ", ""},
		{"two documents", "a: 1\n---\nb: 1\n", "400 ", ""},
		{"a key that is no text", "{[a]: 1}\n", "400 ", ""},
	} {
		s.do("DELETE", "/v1/hosts/bad?"+s.as(), "")
		r := s.do("PUT", "/v1/hosts/bad", s.as("value", c.value))
		s.want(r, c.want)
		got := s.do("GET", "/v1/hosts/bad", "")
		if c.body == "" && got.StatusCode != 404 || c.body != "" && got.StatusCode != 200 || c.body != "" && c.body != "..." && got.body != c.body {
			t.Errorf("%s: %s, then %q", c.name, r.Status, got.body)
		}
	}
	for _, name := range []string{"..", ".", "a%2fb", "a%00b", "a%0ab", "%7f", "@a", ".x", strings.Repeat("x", 300), "%ff"} {
		s.want(s.do("PUT", "/v1/hosts/"+name, s.as("value", "1")), "400 ")
		s.want(s.do("PUT", "/v1/"+name+"/a", s.as("value", "1")), "400 ")
		s.want(s.do("PUT", "/v1/tags/all2/members/"+strings.TrimPrefix(name, "@"), s.as()), "4")
		if name != "@a" {
			s.want(s.do("POST", "/v1/hosts/bad", s.as("newname", strings.NewReplacer("%2f", "/", "%00", "\x00", "%0a", "\n", "%7f", "\x7f", "%ff", "\xff").Replace(name))), "4")
		}
	}
	if r := s.do("GET", "/v1/hosts?search=.", ""); strings.Trim(r.body, "bad") != "" {
		t.Errorf("hosts %q", r.body)
	}
}

// Of parameters and headers that come twice the first counts; conditions are one list.
func TestPollution(t *testing.T) {
	s := newSite(t)
	s.want(s.do("PUT", "/v1/hosts/a", "value=1&value=2&log=x&log=&session="+s.token+"&session=x"), created)
	s.want(s.do("PUT", "/v1/hosts/a", "session=x&value=1&log=x&session="+s.token), "401 ")
	s.want(s.do("PUT", "/v1/hosts/b", "value=1&log=x", "Cookie: HostDB=x; HostDB="+s.token), "401 ")
	s.want(s.do("PUT", "/v1/hosts/b", "value=1&log=x", "Cookie: HostDB="+s.token, "Cookie: HostDB=x"), created)
	s.want(s.do("GET", "/v1/hosts/a?revision=&revision=zzz", ""), found)
	s.want(s.do("GET", "/v1/hosts/a?revision=zzz&revision=", ""), "400 ")
	s.want(s.do("GET", "/v1/hosts/a?meta=blame&meta=what", ""), found)
	many := strings.Repeat("x=1&", maxParams)
	s.want(s.do("PUT", "/v1/hosts/a", many+s.as("value", "2")), "4") // what stands behind a hundred others is not read
	etag := s.do("GET", "/v1/hosts/a", "").Header.Get("Etag")
	s.want(s.do("PUT", "/v1/hosts/a", s.as("value", "1"), `If-Match: "x"`, "If-Match: "+etag), created)
	s.want(s.do("GET", "/v1/hosts/a", "", `If-None-Match: "x"`, "If-None-Match: W/"+etag), "304 ")
	s.want(s.do("PUT", "/v1/hosts/a", s.as("value", "3"), "If-Match: "+etag, "If-None-Match: *"), "412 ")
	if r := s.do("GET", "/v1/hosts/a", ""); r.body != "1\n" {
		t.Errorf("after it all: %q", r.body)
	}
}
