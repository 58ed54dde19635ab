package node

import (
	"slices"
	"strings"
	"testing"

	"hostmesh/node/api"
)

// What is taken back is written, and needs the permission that writing it by hand needs: section by section.
func TestRestoringNeedsThePermissionOfWriting(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	p.write("root", "lists", perms("tags/.default", "{dora: {data: RW, data/LB: RO}, sam: {data/DNS: RW}, mia: {members: RW}, pia: {perms: RW}}"))
	first := p.write("root", "1", put("hosts/web1", "{}"), put("tags/dns", "{DNS: {TTL: 30}, LB: {VIP: 10.1.0.1}}"), put("tags/lb", "{DNS: {TTL: 30}, LB: {VIP: 10.1.0.1}}"),
		put("tags/gone", "{LB: {VIP: 10.1.0.2}}"), put("tags/list", "{}"), put("tags/perms", "{}"))
	for _, c := range []struct {
		id, rest string
		change   func() string
		may      string // beside root
	}{
		{"tags/dns", "/DNS/TTL", func() string { return p.write("root", "2", put("tags/dns/DNS/TTL", "60")) }, "dora sam"},
		{"tags/lb", "/LB/VIP", func() string { return p.write("root", "2", put("tags/lb/LB/VIP", "10.1.0.9")) }, ""},
		{"tags/gone", "", func() string { return p.write("root", "2", remove("tags/gone")) }, ""},
		{"tags/made", "", func() string { return p.write("root", "2", put("tags/made", "{LB: {VIP: 10.1.0.3}}")) }, ""},
		{"tags/list", "/members", func() string { return p.write("root", "2", members("tags/list", "web1")) }, "mia"},
		{"tags/perms", "/perms", func() string { return p.write("root", "2", perms("tags/perms", "{eve: {data: RW}}")) }, "pia"},
	} {
		rev := c.change()
		for _, user := range []string{"dora", "sam", "mia", "pia", "eve"} {
			want := 403
			if slices.Contains(strings.Fields(c.may), user) {
				want = 0
			}
			as := p.as(user, false)
			if _, err := as.Undo(ctx, api.Undo{Revision: rev, Log: "x", DryRun: true}); status(err) != want || want == 0 && err != nil {
				t.Errorf("%s undoes what was done to %s%s: %v, want %d", user, c.id, c.rest, err, want)
			}
			if user == "eve" && c.id == "tags/perms" {
				continue // who may write the data, for now
			}
			if _, err := as.Rollback(ctx, api.Rollback{ID: c.id, To: first, Log: "x", DryRun: true}); status(err) != want || want == 0 && err != nil {
				t.Errorf("%s rolls %s back: %v, want %d", user, c.id, err, want)
			}
			if c.rest == "" {
				continue
			}
			if _, err := as.Rollback(ctx, api.Rollback{ID: c.id + c.rest, To: first, Log: "x", DryRun: true}); status(err) != want || want == 0 && err != nil {
				t.Errorf("%s rolls %s%s back: %v, want %d", user, c.id, c.rest, err, want)
			}
		}
	}
}
