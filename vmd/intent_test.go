package vmd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
	"hostmesh/vmd"
)

// fatal is of testing.T and rapid.T.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// intentSite is a replica with what machines need: a network with a pool, one without, tags, and another host.
type intentSite struct {
	t     fatal
	store *hostdb.Store
	now   time.Time
}

func (s *intentSite) Now() time.Time { s.now = s.now.Add(time.Second); return s.now }

func newIntentSite(t fatal) *intentSite {
	t.Helper()
	s := &intentSite{t: t, now: time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)}
	memory := hostdbtest.NewMemory()
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: "n", Validator: section.Validator{}, Clock: s,
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	s.store = store
	s.must(func(tx *hostdb.Tx) error {
		return errors.Join(
			putDoc(tx, "tags/prod", "{Subnet: {CIDR: 10.1.0.0/16, Gateway: 10.1.0.1, Pool: 10.1.128.0/17, VIPs: 10.1.0.48/28}}"),
			putDoc(tx, "tags/oob", "{Subnet: {CIDR: 10.2.0.0/24}}"), putDoc(tx, "tags/web", "{}"), putDoc(tx, "tags/shop", "{}"),
			putDoc(tx, "hosts/old1", "{Network: {IP: 10.1.0.7, FQDN: old1.dc1.example.com, cname: [files]}}"),
			tx.CreateNamespace("teams"), putDoc(tx, "teams/red", "{}"),
		)
	})
	return s
}

func putDoc(tx *hostdb.Tx, id, yaml string) error {
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		return err
	}
	ns, key, _ := strings.Cut(id, "/")
	return tx.Put(ns, key, doc)
}

func (s *intentSite) do(fn func(tx *hostdb.Tx) error) (hostdb.Commit, error) {
	s.t.Helper()
	return s.store.Update(context.Background(), hostdb.Request{User: "alice", Log: "test"}, fn)
}

func (s *intentSite) must(fn func(tx *hostdb.Tx) error) hostdb.Commit {
	s.t.Helper()
	c, err := s.do(fn)
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return c
}

// testImages is a catalogue: names and the sizes of the disks they make.
type testImages map[string]int64

func (c testImages) Image(_ hostdb.View, name string) (int64, error) {
	size, ok := c[name]
	if !ok {
		return 0, fmt.Errorf("image %s: %w: it is not in the catalogue", name, hostdb.ErrNotFound)
	}
	return size, nil
}

var catalog = testImages{"debian-12": 2 << 30, "kernel": 0}

func (s *intentSite) create(w vmd.NewMachine) (out vmd.Entered, c hostdb.Commit, err error) {
	c, err = s.do(func(tx *hostdb.Tx) (err error) {
		out, err = vmd.Create(tx, catalog, w)
		return err
	})
	return out, c, err
}

func web7() vmd.NewMachine {
	return vmd.NewMachine{Name: "web7", Image: "debian-12", Subnet: "prod", CPUs: 2, Memory: "2GiB", Disk: "20GiB", Tags: []string{"web", "shop", "web"}}
}

