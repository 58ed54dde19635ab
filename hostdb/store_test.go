package hostdb_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

func parse(t *testing.T, text string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(ns, key string, doc hostdb.Document) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }
}

// write is an update that must succeed.
func write(t *testing.T, b *box, fns ...func(*hostdb.Tx) error) hostdb.Commit {
	t.Helper()
	c, err := b.update(t, func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return c
}

// exchange brings two boxes to the same operations.
func exchange(t *testing.T, a, b *box) {
	t.Helper()
	deliverAll(t, a, b)
	deliverAll(t, b, a)
}

func TestTwoPeopleEditDifferentFields(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 2, memory: 4, disk: 10}")))
	exchange(t, a, b)
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 8, memory: 4, disk: 10}")))
	write(t, b, put("hosts", "web1", parse(t, "{cpu: 2, memory: 16, disk: 10, rack: r1}")))
	exchange(t, a, b)
	if got := a.store.View().Data("hosts", "web1").YAML(); got != "cpu: 8\ndisk: 10\nmemory: 16\nrack: r1\n" {
		t.Errorf("merged to\n%s", got)
	}
}

// One empties a mapping while the other adds a field to it: the field stays.
func TestEmptyingAMappingHidesNoConcurrentField(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{Network: {IP: 10.0.0.1}}")))
	exchange(t, a, b)
	a.clock.now = a.clock.now.Add(500 * time.Millisecond) // the addition has the lower stamp
	write(t, b, func(tx *hostdb.Tx) error {
		return tx.PutPath("hosts", "web1", []string{"Network", "MAC"}, parse(t, "aa:bb:cc:dd:ee:ff"))
	})
	write(t, a, func(tx *hostdb.Tx) error { return tx.DeletePath("hosts", "web1", []string{"Network", "IP"}) })
	exchange(t, a, b)
	if got := a.store.View().Data("hosts", "web1").YAML(); got != "Network:\n  MAC: aa:bb:cc:dd:ee:ff\n" {
		t.Errorf("merged to\n%s", got)
	}
}

