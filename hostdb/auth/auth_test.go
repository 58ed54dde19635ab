package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// md5 of "secret", as upstream's file has it.
const md5Secret = "5ebe2294ecd0e0f08eab7690d2a6ee69"

var (
	testKey = []byte("0123456789abcdef0123456789abcdef")
	inside  = netip.MustParseAddr("10.1.2.3")
	inside2 = netip.MustParseAddr("10.1.2.4")
	outside = netip.MustParseAddr("192.0.2.1")
)

func usersFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, users string, key []byte, c hostdb.Clock) *Auth {
	t.Helper()
	a, err := Open(Config{UsersFile: usersFile(t, users), SessionKey: key, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// cheap is an argon2id hash of "secret" that costs little.
func cheap(t *testing.T) string {
	t.Helper()
	h := passwordHash{memory: 8, time: 1, threads: 1, salt: []byte("saltsalt")}
	h.sum = h.derive("secret", 32)
	return h.String()
}

func users(t *testing.T) string {
	return "alice: {password: '" + cheap(t) + "', allow: [10.0.0.0/8, '::1'], groups: [ops, dba]}\n" +
		"robot:\n  password: " + md5Secret + "\n  allow:\n  - 10.1.2.3\n" +
		"nowhere: {password: " + md5Secret + "}\n"
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestLogin(t *testing.T) {
	a := open(t, users(t), testKey, nil)
	for _, c := range []struct {
		user, password string
		addr           netip.Addr
		want           Code
	}{
		{"alice", "secret", inside, 0},
		{"alice", "secret", netip.MustParseAddr("::ffff:10.9.9.9"), 0},
		{"alice", "secret", netip.MustParseAddr("::1"), 0},
		{"alice", "secret", outside, WrongPlace},
		{"alice", "secret", netip.Addr{}, WrongPlace},
		{"alice", "Secret", inside, WrongPassword},
		{"alice", "", inside, WrongPassword},
		{"alice", "Secret", outside, WrongPassword},
		{"robot", "secret", inside, 0},
		{"robot", "secret", inside2, WrongPlace},
		{"robot", md5Secret, inside, WrongPassword},
		{"nowhere", "secret", inside, WrongPlace},
		{"mallory", "decoy", inside, WrongPassword},
		{"", "", inside, WrongPassword},
	} {
		token, err := a.Login(context.Background(), c.user, c.password, c.addr)
		if codeOf(err) != c.want || (err == nil) != (token != "") {
			t.Errorf("Login(%q, %q, %s) = %q, %v; want code %d", c.user, c.password, c.addr, token, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a.verifying <- struct{}{}
	a.verifying <- struct{}{}
	if _, err := a.Login(ctx, "alice", "secret", inside); !errors.Is(err, context.Canceled) {
		t.Errorf("login with all slots taken and a context that ended: %v", err)
	}
}

func TestSession(t *testing.T) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	a := open(t, users(t), testKey, c)
	token, err := a.Login(context.Background(), "alice", "secret", inside)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9._~-]+$`).MatchString(token) {
		t.Errorf("token %q cannot stand in a path", token)
	}
	otherNode := open(t, "bob: {password: "+md5Secret+"}\n", testKey, c)
	otherMesh := open(t, users(t), []byte(strings.Repeat("x", 32)), c)
	stricter := open(t, strings.Replace(users(t), "10.0.0.0/8", "10.2.0.0/16", 1), testKey, c)

	check := func(a *Auth, token string, addr netip.Addr, want Code, groups int) {
		t.Helper()
		id, err := a.Identify(token, addr)
		if codeOf(err) != want {
			t.Errorf("Identify(%q, %s) = %v, want code %d", token, addr, err, want)
		}
		if err == nil && (id.User != "alice" || len(id.Groups) != groups || id.Admin) {
			t.Errorf("Identify gives %+v", id)
		}
		if err != nil && (id.User != "" || id.Admin || id.Groups != nil) {
			t.Errorf("a refused token gives %+v", id)
		}
	}
	check(a, token, inside, 0, 2)
	check(a, token, netip.MustParseAddr("::ffff:10.1.2.3"), 0, 2)
	check(a, token, inside2, OtherAddress, 0)
	check(a, token, netip.Addr{}, OtherAddress, 0)
	check(a, "", inside, BadToken, 0)
	check(a, "garbage", inside, BadToken, 0)
	check(a, token+"A", inside, BadToken, 0)
	check(a, strings.Repeat("A", maxToken+1), inside, BadToken, 0)
	check(otherNode, token, inside, 0, 2)
	check(otherMesh, token, inside, BadToken, 0)
	check(stricter, token, inside, WrongPlace, 0)

	c.now = c.now.Add(DirectoryLifetime)
	check(otherNode, token, inside, 0, 2)
	c.now = c.now.Add(time.Second)
	check(otherNode, token, inside, Expired, 0)
	c.now = c.now.Add(10 * 365 * 24 * time.Hour)
	check(a, token, inside, 0, 2)
}

func TestEveryChangedByteOfATokenIsRefused(t *testing.T) {
	a := open(t, users(t), testKey, nil)
	token, err := a.Login(context.Background(), "robot", "secret", inside)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(token) {
		for _, c := range []byte("Aa0-_.~") {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token {
				if id, err := a.Identify(changed, inside); err == nil {
					t.Fatalf("%q is taken for %+v", changed, id)
				}
			}
		}
	}
}

func FuzzIdentify(f *testing.F) {
	a, err := Open(Config{SessionKey: testKey})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", "")
	f.Add("a.b", "x")
	f.Add(a.sign(session{kind: localUser, user: "u", addr: inside, issued: time.Now()}), "body")
	for _, s := range []session{
		{kind: localUser, user: "u", addr: outside, password: []byte("12345678")},
		{kind: directoryUser, user: "u", groups: []string{"g"}, addr: outside, issued: time.Now()},
		{kind: directoryUser + 1, user: "u", addr: outside, issued: time.Now()},
	} {
		left, _, _ := strings.Cut(a.sign(s), ".")
		body, err := base64.RawURLEncoding.DecodeString(left)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("", string(body))
	}
	f.Fuzz(func(t *testing.T, token, body string) {
		if _, err := a.Identify(token, outside); codeOf(err) == 0 {
			t.Errorf("%q: %v", token, err)
		}
		// A body that someone with the key signed may be of a newer version: it must not crash this one.
		b := []byte(body)
		signed := encode(b) + "." + encode(a.mac(b))
		if _, err := a.Identify(signed, outside); err != nil && codeOf(err) == 0 {
			t.Errorf("%q: %v", body, err)
		}
	})
}

func TestUsersFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"- alice":             "line 1: expected a mapping of user names",
		"a: b":                "line 1: user a: expected",
		"a: {password: x}":    "line 1: user a: password: expected $argon2id$",
		"\na:\n  allow: []\n": "line 3: user a has no password",
		"a:\n  password: " + md5Secret + "\n  allow: [1.2.3]\n":                `line 3: user a: allow: "1.2.3": expected an address`,
		"a:\n  password: " + md5Secret + "\n  allow: 10.0.0.0/8\n":             "line 3: user a: allow: expected a list",
		"a:\n  password: " + md5Secret + "\n  groups:\n  - [b]\n":              "line 4: expected a text",
		"a:\n  password: " + md5Secret + "\n  grups: [b]\n":                    `line 3: user a: unknown field "grups"`,
		"a: {password: " + md5Secret + "}\na: {password: " + md5Secret + "}\n": "line 2: user a is there twice",
		"root(a): {password: " + md5Secret + "}\n":                             "line 1: user name",
		"'': {password: " + md5Secret + "}\n":                                  "line 1: user name",
		"a: {password: '$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA'}":          "expected $argon2id$",
		"a: {password: '$argon2id$v=16$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA'}":         "version must be v=19",
		"a: {password: '$argon2id$v=19$m=8,t=1$c2FsdHNhbHQ$AAAA'}":             "cost must have the form",
		"a: {password: '$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$AAAA'}":  "cost out of bounds",
		"a: {password: '$argon2id$v=19$m=8,t=1,p=256$c2FsdHNhbHQ$AAAA'}":       "cost out of bounds",
		"a: {password: '$argon2id$v=19$m=8,t=1,p=1$!$AAAA'}":                   "salt must be",
		"a: {password: '$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA'}":         "hash must be",
		"a: {password: " + md5Secret + ", allow: ['::ffff:10.0.0.0/104']}":     "expected an address or a network",
		"a: {password: hunter2, allow: []}":                                    "expected $argon2id$",
		"a: [":                                                                 "line",
	} {
		_, err := Open(Config{UsersFile: usersFile(t, text), SessionKey: testKey})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes a password: %v", err)
		}
	}
	if _, err := Open(Config{UsersFile: filepath.Join(t.TempDir(), "none"), SessionKey: testKey}); err == nil ||
		!strings.Contains(err.Error(), "auth.users_file") {
		t.Errorf("a missing users file: %v", err)
	}
	if _, err := Open(Config{SessionKey: testKey[:31]}); err == nil {
		t.Error("a short session key is taken")
	}
	for _, empty := range []string{"", "---\n", "# nobody yet\n", "{}"} {
		if _, err := Open(Config{UsersFile: usersFile(t, empty), SessionKey: testKey}); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestHashPassword(t *testing.T) {
	one, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	two, err := HashPassword("secret")
	if err != nil || one == two {
		t.Fatalf("two hashes of one password: %q, %q, %v", one, two, err)
	}
	h, err := parsePassword(one)
	if err != nil || h.String() != one || !h.verify("secret") || h.verify("secre") || h.verify("") {
		t.Errorf("%q: %v", one, err)
	}
	if _, err := HashPassword(""); err == nil {
		t.Error("an empty password is hashed")
	}
}

// The reference implementation's command line gives this for: echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32
func TestForeignHash(t *testing.T) {
	h, err := parsePassword("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil || !h.verify("password") {
		t.Errorf("the reference implementation's hash is not taken: %v", err)
	}
}

func TestPermissions(t *testing.T) {
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: "n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	acl := func(text string) hostdb.ACL {
		a, err := hostdb.ParseACL([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	_, err = store.Update(context.Background(), hostdb.Request{User: "t"}, func(tx *hostdb.Tx) error {
		return errors.Join(
			tx.Put("tags", "a", hostdb.Document{}),
			tx.SetPerms("tags", "a", acl("{alice: {data: RO}, dba: {data: RW, members: RO}, ops: {members: RW}}")),
			tx.SetPerms("tags", ".default", acl("{ops: {data: RW, data/DNS: RO, perms: RO}, alice: {members: RW}}")))
	})
	if err != nil {
		t.Fatal(err)
	}
	nobody := Identity{}
	alice := Identity{User: "alice", Groups: []string{"ops"}}
	bob := Identity{User: "bob", Groups: []string{"dba"}}
	carol := Identity{User: "carol", Groups: []string{"ops", "dba"}}
	root := Identity{User: "root(dave)", Admin: true}
	for _, c := range []struct {
		id   Identity
		key  string
		what hostdb.Resource
		want bool
	}{
		{nobody, "a", hostdb.Data, false},
		{nobody, "b", hostdb.Members, false},
		{alice, "a", hostdb.Data, false},   // her own entry goes before her group's at .default
		{alice, "a", hostdb.Members, true}, // her group's entry at the key
		{alice, "a", hostdb.Perms, false},  // RO at .default
		{alice, "b", hostdb.Data, true},    // her group at .default
		{alice, "b", hostdb.Section("DNS"), false},
		{alice, "b", hostdb.Section("LB"), true},
		{bob, "a", hostdb.Data, true},
		{bob, "a", hostdb.Members, false},
		{bob, "b", hostdb.Data, false},
		{carol, "a", hostdb.Members, true}, // RW of one group goes before RO of another
		{root, "a", hostdb.Perms, true},
		{root, "nope", hostdb.Data, true},
	} {
		err := c.id.Allow(store.View(), "tags", c.key, c.what)
		if (err == nil) != c.want {
			t.Errorf("%s, %s of tags/%s: %v, want %v", c.id.User, c.what, c.key, err, c.want)
		}
		if err != nil && (!errors.Is(err, hostdb.ErrDenied) || !strings.Contains(err.Error(), "tags/")) {
			t.Errorf("a refusal that is no ErrDenied or names no rule: %v", err)
		}
	}
}

func TestContext(t *testing.T) {
	if id, ok := FromContext(context.Background()); ok || id.Admin {
		t.Errorf("an identity from nowhere: %+v", id)
	}
	id, ok := FromContext(WithIdentity(context.Background(), Identity{User: "root", Admin: true}))
	if !ok || id.User != "root" || !id.Admin {
		t.Errorf("%+v, %v", id, ok)
	}
}