func TestCreate(t *testing.T) {
	s := newIntentSite(t)
	w := web7()
	w.Protected, w.Owner, w.Expires = true, "shop", "2031-12-31"
	first, c, err := s.create(w)
	if err != nil || !first.New || !c.Changed() {
		t.Fatalf("%+v %v", first, err)
	}
	v := s.store.View()
	want := "Expires: 2031-12-31\nOwner: shop\nProtected: true\nStatus: active\nVM:\n  CPUs: 2\n  Disk: 20GiB\n  Image: debian-12\n  Memory: 2GiB\n  Subnet: prod\n  UUID: " + first.UUID + "\n"
	if got := v.Data("hosts", "web7").YAML(); strings.ReplaceAll(got, "'", "") != want {
		t.Errorf("the entry is\n%s\nwant\n%s", got, want)
	}
	if tags := v.Parents("web7", "tags"); !slices.Equal(tags, []string{"all", "shop", "web"}) {
		t.Errorf("its tags are %q", tags)
	}
	if n := len(c.Effects); n == 0 || c.Warnings != nil {
		t.Errorf("%d effects, warnings %q", n, c.Warnings)
	}
	host, problems := section.HostOf(v.Data("hosts", "web7"))
	if len(problems) > 0 || host.VM.UUID[14] != '4' || !host.VM.Power || host.VM.Box != "" {
		t.Errorf("%+v %v", host.VM, problems)
	}
	// The same again, also after a box has taken it and somebody has stopped it.
	s.must(func(tx *hostdb.Tx) error {
		_, err := vmd.SetPower(tx, "web7", false, "why")
		return errors.Join(err, tx.PutPath("hosts", "web7", []string{"VM", "Box"}, doc(t, "box1")), tx.PutPath("hosts", "web7", []string{"Network"}, doc(t, "{IP: 10.1.128.4}")))
	})
	again, c, err := s.create(w)
	if err != nil || again.New || again.UUID != first.UUID || c.Changed() {
		t.Errorf("the same wish again: %+v %v", again, err)
	}
	w.Memory = "2048MiB"
	if _, c, err = s.create(w); err != nil || c.Changed() {
		t.Errorf("the same in other words: %v", err)
	}
	for _, x := range []struct {
		name string
		with func(w *vmd.NewMachine)
		want string
	}{
		{"image", func(w *vmd.NewMachine) { w.Image = "kernel" }, "its Image is debian-12, not kernel"},
		{"subnet", func(w *vmd.NewMachine) { w.Subnet = "oob" }, "its Subnet is prod, not oob"},
		{"cpus", func(w *vmd.NewMachine) { w.CPUs = 0 }, "its number of CPUs is 2, not 1"},
		{"memory", func(w *vmd.NewMachine) { w.Memory = "" }, "its Memory is 2GiB, not 1GiB"},
		{"disk", func(w *vmd.NewMachine) { w.Disk = "" }, "its Disk is 20GiB, not the image's"},
		{"address", func(w *vmd.NewMachine) { w.IP = "10.1.0.9" }, "its address is 10.1.128.4, not 10.1.0.9"},
		{"protection", func(w *vmd.NewMachine) { w.Protected = false }, "its protection is true, not false"},
		{"owner", func(w *vmd.NewMachine) { w.Owner = "" }, "its Owner is shop, not none"},
		{"end", func(w *vmd.NewMachine) { w.Expires = "2032-01-01" }, "its Expires is 2031-12-31, not 2032-01-01"},
		{"tag", func(w *vmd.NewMachine) { w.Tags = []string{"oob"} }, "is no member of tags/oob: hostmesh tag add web7 oob"},
	} {
		other := w
		x.with(&other)
		if _, _, err := s.create(other); !errors.Is(err, hostdb.ErrExists) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("another %s: %v, want %q", x.name, err, x.want)
		}
	}
}