func TestLateEditOfADeletedHostBringsNothingBack(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 2}")), put("tags", "web", parse(t, "{}")),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web1") })
	exchange(t, a, b)
	write(t, a, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web1") })
	b.clock.now = b.clock.now.Add(900 * time.Millisecond)
	write(t, b, func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web1", []string{"cpu"}, parse(t, "4")) })
	exchange(t, a, b)
	if a.store.View().Exists("hosts", "web1") {
		t.Error("a late edit brought a deleted host back")
	}
	// Made anew it begins empty, and the old edit stays out.
	write(t, a, put("hosts", "web1", parse(t, "{memory: 1}")))
	exchange(t, a, b)
	if got := b.store.View().Data("hosts", "web1").YAML(); got != "memory: 1\n" {
		t.Errorf("a host made anew has\n%s", got)
	}
	if got := b.store.View().Members("tags", "web"); len(got) != 0 {
		t.Errorf("members %q came back", got)
	}
}

func TestRenameCarriesEverythingAlong(t *testing.T) {
	b := openBox(t, "a")
	acl, err := hostdb.ParseACL([]byte("ops: {data: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	list := []hostdb.Member{{Name: "db1", Text: "# first\n"}, {Name: "web1", Text: "\n# the one\n"}, {Name: "web2"}, {Text: "# end\n"}}
	write(t, b,
		func(tx *hostdb.Tx) error { return tx.CreateNamespace("racks") },
		put("hosts", "web1", parse(t, "{cpu: 2}")), put("hosts", "web2", parse(t, "{}")), put("hosts", "db1", parse(t, "")),
		put("tags", "web", parse(t, "{}")), put("racks", "r1", parse(t, "{}")),
		func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "web", list) },
		func(tx *hostdb.Tx) error { return tx.AddMember("racks", "r1", "web1") },
		func(tx *hostdb.Tx) error { return tx.SetPerms("hosts", "web1", acl) })
	before := b.store.View()
	c := write(t, b, func(tx *hostdb.Tx) error { return tx.Rename("hosts", "web1", "web9") })
	v := b.store.View()
	if got, want := v.RawMembers("tags", "web"), "# first\ndb1\n\n# the one\nweb9\nweb2\n# end"; got != want {
		t.Errorf("list became %q, want %q", got, want)
	}
	if v.Exists("hosts", "web1") || v.Data("hosts", "web9").Text("cpu") != "2" || !v.HasMember("racks", "r1", "web9") {
		t.Error("something was left behind")
	}
	if _, ok := v.Perms("hosts", "web9"); !ok {
		t.Error("perms were left behind")
	}
	changed := map[string]bool{}
	for ch := range v.Changes(before) {
		changed[ch.NS+"/"+ch.Key] = true
	}
	want := map[string]bool{"hosts/web1": true, "hosts/web9": true, "tags/web": true, "racks/r1": true}
	if !maps.Equal(changed, want) {
		t.Errorf("changes are %v, want %v", changed, want)
	}
	if seq := v.Seq(b.store.Origin()); seq != 2 {
		t.Errorf("%d operations, want the rename to be one; revision %s", seq, c.Revision)
	}
}

func TestIdenticalWritesMakeNoOperation(t *testing.T) {
	b := openBox(t, "a")
	for i, fn := range []func(*hostdb.Tx) error{
		put("hosts", "web1", parse(t, "{a: 1, b: '1', l: [1, 2]}")),
		put("tags", "web", parse(t, "null")),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web1") },
		func(tx *hostdb.Tx) error {
			return tx.SetMembers("tags", "web", []hostdb.Member{{Name: "web1", Text: "# x\n"}})
		},
		func(tx *hostdb.Tx) error { return tx.CreateNamespace("other") },
	} {
		if c := write(t, b, fn); !c.Changed() {
			t.Errorf("write %d made no operation", i)
		}
		if c := write(t, b, fn); c.Changed() {
			t.Errorf("write %d made an operation the second time", i)
		}
	}
}

func TestRefusals(t *testing.T) {
	b := openBox(t, "a")
	write(t, b, put("hosts", "web1", parse(t, "{cpu: 2, list: [a]}")), put("tags", "x", parse(t, "{}")), put("tags", "y", parse(t, "{}")),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "x", "@y") })
	before := b.store.View().Version()
	deny := errors.New("no")
	for name, c := range map[string]struct {
		fn   func(*hostdb.Tx) error
		want error
	}{
		"bad key":             {put("hosts", "a/b", parse(t, "1")), hostdb.ErrBadName},
		"dot key":             {put("hosts", ".git", parse(t, "1")), hostdb.ErrBadName},
		"no namespace":        {put("nope", "a", parse(t, "1")), hostdb.ErrNoNamespace},
		"below a scalar":      {func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web1", []string{"cpu", "x"}, parse(t, "1")) }, hostdb.ErrNotMapping},
		"below nothing":       {func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web1", []string{"a", "b"}, parse(t, "1")) }, hostdb.ErrNoParent},
		"path of missing key": {func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "nope", []string{"a"}, parse(t, "1")) }, hostdb.ErrNoParent},
		"delete missing path": {func(tx *hostdb.Tx) error { return tx.DeletePath("hosts", "web1", []string{"nope"}) }, hostdb.ErrNotFound},
		"delete missing item": {func(tx *hostdb.Tx) error { return tx.DeletePath("hosts", "web1", []string{"list", "b"}) }, hostdb.ErrNotFound},
		"delete missing key":  {func(tx *hostdb.Tx) error { return tx.Delete("hosts", "nope") }, hostdb.ErrNoParent},
		"rename onto":         {func(tx *hostdb.Tx) error { return tx.Rename("tags", "x", "y") }, hostdb.ErrExists},
		"member no host":      {func(tx *hostdb.Tx) error { return tx.AddMember("tags", "x", "nope") }, hostdb.ErrNotFound},
		"member no key":       {func(tx *hostdb.Tx) error { return tx.AddMember("tags", "x", "@nope") }, hostdb.ErrNotFound},
		"cycle":               {func(tx *hostdb.Tx) error { return tx.AddMember("tags", "y", "@x") }, hostdb.ErrCycle},
		"cycle with itself":   {func(tx *hostdb.Tx) error { return tx.AddMember("tags", "y", "@y") }, hostdb.ErrCycle},
		"cycle in one write": {func(tx *hostdb.Tx) error {
			return errors.Join(tx.AddMember("tags", "y", "@all"), tx.AddMember("tags", "all", "web1"))
		}, hostdb.ErrNotAllowed},
		"members of all": {func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "all", nil) }, hostdb.ErrNotAllowed},
		"one bad of a list": {func(tx *hostdb.Tx) error {
			return tx.SetMembers("tags", "y", []hostdb.Member{{Name: "web1"}, {Name: "nope"}})
		}, hostdb.ErrNotFound},
		"too large":             {put("hosts", "big", hostdb.NewDocument(hostdb.Leaf{Path: "a", Value: hostdb.Text(strings.Repeat("x", hostdb.MaxData))})), hostdb.ErrTooLarge},
		"the caller's own":      {func(*hostdb.Tx) error { return deny }, deny},
		"rename missing member": {func(tx *hostdb.Tx) error { return tx.RenameMember("tags", "x", "web1", "web2") }, hostdb.ErrNotFound},
	} {
		_, err := b.store.Update(context.Background(), hostdb.Request{User: "u", Log: "l"}, c.fn)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if b.store.View().Version() != before {
		t.Error("a refused write left a trace")
	}
}

