package doctor

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
)

// paths and values are what people write, and what they get wrong; mixed at random.
var (
	paths = []string{"Network/IP", "Network/IPv6", "Network/MAC", "Network/FQDN", "Network/cname", "Network", "Status", "VM/Box", "VM/Subnet", "VM/UUID", "VM/Memory", "VM",
		"Box/Memory", "Box", "Interfaces/eth0/IP", "Interfaces/eth0/MAC", "Hardware/OOB", "DNS/Zone", "DNS/Records/@/MX", "DNS/Records/www/CNAME", "DNS/Records/*/A",
		"DNS/Records/sub/NS", "DNS/NS", "DNS", "Subnet/CIDR", "Subnet/VIPs", "Subnet/Pool", "LB/VIP", "LB/Ports/80/tcp", "MySQL/VIP", "MySQL/ReadVIP",
		"Group/Template/Subnet", "Service/Port", "Puppet/Environment", "Puppet/Classes/ntp", "Logs/Paths", "Backup/Paths", "Priority", "", "Moniter/x"}
	values = []string{"10.0.0.1", "10.0.0.2", "2001:db8::1", "::", "10.0.0.0/8", "10.0.0.0/30", "0.0.0.0/0", "::/0", "52:54:00:00:00:01", "h1", "h2", "a.b", "h1.a.b", "*.a.b", "www", ".",
		"..", "", "x..y", "@", "t1", "t1.tag.mesh.internal.", "t1.vip.mesh.internal.", "mesh.internal.", "retired", "1GiB", "10 h1", "0acfbcca-161e-427c-8423-ef788bb47f00", "h1.a.b."}
	names = []string{"h1", "h2", "h1.a.b", "t1", "t2", "all", "a b", "é"}
)

func anyEffect() *rapid.Generator[hostdb.Effect] {
	return rapid.Custom(func(t *rapid.T) hostdb.Effect {
		e := hostdb.Effect{
			Kind: hostdb.Kind(rapid.SampledFrom([]int{1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7, 8}).Draw(t, "kind")),
			NS:   rapid.SampledFrom([]string{hostdb.Hosts, hostdb.Tags, hostdb.Tags, "other"}).Draw(t, "ns"),
			Key:  rapid.SampledFrom(append([]string{"", hostdb.DefaultKey}, names...)).Draw(t, "key"),
		}
		value := rapid.SampledFrom(values).Draw(t, "value")
		switch e.Kind {
		case hostdb.SetLeaf, hostdb.UnsetLeaf:
			if p := rapid.SampledFrom(paths).Draw(t, "path"); p != "" {
				e.Path = strings.Split(p, "/")
			}
			switch rapid.IntRange(0, 4).Draw(t, "shape") {
			case 0:
				e.Value = hostdb.Null
			case 1:
				e.Value = "m"
			case 2:
				e.Value = "l" + hostdb.Value(rune(len(value)+1)) + hostdb.Text(value)
			default:
				e.Value = hostdb.Text(value)
			}
		case hostdb.PutMember, hostdb.RemoveMember:
			e.Member = rapid.SampledFrom([]string{"", "@"}).Draw(t, "inherited") + rapid.SampledFrom(names).Draw(t, "member")
			e.Order = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "order")
		case hostdb.SetPerms:
			e.Value = hostdb.Text(rapid.SampledFrom([]string{"{alice: {data: RW}}", "{bob: {data/Pupet: RO}}", "[", "a", "null", "{}"}).Draw(t, "perms"))
		}
		return e
	})
}

