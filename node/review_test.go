package node

import (
	"context"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

// askedSite keeps which machine a box was asked about.
type askedSite struct {
	*vmSite
	asked []string
}

func (s *askedSite) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	var q struct {
		UUID string `cbor:"1,keyasint"`
	}
	if err := vmd.Decode(req, &q); err != nil {
		return nil, err
	}
	s.asked = append(s.asked, name+" "+q.UUID)
	if name == vmd.CallConsole {
		return vmd.Encode(vmd.ConsolePart{Data: []byte("root password: swordfish")}), nil
	}
	return s.vmSite.Call(ctx, node, name, req)
}

func reviewACL(t *testing.T, s *vmSite, host, acl string) {
	t.Helper()
	a, err := hostdb.ParseACL([]byte(acl))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.SetPerms(hostdb.Hosts, host, a) }); err != nil {
		t.Fatal(err)
	}
}

// TestReviewAnothersUUID: eve may write hosts/evil and nothing else. She enters the UUID of bob's machine there. That gives her
// neither its console nor its power.
func TestReviewAnothersUUID(t *testing.T) {
	s := newVMSite(t)
	site := &askedSite{vmSite: s}
	d := s.desk()
	d.net = site
	eve := api.Identity{User: "eve"}
	s.put("web7", "{VM: {Image: i, UUID: "+uuid1+", Box: box1}}")
	reviewACL(t, s, "web7", "{bob: {data: RW}}")
	s.report("box1", map[string]report.VM{uuid1: running("web7")})
	s.put("evil", "{VM: {Image: i, UUID: "+uuid1+"}}")
	reviewACL(t, s, "evil", "{eve: {data: RW}}")
	if _, err := d.VMConsole(t.Context(), eve, "web7", 0, 0); err == nil {
		t.Fatal("eve reads web7 directly")
	}
	if c, err := d.VMConsole(t.Context(), eve, "evil", 0, 0); err == nil {
		t.Errorf("eve reads bob's console as that of evil: %q", c.Data)
	}
	if _, err := d.RebootVM(t.Context(), eve, "evil", api.VMReboot{Hard: true}); err == nil {
		t.Errorf("eve resets bob's machine: %q", site.asked)
	}
}

// TestReviewPurgeOfAnotherOfTheName: two machines of one name were deleted, and both are kept. Purging "the" one must not choose by
// UUID, and who could write the last entry of the name may not purge the machine of another's former entry.
func TestReviewPurgeOfAnotherOfTheName(t *testing.T) {
	const old, young = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	s := newVMSite(t)
	site := &askedSite{vmSite: s}
	d := s.desk()
	d.net = site
	eve := api.Identity{User: "eve"}
	remove := func() {
		t.Helper()
		if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, "web7") }); err != nil {
			t.Fatal(err)
		}
	}
	s.put("web7", "{VM: {Image: i, UUID: "+old+", Box: box1}}")
	reviewACL(t, s, "web7", "{bob: {data: RW}}")
	remove()
	// eve makes a machine of the name that is free again, and deletes it.
	s.put("web7", "{VM: {Image: i, UUID: "+young+", Box: box1}}")
	reviewACL(t, s, "web7", "{eve: {data: RW}}")
	remove()
	kept := report.VM{Name: "web7", Phase: report.Deleted, Until: time.Now().Add(time.Hour).UnixMilli()}
	s.report("box1", map[string]report.VM{old: kept, young: kept})
	if _, err := d.PurgeVM(t.Context(), eve, "web7", api.VMPurge{}); err != nil {
		t.Logf("refused: %v", err)
		return
	}
	for _, a := range site.asked {
		if a == vmd.CallPurge+" "+old {
			t.Errorf("eve purged the disks of bob's machine %s, whose entry she never could write", old)
		}
	}
}
