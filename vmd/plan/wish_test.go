package plan

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// TestProblems shows what is said of entries that no machine can be made of.
func TestProblems(t *testing.T) {
	s := openStore(t)
	defer s.Close()
	entry := func(old, new string) string { return strings.Replace(vm(1, ", Box: box1"), old, new, 1) }
	cases := []struct{ name, doc string }{
		{"good", vm(2, ", Box: box1")},
		{"by-hand", vm(3, ", Box: box1") + "\nNetwork: {IP: 10.1.0.9, MAC: '02:00:00:00:00:01', FQDN: x.example.com}"},
		{"no-subnet", entry("Subnet: prod", "OnBoxLoss: keep")},
		{"no-such-tag", entry("Subnet: prod", "Subnet: pord")},
		{"no-network", entry("Subnet: prod", "Subnet: web")},
		{"bad-network", entry("Subnet: prod", "Subnet: bad")},
		{"no-cidr", entry("Subnet: prod", "Subnet: cidr")},
		{"overlap", entry("Subnet: prod", "Subnet: twin1")},
		{"no-image", entry("Image: debian-12, ", "")},
		{"bad-image", entry("debian-12", "../etc")},
		{"bad-memory", entry("4GiB", "4G")},
		{"bad-cpus", entry("CPUs: 2", "CPUs: many")},
		{"bad-disk", entry("20GiB", "[20GiB]")},
		{"bad-power", entry("Subnet", "Power: perhaps, Subnet")},
		{"bad-ip", vm(4, ", Box: box1") + "\nNetwork: {IP: 10.1.0.999}"},
		{"gateway", vm(5, ", Box: box1") + "\nNetwork: {IP: 10.1.0.1}"},
		{"elsewhere", vm(6, ", Box: box1") + "\nNetwork: {IP: 10.2.0.1}"},
		{"bad-mac", vm(7, ", Box: box1") + "\nNetwork: {MAC: '01:00:00:00:00:01'}"},
		{"bad-uuid", entry(uuid(1), "web1")},
		{"no-mapping", "VM: debian-12"},
		{"twin-a", vm(8, ", Box: box1")},
		{"twin-b", vm(8, "")},
		{"slip", vm(9, ", Box: box1, Memry: 1GiB")}, // told when it was written; the machine is as it says
	}
	docs := map[string]string{
		"tags/prod": prod, "tags/web": "LB: {}", "tags/bad": "Subnet: {CIDR: 10.5.0.0}", "tags/cidr": "Subnet: {Bridge: br1}",
		"tags/twin1": "Subnet: {CIDR: 10.6.0.0/16, Pool: 10.6.0.0/20}", "tags/twin2": "Subnet: {CIDR: 10.6.0.0/16, Pool: 10.6.8.0/24}",
	}
	for i, c := range cases {
		docs["hosts/"+c.name] = strings.ReplaceAll(c.doc, uuid(1), uuid(100+i))
	}
	s.write(docs)
	p := NewPlanner(s.View())
	var b strings.Builder
	for _, c := range cases {
		w, ok := p.Wish(c.name)
		if !ok || w.Name != c.name {
			t.Errorf("%s is no machine", c.name)
		}
		fmt.Fprintf(&b, "%-12s| %s\n", c.name, w.Problem)
	}
	golden(t, "problems.txt", b.String())
}

