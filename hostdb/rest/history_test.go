package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// write is an operation of somebody, maybe one brought from elsewhere.
func (s *site) write(user, log string, source *hostdb.Source, fn func(*hostdb.Tx) error) hostdb.Stamp {
	s.t.Helper()
	c, err := s.store.Update(context.Background(), hostdb.Request{User: user, Log: log, Source: source}, fn)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Revision
}

func put(ns, key, text string) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error {
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			return err
		}
		return tx.Put(ns, key, doc)
	}
}

// What was first written elsewhere shows the time and the zone of its author; a log of several lines is one.
func TestRevisionsFromElsewhere(t *testing.T) {
	s := newSite(t)
	east := &hostdb.Source{Seconds: 1_300_000_000, Zone: 330, Email: "alice@example.com", Ref: "53f46d7"}
	wild := &hostdb.Source{Seconds: 1_300_000_000, Zone: 1 << 40}
	first := s.write("alice", "one\n\ntwo", east, put("hosts", "a", "x: 1"))
	second := s.write("bob\nx", "three", wild, put("hosts", "a", "x: 2"))
	want := fmt.Sprintf("%s - bob x, 2011-03-13 07:06:40 +0000 : three\n%s - alice, 2011-03-13 12:36:40 +0530 : one two", second, first)
	if r := s.do("GET", "/v1/hosts/a?meta=revisions", ""); r.body != want {
		t.Errorf("revisions\n%s\nwant\n%s", r.body, want)
	}
	var items []revisionItem
	r := s.do("GET", "/v1/hosts/a?meta=revisions&search=one", "", "Accept: application/json")
	if err := json.Unmarshal([]byte(r.body), &items); err != nil || len(items) != 1 {
		t.Fatalf("%q: %v", r.body, err)
	}
	if got := items[0]; got.Log != "one\n\ntwo" || got.Time != "2011-03-13T12:36:40+05:30" || got.Source == nil || got.Source.Ref != "53f46d7" {
		t.Errorf("in JSON %+v", got)
	}
	if r := s.do("GET", "/v1/hosts/a?meta=revisions&search=nothing", "", "Accept: application/json"); r.body != "[]\n" {
		t.Errorf("no revisions in JSON: %q", r.body)
	}
}

// Nothing of .system is told: neither its revisions nor, in a dry run, what happens to it.
func TestHistoryKeepsSystemToItself(t *testing.T) {
	s := newSite(t)
	s.write("root", "secret business", nil, put(hostdb.System, "keys", "k: sealed"))
	for _, target := range []string{"/v1?meta=revisions", "/v1?meta=revisions&limit=10000&search=secret", "/v1/.system?meta=revisions", "/v1/.system/keys?meta=blame"} {
		if r := s.do("GET", target, ""); strings.Contains(r.body, "secret") || strings.Contains(r.body, "sealed") {
			t.Errorf("%s: %q", target, r.body)
		}
	}
	items, err := effectItems([]hostdb.Effect{{Kind: hostdb.SetLeaf, NS: hostdb.System, Key: "keys", Path: []string{"k"}, Value: hostdb.Text("sealed")}})
	if err != nil || len(items) != 0 {
		t.Errorf("effects %v, %v", items, err)
	}
}

