package doctor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

func TestExampleInventory(t *testing.T) {
	s := open(t)
	loadExample(t, s)
	if got := text(examine(t, s.View(), Options{})); got != "" {
		t.Errorf("the example has\n%s", got)
	}
}

// broken is an inventory in which everything is wrong, once.
func broken(t testing.TB) hostdb.View {
	t.Helper()
	s := open(t)
	update(t, s, func(tx *hostdb.Tx) error { return tx.CreateNamespace("images") })
	write(t, s, `
		hosts/web1.dc1.example.com: {Network: {IP: 10.1.0.11, MAC: "52:54:00:00:00:01", cname: [www, shop.example.org]}, Status: activ}
		hosts/web2.dc1.example.com: {Network: {IP: 10.1.0.11, cname: www}, Interfaces: {eth1: {IP: 192.168.7.1, MAC: "52:54:00:00:00:01"}}}
		hosts/web3.dc1.example.com: {Network: {IP: 10.1.0.13}, Puppet: {Environment: mine}}
		hosts/old1.dc1.example.com: {Network: {IP: 10.1.0.13}, Status: retired}
		hosts/lost: {Network: {IP: 10.1.0.14}}
		hosts/stray.dc2.example.com: {Network: {IP: 10.1.0.15}}
		hosts/far.dc1.example.com: {Network: {IP: 10.1.0.49}}
		hosts/bad_name.dc1.example.com: {Network: {IP: 10.1.0.17}}
		hosts/silent.dc1.example.com: {Network: {cname: quiet}}
		hosts/box1.dc1.example.com: {Network: {IP: 10.1.0.20}, Box: {Memory: 4GiB}}
		hosts/vm1.dc1.example.com: {Network: {IP: 10.1.128.1}, VM: {Box: box1.dc1.example.com, Memory: 3GiB, Subnet: prod, UUID: 0acfbcca-161e-427c-8423-ef788bb47f00}}
		hosts/vm2.dc1.example.com: {Network: {IP: 10.9.128.2}, VM: {Box: box1.dc1.example.com, Memory: 3GiB, Subnet: prod, UUID: 0ACFBCCA-161e-427c-8423-ef788bb47f00}}
		hosts/vm3.dc1.example.com: {Network: {IP: 10.1.128.3}, VM: {Box: web3.dc1.example.com, Subnet: prd}}
		hosts/vm4.dc1.example.com: {Network: {IP: 10.1.128.4}, VM: {Box: box9.dc1.example.com, Subnet: web}}
		hosts/vm5.dc1.example.com: {Network: {IP: 10.1.128.6}, VM: {Image: debain-12}}
		hosts/vm6.dc1.example.com: {Network: {IP: 10.1.128.7}, VM: {Image: debian-12}}
		hosts/vm7.dc1.example.com: {Network: {IP: 10.1.128.8}, VM: {Box: box1.dc1.example.com, Image: old}}
		images/debian-12: {Format: qcow2}
		hosts/pooled.dc1.example.com: {Network: {IP: 10.1.128.5}}
		tags/dc1: {DNS: {Zone: dc1.example.com, NS: [ns9], Records: {gone: {CNAME: nobody}, ext: {CNAME: example.org.}, tagged: {CNAME: web.vip.mesh.internal.}, mail: {MX: [10 mx9]}, wildly: {CNAME: a.dev}, "*.dev": {A: 10.1.0.99}, web3: {CNAME: ext}}}}
		tags/dc1/members: web1.dc1.example.com web2.dc1.example.com web3.dc1.example.com stray.dc2.example.com far.dc1.example.com bad_name.dc1.example.com silent.dc1.example.com db1.dc1.example.com db2.dc1.example.com db3.dc1.example.com box1.dc1.example.com vm1.dc1.example.com vm2.dc1.example.com vm3.dc1.example.com vm4.dc1.example.com vm5.dc1.example.com vm6.dc1.example.com vm7.dc1.example.com pooled.dc1.example.com
		tags/dc1-again: {DNS: {Zone: DC1.example.com, Transfer: {Allow: [10.1.0.53], Notify: [10.1.0.54], Key: none}}}
		tags/prod: {Subnet: {CIDR: 10.1.0.0/16, VIPs: 10.1.0.48/28, Pool: 10.1.128.0/17}}
		tags/wide: {Subnet: {CIDR: 10.0.0.0/14}}
		tags/web: {Puppet: {Environment: production, Parameters: {a: 1}}, Backup: {Paths: [/etc]}}
		tags/web/members: web1.dc1.example.com web2.dc1.example.com web3.dc1.example.com
		tags/blue: {Puppet: {Environment: blue}, LBB: {VIP: 10.1.0.50}, Monitorng: {}}
		tags/blue/members: web2.dc1.example.com web3.dc1.example.com
		tags/balanced: {LB: {VIP: 10.1.0.49, Ports: {80/tcp: 80}}}
		tags/balanced2: {LB: {VIP: 10.1.0.49, Ports: {80/tcp: 81}}}
		tags/balanced2/members: web1.dc1.example.com
		hosts/db1.dc1.example.com: {Network: {IP: 10.9.0.1}}
		hosts/db2.dc1.example.com: {Interfaces: {eth0: {IP: 10.1.0.22}}}
		hosts/db3.dc1.example.com: {Network: {IP: 10.9.0.3}, Interfaces: {eth0: {IP: 10.1.0.23}}}
		tags/alone-db: {MySQL: {VIP: 10.1.0.51, ReadVIP: 10.1.0.250, Credentials: shop}}
		tags/alone-db/members: web1.dc1.example.com
		tags/shop-db: {MySQL: {VIP: 10.1.0.52, Credentials: shop}}
		tags/shop-db/members: db1.dc1.example.com db2.dc1.example.com db3.dc1.example.com
		tags/outside: {LB: {VIP: 10.1.0.200, Ports: {80/tcp: 80}}}
		tags/outside/members: web1.dc1.example.com
		tags/group: {Group: {Min: 1, Max: 2, Name: "g-%d", Template: {Image: debian, Subnet: nowhere}}, Placement: {Apart: {webb: box, web: rack}, Together: {cache: rack}}}
		tags/dangling: {}
		tags/ring1: {}
		tags/ring2: {}
		tags/ring3: {}
		tags/ring1/members: @ring2
		tags/ring2/members: @ring3
		tags/web/perms: {ops: {data/Pupet: RW, data/LBB: RW, data: RO}}
	`)
	forge(t, s, 7, member("tags/dangling", "ghost.dc1.example.com"), member("tags/dangling", "shop.example.org"), member("tags/dangling", "@phantom"),
		member("tags/ring3", "@ring1"), member("tags/ring3", "@ring3"))
	forge(t, s, 8, hostdb.Effect{Kind: hostdb.SetLeaf, NS: hostdb.Tags, Key: "web", Path: []string{"Puppet", "Parameters", "a"}, Value: hostdb.Text("2")})
	forge(t, s, 9, hostdb.Effect{Kind: hostdb.SetPerms, NS: hostdb.Tags, Key: "blue", Value: hostdb.Text("[not, a, list]")})
	forge(t, s, 10, hostdb.Effect{Kind: 99, NS: hostdb.Tags, Key: "blue"})
	forge(t, s, 11, hostdb.Effect{Kind: hostdb.SetLeaf, NS: hostdb.System, Key: "users", Path: []string{"x"}, Value: hostdb.Text("secret")})
	return s.View()
}

