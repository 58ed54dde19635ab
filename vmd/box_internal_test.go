package vmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

func loneBox(t *testing.T, records Records) *Box {
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

const loneUUID = "00000000-0000-4000-8000-000000000001"

// TestReservationWithoutLease: the agent died while it reserved, and its lease cannot be opened at the next start
// (node/lease.go goes on without it). Settling the reservation must not take the whole agent down.
func TestReservationWithoutLease(t *testing.T) {
	b := loneBox(t, nil)
	e := Entry{UUID: loneUUID, Name: "web1", Stage: Reserving, Fence: 1, Expires: 1, CPUs: 1, Memory: 1 << 30}
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

// TestNoRecordWithoutReservation: while a reservation is settled as not taken, the same placer offers the machine again under
// the same fencing number. The new reservation is taken for the old one and dropped, and then the record is taken: by a box that
// knows nothing of it, which then says that it took it.
func TestNoRecordWithoutReservation(t *testing.T) {
	recs := &onlyRecords{kept: map[string]lease.Record{}}
	b := loneBox(t, recs)
	ctx, cancel := context.WithCancel(t.Context())
	b.mu.Lock()
	b.run = ctx
	b.mu.Unlock()
	defer func() { cancel(); b.workers.Wait() }()
	past := time.Now().Add(-time.Minute).UnixMilli()
	offered := Record{Format: recordFormat, UUID: loneUUID, Name: "web1", State: Offered, Node: "box1", Fence: 7, CPUs: 1, Memory: 1 << 30, Expires: past}
	recs.kept[RecordKey(loneUUID)] = lease.Record{Key: RecordKey(loneUUID), Value: Encode(offered), Version: 1}
	old := Entry{UUID: loneUUID, Name: "web1", Stage: Reserving, Group: "g", Fence: 7, Expires: past, CPUs: 1, Memory: 1 << 30}
	if err := b.save(old); err != nil {
		t.Fatal(err)
	}
	m := newMachine(b, loneUUID)
	again := Offer{UUID: loneUUID, Name: "web1", Group: "g", Fence: 7, CPUs: 1, Memory: 1 << 30, Expires: time.Now().Add(10 * time.Second).UnixMilli()}
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
		b.machines[loneUUID] = m // no other worker in this test
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
	r, _, err := readRecord(ctx, recs, loneUUID)
	if err != nil {
		t.Fatal(err)
	}
	_, has := b.entry(loneUUID)
	if answer.Taken && r.State == Taken && !has {
		t.Errorf("the box says that it took it, the record says so, and the ledger has nothing: nobody ever makes it")
	}
}

// TestNotTakenWithoutEntry: as above, alone: a box that lost its reservation must not say that it took the machine.
func TestNotTakenWithoutEntry(t *testing.T) {
	b := loneBox(t, &onlyRecords{kept: map[string]lease.Record{}})
	raw, err := b.taken(Offer{UUID: loneUUID, Name: "web1"})
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

// TestTicketsOfASkewedClock: a box whose clock is two hours ahead, as the clocks of the mesh show, must not make everybody's tickets
// old, nor may tickets of a clock that was far ahead count for longer than an hour of the others.
func TestTicketsOfASkewedClock(t *testing.T) {
	recs := &onlyRecords{kept: map[string]lease.Record{}}
	b := loneBox(t, recs)
	now := time.Now()
	b.cfg.Clock = &leaping{by: 2 * time.Hour}
	b.cfg.DB.(*hostdb.Store).SetSkew(func() (time.Duration, int) { return 2 * time.Hour, 3 })
	d := Destroys{Format: recordFormat}
	for i := range DestroysPerHour {
		if ok, _ := d.take(fmt.Sprint("a", i), now); !ok {
			t.Fatal(i)
		}
	}
	recs.kept[DestroysKey] = lease.Record{Key: DestroysKey, Value: Encode(d), Version: 1}
	e := Entry{UUID: loneUUID, Name: "web1", Stage: Held, Ran: true, CPUs: 1, Memory: 1 << 30}
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	if err := b.mayDestroy(t.Context(), e); !errors.Is(err, errTicket) {
		t.Errorf("a sixth machine within a minute, by a box whose clock is ahead: %v", err)
	}
	if is, _, err := ReadDestroys(t.Context(), recs); err != nil || len(is.Recent) != DestroysPerHour {
		t.Errorf("the record forgot tickets: %+v %v", is, err)
	}

	// Tickets of a clock that was a year ahead, and then a day passes.
	d = Destroys{Format: recordFormat}
	for i := range DestroysPerHour {
		d.take(fmt.Sprint("c", i), now.AddDate(1, 0, 0))
	}
	recs.kept[DestroysKey] = lease.Record{Key: DestroysKey, Value: Encode(d), Version: 1}
	ask := func(at time.Time) (ok bool) {
		if err := changeDestroys(t.Context(), recs, at, func(d *Destroys) (changed bool) {
			ok, changed = d.take("d", at)
			return changed
		}); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	day := now.Add(24 * time.Hour)
	if ask(day) {
		t.Error("nobody knows how old they are, and they do not count")
	}
	if !ask(day.Add(destroyWithin + time.Minute)) {
		t.Error("an hour after they were seen they still count, for a year")
	}
}

// TestApprovedTicketsDoNotCount: who was let through by a person leaves the hour's number to the others.
func TestApprovedTicketsDoNotCount(t *testing.T) {
	now := time.Now()
	d := Destroys{Format: recordFormat}
	for i := range DestroysPerHour {
		uuid := fmt.Sprint("a", i)
		d.approve([]string{uuid}, "ann", now)
		if ok, _ := d.take(uuid, now); !ok {
			t.Fatal(uuid)
		}
	}
	for i := range DestroysPerHour {
		if ok, _ := d.take(fmt.Sprint("b", i), now); !ok {
			t.Errorf("%d of the hour's own is refused", i)
		}
	}
	if ok, changed := d.take("c", now); ok || changed {
		t.Error("one too many")
	}
}

// TestDestroyOfOneWantedAgain: its entry comes back while the ticket is asked for. It is not destroyed.
func TestDestroyOfOneWantedAgain(t *testing.T) {
	recs := &onlyRecords{kept: map[string]lease.Record{}}
	b := loneBox(t, recs)
	e := Entry{UUID: loneUUID, Name: "web1", Stage: Held, Ran: true, Seen: true, CPUs: 1, Memory: 1 << 30}
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	doc, err := hostdb.ParseDocument([]byte("VM: {UUID: " + loneUUID + ", Image: debian, CPUs: 1, Memory: 1GiB}\n"))
	if err != nil {
		t.Fatal(err)
	}
	store := b.cfg.DB.(*hostdb.Store)
	recs.put = func(string, Record) {
		if _, err := store.Update(t.Context(), hostdb.Request{User: "t", Log: "t"}, func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, "web1", doc) }); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		b.follow(store.View())
		b.mu.Unlock()
	}
	if err := b.mayDestroy(t.Context(), e); !errors.Is(err, errAgain) {
		t.Errorf("%v", err)
	}
	if is, _ := b.entry(loneUUID); is.Stage != Held {
		t.Errorf("it is wanted, and %s", is.Stage)
	}
}

// TestReserveRefusesALowerFence: a placer that was followed by another is not listened to, for another machine either, and after a
// restart.
func TestReserveRefusesALowerFence(t *testing.T) {
	b := loneBox(t, &onlyRecords{kept: map[string]lease.Record{}})
	if err := b.saveAround(around{Format: ledgerFormat, Fences: map[string]uint64{"g": 8}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.ledger, b.entries, b.around, _, err = openLedger(b.cfg.Dir, false); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.run = t.Context()
	b.stopped = false
	b.machines[loneUUID] = newMachine(b, loneUUID) // no worker in this test
	b.mu.Unlock()
	o := Offer{UUID: loneUUID, Name: "web1", Group: "g", Fence: 7, CPUs: 1, Memory: 1 << 30, Expires: time.Now().Add(time.Minute).UnixMilli()}
	_, err = b.reserve(t.Context(), mesh.Caller{}, Encode(o))
	var refused *callError
	if !errors.As(err, &refused) || refused.code != CodeFence {
		t.Errorf("fencing number 7 after 8: %v", err)
	}
	if _, has := b.entry(loneUUID); has {
		t.Error("it was written down")
	}
	o.Fence = 8
	if why, err := b.writeDown(o); why != "" || err != nil {
		t.Errorf("the placer of that number itself: %q %v", why, err)
	}
}

// TestTakeOfAnotherOffer: the record offers the machine to this box by now under another number, or until another time: an answer
// to the former offer takes nothing, and leaves the reservation of the later one.
func TestTakeOfAnotherOffer(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"fence":   func(r *Record) { r.Fence++ },
		"expires": func(r *Record) { r.Expires += 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			recs := &onlyRecords{kept: map[string]lease.Record{}}
			b := loneBox(t, recs)
			r := Record{Format: recordFormat, UUID: loneUUID, Name: "web1", State: Offered, Node: "box1", Fence: 7, CPUs: 1, Memory: 1 << 30,
				Expires: time.Now().Add(time.Minute).UnixMilli()}
			o := Offer{UUID: loneUUID, Name: "web1", Group: "g", Fence: r.Fence, CPUs: 1, Memory: 1 << 30, Expires: r.Expires}
			change(&r)
			recs.kept[RecordKey(loneUUID)] = lease.Record{Key: RecordKey(loneUUID), Value: Encode(r), Version: 1}
			later := Entry{UUID: loneUUID, Name: "web1", Stage: Reserving, Group: "g", Fence: r.Fence, Expires: r.Expires, CPUs: 1, Memory: 1 << 30}
			if err := b.save(later); err != nil {
				t.Fatal(err)
			}
			raw, err := b.take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var answer Reserved
			if err := Decode(raw, &answer); err != nil || answer.Taken || !answer.Lost {
				t.Errorf("%+v %v", answer, err)
			}
			if is, _, _ := readRecord(t.Context(), recs, loneUUID); is.State != Offered {
				t.Errorf("the record is %s", is.State)
			}
			if _, has := b.entry(loneUUID); !has {
				t.Error("the reservation of the later offer is gone")
			}
		})
	}
}

// TestKeptTimeThatWasSeen: disks go when the time was seen to pass, also over a restart; and at once where the clocks of the mesh say
// that it is over.
func TestKeptTimeThatWasSeen(t *testing.T) {
	b := loneBox(t, nil)
	clock := &stepping{now: time.Now()}
	b.cfg.Clock = clock
	b.cfg.Keep = 4 * time.Hour
	e := Entry{UUID: loneUUID, Name: "web1", Stage: Kept, Ran: true, Until: clock.now.Add(b.cfg.Keep).UnixMilli(), KeepFor: b.cfg.Keep.Milliseconds(), CPUs: 1, Memory: 1 << 30}
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	over := func(m *machine) bool {
		e, _ := b.entry(loneUUID)
		s, _, err := m.look(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.noteWaited(e); err != nil {
			t.Fatal(err)
		}
		return s.Over
	}
	steps := func(m *machine, d time.Duration) (n int) {
		for end := clock.now.Add(d); clock.now.Before(end) && !over(m); n++ {
			clock.now = clock.now.Add(lookEvery)
		}
		return n
	}
	m := newMachine(b, loneUUID)
	if n := steps(m, 3*time.Hour); n != 360 {
		t.Fatalf("over after %d looks", n)
	}
	m = newMachine(b, loneUUID) // a restart loses an hour at most
	if n := steps(m, 30*time.Minute); n != 60 {
		t.Errorf("over after %d looks more, of three hours and a half", n)
	}
	if n := steps(m, 2*time.Hour); n == 240 {
		t.Error("four hours and a half were seen to pass, and an hour for the restart")
	}
	e.Waited = 0
	if err := b.save(e); err != nil {
		t.Fatal(err)
	}
	m = newMachine(b, loneUUID)
	if over(m) {
		t.Error("by the box's own clock alone")
	}
	b.cfg.DB.(*hostdb.Store).SetSkew(func() (time.Duration, int) { return 0, 3 })
	if !over(m) {
		t.Error("the clocks of the mesh say that it is over")
	}
}

type stepping struct{ now time.Time }

func (s *stepping) Now() time.Time { return s.now }

// TestClockLeapPurgesNothing: the clock of a box leaps eight days ahead (a dead battery, a wrong NTP server), and back. The disks
// that were to be kept for seven days must be there.
func TestClockLeapPurgesNothing(t *testing.T) {
	b := loneBox(t, nil)
	leap := &leaping{}
	b.cfg.Clock = leap
	e := Entry{UUID: loneUUID, Name: "web1", Stage: Kept, Ran: true, Until: time.Now().Add(7 * 24 * time.Hour).UnixMilli(), CPUs: 1, Memory: 1 << 30}
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

// TestLedgerIsDurable: a file of the ledger is on the disk before it gets its name, and its name before the caller hears of it. Where
// the disk fails, what was there stays.
func TestLedgerIsDurable(t *testing.T) {
	l, _, _, _, err := openLedger(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.dir, loneUUID+entrySuffix)
	var synced []string
	var fail error
	l.sync = func(f *os.File) error {
		what := "directory"
		if f.Name() != l.dir {
			body, err := os.ReadFile(f.Name())
			if err != nil {
				t.Error(err)
			}
			old, _ := os.ReadFile(path)
			what = fmt.Sprintf("file, whole %t, before its name %t", bytes.Contains(body, []byte(loneUUID)), !bytes.Equal(body, old))
		} else if _, err := os.Stat(path); err == nil {
			what += " with it"
		} else {
			what += " without it"
		}
		synced = append(synced, what)
		return fail
	}
	if err := l.save(Entry{UUID: loneUUID, Name: "web1"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"file, whole true, before its name true", "directory with it"}; !slices.Equal(synced, want) {
		t.Errorf("save: %q, want %q", synced, want)
	}
	fail = errors.New("no space")
	if err := l.save(Entry{UUID: loneUUID, Name: "web2"}); !errors.Is(err, fail) {
		t.Errorf("a disk that fails: %v", err)
	}
	fail = nil
	_, entries, _, damaged, err := openLedger(l.dir, false)
	if err != nil || len(damaged) > 0 || entries[loneUUID].Name != "web1" {
		t.Errorf("%+v %v %v", entries, damaged, err)
	}
	synced = nil
	if err := l.remove(loneUUID); err != nil {
		t.Fatal(err)
	}
	if want := []string{"directory without it"}; !slices.Equal(synced, want) {
		t.Errorf("remove: %q, want %q", synced, want)
	}
}
