package local

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// abandonAt makes a clone whose agent ends at a point, and leaves no agent.
func (b *box) abandonAt(t *testing.T, step, from string) {
	t.Helper()
	reached, gone := make(chan struct{}), make(chan struct{})
	once := sync.Once{}
	b.edit = func(c *Config) {
		c.point = func(at string) {
			if at == step {
				once.Do(func() { close(reached); <-gone })
			}
		}
	}
	b.reopen()
	old := b.local()
	failed := make(chan error, 1)
	go func() { _, err := old.Clone(context.Background(), order(1, 1), from, nil); failed <- err }()
	select {
	case <-reached:
	case err := <-failed:
		t.Fatalf("Clone: %v", err)
	}
	old.servers[tag].abandon()
	close(gone)
	<-failed
	b.close()
	b.edit = nil
}

// TestJournalThatStayed: the journal of a clone that was not ended is not carried out on data that were found right since; while there is one the server is neither started, found right nor
// replaced, and the agent goes on trying to end it.
func TestJournalThatStayed(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	donor, b := w.boxes[2], w.boxes[3]
	b.server.Exec("CREATE DATABASE mine")
	b.abandonAt(t, pointServed, donor.name())
	mustDo(t, openStore(b.dir, tag).note(func(st *state) { st.Copy = nil }))
	b.server.Exec("SET GLOBAL read_only=0", "CREATE DATABASE later")
	pid := b.server.PID()
	b.open()
	s := b.local().servers[tag]
	over := func() bool { st, _ := s.store.get(); return st.Clone == nil && !s.clone.busy() }
	until(t, "the clone is over", over)
	if b.server.PID() != pid || b.server.Text("SHOW DATABASES LIKE 'later'") != "later" {
		t.Fatal("data that were found right are replaced by the former")
	}
	b.tidy()

	// Another clone of this host goes on, so that this one cannot be ended.
	b.local().cloner <- struct{}{}
	mustDo(t, s.store.note(func(st *state) {
		st.Clone, st.Copy = &journal{ID: newID(), From: donor.name(), Order: order(1, 1), Runs: true}, &mysqlha.Unverified{From: donor.name()}
	}))
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("Start", b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
	refused("Compared", b.local().Compared(t.Context(), order(1, 1), ""))
	_, err := b.local().Clone(t.Context(), order(1, 1), w.boxes[1].name(), nil)
	refused("Clone", err)
	<-b.local().cloner
	until(t, "the clone is over", over)
	if b.state().Copy != nil || b.server.Text("SHOW DATABASES LIKE 'later'") != "later" {
		t.Errorf("afterwards: %+v", b.state())
	}
	mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
	b.tidy()
}

// TestDataNotThereYet: while the file system of the data is not there, an interrupted clone is neither taken for one whose data are in place nor for one whose are not.
func TestDataNotThereYet(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	b := w.boxes[3]
	b.abandonAt(t, pointSwapped, w.boxes[2].name())
	d := dirsOf(b.server.Datadir)
	mustDo(t, os.Rename(d.data, d.data+"-away"))
	b.open()
	h := b.local()
	until(t, "it was tried twice", func() bool { return h.counts.cloneErrors.Load() >= 2 })
	if st, err := h.servers[tag].store.get(); err != nil || st.Clone == nil || st.Copy == nil || !there(d.fresh) {
		t.Fatalf("while the data are not there: %+v (%v), the former are there: %t", st, err, there(d.fresh))
	}
	mustDo(t, os.Rename(d.data+"-away", d.data))
	until(t, "the clone is over", func() bool { st, _ := h.servers[tag].store.get(); return st.Clone == nil })
	until(t, "the copy is served", func() bool { return b.served() })
	if u := b.state().Copy; u == nil || b.server.Text("SHOW DATABASES LIKE 'd'") != "d" {
		t.Errorf("the copy is remembered as %+v", u)
	}
	b.tidy()
}
