package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// fastBox is a box that was cut off from a with its clock an hour ahead, has written, and is right again. What the two wrote is up to
// the functions.
func fastBox(t *testing.T, before func(a *box), apart func(a, fast *box)) (a, fast *box) {
	t.Helper()
	a, fast = openBox(t, "a"), openBox(t, "fast")
	before(a)
	exchange(t, a, fast)
	fast.clock.now = fast.clock.now.Add(time.Hour)
	apart(a, fast)
	a.clock.now = a.clock.now.Add(time.Minute)
	fast.clock.now = a.clock.now
	deliverAll(t, a, fast)
	return a, fast
}

func restamp(t failer, b *box, others ...*box) hostdb.Restamped {
	t.Helper()
	r, err := b.store.Restamp(context.Background(), hostdb.Restamping{Held: heldByAny(others)})
	if err != nil {
		t.Fatalf("restamp: %v", err)
	}
	return r
}

func heldByAny(boxes []*box) func(uint64) uint64 {
	return func(origin uint64) (most uint64) {
		for _, b := range boxes {
			most = max(most, b.store.View().Seq(origin))
		}
		return most
	}
}

func path(key, value string, p ...string) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error {
		doc, err := hostdb.ParseDocument([]byte(value))
		if err != nil {
			return err
		}
		return tx.PutPath("hosts", key, p, doc)
	}
}