func TestPermissionComesBeforeExistence(t *testing.T) {
	b := openBox(t, "a")
	write(t, b, put("hosts", "web1", parse(t, "1")), put("tags", "x", parse(t, "{}")),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "x", "web1") })
	req := hostdb.Request{User: "u", Log: "l", Allow: func(_ hostdb.View, ns, key string, what hostdb.Resource) error {
		if ns == "hosts" && key == "web1" {
			return nil
		}
		return fmt.Errorf("%s/%s %s: %w", ns, key, what, hostdb.ErrDenied)
	}}
	for name, fn := range map[string]func(*hostdb.Tx) error{
		"missing key":                            func(tx *hostdb.Tx) error { return tx.DeletePath("hosts", "nope", []string{"a"}) },
		"touches a list the user may not change": func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web1") },
	} {
		if _, err := b.store.Update(context.Background(), req, fn); !errors.Is(err, hostdb.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !b.store.View().Exists("hosts", "web1") {
		t.Error("a denied delete removed the host")
	}
}

func TestMemberListKeepsItsText(t *testing.T) {
	b := openBox(t, "a")
	for _, h := range []string{"a1", "a2", "a3", "a4"} {
		write(t, b, put("hosts", h, parse(t, "1")))
	}
	write(t, b, put("tags", "x", parse(t, "{}")))
	for _, raw := range []string{
		"a1\na2\na3",
		"# head\na3\n\n# two\na1\na2\n# tail",
		"a4\na3\na2\na1",
		"",
		"# only text",
	} {
		list, err := hostdb.ParseMembers(raw)
		if err != nil {
			t.Fatal(err)
		}
		write(t, b, func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "x", list) })
		if got := b.store.View().RawMembers("tags", "x"); got != raw {
			t.Errorf("list %q came back as %q", raw, got)
		}
	}
	if list, err := hostdb.ParseMembers("  a1  \r\n\r\n# c \r\na2"); err != nil || hostdb.FormatMembers(list) != "a1\n\n# c\na2" {
		t.Errorf("CRLF list became %q, %v", hostdb.FormatMembers(list), err)
	}
	if _, err := hostdb.ParseMembers("a1\na/2"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("bad name: %v", err)
	}
}

// Comments are of the list: they stay when the member behind them goes.
func TestCommentsStayWhenAMemberGoes(t *testing.T) {
	b := openBox(t, "a")
	list, err := hostdb.ParseMembers("# first\nh1\n\n# second\nh2\nh3\n# end\n")
	if err != nil {
		t.Fatal(err)
	}
	write(t, b, put("hosts", "h1", parse(t, "")), put("hosts", "h2", parse(t, "")), put("hosts", "h3", parse(t, "")), put("tags", "t", parse(t, "")),
		func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "t", list) })
	for _, c := range []struct {
		do   func(*hostdb.Tx) error
		want string
	}{
		{func(tx *hostdb.Tx) error { return tx.Delete("hosts", "h1") }, "# first\n\n# second\nh2\nh3\n# end"},
		{func(tx *hostdb.Tx) error { return tx.RemoveMember("tags", "t", "h2") }, "# first\n\n# second\nh3\n# end"},
		{func(tx *hostdb.Tx) error { return tx.RemoveMember("tags", "t", "h3") }, "# first\n\n# second\n# end"},
	} {
		write(t, b, c.do)
		if got := strings.TrimSuffix(b.store.View().RawMembers("tags", "t"), "\n"); got != c.want {
			t.Errorf("the list is %q, want %q", got, c.want)
		}
	}
}