func doc(t *testing.T, yaml string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCreateRefused: each wish that cannot be says what, where and what to do, and nothing is written.
func TestCreateRefused(t *testing.T) {
	s := newIntentSite(t)
	for _, c := range []struct {
		name string
		with func(w *vmd.NewMachine)
		kind error
		want string
	}{
		{"no name", func(w *vmd.NewMachine) { w.Name = "" }, hostdb.ErrBadName, "must not be empty"},
		{"capitals", func(w *vmd.NewMachine) { w.Name = "Web7" }, hostdb.ErrBadName, `'W' is not among the lower-case letters`},
		{"underscore", func(w *vmd.NewMachine) { w.Name = "web_7" }, hostdb.ErrBadName, `'_' is not among`},
		{"a pattern", func(w *vmd.NewMachine) { w.Name = "web%d" }, hostdb.ErrBadName, `'%' is not among`},
		{"empty label", func(w *vmd.NewMachine) { w.Name = "web7..example.com" }, hostdb.ErrBadName, "empty label"},
		{"hyphen", func(w *vmd.NewMachine) { w.Name = "web7-.example.com" }, hostdb.ErrBadName, "web7- begins or ends with a hyphen"},
		{"long label", func(w *vmd.NewMachine) { w.Name = strings.Repeat("w", 64) }, hostdb.ErrBadName, "at most 63"},
		{"an address", func(w *vmd.NewMachine) { w.Name = "10.1.0.9" }, hostdb.ErrBadName, "it is an address"},
		{"a host", func(w *vmd.NewMachine) { w.Name = "old1" }, hostdb.ErrExists, "is no virtual machine: take another name"},
		{"another's name", func(w *vmd.NewMachine) { w.Name = "old1.dc1.example.com" }, hostdb.ErrExists, "a name of hosts/old1"},
		{"no image", func(w *vmd.NewMachine) { w.Image = "" }, hostdb.ErrInvalid, "hostmesh image list"},
		{"unknown image", func(w *vmd.NewMachine) { w.Image = "debian-13" }, hostdb.ErrNotFound, "web7: image debian-13"},
		{"small disk", func(w *vmd.NewMachine) { w.Disk = "1GiB" }, hostdb.ErrInvalid, "a disk of 1GiB is smaller than the image debian-12: give it at least 2GiB"},
		{"bad memory", func(w *vmd.NewMachine) { w.Memory = "2G" }, hostdb.ErrInvalid, "VM/Memory"},
		{"bad cpus", func(w *vmd.NewMachine) { w.CPUs = -1 }, hostdb.ErrInvalid, "VM/CPUs"},
		{"bad end", func(w *vmd.NewMachine) { w.Expires = "soon" }, hostdb.ErrInvalid, "Expires"},
		{"no subnet", func(w *vmd.NewMachine) { w.Subnet = "" }, hostdb.ErrInvalid, "no tag is named; name one that has a Subnet"},
		{"unknown subnet", func(w *vmd.NewMachine) { w.Subnet = "prot" }, hostdb.ErrInvalid, "tags/prot does not exist"},
		{"no network", func(w *vmd.NewMachine) { w.Subnet = "web" }, hostdb.ErrInvalid, "tags/web has no Subnet section"},
		{"no pool", func(w *vmd.NewMachine) { w.Subnet = "oob" }, hostdb.ErrInvalid, "tags/oob has no Pool"},
		{"unknown tag", func(w *vmd.NewMachine) { w.Tags = []string{"shops"} }, hostdb.ErrInvalid, "tags/shops does not exist; did you mean shop?"},
		{"tag all", func(w *vmd.NewMachine) { w.Tags = []string{"all"} }, nil, "all"},
		{"bad address", func(w *vmd.NewMachine) { w.IP = "10.1.0" }, hostdb.ErrInvalid, "Network/IP"},
		{"address elsewhere", func(w *vmd.NewMachine) { w.IP = "10.3.0.9" }, hostdb.ErrInvalid, "it is not in CIDR 10.1.0.0/16 of tags/prod"},
		{"gateway", func(w *vmd.NewMachine) { w.IP = "10.1.0.1" }, hostdb.ErrInvalid, "it is the gateway"},
		{"network", func(w *vmd.NewMachine) { w.IP = "10.1.0.0" }, hostdb.ErrInvalid, "network"},
		{"broadcast", func(w *vmd.NewMachine) { w.Subnet, w.IP = "oob", "10.2.0.255" }, hostdb.ErrInvalid, "broadcast"},
		{"virtual", func(w *vmd.NewMachine) { w.IP = "10.1.0.50" }, hostdb.ErrInvalid, "VIPs"},
		{"of the pool", func(w *vmd.NewMachine) { w.IP = "10.1.128.9" }, hostdb.ErrInvalid, "lies in the Pool"},
		{"in use", func(w *vmd.NewMachine) { w.IP = "10.1.0.7" }, hostdb.ErrInvalid, "it is that of hosts/old1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := web7()
			c.with(&w)
			version := s.store.View().Version().String()
			_, _, err := s.create(w)
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if s.store.View().Version().String() != version {
				t.Error("something was written")
			}
		})
	}
	for _, ip := range []string{"10.1.0.9", "10.2.0.1"} {
		w := web7()
		if w.IP = ip; ip == "10.2.0.1" {
			w.Name, w.Subnet = "web8", "oob"
		}
		if _, _, err := s.create(w); err != nil {
			t.Errorf("with the address %s: %v", ip, err)
		}
	}
}