// TestBroken fixes what is told of an inventory in which everything is wrong.
func TestBroken(t *testing.T) {
	r := examine(t, broken(t), Options{})
	got := []byte(regexp.MustCompile(`[0-9a-f]{8,}[.][0-9a-f]{16}`).ReplaceAllString(text(r), "REVISION"))
	name := filepath.Join("testdata", "broken.txt")
	if *rewrite {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(name, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the report differs (-want +got), -update rewrites it:\n%s", diff)
	}
	for _, c := range r.Counts {
		if c.Errors+c.Warnings == 0 {
			t.Errorf("nothing of %s is wrong here: the inventory should have a case of each check", c.Check)
		}
	}
	failures, warnings := r.Totals()
	if failures+warnings != len(r.Findings) || r.Version == "" {
		t.Errorf("%d and %d of %d, version %q", failures, warnings, len(r.Findings), r.Version)
	}
	if strings.Contains(text(r), "secret") || strings.Contains(text(r), hostdb.System) {
		t.Error("the report tells of the namespace that nobody may read")
	}
}

// Of three tags that make a zone each one that differs is told so, and two keys are too many, whichever tags name them.
func TestTransferOfThreeTags(t *testing.T) {
	s := open(t)
	write(t, s, `
		tags/aaa: {DNS: {Zone: lab.test, Transfer: {Allow: [10.1.0.53]}}}
		tags/bbb: {DNS: {Zone: lab.test, Transfer: {Allow: [10.1.0.53], Key: b}}}
		tags/ccc: {DNS: {Zone: lab.test, Transfer: {Allow: [10.1.0.53], Key: c}}}
	`)
	got := text(examine(t, s.View(), Options{}))
	for _, want := range []string{
		"warning tags/bbb at DNS/Transfer: tags/aaa makes the zone lab.test, too, with another Transfer: only who may by all 3 tags that make it may transfer it",
		"error tags/ccc at DNS/Transfer: tags/bbb makes the zone lab.test, too, and names another Key: nobody may transfer it",
		"write the same Allow and Key into all of them",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nothing says %q:\n%s", want, got)
		}
	}
}

