package vmd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

// still is a hypervisor with nothing in it.
type still struct{ Hypervisor }

func (still) Get(context.Context, string) (plan.Machine, error) { return plan.Machine{}, ErrNoDomain }
func (still) List(context.Context) ([]plan.Machine, error)      { return nil, nil }
func (still) Host(context.Context) (Host, error) {
	return Host{CPUs: 8, Memory: 32 << 30, DiskSize: 1 << 40, Bridges: []string{"br0"}}, nil
}
func (still) Changed() <-chan struct{}                   { return nil }
func (still) Volumes(context.Context) ([]string, error)  { return nil, nil }
func (still) DeleteVolume(context.Context, string) error { return nil }

// onlyRecords is a lease group that keeps records alone.
type onlyRecords struct {
	Records
	mu   sync.Mutex
	kept map[string]lease.Record
	put  func(key string, r Record) // after a Put
}

func (o *onlyRecords) Get(_ context.Context, key string) (lease.Record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r, ok := o.kept[key]; ok {
		return r, nil
	}
	return lease.Record{}, lease.ErrNotFound
}

func (o *onlyRecords) Put(_ context.Context, key string, value []byte, version uint64) (uint64, error) {
	o.mu.Lock()
	if o.kept[key].Version != version {
		o.mu.Unlock()
		return 0, lease.ErrConflict
	}
	o.kept[key] = lease.Record{Key: key, Value: value, Version: version + 1}
	o.mu.Unlock()
	if o.put != nil {
		r, _ := decodeRecord(value)
		o.put(key, r)
	}
	return version + 1, nil
}