// A read of the past says whether it can still change, and nothing that would let it be kept; the version is the replica's.
func TestSettled(t *testing.T) {
	s := newSite(t)
	first := s.write("alice", "x", nil, put("hosts", "a", "x: 1"))
	second := s.write("alice", "x", nil, put("hosts", "a", "x: 2"))
	s.addr = s.listen(New(Config{Store: s.store, Auth: s.auth, Settled: func(at hostdb.Stamp) bool { return at == first }}), nil)
	version := s.do("GET", "/v1/hosts/a", "").Header.Get("Hostmesh-Version")
	for _, c := range []struct{ target, settled string }{
		{"/v1/hosts/a", ""},
		{"/v1/hosts/a?revision=" + first.String(), "yes"},
		{"/v1/hosts/a?revision=" + second.String(), "no"},
		{"/v1/hosts?as-of=" + first.String(), "yes"},
		{"/v1/hosts/nope?revision=" + second.String(), "no"},
		{"/v1/hosts/a?as-of=1s", "no"},
	} {
		r := s.do("GET", c.target, "")
		if r.Header.Get("Settled") != c.settled {
			t.Errorf("%s: Settled is %q, want %q", c.target, r.Header.Get("Settled"), c.settled)
		}
		if r.Header.Get("Hostmesh-Version") != version {
			t.Errorf("%s: version %q, want that of the replica, %q", c.target, r.Header.Get("Hostmesh-Version"), version)
		}
		if c.settled != "" && (r.Header.Get("Etag") != "" || r.Header.Get("Cache-Control") != "") {
			t.Errorf("%s: %v", c.target, r.Header)
		}
	}
}

// Lists of the past are never kept as those of now, nor the other way round.
func TestListsOfThePast(t *testing.T) {
	s := newSite(t)
	first := s.write("alice", "x", nil, put("hosts", "a", ""))
	s.write("alice", "x", nil, put("hosts", "b", ""))
	for range 2 {
		for target, want := range map[string]string{"/v1/hosts": "a\nb", "/v1/hosts?revision=" + first.String(): "a", "/v1?revision=" + first.String(): "hosts\nlocked\ntags"} {
			if r := s.do("GET", target, ""); r.body != want {
				t.Errorf("%s: %q, want %q", target, r.body, want)
			}
		}
	}
}

// The Mtime of an answer about the past is of then.
func TestMtimeOfThen(t *testing.T) {
	s := newSite(t)
	first := s.write("alice", "x", nil, put("hosts", "a", "x: 1"))
	r := s.do("GET", "/v1/hosts/a?revision="+first.String(), "")
	if want := fmt.Sprint(first.Time.Wall().Unix()); r.Header.Get("Mtime") != want {
		t.Errorf("Mtime %q, want %s", r.Header.Get("Mtime"), want)
	}
}

// History needs the storage; what is there now does not.
func TestHistoryWithoutStorage(t *testing.T) {
	s := newSite(t)
	first := s.write("alice", "x", nil, put("hosts", "a", "x: 1"))
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/v1/hosts/a?meta=revisions", "/v1/hosts/a?revision=" + first.String()} {
		if r := s.do("GET", target, ""); !strings.HasPrefix(r.Header.Get("CallTrace"), "5032: ") {
			t.Errorf("%s: %s", target, r.Status)
		}
	}
	s.want(s.do("GET", "/v1/hosts/a", ""), found)
}

// A user whom too many failed logins hold back is told when to come again.
func TestRetryAfter(t *testing.T) {
	f, foreseen := asFailure(fmt.Errorf("log in: %w", &auth.Error{Code: auth.TooMany, Message: "wait", Wait: 1500 * time.Millisecond}))
	if !foreseen || f.code != 4290 {
		t.Fatalf("%v, %t", f, foreseen)
	}
	s := newSite(t)
	wrong := response{}
	for range 200 {
		if wrong = s.do("POST", "/v1/auth/session", "username=alice&password=wrong"); wrong.StatusCode != 401 {
			break
		}
	}
	s.want(wrong, "429 ")
	if wait := wrong.Header.Get("Retry-After"); wait == "" || wait == "0" {
		t.Errorf("Retry-After %q", wait)
	}
}

// A token of a directory user or of a far node ends; the code is upstream's.
func TestCodesOfSessions(t *testing.T) {
	for code, want := range map[auth.Code]int{auth.WrongPassword: 401, auth.BadToken: 401, auth.OtherAddress: 401, auth.Expired: 401, auth.WrongPlace: 403, auth.TooMany: 429, auth.NoDirectory: 503} {
		if f, foreseen := asFailure(&auth.Error{Code: code, Message: "x"}); !foreseen || f.code.status() != want {
			t.Errorf("%d is %v", code, f)
		}
	}
}