// A crash at any commit of a write, of any size, leaves all of it or nothing, and all of what was acknowledged.
func TestCrashAtEveryCommit(t *testing.T) {
	b := openBox(t, "a")
	b.storage.SetMaxBatch(4000, 40)
	b.restart(t)
	var crashes []*hostdbtest.Memory
	snapshot := func([]hostdb.Put) error { crashes = append(crashes, b.storage.Snapshot()); return nil }
	b.storage.SetHooks(hostdbtest.Hooks{Before: snapshot, After: snapshot})

	var states []string // after each write
	states = append(states, picture(b.store.View()))
	do := func(fns ...func(*hostdb.Tx) error) {
		from := len(crashes)
		write(t, b, fns...)
		states = append(states, picture(b.store.View()))
		for i, m := range crashes[from:] {
			re := &box{storage: m, clock: b.clock, name: "a"}
			re.open(t)
			got := picture(re.store.View())
			before, after := states[len(states)-2], states[len(states)-1]
			if got != before && got != after {
				t.Fatalf("crash %d of write %d left\n%s\nneither\n%s\nnor\n%s", i, len(states)-1, got, before, after)
			}
			checkIndexes(t, re.store.View())
			// Nothing is left behind that a second opening would read otherwise.
			re.restart(t)
			if again := picture(re.store.View()); again != got {
				t.Fatalf("the second opening after a crash differs:\n%s\n%s", again, got)
			}
			if _, err := re.update(t, put("hosts", "later", parse(t, "1"))); err != nil {
				t.Fatalf("a write after a crash: %v", err)
			}
			for _, key := range []string{"big", "large"} {
				if re.store.View().Exists("tags", key) {
					continue
				}
				write(t, re, put("tags", key, parse(t, "{}")))
				if got := re.store.View().RawMembers("tags", key); got != "" {
					t.Fatalf("after a crash, a key made anew has the members of the one deleted: %q", got)
				}
			}
		}
	}
	var many []func(*hostdb.Tx) error
	var list []hostdb.Member
	for i := range 60 {
		name := fmt.Sprintf("host%02d", i)
		many = append(many, put("hosts", name, parse(t, "{Network: {IP: 10.0.0.1}, note: "+strings.Repeat("x", 50)+"}")))
		list = append(list, hostdb.Member{Name: name})
	}
	do(put("hosts", "small", parse(t, "{a: 1}")))
	do(many...)
	do(put("tags", "big", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "big", list) })
	do(func(tx *hostdb.Tx) error { return tx.Rename("tags", "big", "large") })
	do(func(tx *hostdb.Tx) error { return tx.Rename("hosts", "host05", "other") })
	do(func(tx *hostdb.Tx) error { return tx.Delete("tags", "large") })
	do(put("tags", "large", parse(t, "{}")), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "large", "host01") })

	// The others take large operations as well.
	c := openBox(t, "b")
	c.storage.SetMaxBatch(4000, 40)
	c.restart(t)
	deliverAll(t, b, c)
	if picture(c.store.View()) != picture(b.store.View()) {
		t.Error("large operations arrive changed")
	}
}

