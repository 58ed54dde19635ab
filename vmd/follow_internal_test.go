package vmd

import (
	"fmt"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// TestFollowPokesWhomItConcerns: whoever takes a view first, be it a worker that wrote something itself, the machines of which it
// says something new are poked, and no others.
func TestFollowPokesWhomItConcerns(t *testing.T) {
	b := loneBox(t, nil)
	store := b.cfg.DB.(*hostdb.Store)
	uuid := func(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
	write := func(name, text string) {
		t.Helper()
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ns, key := hostdb.Hosts, name
		if name == "prod" || name == "lab" {
			ns = hostdb.Tags
		}
		if _, err := store.Update(t.Context(), hostdb.Request{User: "t", Log: "t"}, func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }); err != nil {
			t.Fatal(err)
		}
	}
	vm := func(n int, more string) {
		t.Helper()
		write(fmt.Sprintf("web%d", n), fmt.Sprintf("VM: {UUID: %q, Image: debian, %s}\n", uuid(n), more))
	}
	var machines []*machine
	for n := range 3 {
		if err := b.save(Entry{UUID: uuid(n), Name: fmt.Sprintf("web%d", n), Stage: Held, CPUs: 1, Memory: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		m := newMachine(b, uuid(n)) // no worker in this test
		b.machines[uuid(n)] = m
		machines = append(machines, m)
	}
	poked := func() (list []int) {
		for n, m := range machines {
			select {
			case <-m.poke:
				list = append(list, n)
			default:
			}
		}
		return list
	}
	expect := func(what string, want ...int) {
		t.Helper()
		if got := poked(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v are poked, want %v", what, got, want)
		}
	}
	write("lab", "Subnet: {CIDR: 10.2.0.0/16, Bridge: br0, Pool: 10.2.128.0/22}\n")
	vm(0, "Subnet: prod")
	vm(1, "Subnet: lab")
	_ = b.Reconcile(t.Context(), store.View(), mesh.View{})
	poked()
	vm(2, "Subnet: lab")
	b.mu.Lock()
	b.follow(store.View()) // as publish does, for another machine
	b.mu.Unlock()
	_ = b.Reconcile(t.Context(), store.View(), mesh.View{})
	expect("an entry came that was waited for", 2)
	vm(1, "Subnet: lab, Power: off")
	write("other", "VM: {Image: debian}\n")
	_ = b.Reconcile(t.Context(), store.View(), mesh.View{})
	expect("two entries changed, one of them not of this box", 1)
	write("prod", "Subnet: {CIDR: 10.1.0.0/16, Bridge: br0, Pool: 10.1.128.0/22}\n")
	_ = b.Reconcile(t.Context(), store.View(), mesh.View{})
	expect("the network of one came", 0)
}