func TestOptions(t *testing.T) {
	v := broken(t)
	all := examine(t, v, Options{})
	only := examine(t, v, Options{Only: []string{"macs", "addresses"}})
	if want := slices.DeleteFunc(slices.Clone(all.Findings), func(f Finding) bool { return f.Check != "macs" && f.Check != "addresses" }); !reflect.DeepEqual(only.Findings, want) || len(want) < 2 {
		t.Errorf("only macs and addresses:\n%s", text(only))
	}
	if r := examine(t, v, Options{Only: []string{"macs", "addresses"}, Skip: []string{"addresses"}}); len(r.Counts) != 1 || r.Counts[0].Check != "macs" {
		t.Errorf("%v ran", r.Counts)
	}
	limited := examine(t, v, Options{Limit: 1})
	if !reflect.DeepEqual(limited.Counts, all.Counts) || len(limited.Findings) != len(all.Counts) {
		t.Errorf("limited to 1 of each:\n%s", text(limited))
	}
	one := examine(t, v, Options{Host: "ghost.dc1.example.com"})
	if len(one.Findings) != 1 || one.Findings[0].Check != "members-missing" {
		t.Errorf("of a host that is not there:\n%s", text(one))
	}
	for _, f := range examine(t, v, Options{Host: "web2.dc1.example.com"}).Findings {
		if !strings.Contains(f.ID+strings.Join(f.Related, " "), "hosts/web2.dc1.example.com") {
			t.Errorf("of web2: %+v", f)
		}
	}
	for _, o := range []Options{{Only: []string{"macz"}}, {Skip: []string{"everything"}}} {
		if _, err := Examine(t.Context(), v, o); !errors.Is(err, ErrUnknownCheck) {
			t.Errorf("%v: %v", o, err)
		} else if o.Only != nil && !strings.HasSuffix(err.Error(), "did you mean macs?") {
			t.Error(err)
		}
	}
}

func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Examine(ctx, broken(t), Options{})
	if err != nil || !r.Incomplete || len(r.Findings) > 0 || len(r.Counts) != len(Checks()) {
		t.Errorf("%+v %v", r, err)
	}
}

