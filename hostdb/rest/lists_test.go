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
			if got, want := l.get(v, hostdb.Hosts, keys).text, keys(v, hostdb.Hosts).text; got != want {
				t.Fatalf("after %d hosts: %q, want %q", i+1, got, want)
			}
		}
		if got := l.get(now, "", namespaces).text; got != "hosts\nlocked\ntags" {
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