// When the storage fails, what is not acknowledged may or may not be there later, what is acknowledged is, and the
// store serves reads and comes back by itself.
func TestStorageFailure(t *testing.T) {
	for name, stored := range map[string]bool{"nothing stored": false, "stored all the same": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := openBox(t, "a")
				storage := b.storage
				store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { storage = storage.Snapshot(); return storage, nil }, NodeID: "a"})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- store.Run(ctx) }()
				defer func() { cancel(); <-done; store.Close() }()
				update := func(key string) error {
					_, err := store.Update(ctx, hostdb.Request{User: "u", Log: "l"}, put("hosts", key, parse(t, "1")))
					return err
				}
				if err := update("one"); err != nil {
					t.Fatal(err)
				}
				origin := store.Origin()
				if stored {
					storage.FailNextCommitStored(errors.New("disk on fire"))
				} else {
					storage.FailNextCommit(errors.New("disk on fire"))
				}
				if err := update("two"); !errors.Is(err, hostdb.ErrUnavailable) || !strings.Contains(err.Error(), "disk on fire") {
					t.Fatalf("a failing write said %v", err)
				}
				if err := update("three"); !errors.Is(err, hostdb.ErrUnavailable) {
					t.Fatalf("a write to a failed store said %v", err)
				}
				if !store.View().Exists("hosts", "one") {
					t.Fatal("reads are not served")
				}
				time.Sleep(3 * time.Second)
				if err := update("four"); err != nil {
					t.Fatalf("the store did not come back: %v", err)
				}
				v := store.View()
				if !v.Exists("hosts", "one") || v.Exists("hosts", "two") != stored || v.Exists("hosts", "three") || !v.Exists("hosts", "four") {
					t.Errorf("after the failure: %s", picture(v))
				}
				if store.Origin() == origin {
					t.Error("an opening reused the origin of the one before")
				}
			})
		})
	}
}

func TestDiskRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := hostdbtest.NewMemory()
		var full error
		var mu sync.Mutex
		set := func(err error) { mu.Lock(); full = err; mu.Unlock() }
		store, err := hostdb.Open(hostdb.Config{
			OpenStorage: func() (hostdb.Storage, error) { m = m.Snapshot(); return m, nil },
			Space:       func() error { mu.Lock(); defer mu.Unlock(); return full },
			NodeID:      "a",
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		defer func() { cancel(); <-done; store.Close() }()
		req := hostdb.Request{User: "u", Log: "l"}
		if _, err := store.Update(ctx, req, put("hosts", "one", parse(t, "1"))); err != nil {
			t.Fatal(err)
		}
		set(errors.New("12 MiB free, 256 MiB are needed"))
		time.Sleep(2 * time.Second)
		if _, err := store.Update(ctx, req, put("hosts", "two", parse(t, "1"))); !errors.Is(err, hostdb.ErrUnavailable) || !strings.Contains(err.Error(), "12 MiB free") {
			t.Errorf("a write on a full disk said %v", err)
		}
		if !store.View().Exists("hosts", "one") {
			t.Error("reads are not served")
		}
		set(nil)
		time.Sleep(2 * time.Second)
		if _, err := store.Update(ctx, req, put("hosts", "two", parse(t, "1"))); err != nil {
			t.Errorf("after space returned: %v", err)
		}
	})
}

// Many writers share the commits of the storage, and each finds its write done when it returns.
func TestWritersShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBox(t, "a")
		b.storage.SetHooks(hostdbtest.Hooks{Before: func([]hostdb.Put) error { time.Sleep(time.Millisecond); return nil }})
		base := b.storage.Commits()
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := range 5 {
					key := fmt.Sprintf("h%d-%d", w, i)
					if _, err := b.store.Update(t.Context(), hostdb.Request{User: "u", Log: "l"}, put("hosts", key, parse(t, "1"))); err != nil {
						t.Errorf("%s: %v", key, err)
					} else if !b.store.View().Exists("hosts", key) {
						t.Errorf("%s is not visible after its write returned", key)
					}
				}
			})
		}
		wg.Wait()
		if n := b.storage.Commits() - base; n > 64 {
			t.Errorf("320 writes of 64 writers took %d commits", n)
		}
		before := picture(b.store.View())
		b.restart(t)
		if after := picture(b.store.View()); after != before {
			t.Error("what was shared is not what was stored")
		}
	})
}

