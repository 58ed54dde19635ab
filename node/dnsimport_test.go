package node

import (
	"context"
	"errors"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// Who may not write has nothing parsed for them, and is told so by a dry run; imports take turns.
func TestImportOfAZone(t *testing.T) {
	p := openPast(t, "a")
	p.write("root", "lists", perms("tags/.default", "{sam: {data: RW, members: RW}, tom: {data: RW, members: RW}}"), perms("hosts/.default", "{sam: {data: RW}}"))
	d := &dnsDesk{store: p.store, mesh: func() mesh.View { return mesh.View{} }, turn: make(chan struct{}, 1)}
	const good = "$TTL 60\n@ SOA a b 1 2 3 4 5\nwww A 10.0.0.1\nx TXT hello\n"
	before := p.store.View().Version().String()
	for _, c := range []struct {
		name, user, text string
		opts             api.DNSImportOptions
		want             error
	}{
		{"what is no zone file, by somebody who may not", "eve", "www A nowhere\n", api.DNSImportOptions{Tag: "lab", Zone: "lab.test"}, hostdb.ErrDenied},
		{"the same with the zone alone", "eve", "www A nowhere\n", api.DNSImportOptions{Zone: "lab.test"}, hostdb.ErrDenied},
		{"the same as a dry run", "eve", "www A nowhere\n", api.DNSImportOptions{Zone: "lab.test", DryRun: true}, hostdb.ErrDenied},
		{"a zone that the file names", "eve", "$ORIGIN lab.test.\n" + good, api.DNSImportOptions{DryRun: true}, hostdb.ErrDenied},
		{"what is no zone file, by somebody who may", "sam", "www A nowhere\n", api.DNSImportOptions{Zone: "lab.test"}, hostdb.ErrInvalid},
		{"hosts, by somebody who may write tags alone", "tom", good, api.DNSImportOptions{Zone: "lab.test", DryRun: true}, hostdb.ErrDenied},
		{"a dry run", "sam", good, api.DNSImportOptions{Zone: "lab.test", DryRun: true}, nil},
	} {
		r, err := d.DNSImport(t.Context(), api.Identity{User: c.user}, []byte(c.text), c.opts)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && (len(r.Hosts) != 1 || r.Revision != "") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if p.store.View().Version().String() != before {
		t.Error("something was written")
	}
	d.turn <- struct{}{} // somebody else's
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DNSImport(ctx, api.Identity{User: "sam"}, []byte(good), api.DNSImportOptions{Zone: "lab.test"}); !errors.Is(err, context.Canceled) {
		t.Errorf("an import does not wait for its turn: %v", err)
	}
	<-d.turn
	r, err := d.DNSImport(t.Context(), api.Identity{User: "sam"}, []byte(good), api.DNSImportOptions{Zone: "lab.test"})
	if err != nil || r.Revision == "" || !p.store.View().Exists(hostdb.Hosts, "www.lab.test") {
		t.Errorf("%+v, %v", r, err)
	}
}