func reviewBox(t *testing.T, records Records) *Box {
	t.Helper()
	memory := hostdbtest.NewMemory()
	store, err := hostdb.Open(hostdb.Config{NodeID: "n", Validator: section.Validator{}, OpenStorage: func() (hostdb.Storage, error) { return memory, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	doc, err := hostdb.ParseDocument([]byte("Box: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Update(t.Context(), hostdb.Request{User: "t", Log: "t"}, func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, "box1", doc) }); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Node, cfg.Name, cfg.Mesh, cfg.Dir = "box1", "box1", "m", t.TempDir()
	cfg.Hypervisor, cfg.DB, cfg.Records, cfg.Logger = still{}, store, records, slog.New(slog.DiscardHandler)
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.look(t.Context())
	b.mu.Lock()
	b.follow(store.View())
	b.mu.Unlock()
	return b
}

const reviewUUID = "00000000-0000-4000-8000-000000000001"

// TestReviewReservationWithoutLease: the agent died while it reserved, and its lease cannot be opened at the next start
// (node/lease.go goes on without it). Settling the reservation must not take the whole agent down.
func TestReviewReservationWithoutLease(t *testing.T) {
	b := reviewBox(t, nil)
	e := Entry{UUID: reviewUUID, Name: "web1", Stage: Reserving, Fence: 1, Expires: 1, CPUs: 1, Memory: 1 << 30}
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	m := newMachine(b, e.UUID)
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("the worker panics, and the agent with it, at every start: %v", p)
		}
	}()
	b.slots <- struct{}{}
	if err := m.act(t.Context(), actSettle, e, sight{}); err == nil {
		t.Error("no error")
	}
}

// TestReviewRecordWithoutReservation: while a reservation is settled as not taken, the same placer offers the machine again under
// the same fencing number. The new reservation is taken for the old one and dropped, and then the record is taken: by a box that
// knows nothing of it, which then says that it took it.
func TestReviewRecordWithoutReservation(t *testing.T) {
	recs := &onlyRecords{kept: map[string]lease.Record{}}
	b := reviewBox(t, recs)
	ctx, cancel := context.WithCancel(t.Context())
	b.mu.Lock()
	b.run = ctx
	b.mu.Unlock()
	defer func() { cancel(); b.workers.Wait() }()
	past := time.Now().Add(-time.Minute).UnixMilli()
	offered := Record{Format: recordFormat, UUID: reviewUUID, Name: "web1", State: Offered, Node: "box1", Fence: 7, CPUs: 1, Memory: 1 << 30, Expires: past}
	recs.kept[RecordKey(reviewUUID)] = lease.Record{Key: RecordKey(reviewUUID), Value: Encode(offered), Version: 1}
	old := Entry{UUID: reviewUUID, Name: "web1", Stage: Reserving, Group: "g", Fence: 7, Expires: past, CPUs: 1, Memory: 1 << 30}
	if err := b.save(old); err != nil {
		t.Fatal(err)
	}
	m := newMachine(b, reviewUUID)
	again := Offer{UUID: reviewUUID, Name: "web1", Group: "g", Fence: 7, CPUs: 1, Memory: 1 << 30, Expires: time.Now().Add(10 * time.Second).UnixMilli()}
	recs.put = func(key string, r Record) {
		if r.State != Refused {
			return
		}
		// The placer reads refused, offers to the same box again, and the box writes that down before settle goes on.
		recs.put = nil
		o := offered
		o.Expires = again.Expires
		if _, err := recs.Put(ctx, key, Encode(o), recs.kept[key].Version); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		b.machines[reviewUUID] = m // no other worker in this test
		b.mu.Unlock()
		if why, err := b.writeDown(again); why != "" || err != nil {
			t.Errorf("%s %v", why, err)
		}
	}
	if err := m.settle(ctx, old); err != nil {
		t.Logf("settle: %v", err)
	}
	raw, err := b.take(ctx, again)
	if err != nil {
		t.Logf("take: %v", err)
		return
	}
	var answer Reserved
	if err := Decode(raw, &answer); err != nil {
		t.Fatal(err)
	}
	r, _, err := readRecord(ctx, recs, reviewUUID)
	if err != nil {
		t.Fatal(err)
	}
	_, has := b.entry(reviewUUID)
	if answer.Taken && r.State == Taken && !has {
		t.Errorf("the box says that it took it, the record says so, and the ledger has nothing: nobody ever makes it")
	}
}

// TestReviewTakenAsWhole: as above, alone: a box that lost its reservation must not say that it took the machine.
func TestReviewTakenWithoutEntry(t *testing.T) {
	b := reviewBox(t, &onlyRecords{kept: map[string]lease.Record{}})
	raw, err := b.taken(Offer{UUID: reviewUUID, Name: "web1"})
	if err != nil {
		return
	}
	var answer Reserved
	if err := Decode(raw, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Taken {
		t.Errorf("it has no reservation, and answers %+v", answer)
	}
}

// TestReviewTicketsOfASkewedClock: one box whose clock is two hours ahead must not make everybody's tickets old, nor may the
// tickets that it takes count for longer than an hour of the others.
func TestReviewTicketsOfASkewedClock(t *testing.T) {
	now := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	var d Destroys
	for i := range DestroysPerHour {
		if ok, _ := d.take(fmt.Sprint("a", i), now); !ok {
			t.Fatal(i)
		}
	}
	ahead := now.Add(2 * time.Hour)
	e := d.fresh(ahead)
	if ok, _ := e.take("b", ahead); ok {
		t.Errorf("a sixth machine within a minute, by a box whose clock is ahead, and the record has forgotten the five: %+v", e.Recent)
	}
	f := Destroys{Format: recordFormat}
	leap := now.AddDate(1, 0, 0)
	for i := range DestroysPerHour {
		f.take(fmt.Sprint("c", i), leap)
	}
	later := now.Add(24 * time.Hour)
	f = f.fresh(later)
	if ok, _ := f.take("d", later); !ok {
		t.Errorf("a day later nothing may be destroyed without approval, for a year: %+v", f.Recent)
	}
}

// TestReviewClockLeapPurges: the clock of a box leaps eight days ahead (a dead battery, a wrong NTP server), and back. The disks
// that were to be kept for seven days must be there.
func TestReviewClockLeapPurges(t *testing.T) {
	b := reviewBox(t, nil)
	leap := &leaping{}
	b.cfg.Clock = leap
	e := Entry{UUID: reviewUUID, Name: "web1", Stage: Kept, Ran: true, Until: time.Now().Add(7 * 24 * time.Hour).UnixMilli(), CPUs: 1, Memory: 1 << 30}
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	m := newMachine(b, e.UUID)
	leap.by = 8 * 24 * time.Hour
	s, _, err := m.look(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if a := next(s); a == actDoom {
		t.Errorf("the disks go %s after they were kept, by the clock alone: %s", time.Second, a)
	}
}

type leaping struct{ by time.Duration }

func (l *leaping) Now() time.Time { return time.Now().Add(l.by) }

var _ mesh.Caller
