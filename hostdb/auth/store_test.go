package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// box is an Auth with a replica behind it.
type box struct {
	*Auth
	t     *testing.T
	store *hostdb.Store
	clock *clock
	log   *bytes.Buffer
	reg   *prometheus.Registry
	cfg   Config
}

func newBox(t *testing.T, users string, dir Directory) *box {
	t.Helper()
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: "n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	b := &box{t: t, store: store, clock: &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	b.cfg = Config{UsersFile: usersFile(t, users), SessionKey: testKey, Store: store, Sealer: sealer(t, sealKey), Directory: dir,
		Clock: b.clock, Logger: slog.New(slog.NewTextHandler(b.log, nil)), Registerer: b.reg}
	b.reopen()
	return b
}

// reopen makes the Auth anew of the same replica, as another node or a restart would.
func (b *box) reopen() {
	b.t.Helper()
	cfg := b.cfg
	if b.Auth != nil {
		cfg.Registerer = nil
	}
	var err error
	if b.Auth, err = Open(cfg); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) seed(want string) {
	b.t.Helper()
	names, err := b.Seed(context.Background())
	if err != nil || fmt.Sprint(names) != want {
		b.t.Errorf("Seed writes %v, %v; want %s", names, err, want)
	}
}

func (b *box) login(name, password string, addr netip.Addr, want Code) string {
	b.t.Helper()
	token, err := b.Login(context.Background(), name, password, addr)
	if codeOf(err) != want || err != nil && want == 0 {
		b.t.Errorf("login of %s: %v, want %d", name, err, want)
	}
	return token
}

func (b *box) identify(token string, want Code) Identity {
	b.t.Helper()
	id, err := b.Identify(token, inside)
	if codeOf(err) != want {
		b.t.Errorf("the session is %+v, %v; want %d", id, err, want)
	}
	return id
}

func (b *box) set(name string, c Change) hostdb.Commit {
	b.t.Helper()
	_, commit, err := b.SetUser(context.Background(), admin, name, c)
	if err != nil {
		b.t.Fatal(err)
	}
	return commit
}

