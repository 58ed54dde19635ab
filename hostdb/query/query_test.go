package query_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/layout"
	"hostmesh/hostdb/query"
)

func open(t testing.TB) *hostdb.Store {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// example is examples/inventory.
var example = sync.OnceValues(func() (hostdb.View, error) {
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		return hostdb.View{}, err
	}
	defer s.Close() // a view outlives its store
	inv, err := layout.Read(context.Background(), os.DirFS("../../examples/inventory"), layout.Options{})
	if err != nil {
		return hostdb.View{}, err
	}
	_, err = layout.Import(context.Background(), s, inv, hostdb.Request{User: "test", Log: "import"}, nil)
	return s.View(), err
})

func inventory(t testing.TB) hostdb.View {
	t.Helper()
	v, err := example()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func document(t testing.TB, text string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func update(t testing.TB, s *hostdb.Store, fn func(tx *hostdb.Tx) error) {
	t.Helper()
	if _, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn); err != nil {
		t.Fatal(err)
	}
}

// small is a site of a few hosts with all that people write into inventories.
func small(t testing.TB) hostdb.View {
	t.Helper()
	s := open(t)
	update(t, s, func(tx *hostdb.Tx) error {
		for key, text := range map[string]string{
			"hosts/a":   `{Network: {IP: 10.1.0.1, cname: [www, static]}, Interfaces: {eth0: {IP: 10.1.0.1}, eth1: {IP: 10.9.0.1}}, Hardware: {Memory: 24 GB, Asset: 0755, CPUs: 8}, Physical Location: {Rack Number: 12}, Status: active, Protected: yes, Box: {CPUs: 40}, Expires: 2031-12-31, MTU: 1500}`,
			"hosts/b":   `{Network: {IP: 10.2.0.1, IPv6: "2001:db8::1", cname: mail}, Hardware: {Memory: 24576 MB, CPUs: 10}, Physical Location: {Rack Number: "12"}, Status: retired, Protected: maybe}`,
			"hosts/c":   `{Network: {IP: 10.1.0.3}, Hardware: {Memory: 16GiB}, Physical Location: {Rack Number: r12}, Status: active, Protected: false, VM: {Box: a, Memory: 2GiB}}`,
			"hosts/d":   `{Hardware: {Memory: 24}, VM: {Box: a}, List: [{x: 1}, {x: 2}], Free text: "a \"quoted\" one"}`,
			"hosts/e":   `null`,
			"tags/zone": `{DNS: {Zone: example.com}}`, "tags/search": `{Priority: 3, Puppet: {Parameters: {app: search}}}`, "tags/empty": `{}`,
		} {
			ns, name, _ := strings.Cut(key, "/")
			if err := tx.Put(ns, name, document(t, text)); err != nil {
				return err
			}
		}
		for _, m := range [][2]string{{"zone", "a"}, {"zone", "b"}, {"search", "b"}, {"search", "c"}, {"zone", "@search"}} {
			if err := tx.AddMember(hostdb.Tags, m[0], m[1]); err != nil {
				return err
			}
		}
		if err := tx.CreateNamespace("vips"); err != nil {
			return err
		}
		return tx.Put("vips", "v1", document(t, "{Port: 80}"))
	})
	return s.View()
}

func names(t testing.TB, v hostdb.View, ns, where string) (string, []string) {
	t.Helper()
	q, err := query.Compile(where, query.Options{In: ns})
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	r, err := q.Run(t.Context(), v)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	var out []string
	for _, row := range r.Rows {
		out = append(out, row.Key)
		if hit, err := q.Match(v, q.In(), row.Key); err != nil || !hit {
			t.Errorf("%s: Match of %s is %v, %v", where, row.Key, hit, err)
		}
	}
	if r.Matched != len(r.Rows) || r.More {
		t.Errorf("%s: %d matched, %d rows", where, r.Matched, len(r.Rows))
	}
	return strings.Join(out, " "), r.Warnings
}

func TestWhere(t *testing.T) {
	v := small(t)
	for _, c := range []struct{ where, want string }{
		{``, "a b c d e"},
		{`true`, "a b c d e"},
		{`Status == "active"`, "a c"},
		{`Status != "active"`, "b d e"},
		{`Network.IPv6 == nil`, "a c d e"},
		{`Network.IPv6 != nil`, "b"},
		{`Nothing.At.All == nil and name == "a"`, "a"},
		{`self["Physical Location"]["Rack Number"] == 12`, "a b"},
		{`self["Physical Location"]["Rack Number"] == "12"`, "a b"},
		{`at("Physical Location/Rack Number") == "r12"`, "c"},
		{`Hardware.Asset == 755 and Hardware.Asset == "0755"`, "a"},
		{`Hardware.Asset == "755"`, ""},
		{`Hardware.CPUs < 9`, "a"},
		{`Hardware.CPUs > Box.CPUs`, ""},
		{`Hardware.CPUs < Box.CPUs`, "a"},
		{`bytes(Hardware.Memory) >= size("24GB")`, "a b"},
		{`bytes(Hardware.Memory, "GB") >= size("24GB")`, "a b d"},
		{`bytes(VM.Memory ?? Hardware.Memory) < size("4 GiB")`, "c"},
		{`bytes("12 x 4GB") == size("48GB") and name == "e"`, "e"},
		{`"search" in tags`, "b c"},
		{`tag("search") and not tag("zone")`, ""},
		{`"zone" in tags and "search" not in tags`, "a"},
		{`tags == ["all", "search", "zone"]`, "c"},
		{`len(tags) > 2`, "c"},
		{`any(tags, # startsWith "se")`, "b c"},
		{`all(tags, # != "all") and len(tags) > 0`, "b"},
		{`zones == []`, "b d e"},
		{`len(zones) == 0 and Status != "retired"`, "d e"},
		{`"example.com" in zones`, "a c"},
		{`Box != nil and len(vms) == 0`, ""},
		{`vms == ["c", "d"]`, "a"},
		{`"c" in vms`, "a"},
		{`cidr(Network.IP, "10.1.0.0/16")`, "a c"},
		{`cidr(address, "10.2.0.0/16") or cidr(addresses, "10.9.0.0/16")`, "a b"},
		{`cidr(Network.IP, Network.Absent)`, ""},
		{`Protected`, "a"},
		{`not Protected`, "b c d e"},
		{`Protected == true`, "a"},
		{`Protected == false`, "c"},
		{`"www" in Network.cname`, "a"},
		{`"mail" in Network.cname`, "b"},
		{`Network.cname contains "www"`, "a"},
		{`any(Network.cname, len(#) == 4)`, "b"},
		{`any(Interfaces, .IP == "10.9.0.1")`, "a"},
		{`"eth1" in Interfaces`, "a"},
		{`keys(Interfaces) == ["eth0", "eth1"]`, "a"},
		{`any(List, .x == 2) and List[0].x == 1 and List[-1].x == 2 and List[5] == nil`, "d"},
		{`count(List, .x > 0) == 2 and find(List, .x == 2)["x"] == 2`, "d"},
		{`len(map(filter(List, .x > 1), .x)) == 1`, "d"},
		{`name matches "^[ab]$"`, "a b"},
		{`not (name matches "^[ab]$")`, "c d e"},
		{`name in ["a", "c"]`, "a c"},
		{`upper(name) == "A" or lower("E") == name`, "a e"},
		{`Status startsWith "act" and Network.IP endsWith ".3"`, "c"},
		{`has(VM) and VM.Box == "a"`, "c d"},
		{`Expires < date("2032-01-01")`, "a"},
		{`Expires - date("2031-12-30") == duration("1d")`, "a"},
		{`Expires < now() + duration("4w")`, ""},
		{`number(Hardware.CPUs) * 2 + 4 == 20`, "a"},
		{`Hardware.CPUs % 2 == 0 and Hardware.CPUs / 2 - 1 == 4`, "b"},
		{`-Hardware.CPUs == -8`, "a"},
		{`let n = Hardware.CPUs; n > 1 and n < 9`, "a"},
		{`MTU == 1500 ? true : false`, "a"},
		{`if has(Box) { true } else { name == "b" }`, "a b"},
		{`effective.Puppet.Parameters.app == "search"`, "b c"},
		{`effective["Puppet"]["Parameters"]["app"] == "search" and has(effective)`, "b c"},
		{`self?.Network?.IP == "10.1.0.1"`, "a"},
		{`name | upper() == "B"`, "b"},
		{`"x" + name + "y" == "xcy"`, "c"},
		{`join(split("a.b", "."), "-") == "a-b" and name == "a"`, "a"},
		{`text(self["Free text"]) contains "quoted"`, "d"},
		{`trim(" a ") == name`, "a"},
		{`none(vms, true) and one([1], # == 1) and values(nil) == []`, "b c d e"},
		{`Hardware == nil`, "e"},
		{`Hardware.Memory.Deeper == nil and Hardware != nil`, "a b c d"},
	} {
		if got, _ := names(t, v, "", c.where); got != c.want {
			t.Errorf("%s gives %q, want %q", c.where, got, c.want)
		}
	}
}

func TestWhereElsewhere(t *testing.T) {
	v := small(t)
	for _, c := range []struct{ ns, where, want string }{
		{"tags", `hosts == 0`, "empty"},
		{"tags", `"DNS" in sections`, "zone"},
		{"tags", `members == ["b", "c"] and direct == ["b", "c"]`, "search"},
		{"tags", `"@search" in direct and Priority == nil`, "zone"},
		{"tags", `Priority > 2`, "search"},
		{"tags", `DNS.Zone endsWith ".com" and self.DNS != nil`, "zone"},
		{"vips", `Port == 80 and members == []`, "v1"},
	} {
		if got, _ := names(t, v, c.ns, c.where); got != c.want {
			t.Errorf("%s in %s gives %q, want %q", c.where, c.ns, got, c.want)
		}
	}
}

// TestErrors: each says where, and what to write instead.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		where  string
		column int
		says   string
	}{
		{`Netwrk.IP == nil`, 1, "did you mean Network?"},
		{`name == "a" and network.IP == nil`, 17, "did you mean Network?"},
		{`has(Network) and bytez(1) > 2`, 18, "did you mean bytes?"},
		{`name == "a" and`, 15, "ends too early"},
		{`name = "a"`, 6, "write =="},
		{`name == "a`, 11, "literal not terminated"},
		{`name matches "("`, 14, "missing closing )"},
		{`name matches name`, 14, "in quotes"},
		{`1 < 2 < 3`, 0, "a < b and b < c"},
		{`len(tags) in 1..9`, 15, "ranges"},
		{`vms[1:2] == []`, 4, "slices"},
		{`tags and true`, 1, "this is a list"},
		{`name.upper() == "A"`, 6, "no methods"},
		{`size("24 gigs") > 1`, 6, "units are"},
		{`cidr(address, "10.1.0.0/40")`, 15, "no network"},
		{`date("soon") < now()`, 6, "2031-12-31"},
		{`tag()`, 1, "one value"},
		{`upper == "A"`, 1, "write upper(...)"},
		{`name; true`, 1, "only one expression"},
		{`{a: 1} == nil`, 1, "mappings"},
		{`let name = 1; name == 1`, 5, "choose another name"},
		{`sum([1, 2]) == 3`, 1, "any, all"},
		{`reduce([1], #acc + #) == 3`, 1, "any, all"},
		{`any(tags, #acc)`, 11, "#acc"},
		{`name ?: "x"`, 0, "??"},
		{`$env == nil`, 1, "self"},
		{`2 ** 3 == 8`, 3, "not offered"},
		{`"x"`, 1, "neither true nor false"},
		{`bytes(VM.Memory, "foo") > 1`, 1, "no unit"},
		{strings.Repeat("(", 5000), 1, "4096"},
		{strings.Repeat("1+", 1000) + "1 == 1", 0, "500 parts"},
	} {
		q, err := query.Compile(c.where, query.Options{})
		if err == nil {
			_, err = q.Run(t.Context(), small(t))
		}
		var e *query.Error
		if !errors.As(err, &e) {
			t.Errorf("%.60s: %v", c.where, err)
			continue
		}
		if !strings.Contains(e.Error(), c.says) || c.column > 0 && e.Column != c.column || e.Part != "where" {
			t.Errorf("%.60s: %s\n%s", c.where, e, e.Caret())
		}
		if strings.ContainsAny(e.Error(), "\n\x00") {
			t.Errorf("%.60s: %q", c.where, e.Error())
		}
	}

	_, err := query.Compile("has(Box)\n  and nope(1)", query.Options{})
	var e *query.Error
	if !errors.As(err, &e) || e.Location() != "where:2:7" || e.Caret() != "  and nope(1)\n      ^" || !strings.HasPrefix(e.Error(), "where, line 2, column 7: ") {
		t.Errorf("%v\n%s", err, e.Caret())
	}
}