func TestClockRules(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	b.clock.now = b.clock.now.Add(4 * time.Second)
	write(t, b, put("hosts", "web1", parse(t, "1")))
	deliverAll(t, b, a) // 4 s ahead is taken
	if lead := a.store.ClockLead(); lead < 3*time.Second {
		t.Errorf("the lead is %s", lead)
	}
	_, err := a.update(t, put("hosts", "web2", parse(t, "1")))
	if !errors.Is(err, hostdb.ErrClock) || !strings.Contains(err.Error(), "4s ahead") {
		t.Errorf("a local write while stamps run ahead said %v", err)
	}
	a.restart(t)
	if _, err := a.update(t, put("hosts", "web2", parse(t, "1"))); !errors.Is(err, hostdb.ErrClock) {
		t.Errorf("a restart forgot how far stamps run ahead: %v", err)
	}
	a.clock.now = a.clock.now.Add(3500 * time.Millisecond)
	write(t, a, put("hosts", "web2", parse(t, "1")))

	b.clock.now = b.clock.now.Add(time.Minute)
	write(t, b, put("hosts", "web3", parse(t, "1")))
	ops, err := b.store.Operations(b.store.Origin(), a.store.View().Seq(b.store.Origin()), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.store.Apply(t.Context(), ops); !errors.Is(err, hostdb.ErrFuture) {
		t.Errorf("an operation a minute ahead: %v", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	for i := range 4 {
		write(t, a, put("hosts", fmt.Sprint("web", i), parse(t, "1")))
	}
	ops, err := a.store.Operations(a.store.Origin(), 0, 1<<20)
	if err != nil || len(ops) != 4 {
		t.Fatal(len(ops), err)
	}
	if _, err := b.store.Apply(t.Context(), ops[1:]); !errors.Is(err, hostdb.ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if _, err := b.store.Apply(t.Context(), [][]byte{{1, 2, 3}}); !errors.Is(err, hostdb.ErrInvalid) {
		t.Errorf("garbage: %v", err)
	}
	if n, err := b.store.Apply(t.Context(), ops[:2]); n != 2 || err != nil {
		t.Errorf("two good ones: %d, %v", n, err)
	}
	if n, err := b.store.Apply(t.Context(), ops[:3]); n != 1 || err != nil {
		t.Errorf("two again and one more: %d, %v", n, err)
	}
	// A copy of the directory that goes on under the same origin cannot be: a new opening is a new origin. A broken
	// peer could still invent one.
	forged, err := hostdb.ParseOperation(ops[2])
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(forged.Raw()), "web2", "web7", 1)
	if _, err := b.store.Apply(t.Context(), [][]byte{[]byte(changed)}); !errors.Is(err, hostdb.ErrFork) {
		t.Errorf("another operation under a number that is held: %v", err)
	}
}

// A restored or cloned directory goes on under an origin of its own, so both copies' writes survive.
func TestClonedDirectoryForksNothing(t *testing.T) {
	a := openBox(t, "a")
	write(t, a, put("hosts", "web1", parse(t, "1")))
	clone := &box{storage: a.storage.Snapshot(), clock: a.clock, name: "a"}
	clone.open(t)
	write(t, a, put("hosts", "here", parse(t, "1")))
	write(t, clone, put("hosts", "there", parse(t, "1")))
	exchange(t, a, clone)
	for _, b := range []*box{a, clone} {
		if v := b.store.View(); !v.Exists("hosts", "here") || !v.Exists("hosts", "there") {
			t.Errorf("a write is lost:\n%s", picture(v))
		}
	}
}

// The loser of two concurrent writes is listed, the same on both sides, until somebody writes over it.
func TestConflictsAreSeen(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 2, disk: 5, Network: {IP: 10.0.0.1}}")), put("tags", "web", parse(t, "{}")),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web1") })
	exchange(t, a, b)
	path := func(value string, p ...string) func(*hostdb.Tx) error {
		return func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "web1", p, parse(t, value)) }
	}
	write(t, a, path("4", "cpu"), path("6", "disk"), path("aa:bb", "Network", "MAC"))
	b.clock.now = b.clock.now.Add(100 * time.Millisecond)
	won := write(t, b, path("8", "cpu"), path("none", "Network")).Revision
	list := func(x *box) string {
		var out []string
		for c := range x.store.View().Conflicts("hosts", "web1") {
			if c.Winner != won || !c.Loser.Less(won) {
				t.Errorf("winner %s, loser %s, want %s to have won", c.Winner, c.Loser, won)
			}
			out = append(out, string(c.What)+" "+c.At)
		}
		return strings.Join(out, ", ")
	}
	if got := list(a) + list(b); got != "" {
		t.Errorf("conflicts before the two met: %s", got)
	}
	exchange(t, a, b)
	const want = "data Network/MAC, data cpu"
	if list(a) != want || list(b) != want {
		t.Errorf("conflicts are %q and %q, want %q", list(a), list(b), want)
	}
	b.clock.now = b.clock.now.Add(100 * time.Millisecond)
	write(t, b, path("9", "cpu"), path("{IP: 10.0.0.9}", "Network"))
	exchange(t, a, b)
	if got := list(a); got != "" {
		t.Errorf("conflicts stay listed after they were written over: %s", got)
	}
	// A host that is edited here and deleted there.
	write(t, a, path("1", "cpu"))
	b.clock.now = b.clock.now.Add(100 * time.Millisecond)
	won = write(t, b, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web1") }).Revision
	exchange(t, a, b)
	if list(a) != " " || list(b) != " " {
		t.Errorf("an edit lost to a delete is listed as %q and %q", list(a), list(b))
	}
}