func TestPower(t *testing.T) {
	s := newIntentSite(t)
	w := web7()
	if _, _, err := s.create(w); err != nil {
		t.Fatal(err)
	}
	power := func(name string, on bool, override string) (changed bool, c hostdb.Commit, err error) {
		c, err = s.do(func(tx *hostdb.Tx) (err error) {
			changed, err = vmd.SetPower(tx, name, on, override)
			return err
		})
		return changed, c, err
	}
	for _, x := range []struct {
		on, changed bool
	}{{true, false}, {false, true}, {false, false}, {true, true}, {true, false}} {
		changed, c, err := power("web7", x.on, "")
		host, _ := section.HostOf(s.store.View().Data("hosts", "web7"))
		if err != nil || changed != x.changed || c.Changed() != x.changed || host.VM.Power != x.on {
			t.Errorf("power %v: changed %v, is %v, %v", x.on, changed, host.VM.Power, err)
		}
	}
	s.must(func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web7", []string{"Protected"}, doc(t, "true")) })
	if _, _, err := power("web7", false, ""); !errors.Is(err, hostdb.ErrProtected) {
		t.Errorf("a protected machine: %v", err)
	}
	if changed, _, err := power("web7", false, "fire"); err != nil || !changed {
		t.Errorf("with a reason: %v", err)
	}
	s.must(func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web7", []string{"Status"}, doc(t, "retired")) })
	if _, _, err := power("web7", true, ""); !errors.Is(err, hostdb.ErrInvalid) || !strings.Contains(err.Error(), "retired") {
		t.Errorf("a retired machine: %v", err)
	}
	for name, kind := range map[string]error{"old1": hostdb.ErrInvalid, "none": hostdb.ErrNotFound, "files": hostdb.ErrNotFound} {
		if _, _, err := power(name, true, ""); !errors.Is(err, kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *intentSite) destroy(name string) error {
	_, err := s.do(func(tx *hostdb.Tx) error { return vmd.Destroy(tx, name) })
	return err
}

func (s *intentSite) undelete(name string) (left []string, err error) {
	d, err := vmd.FindDeletion(context.Background(), s.store, name)
	if err != nil {
		return nil, err
	}
	_, err = s.do(func(tx *hostdb.Tx) (err error) {
		left, err = vmd.Undelete(tx, d)
		return err
	})
	return left, err
}

// TestUndelete: what comes back, and what does not.
func TestUndelete(t *testing.T) {
	s := newIntentSite(t)
	first, _, err := s.create(web7())
	if err != nil {
		t.Fatal(err)
	}
	list, err := hostdb.ParseMembers("# first\nold1\n# ours\nweb7\n# the end\n")
	if err != nil {
		t.Fatal(err)
	}
	s.must(func(tx *hostdb.Tx) error {
		return errors.Join(putDoc(tx, "hosts/old2", "{}"), tx.SetMembers("tags", "web", list), tx.AddMember("teams", "red", "web7"), tx.AddMember("teams", "red", "old2"))
	})
	before := s.store.View()
	if _, err := s.undelete("web7"); !errors.Is(err, hostdb.ErrExists) {
		t.Errorf("what is there: %v", err)
	}
	if err := s.destroy("web7"); err != nil {
		t.Fatal(err)
	}
	if v := s.store.View(); v.Exists("hosts", "web7") || len(v.Holders("tags", "web7")) > 0 {
		t.Error("it is there")
	}
	if left, err := s.undelete("web7"); err != nil || left != nil {
		t.Fatalf("%q %v", left, err)
	}
	for id, what := range differs(before, s.store.View(), "web7") {
		t.Errorf("%s: %s", id, what)
	}
	for _, id := range []string{"tags/web", "teams/red"} {
		ns, key, _ := strings.Cut(id, "/")
		if was, is := before.RawMembers(ns, key), s.store.View().RawMembers(ns, key); was != is {
			t.Errorf("the list of %s is\n%s\nwas\n%s", id, is, was)
		}
	}

	if err := s.destroy("web7"); err != nil {
		t.Fatal(err)
	}
	s.must(func(tx *hostdb.Tx) error { return tx.Delete("tags", "shop") })
	left, err := s.undelete("web7")
	if err != nil || !slices.Equal(left, []string{"tags/shop"}) {
		t.Errorf("a tag is gone: %q %v", left, err)
	}
	if got := s.store.View().Data("hosts", "web7").Text("VM", "UUID"); got != first.UUID {
		t.Errorf("another machine: %s", got)
	}

	// Who took its place, its address or its identity meanwhile.
	s.must(func(tx *hostdb.Tx) error {
		return tx.PutPath("hosts", "web7", []string{"Network"}, doc(t, "{IP: 10.1.128.4}"))
	})
	if err := s.destroy("web7"); err != nil {
		t.Fatal(err)
	}
	d, err := vmd.FindDeletion(t.Context(), s.store, "web7")
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{
		"the address of web7, 10.1.128.4, is that of hosts/x": "{Network: {IP: 10.1.128.4}}",
		"its VM/UUID is the same":                             "{VM: {UUID: " + strings.ToUpper(first.UUID) + "}}",
	} {
		s.must(func(tx *hostdb.Tx) error { return putDoc(tx, "hosts/x", other) })
		if _, err := s.undelete("web7"); !errors.Is(err, hostdb.ErrExists) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		s.must(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "x") })
	}
	if _, _, err := s.create(web7()); err == nil { // tags/shop is gone
		t.Error("created with a tag that is gone")
	}
	w := web7()
	w.Tags = nil
	if _, _, err := s.create(w); err != nil {
		t.Fatal(err)
	}
	_, err = s.do(func(tx *hostdb.Tx) error { _, err := vmd.Undelete(tx, d); return err })
	if !errors.Is(err, hostdb.ErrExists) {
		t.Errorf("made anew meanwhile: %v", err)
	}

	s.must(func(tx *hostdb.Tx) error { return tx.Rename("hosts", "web7", "web8") })
	if _, err := s.undelete("web7"); !errors.Is(err, hostdb.ErrNotFound) || !strings.Contains(err.Error(), "it is called web8") {
		t.Errorf("renamed: %v", err)
	}
	if err := s.destroy("old1"); !errors.Is(err, hostdb.ErrInvalid) {
		t.Errorf("destroy of a host that is no machine: %v", err)
	}
	s.must(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "old1") })
	if _, err := s.undelete("old1"); !errors.Is(err, hostdb.ErrInvalid) || !strings.Contains(err.Error(), "hostmesh db undo ") {
		t.Errorf("no machine: %v", err)
	}
	if _, err := s.undelete("never"); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("never there: %v", err)
	}
}