func TestSelectErrors(t *testing.T) {
	for _, c := range []struct {
		sel    string
		column int
		says   string
	}{
		{"name,,Status", 6, "missing"},
		{"name, netwrk.IP", 7, "did you mean Network?"},
		{"name, x=nope(1)", 9, "no function nope"},
		{"name, bytes(VM.Memory)", 7, "x=bytes(VM.Memory)"},
		{"name,name", 6, "twice"},
		{"=name", 1, "a name is missing"},
		{"Network..IP", 1, "empty part"},
		{strings.Repeat("n,", 3000), 1, "4096"},
	} {
		_, err := query.Compile("", query.Options{Select: c.sel})
		var e *query.Error
		if !errors.As(err, &e) || e.Part != "select" || e.Column != c.column || !strings.Contains(e.Message, c.says) {
			t.Errorf("%.40s: %v", c.sel, err)
		}
	}
	for _, o := range []query.Options{{Limit: -1}, {Limit: query.MaxLimit + 1}, {Sort: "nmae"}} {
		if _, err := query.Compile("", o); !errors.Is(err, hostdb.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	v := small(t)
	for _, c := range []struct{ where, says string }{
		{`"serch" in tags`, `no tag "serch"; did you mean search?`},
		{`Quarantine == true`, `column 1: no document in hosts has a key "Quarantine"`},
		{`name == "b" and Protected`, `where, column 17: for 1 in hosts the value is neither true nor false, such as "maybe" of b`},
		{`Network.IP`, `for 3 in hosts`},
	} {
		if _, warnings := names(t, v, "", c.where); len(warnings) != 1 || !strings.Contains(warnings[0], c.says) {
			t.Errorf("%s: %q", c.where, warnings)
		}
	}
	if _, warnings := names(t, v, "", `MTU == 1500 and "zone" in tags`); len(warnings) != 0 {
		t.Errorf("%q", warnings)
	}
}

func run(t testing.TB, v hostdb.View, where string, o query.Options) query.Result {
	t.Helper()
	q, err := query.Compile(where, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := q.Run(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestForms(t *testing.T) {
	r := run(t, small(t), `name != "e"`, query.Options{Select: `name, Network.IP, Physical Location/Rack Number, cname=Network.cname, Hardware.Asset, mem=bytes(Hardware.Memory), Free text, VM`})
	for form, want := range map[string]string{
		"table": `NAME  NETWORK.IP  PHYSICAL LOCATION/RACK NUMBER  CNAME        HARDWARE.ASSET  MEM          FREE TEXT       VM
a     10.1.0.1    12                             www, static  0755            24000000000  -               -
b     10.2.0.1    12                             mail         -               24576000000  -               -
c     10.1.0.3    r12                            -            -               17179869184  -               {"Box":"a","Memory":"2GiB"}
d     -           -                              -            -               -            a "quoted" one  {"Box":"a"}
`,
		"csv": `name,Network.IP,Physical Location/Rack Number,cname,Hardware.Asset,mem,Free text,VM
a,10.1.0.1,12,"www, static",0755,24000000000,,
b,10.2.0.1,12,mail,,24576000000,,
c,10.1.0.3,r12,,,17179869184,,"{""Box"":""a"",""Memory"":""2GiB""}"
d,,,,,,"a ""quoted"" one","{""Box"":""a""}"
`,
		"json": `[
  {"name": "a", "Network.IP": "10.1.0.1", "Physical Location/Rack Number": 12, "cname": ["www","static"], "Hardware.Asset": "0755", "mem": 24000000000, "Free text": null, "VM": null},
  {"name": "b", "Network.IP": "10.2.0.1", "Physical Location/Rack Number": "12", "cname": "mail", "Hardware.Asset": null, "mem": 24576000000, "Free text": null, "VM": null},
  {"name": "c", "Network.IP": "10.1.0.3", "Physical Location/Rack Number": "r12", "cname": null, "Hardware.Asset": null, "mem": 17179869184, "Free text": null, "VM": {"Box":"a","Memory":"2GiB"}},
  {"name": "d", "Network.IP": null, "Physical Location/Rack Number": null, "cname": null, "Hardware.Asset": null, "mem": null, "Free text": "a \"quoted\" one", "VM": {"Box":"a"}}
]
`,
	} {
		var b bytes.Buffer
		if err := query.Write(&b, form, r); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", form, err, b.String(), want)
		}
	}
	var b bytes.Buffer
	if err := query.Write(&b, "yaml", r); err != nil {
		t.Fatal(err)
	}
	list := document(t, b.String()).Items()
	if len(list) != 4 || list[0].Text("Hardware.Asset") != "0755" || list[0].Text("mem") != "24000000000" || list[3].Text("VM", "Box") != "a" ||
		len(list[0].At("cname").Items()) != 2 || !strings.HasPrefix(b.String(), "- name: a\n  Network.IP: 10.1.0.1\n") {
		t.Errorf("yaml:\n%s", b.String())
	}
	for form, want := range map[string]string{"table": "5\n", "csv": "count\n5\n", "json": "{\"count\":5}\n", "yaml": "count: 5\n"} {
		var b bytes.Buffer
		if err := query.Write(&b, form, run(t, small(t), "", query.Options{CountOnly: true})); err != nil || b.String() != want {
			t.Errorf("count as %s: %v %q", form, err, b.String())
		}
	}
	for form, want := range map[string]string{"json": "[]\n", "yaml": "[]\n", "csv": "name\n", "table": "NAME\n"} {
		var b bytes.Buffer
		if err := query.Write(&b, form, run(t, small(t), "false", query.Options{Select: "name"})); err != nil || b.String() != want {
			t.Errorf("nothing as %s: %v %q", form, err, b.String())
		}
	}
	if err := query.Write(&b, "xml", r); !errors.Is(err, hostdb.ErrInvalid) || !strings.Contains(err.Error(), "table, csv, json, yaml") {
		t.Errorf("xml: %v", err)
	}
}

func keys(r query.Result) string {
	var out []string
	for _, row := range r.Rows {
		out = append(out, row.Key)
	}
	return strings.Join(out, " ")
}

func TestOrderAndPages(t *testing.T) {
	v := small(t)
	for _, c := range []struct {
		o    query.Options
		want string
		more bool
	}{
		{query.Options{Limit: 2}, "a b", true},
		{query.Options{Limit: 2, After: "b"}, "c d", true},
		{query.Options{Limit: 2, After: "d"}, "e", false},
		{query.Options{Sort: "-name", Limit: 2}, "e d", true},
		{query.Options{Select: "name,m=bytes(Hardware.Memory)", Sort: "m"}, "c a b d e", false},
		{query.Options{Select: "name,m=bytes(Hardware.Memory)", Sort: "-m"}, "b a c d e", false},
		{query.Options{Select: "address", Sort: "address", Limit: 3}, "a c b", true},
	} {
		r := run(t, v, "", c.o)
		if got := keys(r); got != c.want || r.More != c.more {
			t.Errorf("%+v: %q, more %v", c.o, got, r.More)
		}
	}
	if r := run(t, v, "", query.Options{Limit: 1}); r.Matched != 5 {
		t.Errorf("%d matched", r.Matched)
	}
}

// TestSystemIsNeverSeen: .system holds sealed secrets.
func TestSystemIsNeverSeen(t *testing.T) {
	v := small(t)
	for _, ns := range []string{hostdb.System, ".default", "nothing"} {
		q, err := query.Compile("", query.Options{In: ns})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Run(t.Context(), v); !errors.Is(err, hostdb.ErrNoNamespace) {
			t.Errorf("%s: %v", ns, err)
		}
		if hit, _ := q.Match(v, ns, "users"); hit {
			t.Errorf("%s matches", ns)
		}
	}
}

func TestMatch(t *testing.T) {
	s := open(t)
	q, err := query.Compile(`len(vms) == 1 or "web" in tags`, query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	match := func(ns, key string) bool {
		hit, err := q.Match(s.View(), ns, key)
		if err != nil {
			t.Error(err)
		}
		return hit
	}
	update(t, s, func(tx *hostdb.Tx) error { return tx.Put("hosts", "box", document(t, "{}")) })
	if match("hosts", "box") || match("hosts", "nobody") || match("tags", "all") {
		t.Error("matches too early")
	}
	update(t, s, func(tx *hostdb.Tx) error { return tx.Put("hosts", "vm", document(t, "{VM: {Box: box}}")) })
	if !match("hosts", "box") || match("hosts", "vm") {
		t.Error("the new machine is not seen")
	}
	update(t, s, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Put("tags", "web", document(t, "{}")), tx.AddMember("tags", "web", "vm"))
	})
	if !match("hosts", "vm") {
		t.Error("the new tag is not seen")
	}
}

// TestConcurrently is for the race detector: one Query, many users.
func TestConcurrently(t *testing.T) {
	v := small(t)
	q, err := query.Compile(`len(vms) > 0 or "example.com" in zones or name matches "^d"`, query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				r, err := q.Run(context.Background(), v)
				if err != nil || keys(r) != "a c d" {
					t.Errorf("%v %v", keys(r), err)
				}
				if hit, err := q.Match(v, "hosts", "a"); !hit || err != nil {
					t.Error(hit, err)
				}
			}
		})
	}
	wg.Wait()
}
