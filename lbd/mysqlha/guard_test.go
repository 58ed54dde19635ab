package mysqlha

import (
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	shop := map[string]bool{"shop-db": true}
	primary := func(host string) map[string]Record { return map[string]Record{"shop-db": {Primary: host}} }
	for name, x := range map[string]struct {
		s    Standing
		want []string // parts of the answer; nil = nothing speaks against it
	}{
		"no database":                       {Standing{}, nil},
		"primary by the record":             {Standing{Tags: shop, Records: primary("db1")}, []string{"tags/shop-db", "hostmesh mysql switchover shop-db"}},
		"another by the record":             {Standing{Tags: shop, Records: primary("db2"), Said: map[string]string{"shop-db": "replica"}}, nil},
		"the record is late":                {Standing{Tags: shop, Records: primary("db2"), Said: map[string]string{"shop-db": "primary"}}, []string{"tags/shop-db"}},
		"no record yet":                     {Standing{Tags: shop, Said: map[string]string{"shop-db": "primary"}}, []string{"tags/shop-db"}},
		"deposed, and its report is late":   {Standing{Tags: shop, Records: map[string]Record{"shop-db": {Primary: "db2", Fenced: map[string]string{"db1": "it was"}}}, Said: map[string]string{"shop-db": "primary"}}, nil},
		"about to be":                       {Standing{Tags: shop, Records: map[string]Record{"shop-db": {Primary: "db2", Intent: &Intent{Kind: Switchover, Step: StepAddress, Old: "db2", To: "db1"}}}}, []string{"tags/shop-db"}},
		"the tag was taken from it":         {Standing{Tags: map[string]bool{"shop-db": false}, Records: primary("db1")}, []string{"tags/shop-db"}},
		"the tag is no cluster any more":    {Standing{Records: primary("db1")}, nil},
		"tag and entry are gone":            {Standing{Records: primary("db1"), Deleted: true}, []string{"tags/shop-db", "hostmesh vm undelete db1"}},
		"no quorum, a replica by its agent": {Standing{Tags: shop, Error: "no leader", Said: map[string]string{"shop-db": "replica"}}, nil},
		"no quorum, nobody says anything":   {Standing{Tags: shop, Error: "no leader"}, []string{"cannot be told", "tags/shop-db", "no leader"}},
		"no quorum, no member":              {Standing{Tags: map[string]bool{"shop-db": false}, Error: "no leader"}, nil},
		"no quorum, and no entry":           {Standing{Tags: map[string]bool{"shop-db": false}, Error: "no leader", Deleted: true}, []string{"cannot be told"}},
		"two clusters": {Standing{Tags: map[string]bool{"shop-db": true, "blog-db": true}, Records: map[string]Record{"shop-db": {Primary: "db1"}, "blog-db": {Primary: "db1"}}},
			[]string{"tags/blog-db, tags/shop-db", "hostmesh mysql switchover TAG"}},
	} {
		got := Guard("db1", x.s)
		if (got == "") != (x.want == nil) {
			t.Errorf("%s: %q", name, got)
		}
		for _, part := range x.want {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q does not say %q", name, got, part)
			}
		}
	}
}