func TestWish(t *testing.T) {
	s := openStore(t)
	defer s.Close()
	s.write(map[string]string{
		"tags/prod": prod,
		"hosts/web1": "VM: {UUID: 0ACFBCCA-161E-427C-8423-EF788BB47F00, Box: box1, Image: debian-12, CPUs: 4, Memory: 8GiB, Disk: 40GiB, Subnet: prod, Power: off, OnBoxLoss: recreate}\n" +
			"Network: {IP: 10.1.8.11, IPv6: '2001:db8::11', MAC: '52:54:00:01:08:0b', FQDN: web1.example.com}\nProtected: true\nStatus: maintenance\nGuest: {Profile: me}",
		"tags/all": "Guest: {Profile: root, Search: [example.com]}",
	})
	item, _ := s.View().Get(hostdb.Hosts, "web1")
	w := Wanted(s.View(), "box1")
	if len(w) != 1 {
		t.Fatalf("%d machines", len(w))
	}
	have := w[0]
	if y := have.Guest.YAML(); y != "Profile: me\nSearch:\n  - example.com\n" {
		t.Errorf("Guest is\n%s", y)
	}
	have.Guest = hostdb.Document{}
	subnet, err := SubnetOf(s.View(), "prod")
	if err != nil {
		t.Fatal(err)
	}
	want := Wish{
		Name: "web1", UUID: "0acfbcca-161e-427c-8423-ef788bb47f00", Box: "box1", Status: section.Maintenance, Image: "debian-12", CPUs: 4,
		Memory: 8 * gib, Disk: 40 * gib, Protected: true, OnBoxLoss: section.RecreateVM, Subnet: subnet, FQDN: "web1.example.com",
		IP: have.IP, IPv6: have.IPv6, MAC: have.MAC, Stamp: item.Revision(),
	}
	if !reflect.DeepEqual(have, want) || have.IP.String() != "10.1.8.11" || have.IPv6.String() != "2001:db8::11" || have.MAC.String() != "52:54:00:01:08:0b" {
		t.Errorf("have %+v\nwant %+v", have, want)
	}
	if subnet.Bridge != "br0" || subnet.Datacenter != "dc1" || subnet.Pool.String() != "10.1.128.0/17" || subnet.Tag != "prod" {
		t.Errorf("the network is %+v", subnet)
	}
}

