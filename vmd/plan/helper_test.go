package plan

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, have string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != have {
		t.Errorf("%s is not current (%v): look at what changed, then run go test ./vmd/plan -update\n%s", file, err, have)
	}
}

// fataler is testing.TB and rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

type store struct {
	t fataler
	*hostdb.Store
}

func openStore(t fataler) *store {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &store{t, s}
}

// write is one operation: documents by id, "" deletes; members as tags/NAME/members.
func (s *store) write(docs map[string]string) {
	s.t.Helper()
	if err := s.try(docs); err != nil {
		s.t.Fatalf("%v", err)
	}
}

func (s *store) try(docs map[string]string) error {
	_, err := s.Update(context.Background(), hostdb.Request{User: "test", Log: "test", Lenient: true}, func(tx *hostdb.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(docs)) {
			text := docs[id]
			ns, key, _ := strings.Cut(id, "/")
			if key, ok := strings.CutSuffix(key, "/members"); ok {
				list, err := hostdb.ParseMembers(text)
				if err != nil {
					return err
				}
				if err := tx.SetMembers(ns, key, list); err != nil {
					return err
				}
				continue
			}
			if text == "" {
				if err := tx.Delete(ns, key); err != nil {
					return err
				}
				continue
			}
			doc, err := hostdb.ParseDocument([]byte(text))
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if err := tx.Put(ns, key, doc); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

const (
	gib  = int64(1) << 30
	sum1 = "1111111111111111111111111111111111111111111111111111111111111111"
	sum2 = "2222222222222222222222222222222222222222222222222222222222222222"
)

func nodeID(i int) string { return fmt.Sprintf("%032x", i) }

func uuid(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) }

// hall is some boxes: HostDB, mesh and reports.
type hall struct {
	store   *store
	members []mesh.Member
	reports []report.Report
}

const prod = "Subnet: {CIDR: 10.1.0.0/16, Gateway: 10.1.0.1, Bridge: br0, Datacenter: dc1, VIPs: 10.1.0.48/28, Pool: 10.1.128.0/17}"

// newHall makes n equal boxes of 16 CPUs, 64 GiB and 1,000 GiB in racks of two, and the network tags/prod.
func newHall(t fataler, n int) *hall {
	t.Helper()
	h := &hall{store: openStore(t)}
	docs := map[string]string{"tags/prod": prod}
	for i := 1; i <= n; i++ {
		key := boxName(i)
		docs["hosts/"+key] = fmt.Sprintf("{Box: {CPUs: 16}, Physical Location: {Datacenter: dc1, Rack Number: r%d}}", (i+1)/2)
		h.members = append(h.members, mesh.Member{ID: nodeID(i), Name: key, State: mesh.StateAlive})
		h.reports = append(h.reports, report.Report{Node: nodeID(i), Boot: 1, N: 1, VMs: map[string]report.VM{}, Box: &report.Box{
			CPUs: 16, Memory: 64 * gib, Disk: 1000 * gib, Bridges: []string{"br0"}, Images: map[string]string{"debian-12": sum1},
		}})
	}
	h.store.write(docs)
	return h
}

func boxName(i int) string { return fmt.Sprintf("box%d.example.com", i) }

func (h *hall) box(i int) *report.Box { return h.reports[i-1].Box }

func (h *hall) input() Input {
	m := mesh.NewView(nodeID(1), h.members)
	for _, r := range h.reports {
		if r.Node != "" {
			m = m.WithReport(r)
		}
	}
	return Input{DB: h.store.View(), Mesh: m, Images: map[string]Image{
		"debian-12": {SHA256: sum1, Size: 2 * gib, Disk: 10 * gib, URL: true},
		"orphan":    {SHA256: sum2, Size: gib, Disk: gib},
	}}
}

// vm is a host that is a machine.
func vm(i int, more string) string {
	return fmt.Sprintf("VM: {UUID: %s, Image: debian-12, CPUs: 2, Memory: 4GiB, Disk: 20GiB, Subnet: prod%s}", uuid(i), more)
}

func wish(t fataler, db hostdb.View, name string) Wish {
	t.Helper()
	w, ok := NewPlanner(db).Wish(name)
	if !ok {
		t.Fatalf("hosts/%s is no machine", name)
	}
	return w
}

func show(d Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s\n%s\n", d.Name, d.Box, d.Reason)
	for _, v := range d.Verdicts {
		fmt.Fprintf(&b, "%-18s %-5t %8.4f %s\n", v.Box, v.OK, v.Score, v.Reason)
		for _, p := range v.Parts {
			fmt.Fprintf(&b, "%27s%8.4f %s: %s\n", "", p.Score, p.Name, p.Reason)
		}
	}
	return b.String()
}

var _ = []fataler{(*testing.T)(nil), (*testing.B)(nil)}
