package node

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/lbd/mysqlha"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

// keptRecords are the records of a lease group, in memory.
type keptRecords struct {
	vmd.Records
	kept    map[string]lease.Record
	away    error
	version uint64
}

func (k *keptRecords) cluster(t *testing.T, tag string, r mysqlha.Record) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	k.kept[mysqlha.RecordKey(tag)] = lease.Record{Key: mysqlha.RecordKey(tag), Value: text, Version: 1}
}

func (k *keptRecords) List(_ context.Context, prefix string) (c lease.Changes, err error) {
	if k.away != nil {
		return lease.Changes{}, k.away
	}
	for key, r := range k.kept {
		if strings.HasPrefix(key, prefix) {
			c.Records = append(c.Records, r)
		}
	}
	return c, nil
}

func (k *keptRecords) Get(_ context.Context, key string) (lease.Record, error) {
	if r, ok := k.kept[key]; ok {
		return r, nil
	}
	return lease.Record{}, lease.ErrNotFound
}

func (k *keptRecords) Put(_ context.Context, key string, value []byte, version uint64) (uint64, error) {
	if k.kept[key].Version != version {
		return 0, lease.ErrConflict
	}
	k.version++
	k.kept[key] = lease.Record{Key: key, Value: value, Version: k.version}
	return k.version, nil
}

// guarded is a site with a cluster of two machines, and its desk. Their names are box1 and box2, for those are the nodes of the site.
func guarded(t *testing.T) (*vmSite, *vmDesk, *keptRecords) {
	t.Helper()
	s := newVMSite(t)
	k := &keptRecords{kept: map[string]lease.Record{}}
	doc, err := hostdb.ParseDocument([]byte("MySQL: {VIP: 10.1.0.60, Credentials: shop}"))
	if err != nil {
		t.Fatal(err)
	}
	s.put("box1", "{VM: {Image: i, UUID: "+uuid1+", Box: elsewhere}}")
	s.put("box2", "{VM: {Image: i, UUID: "+uuid2+", Box: elsewhere}}")
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error {
		members, err := hostdb.ParseMembers("box1\nbox2")
		return errors.Join(err, tx.Put(hostdb.Tags, "shop-db", doc), tx.SetMembers(hostdb.Tags, "shop-db", members))
	}); err != nil {
		t.Fatal(err)
	}
	d := s.desk()
	d.records = func() (vmRecords, error) { return k, nil }
	d.leads = clusterGuard{db: s.store.View, mesh: s.View, list: k.List}.leads
	return s, d, k
}

// says has the agent on a host say what its server does.
func (s *vmSite) says(name, role string) {
	s.n++
	s.mv = s.mv.WithReport(report.Report{Node: box(name), Boot: 1, N: s.n, Box: &report.Box{}, MySQL: map[string]report.MySQL{"shop-db": {Process: "running", Role: role}}})
}

func TestClusterGuard(t *testing.T) {
	s, d, k := guarded(t)
	ask := func(host string) string { return d.leads(t.Context(), host) }
	expect := func(when, host, part string) {
		t.Helper()
		if got := ask(host); part == "" && got != "" || !strings.Contains(got, part) {
			t.Errorf("%s: %s: %q, want %q", when, host, got, part)
		}
	}
	expect("nobody has set it up", "box1", "")
	k.cluster(t, "shop-db", mysqlha.Record{Format: 1, Primary: "box1"})
	expect("by the record", "box1", "hostmesh mysql switchover shop-db")
	expect("by the record", "box2", "")
	s.says("box2", "primary")
	expect("by its agent", "box2", "tags/shop-db")
	s.says("box2", "replica")
	expect("by its agent", "box2", "")
	k.away = lease.ErrNoLeader
	expect("without a quorum a replica is one", "box2", "")
	expect("without a quorum nobody knows", "box1", "cannot be told")
	k.away = nil
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Delete(hostdb.Hosts, "box1"), tx.Delete(hostdb.Tags, "shop-db"))
	}); err != nil {
		t.Fatal(err)
	}
	expect("an import took the host and the tag", "box1", "hostmesh vm undelete box1")
	expect("the tag is no cluster any more", "box2", "")
	k.kept[mysqlha.RecordKey("shop-db")] = lease.Record{Key: mysqlha.RecordKey("shop-db"), Value: []byte("{")}
	expect("a record that cannot be read, and the tag is gone", "box2", "")
}