func TestWantedAndUnplaced(t *testing.T) {
	s := openStore(t)
	defer s.Close()
	s.write(map[string]string{"tags/prod": prod, "tags/far": "Subnet: {CIDR: 10.3.0.0/16, Datacenter: dc2}", "tags/here": "Subnet: {CIDR: 10.4.0.0/16}"})
	for i, name := range []string{"z", "b", "a"} { // by age, not by name
		s.write(map[string]string{"hosts/" + name: vm(i+1, "")})
	}
	s.write(map[string]string{
		"hosts/far": strings.Replace(vm(4, ""), "Subnet: prod", "Subnet: far", 1), "hosts/here": strings.Replace(vm(5, ""), "Subnet: prod", "Subnet: here", 1),
		"hosts/lost": strings.Replace(vm(6, ""), "Subnet: prod", "Subnet: none", 1), "hosts/later": vm(7, "") + "\nStatus: maintenance",
		"hosts/gone": vm(8, "") + "\nStatus: retired", "hosts/raw": "VM: {Image: debian-12, Subnet: prod}",
		"hosts/on1": vm(9, ", Box: box1"), "hosts/on2": vm(10, ", Box: box1") + "\nStatus: maintenance",
		"hosts/on3": vm(11, ", Box: box1") + "\nStatus: retired", "hosts/on4": vm(12, ", Box: box2"), "hosts/on5": "VM: {Box: box1}", "hosts/iron": "Box: {}",
	})
	names := func(list []Wish) string {
		var out []string
		for _, w := range list {
			out = append(out, w.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ have, want string }{
		{names(Unplaced(s.View(), "dc1")), "z b a raw"},
		{names(Unplaced(s.View(), "dc2")), "far"},
		{names(Unplaced(s.View(), "")), "here lost"},
		{names(Wanted(s.View(), "box1")), "on1 on2"},
		{names(Wanted(s.View(), "box2")), "on4"},
		{names(Wanted(s.View(), "")), ""},
	} {
		if c.have != c.want {
			t.Errorf("have %q, want %q", c.have, c.want)
		}
	}
}

// TestGuestFollowsHowTagsContainEachOther: of two tags that a machine has before and after, the nearer one counts.
func TestGuestFollowsHowTagsContainEachOther(t *testing.T) {
	s := openStore(t)
	defer s.Close()
	s.write(map[string]string{"tags/prod": prod, "tags/t1": "Guest: {x: 1}", "tags/t2": "Guest: {x: 2}", "hosts/a": vm(1, ", Box: a")})
	s.write(map[string]string{"tags/t1/members": "a", "tags/t2/members": "@t1"})
	p := NewPlanner(s.View())
	says := func(want string) {
		t.Helper()
		if got := p.Wanted("a"); len(got) != 1 || got[0].Guest.YAML() != want {
			t.Errorf("%+v, want Guest %q", got, want)
		}
	}
	says("x: 1\n")
	s.write(map[string]string{"tags/t2/members": "a"})
	s.write(map[string]string{"tags/t1/members": "@t2"})
	p.Update(s.View())
	says("x: 2\n")
}

// TestPlannerFollows says that a Planner that follows a view, whatever changed and in steps of whatever size, has what one has
// that is made anew.
func TestPlannerFollows(t *testing.T) {
	hosts := []string{"a", "b", "c", "d"}
	docs := []string{
		"", "Status: active", vm(1, ""), vm(1, ", Box: a"), vm(2, ", Box: a"), vm(2, ", Box: b") + "\nStatus: retired", vm(3, "") + "\nStatus: maintenance",
		"Box: {}", "{Box: {CPUs: 3}, Status: maintenance, Physical Location: {Rack Number: r2}}", "VM: {}", "VM: 3",
		vm(4, ", Box: a") + "\nGuest: {x: own}", "Network: {MAC: '02:00:00:00:00:01'}", vm(5, ", Box: a") + "\nNetwork: {MAC: '02:00:00:00:00:01', IP: 10.1.0.77}",
	}
	tags := []string{"prod", "t1", "t2"}
	tagDocs := []string{"{}", prod, "Guest: {x: 1}", "{Guest: {x: 2, y: 3}, Priority: 3}", "Subnet: {CIDR: 10.1.0.0/16, Pool: 10.1.130.0/24}", "Placement: {Spread: rack}", "Subnet: nonsense"}
	lists := []string{"", "a", "b\nc", "@t1", "@t2\na", "d\n@t1"}
	rapid.Check(t, func(t *rapid.T) {
		s := openStore(t)
		defer s.Close()
		s.write(map[string]string{"hosts/a": "{}", "hosts/b": "{}", "hosts/c": "{}", "hosts/d": "{}", "tags/t1": "{}", "tags/t2": "{}"})
		p := NewPlanner(s.View())
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			for range rapid.IntRange(1, 3).Draw(t, "writes") {
				write := map[string]string{}
				if rapid.Bool().Draw(t, "host") {
					id := rapid.SampledFrom(hosts).Draw(t, "key")
					doc := rapid.SampledFrom(docs).Draw(t, "doc")
					write["hosts/"+id] = doc
				} else {
					tag := rapid.SampledFrom(tags).Draw(t, "key")
					if rapid.Bool().Draw(t, "data") || !s.View().Exists(hostdb.Tags, tag) {
						write["tags/"+tag] = rapid.SampledFrom(tagDocs).Draw(t, "doc")
					} else {
						write["tags/"+tag+"/members"] = rapid.SampledFrom(lists).Draw(t, "list")
					}
				}
				_ = s.try(write) // a list of hosts that do not exist is refused, and so is a circle of tags
			}
			before := picture(p)
			view := s.View()
			changed := p.Update(view)
			have, want := picture(p), picture(NewPlanner(view))
			if have != want {
				t.Fatalf("followed:\n%s\nmade anew:\n%s", have, want)
			}
			if machines(have) != machines(before) && !changed {
				t.Fatalf("Update says that nothing changed\nbefore:\n%s\nafter:\n%s", before, have)
			}
		}
	})
}

// machines is a picture without the last line, which is of all hosts.
func machines(picture string) string {
	return picture[:strings.LastIndex(strings.TrimSuffix(picture, "\n"), "\n")]
}

// picture is all that a Planner can be asked.
func picture(p *Planner) string {
	var b strings.Builder
	line := func(list ...Wish) {
		for _, w := range list {
			g := w.Guest.YAML()
			w.Guest = hostdb.Document{}
			fmt.Fprintf(&b, "  %+v %q\n", w, g)
		}
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		w, ok := p.Wish(name)
		fmt.Fprintf(&b, "%s %t %+v\n", name, ok, p.boxes[name])
		line(w)
		line(p.Wanted(name)...)
	}
	line(p.Unplaced("")...)
	line(p.Unplaced("dc1")...)
	for i := range 6 {
		fmt.Fprintln(&b, p.ByUUID(uuid(i)))
	}
	for _, tag := range []string{"prod", "t1", "t2", "none"} {
		s, err := p.SubnetOf(tag)
		fmt.Fprintln(&b, s, err, p.rules[tag])
	}
	fmt.Fprintln(&b, p.CheckMAC("x", []byte{2, 0, 0, 0, 0, 1}), len(p.machines), len(p.byBox), len(p.uuids.one), len(p.macs.one), len(p.macs.more), p.guests)
	return b.String()
}