func (b *box) remove(name string) {
	b.t.Helper()
	if _, err := b.RemoveUser(context.Background(), admin, name); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) readOnly(on bool) {
	b.t.Helper()
	_, err := b.store.Update(context.Background(), hostdb.Request{User: "root", EvenReadOnly: true}, func(tx *hostdb.Tx) error {
		return tx.SetReadOnly(on, "moving house")
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

var admin = hostdb.Request{User: "root", Log: "test"}

func ptr[T any](v T) *T { return &v }

func TestSeed(t *testing.T) {
	b := newBox(t, users(t), nil)
	before := b.login("alice", "secret", inside, 0) // of the file, from memory
	if u, ok := b.User("alice"); !ok || !u.FileOnly {
		t.Errorf("before the seed alice is %+v, %v", u, ok)
	}

	b.readOnly(true)
	if _, err := b.Seed(context.Background()); !errors.Is(err, hostdb.ErrReadOnly) {
		t.Errorf("in read-only mode: %v", err)
	}
	b.login("alice", "secret", inside, 0)
	b.readOnly(false)

	b.seed("[alice nowhere robot]")
	applied := b.store.View().Applied()
	b.seed("[]")
	b.reopen()
	b.seed("[]")
	if got := b.store.View().Applied(); got != applied {
		t.Errorf("seeding again makes %d revisions", got-applied)
	}
	if id := b.identify(before, 0); len(id.Groups) != 2 {
		t.Errorf("a session of before the seed is %+v", id)
	}

	// What HostDB has counts, and not the file.
	b.set("alice", Change{Password: ptr("new"), Groups: &[]string{"web"}})
	b.login("alice", "secret", inside, WrongPassword)
	token := b.login("alice", "new", inside, 0)
	if id := b.identify(token, 0); fmt.Sprint(id.Groups) != "[web]" || fmt.Sprint(b.Groups("alice")) != "[web]" {
		t.Errorf("alice is %+v", id)
	}
	b.identify(before, BadToken) // the password was reset

	b.remove("alice")
	b.identify(token, BadToken)
	b.login("alice", "new", inside, WrongPassword)
	b.login("alice", "secret", inside, WrongPassword)
	b.reopen()
	b.seed("[]")
	b.login("alice", "secret", inside, WrongPassword)
	if b.Groups("alice") != nil {
		t.Error("a removed user has groups")
	}
}

// TestRemoveBeforeSeed: a user of the file that HostDB does not have yet can be removed for good.
func TestRemoveBeforeSeed(t *testing.T) {
	b := newBox(t, users(t), nil)
	b.remove("robot")
	b.login("robot", "secret", inside, WrongPassword)
	b.seed("[alice nowhere]")
	if _, err := b.RemoveUser(context.Background(), admin, "robot"); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("removing who is not there: %v", err)
	}
}

// TestNothingSecretInTheDatabase: no operation holds a hash.
func TestNothingSecretInTheDatabase(t *testing.T) {
	b := newBox(t, users(t), nil)
	b.seed("[alice nowhere robot]")
	b.set("alice", Change{Password: ptr("correct horse")})
	for origin, last := range b.store.View().Vector() {
		ops, err := b.store.Operations(origin, 0, 1<<20)
		if err != nil || len(ops) != int(last) || last == 0 {
			t.Fatalf("%d of %d operations, %v", len(ops), last, err)
		}
		for _, op := range ops {
			for _, secret := range []string{md5Secret, "argon2id", "correct horse", "10.0.0.0", "dba"} {
				if bytes.Contains(op, []byte(secret)) {
					t.Errorf("an operation shows %q", secret)
				}
			}
		}
	}
}

func TestMD5IsReplacedOnce(t *testing.T) {
	b := newBox(t, users(t), nil)
	b.seed("[alice nowhere robot]")
	md5 := func() bool {
		u, _ := b.User("robot")
		return u.MD5
	}
	revisions := func() uint64 { return b.store.View().Applied() }
	before := revisions()
	b.login("robot", "wrong", inside, WrongPassword)
	b.login("robot", "secret", inside2, WrongPlace)
	b.readOnly(true)
	first := b.login("robot", "secret", inside, 0)
	if !md5() {
		t.Error("the md5 went in read-only mode")
	}
	b.readOnly(false)
	if got := revisions() - before; got != 2 {
		t.Errorf("%d revisions, want those of the switch", got)
	}
	second := b.login("robot", "secret", inside, 0)
	if md5() {
		t.Error("the md5 is still there after a good login")
	}
	if got := revisions() - before; got != 3 {
		t.Errorf("%d revisions, want one more", got)
	}
	third := b.login("robot", "secret", inside, 0)
	if got := revisions() - before; got != 3 {
		t.Errorf("a login with argon2id makes a revision")
	}
	for _, token := range []string{first, second, third} {
		b.identify(token, 0) // the password is the same
	}
	b.set("robot", Change{Password: ptr("secret")})
	for _, token := range []string{first, second, third} {
		b.identify(token, BadToken)
	}
	for _, c := range []string{"10.1.2.3/32"} {
		if u, _ := b.User("robot"); len(u.Allow) != 1 || u.Allow[0].String() != c {
			t.Errorf("robot may come from %v", u.Allow)
		}
	}
}

// TestUnreadableRecord: a record of another mesh is nobody, not the user of the file and not one of the directory.
func TestUnreadableRecord(t *testing.T) {
	b := newBox(t, users(t), &fakeDirectory{"alice": {"secret", nil}})
	foreign := records{sealer: sealer(t, otherKey)}
	own := records{sealer: sealer(t, sealKey)}
	moved := own.sealer.SealedDocument(hostdb.System, userKey("robot"), encodeRecord(b.file["robot"]))
	_, err := b.store.Update(context.Background(), admin, func(tx *hostdb.Tx) error {
		return errors.Join(foreign.put(tx, "alice", b.file["alice"]), // sealed with another key
			tx.Put(hostdb.System, userKey("bob"), moved), // somebody else's record
			tx.Put(hostdb.System, userKey("carol"), hostdb.Document{}),
			tx.Put(hostdb.System, userKey("dave"), own.sealer.SealedDocument(hostdb.System, userKey("dave"), []byte("no record"))))
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, name := range []string{"alice", "bob", "carol", "dave"} {
			b.login(name, "secret", inside, WrongPassword)
			if b.Groups(name) != nil {
				t.Errorf("%s has groups", name)
			}
		}
	}
	if n := strings.Count(b.log.String(), "user cannot be opened and is nobody"); n != 4 {
		t.Errorf("%d log lines for 4 records:\n%s", n, b.log)
	}
	if u, ok := b.User("alice"); !ok || !u.Broken || len(b.Users()) != 6 {
		t.Errorf("alice is %+v, and there are %d users", u, len(b.Users()))
	}
	b.seed("[nowhere robot]")
	if _, _, err := b.SetUser(context.Background(), admin, "alice", Change{Groups: &[]string{}}); !errors.Is(err, hostdb.ErrInvalid) {
		t.Errorf("a part of a record that cannot be opened is changed: %v", err)
	}
	b.clock.now = b.clock.now.Add(time.Hour)
	b.set("alice", Change{Password: ptr("again"), Allow: &[]string{"10.0.0.0/8"}})
	b.login("alice", "again", inside, 0)
}

func TestSetUser(t *testing.T) {
	b := newBox(t, "", nil)
	for _, c := range []struct {
		name   string
		change Change
		want   error
	}{
		{"alice", Change{}, hostdb.ErrInvalid}, // no password
		{"alice", Change{Password: ptr("")}, hostdb.ErrInvalid},
		{"alice", Change{Password: ptr(strings.Repeat("x", maxPassword+1))}, hostdb.ErrInvalid},
		{"alice", Change{Password: ptr("x"), Allow: &[]string{"10.0.0.0/33"}}, hostdb.ErrInvalid},
		{"alice", Change{Password: ptr("x"), Groups: &[]string{"a/b"}}, hostdb.ErrBadName},
		{"root(alice)", Change{Password: ptr("x")}, hostdb.ErrBadName},
		{"../alice", Change{Password: ptr("x")}, hostdb.ErrBadName},
		{strings.Repeat("a", maxUserName+1), Change{Password: ptr("x")}, hostdb.ErrBadName},
	} {
		if _, _, err := b.SetUser(context.Background(), admin, c.name, c.change); !errors.Is(err, c.want) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%.20s, %v: %v, want %v", c.name, c.change, err, c.want)
		}
	}
	created, _, err := b.SetUser(context.Background(), admin, "alice", Change{Password: ptr("one"), Allow: &[]string{"10.0.0.0/8"}, Groups: &[]string{"ops"}})
	if err != nil || !created {
		t.Fatalf("%v, %v", created, err)
	}
	token := b.login("alice", "one", inside, 0)
	if c := b.set("alice", Change{Allow: &[]string{"10.0.0.0/8"}, Groups: &[]string{"ops"}}); c.Changed() {
		t.Error("the same again makes a revision")
	}
	b.set("alice", Change{Groups: &[]string{"dba"}})
	if id := b.identify(token, 0); fmt.Sprint(id.Groups) != "[dba]" {
		t.Errorf("a session has the groups %v", id.Groups)
	}
	b.set("alice", Change{Allow: &[]string{"192.0.2.1"}})
	b.identify(token, WrongPlace)
	b.login("alice", "one", inside, WrongPlace)
	b.login("alice", "one", outside, 0)

	none, err := Open(Config{SessionKey: testKey})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := none.SetUser(context.Background(), admin, "alice", Change{Password: ptr("x")}); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Errorf("an agent without mesh key: %v", err)
	}
}

// TestLookupCostsNoDecryption: a second lookup allocates nothing, so it opens nothing.
func TestLookupCostsNoDecryption(t *testing.T) {
	b := newBox(t, users(t), nil)
	b.seed("[alice nowhere robot]")
	b.Groups("alice")
	if n := testing.AllocsPerRun(100, func() { b.Groups("alice") }); n > 4 {
		t.Errorf("a lookup allocates %v times", n)
	}
}

func TestRefusedLoginsSayWhy(t *testing.T) {
	b := newBox(t, users(t), nil)
	_, err := b.Login(context.Background(), "alice", "secret", outside)
	if err == nil || !strings.Contains(err.Error(), "hostmesh user show alice") || strings.Contains(err.Error(), "10.0.0.0") {
		t.Errorf("a refusal of the place: %v", err)
	}
	for range pairAllowance.burst {
		b.login("alice", "wrong", inside, WrongPassword)
	}
	_, err = b.Login(context.Background(), "alice", "secret", inside)
	var e *Error
	if !errors.As(err, &e) || e.Code != TooMany || e.Wait != 30*time.Second || !strings.Contains(e.Message, "wait 30s") {
		t.Errorf("a login too many: %+v", err)
	}
	b.login("alice", "secret", inside2, 0)
	b.clock.now = b.clock.now.Add(e.Wait)
	b.login("alice", "secret", inside, 0)
	for range pairAllowance.burst {
		b.login("alice", "wrong", inside, WrongPassword)
	}
	b.login("alice", "wrong", inside, TooMany)
	want := "error 0, no_directory 0, ok 2, too_many 2, wrong_password 10, wrong_place 1"
	if got := b.counted(); got != want {
		t.Errorf("counted are %s, want %s", got, want)
	}
}

// counted is the metric of logins.
func (b *box) counted() string {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "hostmesh_auth_logins_total" {
		b.t.Fatalf("metrics are %v, %v", families, err)
	}
	var out []string
	for _, m := range families[0].GetMetric() {
		out = append(out, fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue()))
	}
	return strings.Join(out, ", ")
}
