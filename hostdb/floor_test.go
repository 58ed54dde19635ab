package hostdb_test

import (
	"context"
	"errors"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// A write whose outcome is unknown may turn up when the storage is opened again: nobody may be told meanwhile that nothing so old
// comes any more.
func TestFloorWhileTheStorageIsClosed(t *testing.T) {
	storage := hostdbtest.NewMemory()
	opened := false
	s, err := hostdb.Open(hostdb.Config{NodeID: "a", OpenStorage: func() (hostdb.Storage, error) {
		if opened {
			return storage.Reopen(), nil
		}
		opened = true
		return storage, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(key string) error {
		_, err := s.Update(t.Context(), hostdb.Request{User: "u", Log: "l"}, func(tx *hostdb.Tx) error {
			return tx.Put(hostdb.Hosts, key, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text("1")}))
		})
		return err
	}
	if err := write("web1"); err != nil {
		t.Fatal(err)
	}
	storage.FailNextCommitStored(errors.New("the disk does not say"))
	if err := write("web2"); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Fatalf("the write gave %v", err)
	}
	floor, before := s.Floor(), s.View()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	changed, release := s.Watch()
	for !s.View().Exists(hostdb.Hosts, "web2") {
		<-changed
	}
	release()
	stop()
	<-done
	for h := range s.View().AllHeads() {
		if h.Seq > before.Seq(h.Origin) && h.Time <= floor {
			t.Errorf("an operation at %d turned up after the floor was said to be %d", h.Time, floor)
		}
	}
}
