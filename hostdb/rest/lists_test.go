package rest

import (
	"fmt"
	"sync"
	"testing"

	"hostmesh/hostdb"
)

// Whatever the order in which requests of several views come, each gets the list of its own view.
func TestListsFollowTheView(t *testing.T) {
	s := newSite(t)
	var l lists
	old := s.store.View()
	for i := range 5 {
		s.update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, fmt.Sprint("h", i), hostdb.Document{}) })
		now := s.store.View()
		for _, v := range []hostdb.View{now, old, now, old} {
			got := l.get(v, listKey{what: "keys", ns: hostdb.Hosts}, func() answer { return keys(v, hostdb.Hosts) }).text
			if want := keys(v, hostdb.Hosts).text; got != want {
				t.Fatalf("after %d hosts: %q, want %q", i+1, got, want)
			}
		}
		if got := l.get(now, listKey{what: "keys"}, func() answer { return namespaces(now, "") }).text; got != "hosts\nlocked\ntags" {
			t.Fatalf("namespaces %q", got)
		}
		old = now
	}
}

// A write is in every list that is asked for after it was answered.
func TestListsAfterAWrite(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				name := fmt.Sprintf("h%d-%d", w, i)
				s.update(func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, name, hostdb.Document{}) })
				if r := s.do("GET", "/v1/hosts?search=^"+name+"$", ""); r.body != name {
					t.Errorf("after the PUT of %s the list has %q", name, r.body)
				}
			}
		})
	}
	wg.Wait()
}

// What follows from membership is that of the newest state, for each host and tag its own.
func TestKeptAnswersFollowWrites(t *testing.T) {
	s := newSite(t)
	put := func(key, text string) {
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ns := hostdb.Tags
		if key[0] == 'h' {
			ns = hostdb.Hosts
		}
		s.update(func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) })
	}
	put("h1", "a: 1")
	put("h2", "a: 1")
	put("t1", "TTL: 1")
	put("t2", "TTL: 2")
	get := func(target, want string) {
		t.Helper()
		for range 2 { // made, and kept
			if r := s.do("GET", target, ""); r.body != want {
				t.Errorf("%s: %q, want %q", target, r.body, want)
			}
		}
	}
	add := func(tag, member string) {
		s.update(func(tx *hostdb.Tx) error { return tx.AddMember(hostdb.Tags, tag, member) })
	}
	add("t1", "h1")
	get("/v1/tags/t1/members", "h1")
	get("/v1/tags/t2/members", "")
	get("/v1/hosts/h1?meta=derived&from=tags", "all: null\nt1:\n  TTL: 1\n")
	add("t2", "@t1")
	get("/v1/tags/t2/members", "h1")
	get("/v1/hosts/h1?meta=parents&from=tags", "all\nt1\nt2")
	get("/v1/hosts/h2?meta=parents&from=tags", "all")
	get("/v1/hosts/h2?meta=derived&from=tags", "all: null\n")
	put("t1", "TTL: 9")
	get("/v1/hosts/h1?meta=derived&from=tags", "all: null\nt1:\n  TTL: 9\nt2:\n  TTL: 2\n")
	get("/v1/tags/t1/members?search=nope", "")
	get("/v1/tags/t1/members", "h1")
}

// However much is asked for, what is kept has a bound, and what is beyond it is answered all the same.
func TestKeptAnswersAreBounded(t *testing.T) {
	s := newSite(t)
	var l lists
	v := s.store.View()
	text := string(make([]byte, 1<<20))
	for i := range 20 {
		if got := l.get(v, listKey{key: fmt.Sprint(i)}, func() answer { return answer{text: text} }); len(got.text) != len(text) {
			t.Fatalf("answer %d has %d bytes", i, len(got.text))
		}
	}
	if n := l.kept.Load().bytes.Load(); n > keptBytes || n < keptBytes/2 {
		t.Errorf("%d bytes are kept, at most %d may be", n, keptBytes)
	}
}