func TestChecksAreExplained(t *testing.T) {
	seen := map[string]bool{}
	manual, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Checks() {
		if seen[c.Name] || c.Doc == "" || strings.HasSuffix(c.Doc, ".") || strings.Contains(c.Doc, "\n") {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
		if !strings.Contains(string(manual), "\n### "+c.Name+"\n") {
			t.Errorf("docs/doctor.md does not explain %s", c.Name)
		}
	}
}

// TestEmpty: a new mesh is well.
func TestEmpty(t *testing.T) {
	if r := examine(t, hostdb.View{}, Options{}); len(r.Findings) > 0 {
		t.Error(text(r))
	}
}

// TestNoZones: a site without DNS is told so once, not once a host.
func TestNoZones(t *testing.T) {
	s := open(t)
	write(t, s, "hosts/a: {}\nhosts/b: {Status: retired}\nhosts/c: null\n")
	r := examine(t, s.View(), Options{})
	if len(r.Findings) != 1 || r.Findings[0].Check != "dns-none" || !strings.Contains(r.Findings[0].Message, "none of 2 hosts") {
		t.Error(text(r))
	}
}

// TestHostDecides: a host that says itself what it wants has no disagreement, and the others have one, not one each.
func TestHostDecides(t *testing.T) {
	s := open(t)
	lines := "tags/a: {Logs: {Paths: /var/log/x, Rotate: daily}}\ntags/b: {Logs: {Paths: /var/log/x, Rotate: weekly}}\n"
	var names []string
	for i := range 50 {
		name := fmt.Sprintf("h%02d", i)
		doc := "{}"
		if i == 7 {
			doc = "{Logs: {Rotate: daily}}"
		}
		lines += "hosts/" + name + ": " + doc + "\n"
		names = append(names, name)
	}
	lines += "tags/a/members: " + strings.Join(names, " ") + "\ntags/b/members: " + strings.Join(names, " ") + "\n"
	write(t, s, lines)
	r := examine(t, s.View(), Options{Only: []string{"combined"}})
	if len(r.Findings) == 0 {
		t.Fatal("nothing is found")
	}
	f := r.Findings[0]
	if len(r.Counts) != 1 || r.Counts[0].Errors != 1 || f.Path != "Logs/Rotate" || f.ID != "tags/a" || f.Severity != section.Error ||
		!strings.Contains(f.Message, "for 49 hosts such as hosts/h00") || len(f.Related) != maxRelated || f.More != 50-maxRelated || f.Related[0] != "tags/b" {
		t.Error(text(r))
	}
	if r := examine(t, s.View(), Options{Only: []string{"combined"}, Host: "h07"}); len(r.Findings) != 0 {
		t.Errorf("of the host that decides:\n%s", text(r))
	}
	if r := examine(t, s.View(), Options{Only: []string{"combined"}, Host: "h49"}); len(r.Findings) != 1 {
		t.Errorf("of the last host:\n%s", text(r))
	}
}

// TestRaces: what two people make together that neither could have made alone is found, on both boxes the same.
func TestRaces(t *testing.T) {
	a, b := open(t), open(t)
	write(t, a, "hosts/h: {Owner: shop}\ntags/one: {}\ntags/two: {}\n")
	exchange(t, a, b)
	update(t, a, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Delete(hostdb.Hosts, "h"), tx.AddMember(hostdb.Tags, "one", "@two"))
	})
	update(t, b, func(tx *hostdb.Tx) error {
		return errors.Join(tx.AddMember(hostdb.Tags, "one", "h"), tx.AddMember(hostdb.Tags, "two", "@one"),
			tx.PutPath(hostdb.Hosts, "h", []string{"Owner"}, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text("alice")})))
	})
	exchange(t, a, b)
	ra, rb := examine(t, a.View(), Options{}), examine(t, b.View(), Options{})
	if diff := cmp.Diff(ra, rb); diff != "" {
		t.Errorf("the two boxes find different things:\n%s", diff)
	}
	var got []string
	for _, f := range ra.Findings {
		got = append(got, f.Check+" "+f.ID+" "+f.Path)
	}
	want := []string{"members-missing tags/one/members h", "members-cycle tags/one/members @two", "conflicts hosts/h "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, text(ra))
	}
	if !strings.HasPrefix(ra.Findings[0].Message, "hosts/h was deleted while") {
		t.Error(ra.Findings[0].Message)
	}
}