// Two writes that are within the limits may merge to a document beyond them: it is kept, served and stored all the same.
func TestMergeBeyondTheLimitIsKept(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	a.storage.SetMaxBatch(1_500_000, 6000)
	b.storage.SetMaxBatch(1_500_000, 6000)
	write(t, a, put("hosts", "web1", parse(t, "{}")))
	exchange(t, a, b)
	noise := func(seed byte) string {
		r := rand.NewChaCha8([32]byte{seed})
		buf := make([]byte, 900_000/2)
		r.Read(buf)
		return hex.EncodeToString(buf)
	}
	for i, x := range []*box{a, b, a} {
		doc := parse(t, "{f"+fmt.Sprint(i)+": "+noise(byte(i))+"}")
		if i == 2 {
			doc = parse(t, "{f0: "+noise(9)+"}")
		}
		write(t, x, put("hosts", "web1", doc))
	}
	exchange(t, a, b)
	want := a.store.View().Data("hosts", "web1").YAML()
	if len(want) < 1_700_000 {
		t.Fatalf("merged to %d bytes", len(want))
	}
	for _, x := range []*box{a, b} {
		x.restart(t)
		x.restart(t)
		if got := x.store.View().Data("hosts", "web1").YAML(); got != want {
			t.Errorf("%s has %d bytes after a restart, want %d", x.name, len(got), len(want))
		}
		if _, err := x.update(t, put("hosts", "web1", parse(t, "{small: 1}"))); err != nil {
			t.Errorf("making it small again: %v", err)
		}
		x.restart(t)
		left := 0
		if err := x.storage.Scan([]byte{'p'}, nil, func(_, _ []byte) error { left++; return nil }); err != nil || left != 0 {
			t.Errorf("%d parts are left behind, %v", left, err)
		}
	}
}

func TestUpdateSurvivesAPanicOfItsFunction(t *testing.T) {
	b := openBox(t, "a")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = b.update(t, func(tx *hostdb.Tx) error {
			if err := tx.Put("hosts", "half", parse(t, "1")); err != nil {
				return err
			}
			panic("a bug")
		})
	}()
	write(t, b, put("hosts", "web1", parse(t, "1")))
	if b.store.View().Exists("hosts", "half") {
		t.Error("half of a write was kept")
	}
	if err := b.store.Close(); err != nil {
		t.Error(err)
	}
}

// stuck is a storage whose Close waits for a disk that does not come back.
type stuck struct {
	*hostdbtest.Memory
	release chan struct{}
}

func (s stuck) Close() error { <-s.release; return s.Memory.Close() }

// A storage that does not close holds up nobody: not readers, not writers who want to be told, not the end.
func TestStorageThatDoesNotClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := stuck{hostdbtest.NewMemory(), make(chan struct{})}
		store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return st, nil }, NodeID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		update := func(key string) error {
			_, err := store.Update(ctx, hostdb.Request{User: "u", Log: "l"}, put("hosts", key, parse(t, "1")))
			return err
		}
		if err := update("one"); err != nil {
			t.Fatal(err)
		}
		st.FailNextCommit(errors.New("disk gone"))
		for _, key := range []string{"two", "three"} {
			if err := update(key); !errors.Is(err, hostdb.ErrUnavailable) {
				t.Errorf("a write said %v", err)
			}
		}
		time.Sleep(5 * time.Second)
		if err := store.Failure(); err == nil || !store.View().Exists("hosts", "one") {
			t.Errorf("failure %v, or reads are not served", err)
		}
		cancel()
		<-done
		if err := store.Close(); err == nil || !strings.Contains(err.Error(), "does not close") {
			t.Errorf("close said %v", err)
		}
		close(st.release)
		if err := store.Close(); err != nil {
			t.Errorf("close after the disk came back: %v", err)
		}
	})
}
