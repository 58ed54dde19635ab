package node

import (
	"context"
	"errors"
	"slices"
	"strings"
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

func putACL(t *testing.T, s *vmSite, host, acl string) {
	t.Helper()
	a, err := hostdb.ParseACL([]byte(acl))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.SetPerms(hostdb.Hosts, host, a) }); err != nil {
		t.Fatal(err)
	}
}

// TestVMAnothersUUID: eve may write hosts/evil and nothing else. She enters the UUID of bob's machine there. That gives her
// neither its console nor its power.
func TestVMAnothersUUID(t *testing.T) {
	s := newVMSite(t)
	site := &askedSite{vmSite: s}
	d := s.desk()
	d.net = site
	eve := api.Identity{User: "eve"}
	s.put("web7", "{VM: {Image: i, UUID: "+uuid1+", Box: box1}}")
	putACL(t, s, "web7", "{bob: {data: RW}}")
	s.report("box1", map[string]report.VM{uuid1: running("web7")})
	s.put("evil", "{VM: {Image: i, UUID: "+uuid1+"}}")
	putACL(t, s, "evil", "{eve: {data: RW}}")
	if _, err := d.VMConsole(t.Context(), eve, "web7", 0, 0); err == nil {
		t.Fatal("eve reads web7 directly")
	}
	if c, err := d.VMConsole(t.Context(), eve, "evil", 0, 0); err == nil {
		t.Errorf("eve reads bob's console as that of evil: %q", c.Data)
	}
	if _, err := d.RebootVM(t.Context(), eve, "evil", api.VMReboot{Hard: true}); err == nil {
		t.Errorf("eve resets bob's machine: %q", site.asked)
	}
	// Nobody can tell whose it is while two entries say so, and the refusal names both.
	if _, err := d.RebootVM(t.Context(), api.Identity{User: "bob"}, "web7", api.VMReboot{}); !errors.Is(err, api.ErrVMState) ||
		!strings.Contains(err.Error(), "hosts/evil and hosts/web7") {
		t.Errorf("two entries: %v", err)
	}
	// Alone it gives her nothing either, for the box has the machine as web7.
	if _, err := s.store.Update(t.Context(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, "web7") }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.VMConsole(t.Context(), eve, "evil", 0, 0); !errors.Is(err, api.ErrVMState) || !strings.Contains(err.Error(), "as web7") {
		t.Errorf("a report of another name: %v", err)
	}
	if len(site.asked) > 0 {
		t.Errorf("asked: %q", site.asked)
	}
}

// TestVMPurgeOfAnotherOfTheName: two machines of one name were deleted, and both are kept. Purging "the" one must not choose by
// UUID, and who could write the last entry of the name may not purge the machine of another's former entry.
func TestVMPurgeOfAnotherOfTheName(t *testing.T) {
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
	putACL(t, s, "web7", "{bob: {data: RW}}")
	remove()
	// eve makes a machine of the name that is free again, and deletes it.
	s.put("web7", "{VM: {Image: i, UUID: "+young+", Box: box1}}")
	putACL(t, s, "web7", "{eve: {data: RW}}")
	remove()
	kept := report.VM{Name: "web7", Phase: report.Deleted, Until: time.Now().Add(time.Hour).UnixMilli()}
	s.report("box1", map[string]report.VM{old: kept, young: kept})
	root := api.Identity{User: "root", Admin: true}
	if _, err := d.PurgeVM(t.Context(), root, "web7", api.VMPurge{}); !errors.Is(err, api.ErrVMState) || !strings.Contains(err.Error(), old) || !strings.Contains(err.Error(), young) {
		t.Errorf("which of two: %v", err)
	}
	if _, err := d.PurgeVM(t.Context(), eve, "web7", api.VMPurge{UUID: old}); err == nil {
		t.Error("eve names bob's machine, and is not refused")
	}
	if _, err := d.PurgeVM(t.Context(), eve, "web7", api.VMPurge{}); err != nil {
		t.Errorf("eve's own: %v", err)
	}
	if _, err := d.PurgeVM(t.Context(), root, "web7", api.VMPurge{UUID: old}); err != nil {
		t.Errorf("the one that was named: %v", err)
	}
	if want := []string{vmd.CallPurge + " " + young, vmd.CallPurge + " " + old}; !slices.Equal(site.asked, want) {
		t.Errorf("asked %q, want %q", site.asked, want)
	}
}