// TestOrderDoesNotMatter: two replicas that hold the same operations find the same, in whatever order they came; nothing
// that is written makes the examination panic; and what it says is sorted and complete.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := hostdb.TimeOf(time.Now())
		var raws [][]byte
		for i := range rapid.IntRange(1, 40).Draw(rt, "operations") {
			effects := rapid.SliceOfN(anyEffect(), 1, 4).Draw(rt, "effects")
			raws = append(raws, operation(uint64(100+i), 1, now+hostdb.Time(rapid.IntRange(0, 5).Draw(rt, "time")), effects...))
		}
		a, b := replica(rt, raws), replica(rt, rapid.Permutation(raws).Draw(rt, "order"))
		ra, rb := report(rt, a), report(rt, b)
		if !reflect.DeepEqual(ra, rb) {
			rt.Fatalf("one replica finds\n%s\nthe other\n%s", text(ra), text(rb))
		}
		if again := report(rt, a); !reflect.DeepEqual(ra, again) {
			rt.Fatalf("first\n%s\nthen\n%s", text(ra), text(again))
		}
		for _, f := range ra.Findings {
			if f.Check == "" || f.ID == "" || f.Message == "" || f.Remedy == "" || !slices.Contains([]section.Severity{section.Error, section.Warning}, f.Severity) {
				rt.Fatalf("half a finding: %+v", f)
			}
		}
		for host := range a.Keys(hostdb.Hosts) {
			everything := section.Effective(a, host)
			why := section.Explain(a, host)
			if len(why.Settings) != len(everything.Settings) || !why.Document.Equal(everything.Document) {
				rt.Fatalf("%s gets\n%s\nand is explained\n%s", host, everything.Document.YAML(), why.Document.YAML())
			}
			if err := disagree(a, host, ra, everything); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// disagree compares what was found for all hosts at once with what each host gets.
func disagree(v hostdb.View, host string, r Report, e section.Result) error {
	if section.StatusOf(v.Data(hostdb.Hosts, host)) == section.Retired {
		return nil
	}
	for _, d := range e.Disagreements {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return f.Check == "combined" && f.ID == d.Used.ID && f.Path == d.Path.String() && f.concerns(hostdb.Hosts+"/"+host)
		}) {
			return fmt.Errorf("%s: the disagreement about %s is not found\n%s", host, d.Path, text(r))
		}
	}
	for _, f := range r.Findings {
		if f.Check == "combined" && f.concerns(hostdb.Hosts+"/"+host) && len(f.Related) > 1 && f.Related[0] != hostdb.Hosts+"/"+host &&
			!slices.ContainsFunc(e.Disagreements, func(d section.Disagreement) bool { return f.Path == d.Path.String() && f.ID == d.Used.ID }) &&
			f.Related[0][:len(hostdb.Tags)] == hostdb.Tags {
			return fmt.Errorf("%s: a disagreement about %s is found that it does not have", host, f.Path)
		}
	}
	return nil
}

func replica(rt *rapid.T, raws [][]byte) hostdb.View {
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		rt.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Apply(context.Background(), raws); err != nil || n != len(raws) {
		rt.Fatalf("%d of %d applied: %v", n, len(raws), err)
	}
	return s.View()
}

func report(rt *rapid.T, v hostdb.View) Report {
	r, err := Examine(context.Background(), v, Options{})
	if err != nil {
		rt.Fatal(err)
	}
	return r
}

// BenchmarkExamine looks at 10,000 hosts in 1,000 tags.
func BenchmarkExamine(b *testing.B) {
	s := open(b)
	update(b, s, func(tx *hostdb.Tx) error {
		members := map[string][]hostdb.Member{}
		for i := range 10_000 {
			key := fmt.Sprintf("h%d.dc1.example.com", i)
			doc, err := hostdb.ParseDocument(fmt.Appendf(nil, "{Network: {IP: 10.%d.%d.%d, MAC: '52:54:00:%02x:%02x:%02x', cname: c%d}, Owner: shop, Physical Location: {Datacenter: dc1, Rack Number: r%d}}",
				i>>16, i>>8&255, i&255, i>>16, i>>8&255, i&255, i, i%40))
			if err != nil {
				return err
			}
			if err := tx.Put(hostdb.Hosts, key, doc); err != nil {
				return err
			}
			for _, tag := range []string{fmt.Sprintf("team%d", i%200), fmt.Sprintf("role%d", i%799), "zone"} {
				members[tag] = append(members[tag], hostdb.Member{Name: key})
			}
		}
		for tag, list := range members {
			text := fmt.Sprintf("{Priority: %d, Puppet: {Classes: {c%s: {}}, Parameters: {p%s: 1}}, Monitoring: {Prometheus: {Port: 9100}}}", len(tag), tag, tag)
			if tag == "zone" {
				text = "{DNS: {Zone: dc1.example.com, Reverse: 10.0.0.0/8}, Subnet: {CIDR: 10.0.0.0/8}}"
			}
			doc, err := hostdb.ParseDocument([]byte(text))
			if err != nil {
				return err
			}
			if err := tx.Put(hostdb.Tags, tag, doc); err != nil {
				return err
			}
			if err := tx.SetMembers(hostdb.Tags, tag, list); err != nil {
				return err
			}
		}
		return nil
	})
	v := s.View()
	for _, c := range append([]Check{{Name: "all"}}, Checks()...) {
		b.Run(c.Name, func(b *testing.B) {
			opts := Options{Only: []string{c.Name}}
			if c.Name == "all" {
				opts = Options{}
			}
			b.ReportAllocs()
			for b.Loop() {
				if r := examine(b, v, opts); len(r.Findings) > 0 {
					b.Fatal(text(r)[:min(len(text(r)), 2000)])
				}
			}
		})
	}
}