// TestMemberProblems: what the doctor says of members on which no agent leads a server.
func TestMemberProblems(t *testing.T) {
	s, _, _ := guarded(t)
	s.put("db3", "{Network: {IP: 10.1.0.13}}")
	members, err := hostdb.ParseMembers("box1\nbox2\ndb3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, "shop-db", members) }); err != nil {
		t.Fatal(err)
	}
	s.says("box1", "primary")
	var got []string
	for _, p := range memberProblems(s.store.View(), s.mv) {
		got = append(got, p.Text)
	}
	if len(got) != 1 || !strings.Contains(got[0], "hosts/db3") || !strings.Contains(got[0], "no agent of the mesh") {
		t.Errorf("one that has not reported yet is not judged, one without an agent is: %q", got)
	}
	s.report("box2", nil)
	problems := memberProblems(s.store.View(), s.mv)
	if len(problems) != 2 || !strings.Contains(problems[1].Text, "hosts/box2 knows of no server") || !strings.Contains(problems[1].Remedy, "credentials.d/shop.yaml") {
		t.Errorf("%+v", problems)
	}
	s.says("box2", "replica")
	if problems := memberProblems(s.store.View(), s.mv); len(problems) != 1 {
		t.Errorf("%+v", problems)
	}
}

// TestPrimaryIsNotStopped: by none of the ways that people have, unless they say why.
func TestPrimaryIsNotStopped(t *testing.T) {
	root := api.Identity{User: "root", Admin: true}
	for name, do := range map[string]func(d *vmDesk, ctx context.Context, override string) error{
		"reboot": func(d *vmDesk, ctx context.Context, override string) error {
			_, err := d.RebootVM(ctx, root, "box1", api.VMReboot{Override: override})
			return err
		},
		"stop": func(d *vmDesk, ctx context.Context, override string) error {
			_, err := d.SetVMPower(ctx, root, "box1", api.VMPower{Override: override, Log: "x"})
			return err
		},
		"destroy": func(d *vmDesk, ctx context.Context, override string) error {
			_, err := d.DestroyVM(ctx, root, "box1", api.VMOrder{Override: override, Log: "x"})
			return err
		},
	} {
		s, d, k := guarded(t)
		k.cluster(t, "shop-db", mysqlha.Record{Format: 1, Primary: "box1"})
		site := &askedSite{vmSite: s}
		d.net = site
		s.report("box2", map[string]report.VM{uuid1: running("box1")})
		err := do(d, t.Context(), "")
		if !errors.Is(err, hostdb.ErrProtected) || !strings.Contains(err.Error(), "hostmesh mysql switchover shop-db") || !strings.Contains(err.Error(), "to "+name+" it") {
			t.Errorf("%s: %v", name, err)
		}
		if doc := s.store.View().Data(hostdb.Hosts, "box1"); len(site.asked) > 0 || doc.Text("VM", "UUID") != uuid1 || doc.Text("VM", "Power") != "" {
			t.Errorf("%s was refused, and done", name)
		}
		if err := do(d, t.Context(), "it burns"); err != nil {
			t.Errorf("%s with a reason: %v", name, err)
		}
		approved, _, err := vmd.ReadDestroys(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if want := name == "destroy"; want != (len(approved.Approved) == 1 && approved.Approved[0].UUID == uuid1 && approved.Approved[0].By == "root") {
			t.Errorf("after %s approved are %+v: its box would wait, or need not have", name, approved.Approved)
		}
		if name == "stop" {
			if err := func() error {
				_, err := d.SetVMPower(t.Context(), root, "box1", api.VMPower{On: true, Log: "x"})
				return err
			}(); err != nil {
				t.Errorf("start: %v", err)
			}
		}
	}
}
