package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// History is read while others write, and while the storage goes away and comes back: an answer is right, or says that it cannot
// be had.
func TestHistoryIsReadWhileTheStorageGoes(t *testing.T) {
	b := openBox(t, "box")
	for i := range 30 {
		if _, err := b.update(t, put("hosts", fmt.Sprintf("h%d", i%7), parse(t, fmt.Sprintf("{n: %d}", i)))); err != nil {
			t.Fatal(err)
		}
	}
	list := revisionsOf(t, b)
	want := map[hostdb.Stamp]string{}
	for _, r := range list {
		want[r.ID] = contents(at(t, b, r.ID))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g sync.WaitGroup
	fine := func(err error) bool {
		return err == nil || errors.Is(err, hostdb.ErrUnavailable) || errors.Is(err, hostdbtest.ErrClosed) || errors.Is(err, context.Canceled)
	}
	for w := range 3 {
		g.Go(func() {
			for i := w; i < 300; i++ {
				r := list[i*7%len(list)]
				v, err := b.store.At(ctx, r.ID)
				if err == nil && contents(v) != want[r.ID] {
					t.Errorf("as of %s\n%s\nwant\n%s", r.ID, contents(v), want[r.ID])
				}
				_, _, err2 := b.store.Since(ctx, hostdb.Cursor{}, b.store.View(), 10)
				err3 := b.store.Replay(ctx, r.ID.Before(), func(hostdb.Revision, hostdb.View) error { return nil })
				_, _, err4 := b.store.Revisions(ctx, hostdb.RevisionQuery{Scope: hostdb.Scope{NS: "hosts", Key: "h1"}})
				for _, err := range []error{err, err2, err3, err4} {
					if !fine(err) {
						t.Errorf("at revision %s: %v", r.ID, err)
					}
				}
			}
		})
	}
	g.Go(func() {
		doc := parse(t, "{n: x}")
		for i := range 60 {
			_, err := b.store.Update(ctx, hostdb.Request{User: "u", Log: "l"}, put("hosts", fmt.Sprintf("later%d", i), doc))
			if !fine(err) && !errors.Is(err, hostdb.ErrClock) {
				t.Errorf("write: %v", err)
			}
			if i == 40 {
				b.storage.Close()
			}
		}
	})
	g.Wait()
}

// A storage that is given up in the middle of a scan makes history unavailable for a while, which is no fault of anybody.
func TestStorageGoesInTheMiddleOfAScan(t *testing.T) {
	b := openBox(t, "box")
	for i := range 3 {
		if _, err := b.update(t, put("hosts", fmt.Sprintf("h%d", i), parse(t, "{}"))); err != nil {
			t.Fatal(err)
		}
	}
	err := b.store.Replay(t.Context(), hostdb.Stamp{}, func(hostdb.Revision, hostdb.View) error {
		if b.store.Failure() == nil {
			b.storage.FailNextCommit(errors.New("the disk is gone"))
			if _, err := b.store.Update(t.Context(), hostdb.Request{User: "u", Log: "l"}, put("hosts", "x", parse(t, "{}"))); err == nil {
				t.Error("the write did not fail")
			}
		}
		return b.store.Close() // it waits until the storage is closed
	})
	if !errors.Is(err, hostdb.ErrUnavailable) {
		t.Errorf("replay: %v", err)
	}
}