// differs tells what of a host two states do not have alike: data, access list, and lists.
func differs(was, is hostdb.View, name string) map[string]string {
	out := map[string]string{}
	if a, b := was.Data("hosts", name).YAML(), is.Data("hosts", name).YAML(); a != b {
		out["hosts/"+name] = "data\n" + b + "was\n" + a
	}
	a, _ := was.Perms("hosts", name)
	b, _ := is.Perms("hosts", name)
	if a.YAML() != b.YAML() {
		out["hosts/"+name+"/perms"] = b.YAML() + " was " + a.YAML()
	}
	for _, ns := range was.Namespaces() {
		if a, b := was.Holders(ns, name), is.Holders(ns, name); !slices.Equal(a, b) {
			out[ns] = fmt.Sprintf("member of %q, was of %q", b, a)
		}
	}
	return out
}

// TestUndeleteBringsBackWhatWas: after any writes, a machine that was destroyed and undeleted is as it was, in all lists
// that are still there, and nobody else is changed.
func TestUndeleteBringsBackWhatWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newIntentSite(t)
		names := []string{"m1", "m2", "m3"}
		ids := []string{"tags/web", "tags/shop", "tags/oob", "teams/red"}
		name := rapid.SampledFrom(names)
		write := func(around bool) {
			n := rapid.IntRange(0, 8).Draw(t, "writes")
			for range n {
				who := name.Draw(t, "who")
				if around { // of the others, while m1 is gone
					who = rapid.SampledFrom(names[1:]).Draw(t, "other")
				}
				id := rapid.SampledFrom(ids).Draw(t, "list")
				ns, key, _ := strings.Cut(id, "/")
				op := rapid.IntRange(0, 6).Draw(t, "op")
				// What cannot be done now (a name that is not there) is another write that was refused.
				_, _ = s.do(func(tx *hostdb.Tx) error {
					switch op {
					case 0:
						_, err := vmd.Create(tx, catalog, vmd.NewMachine{Name: who, Image: "debian-12", Subnet: "prod", Tags: []string{"web"}})
						return err
					case 1:
						return tx.AddMember(ns, key, who)
					case 2:
						return tx.RemoveMember(ns, key, who)
					case 3:
						_, err := vmd.SetPower(tx, who, rapid.Bool().Draw(t, "on"), "")
						return err
					case 4:
						acl, err := hostdb.ParseACL([]byte("{bob: {data: RW}}"))
						return errors.Join(err, tx.SetPerms("hosts", who, acl))
					case 5:
						list := []hostdb.Member{{Name: who, Text: "# who\n"}}
						for _, other := range names {
							if other != who && tx.View().Exists("hosts", other) && rapid.Bool().Draw(t, "too") {
								list = append(list, hostdb.Member{Name: other})
							}
						}
						return tx.SetMembers(ns, key, list)
					default:
						return vmd.Destroy(tx, who)
					}
				})
			}
		}
		write(false)
		if !s.store.View().Exists("hosts", "m1") {
			s.must(func(tx *hostdb.Tx) error {
				_, err := vmd.Create(tx, catalog, vmd.NewMachine{Name: "m1", Image: "debian-12", Subnet: "prod", Tags: []string{"shop"}})
				return err
			})
		}
		was := s.store.View()
		if err := s.destroy("m1"); err != nil {
			t.Fatalf("%v", err)
		}
		write(true)
		gone := s.store.View()
		if _, err := s.undelete("m1"); err != nil {
			t.Fatalf("%v", err)
		}
		is := s.store.View()
		for id, what := range differs(was, is, "m1") {
			t.Errorf("%s: %s", id, what)
		}
		for _, other := range names[1:] {
			for id, what := range differs(gone, is, other) {
				t.Errorf("of %s: %s: %s", other, id, what)
			}
		}
		// The lists are those of before in the same order, with it in its place.
		for _, id := range ids {
			ns, key, _ := strings.Cut(id, "/")
			var others []string
			for _, m := range is.DirectMembers(ns, key) {
				if m.Name != "m1" && m.Name != "" {
					others = append(others, m.Name)
				}
			}
			var want []string
			for _, m := range gone.DirectMembers(ns, key) {
				if m.Name != "" {
					want = append(want, m.Name)
				}
			}
			if !slices.Equal(others, want) {
				t.Errorf("%s: the others are %q, were %q", id, others, want)
			}
		}
	})
}
