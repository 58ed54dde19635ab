package node

import (
	"testing"

	"hostmesh/hostdb"
)

// What the tags of a machine say under Guest reaches its seed.
func TestGuestOf(t *testing.T) {
	doc, err := hostdb.ParseDocument([]byte("Guest: {Profile: shop, Resolvers: [10.1.0.53], Search: [example.com]}"))
	if err != nil {
		t.Fatal(err)
	}
	g := guestOf(doc.At("Guest"))
	if g == nil || g.Profile != "shop" || len(g.Resolvers) != 1 || len(g.Search) != 1 {
		t.Errorf("a guest is told %+v", g)
	}
	if g := guestOf(hostdb.Document{}); g != nil {
		t.Errorf("without one it is told %+v", g)
	}
}