// A box that ran an hour ahead while it was cut off returns: the others hold its writes aside; after Restamp all agree at once, what
// others wrote meanwhile stands, and what could not be kept is told.
func TestRestampOfAFastBox(t *testing.T) {
	a, fast := fastBox(t, func(a *box) {
		write(t, a, put("hosts", "web1", parse(t, "{cpu: 2, memory: 4}")), put("hosts", "web2", parse(t, "{cpu: 2}")), put("hosts", "web3", parse(t, "{cpu: 2}")),
			put("tags", "web", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web3") })
	}, func(a, fast *box) {
		write(t, fast, put("hosts", "web1", parse(t, "{cpu: 8, memory: 16}")))
		write(t, fast, path("web1", "9", "cpu"), put("hosts", "new", parse(t, "{cpu: 1}")))
		write(t, fast, remove("hosts", "web2"))
		write(t, fast, rename("hosts", "web3", "db3"))
		write(t, fast, path("db3", "7", "cpu"))
		write(t, a, path("web1", "4", "cpu"))
		write(t, a, path("web2", "4", "cpu"))
		write(t, a, path("web3", "4", "cpu"))
		write(t, a, put("hosts", "other", parse(t, "{}")))
	})
	if _, err := fast.update(t, put("hosts", "x", parse(t, "1"))); !errors.Is(err, hostdb.ErrClock) {
		t.Errorf("a write before the clock is right again: %v", err)
	}
	for origin := range fast.store.View().Vector() {
		deliver(t, fast, a, origin, 0, 10)
	}
	if a.store.View().Exists("hosts", "new") || a.store.Counts().HeldAside == 0 {
		t.Error("operations an hour ahead were not held aside")
	}
	fast.store.SetSkew(func() (time.Duration, int) { return time.Hour, 3 })
	if _, err := fast.store.Restamp(t.Context(), hostdb.Restamping{Held: heldByAny([]*box{a})}); !errors.Is(err, hostdb.ErrClock) {
		t.Errorf("restamped while the clock is wrong: %v", err)
	}
	fast.store.SetSkew(func() (time.Duration, int) { return 0, 3 })
	r := restamp(t, fast, a)
	if lead := fast.store.ClockLead(); lead > time.Second {
		t.Errorf("stamps are still %s ahead", lead)
	}
	deliverAll(t, fast, a)
	deliverAll(t, a, fast)
	v := a.store.View()
	if picture(v) != picture(fast.store.View()) || digests(v) != digests(fast.store.View()) || v.Version().String() != fast.store.View().Version().String() {
		t.Fatalf("after Restamp\n%s\nand\n%s", picture(v), picture(fast.store.View()))
	}
	if got := v.Data("hosts", "web1").YAML(); got != "cpu: 4\nmemory: 16\n" {
		t.Errorf("web1 became\n%s", got)
	}
	if !v.Exists("hosts", "new") || v.Data("hosts", "web2").Text("cpu") != "4" || v.Data("hosts", "web3").Text("cpu") != "4" || v.Exists("hosts", "db3") {
		t.Errorf("became\n%s", contents(v))
	}
	if got := v.RawMembers("tags", "web"); got != "web3" {
		t.Errorf("the list became %q", got)
	}
	var left []string
	for _, l := range r.Left {
		left = append(left, fmt.Sprint(l.Effect.Kind, " ", l.Effect.Key, "/", strings.Join(l.Effect.Path, "/"), l.Effect.Member, " ", l.Effect.Value))
		if l.Why == "" {
			t.Errorf("%v was left out without a reason", l.Effect)
		}
	}
	// Both values of the cpu, the delete, the rename with the host's data and its place in the list, and the edit of the renamed host.
	if len(left) != 9 {
		t.Errorf("left out: %q", left)
	}
	moved := 0
	for _, m := range r.Moved {
		if m.New.IsZero() {
			continue
		}
		moved++
		rev, err := a.store.Revision(m.New)
		if err != nil || rev.User != "test" || rev.Log != "test (restamped from "+m.Old.String()+")" || rev.Node != "fast" {
			t.Errorf("%s is now %+v: %v", m.Old, rev, err)
		}
		if _, err := fast.store.Revision(m.Old); !errors.Is(err, hostdb.ErrNotFound) {
			t.Errorf("the old revision: %v", err)
		}
	}
	if moved != 2 || len(r.Moved) != 5 || len(r.Removed) != 5 {
		t.Errorf("%d operations made anew of %d, %d removed", moved, len(r.Moved), len(r.Removed))
	}
	fast.restart(t)
	list, err := fast.store.Restamps(t.Context())
	if err != nil || len(list) != 1 || fmt.Sprintf("%+v", list[0].Moved) != fmt.Sprintf("%+v", r.Moved) || len(list[0].Left) != len(r.Left) || len(list[0].Removed) != 5 || !list[0].At.Equal(r.At) {
		t.Errorf("the record is %+v: %v", list, err)
	}
	if again := restamp(t, fast, a); len(again.Moved) != 0 {
		t.Errorf("restamped again: %+v", again)
	}
	write(t, fast, put("hosts", "later", parse(t, "1")))
	exchange(t, a, fast)
	if err := fast.store.ForgetRestamps(t.Context(), r.At); err != nil {
		t.Error(err)
	}
	if list, err := fast.store.Restamps(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d records are left: %v", len(list), err)
	}
}

// Stamps of others that are ahead are not ours to change.
func TestRestampRefuses(t *testing.T) {
	a, fast := fastBox(t, func(a *box) {}, func(a, fast *box) { write(t, fast, put("hosts", "x", parse(t, "1"))) })
	if _, err := fast.store.Restamp(t.Context(), hostdb.Restamping{Held: func(uint64) uint64 { return 1 }}); err != nil {
		t.Errorf("with nothing to do: %v", err)
	}
	other := openBox(t, "other")
	other.clock.now = a.clock.now.Add(4 * time.Second)
	write(t, other, put("hosts", "y", parse(t, "1")))
	deliverAll(t, other, fast)
	if _, err := fast.store.Restamp(t.Context(), hostdb.Restamping{}); !errors.Is(err, hostdb.ErrClock) || !strings.Contains(err.Error(), "node other") {
		t.Errorf("with another's stamps ahead: %v", err)
	}
	fast.clock.now = fast.clock.now.Add(5 * time.Second)
	if r := restamp(t, fast, a); len(r.Moved) != 1 {
		t.Errorf("restamped %+v", r)
	}
}

// A crash at any step of Restamp leaves it undone, or done at the next opening, operations of many batches included.
func TestRestampCrashesAtEveryStep(t *testing.T) {
	a, fast := fastBox(t, func(a *box) { someHistory(t, a) }, func(a, fast *box) {
		fast.storage.SetMaxBatch(4000, 40)
		fast.restart(t)
		write(t, a, path("small", "other", "c"))
		var list []hostdb.Member
		var many []func(*hostdb.Tx) error
		for i := range 60 {
			name := fmt.Sprintf("fast%02d", i)
			many = append(many, put("hosts", name, parse(t, "{note: "+strings.Repeat("x", 80)+"}")))
			list = append(list, hostdb.Member{Name: name})
		}
		write(t, fast, many...)
		write(t, fast, path("small", "lost", "c"))
		fast.restart(t)
		write(t, fast, func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "large", list) })
		write(t, fast, remove("hosts", "host09"))
	})
	old := picture(fast.store.View())
	var crashes []*hostdbtest.Memory
	snapshot := func([]hostdb.Put) error { crashes = append(crashes, fast.storage.Snapshot()); return nil }
	fast.storage.SetHooks(hostdbtest.Hooks{Before: snapshot, After: snapshot})
	r := restamp(t, fast, a)
	fast.storage.SetHooks(hostdbtest.Hooks{})
	done, rows := picture(fast.store.View()), fast.storage.Len()
	if len(r.Left) != 1 || len(r.Moved) != 4 || len(crashes) < 20 {
		t.Fatalf("%d effects left out, %d operations moved, %d steps", len(r.Left), len(r.Moved), len(crashes))
	}
	seen := map[string]int{}
	for i, m := range crashes {
		re := &box{storage: m, clock: fast.clock, name: "fast"}
		re.open(t)
		is := picture(re.store.View())
		seen[is]++
		if is != old && is != done {
			t.Fatalf("a crash at step %d left\n%s", i/2, is)
		}
		if is == old {
			restamp(t, re, a)
			if got := contents(re.store.View()); got != contents(fast.store.View()) {
				t.Fatalf("restamped after a crash at step %d\n%s", i/2, got)
			}
		}
		list, err := re.store.Restamps(t.Context())
		if err != nil || len(list) != 1 || len(list[0].Moved) != 4 || len(list[0].Removed) != 4 {
			t.Fatalf("a crash at step %d left the records %+v: %v", i/2, list, err)
		}
		if re.storage.Len() != rows {
			t.Fatalf("a crash at step %d left %d rows, not %d", i/2, re.storage.Len(), rows)
		}
		if i%7 == 0 {
			re.restart(t)
			whole(t, re)
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d states were seen", len(seen))
	}
	whole(t, fast)
	exchange(t, fast, a)
	if picture(a.store.View()) != picture(fast.store.View()) {
		t.Error("large operations arrive changed")
	}
}

// whole holds a replica's state against what its log says.
func whole(t failer, b *box) {
	t.Helper()
	v, err := b.store.Refold(context.Background())
	if err != nil {
		t.Fatalf("refold: %v", err)
	}
	if got, want := picture(b.store.View())+digests(b.store.View()), picture(v)+digests(v); got != want {
		t.Fatalf("the state is\n%s\nits log says\n%s", got, want)
	}
	checkIndexes(t, b.store.View())
}

// Whatever was written by the fast box alone looks the same after Restamp; whatever others wrote as well converges, and loses nothing
// that is not told.
func TestRestampChangesNothingThatIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, fast := openBox(t, "a"), openBox(t, "fast")
		writes := func(label string, b *box) {
			for range rapid.IntRange(0, 8).Draw(t, label) {
				_, _ = b.update(t, randomWrite(t))
			}
		}
		writes("before", a)
		deliverAll(t, a, fast)
		if rapid.Bool().Draw(t, "own run shared") {
			writes("shared", fast)
			deliverAll(t, fast, a)
		}
		fast.clock.now = fast.clock.now.Add(time.Hour)
		writes("fast", fast)
		if rapid.Bool().Draw(t, "restart") {
			fast.restart(t)
			writes("later", fast)
		}
		alone := rapid.Bool().Draw(t, "alone")
		if !alone {
			writes("meanwhile", a)
		}
		a.clock.now = a.clock.now.Add(time.Minute)
		fast.clock.now = a.clock.now
		deliverAll(t, a, fast)
		before := contents(fast.store.View())
		r, err := fast.store.Restamp(context.Background(), hostdb.Restamping{Held: heldByAny([]*box{a}), All: rapid.Bool().Draw(t, "all")})
		if err != nil {
			t.Fatalf("restamp: %v", err)
		}
		if after := contents(fast.store.View()); alone && (after != before || len(r.Left) > 0) {
			t.Fatalf("nobody else wrote, and\n%s\nbecame\n%s\nleft out: %+v", before, after, r.Left)
		}
		whole(t, fast)
		was := picture(fast.store.View())
		fast.restart(t)
		if is := picture(fast.store.View()); is != was {
			t.Fatalf("a restart changed\n%s\nto\n%s", was, is)
		}
		deliverAll(t, fast, a)
		if got, want := picture(a.store.View()), picture(fast.store.View()); got != want {
			t.Fatalf("the others have\n%s\nwant\n%s", got, want)
		}
		for c := range fast.store.View().AllConflicts() {
			if slices.ContainsFunc(r.Moved, func(m hostdb.Move) bool { return m.New == c.Winner }) && !slices.ContainsFunc(r.Moved, func(m hostdb.Move) bool { return m.New == c.Loser }) {
				t.Fatalf("what was made anew hides what its writer had not seen: %+v", c)
			}
		}
		_, _ = fast.update(t, put("hosts", "last", hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text("x")})))
		deliverAll(t, fast, a)
	})
}
