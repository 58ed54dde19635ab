package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// fakeDirectory has users in memory. Password "down" has it not answer.
type fakeDirectory map[string]fakeUser

type fakeUser struct {
	password string
	groups   []string
}

var errDown = errors.New("connection refused")

func (d fakeDirectory) Login(_ context.Context, name, password string) ([]string, error) {
	u, ok := d[name]
	switch {
	case password == "down":
		return nil, errDown
	case !ok || password == "" || u.password != password:
		return nil, ErrCredentials
	}
	return u.groups, nil
}

func (d fakeDirectory) Groups(_ context.Context, name string) ([]string, error) {
	u, ok := d[name]
	if ok && u.password == "down" {
		return nil, errDown
	}
	return u.groups, nil
}

// testDirectory is the contract of a Directory. open gives one with alice, in ops and web, and bob in no group, whose
// passwords are "secret".
func testDirectory(t *testing.T, d Directory) {
	for _, c := range []struct {
		name, password string
		want           error
		groups         string
	}{
		{"alice", "secret", nil, "[ops web]"},
		{"bob", "secret", nil, "[]"},
		{"alice", "Secret", ErrCredentials, "[]"},
		{"alice", "", ErrCredentials, "[]"},
		{"", "", ErrCredentials, "[]"},
		{"", "secret", ErrCredentials, "[]"},
		{"nobody", "secret", ErrCredentials, "[]"},
		{"Alice", "secret", ErrCredentials, "[]"},
		{"alice ", "secret", ErrCredentials, "[]"},
		{"*", "secret", ErrCredentials, "[]"},
		{"a*", "secret", ErrCredentials, "[]"},
		{"alice)(uid=*", "secret", ErrCredentials, "[]"},
		{"a)(uid=*", "secret", ErrCredentials, "[]"},
		{"x,ou=People", "secret", ErrCredentials, "[]"},
		{"alice,ou=people,dc=example,dc=com", "secret", ErrCredentials, "[]"},
		{"alice+uid=bob", "secret", ErrCredentials, "[]"},
		{"alice\x00", "secret", ErrCredentials, "[]"},
		{"#616c696365", "secret", ErrCredentials, "[]"},
		{`\61lice`, "secret", ErrCredentials, "[]"},
	} {
		groups, err := d.Login(context.Background(), c.name, c.password)
		if !errors.Is(err, c.want) || fmt.Sprint(groups) != c.groups {
			t.Errorf("Login(%q, %q) = %v, %v; want %s, %v", c.name, c.password, groups, err, c.groups, c.want)
		}
	}
	for name, want := range map[string]string{
		"alice": "[ops web]", "bob": "[]", "nobody": "[]", "": "[]", "*": "[]", "a*": "[]", "nobody)(memberUid=*": "[]", "nobody)(cn=*": "[]",
	} {
		groups, err := d.Groups(context.Background(), name)
		if err != nil || fmt.Sprint(groups) != want {
			t.Errorf("Groups(%q) = %v, %v; want %s", name, groups, err, want)
		}
	}
}

func TestFakeDirectory(t *testing.T) {
	testDirectory(t, fakeDirectory{"alice": {"secret", []string{"ops", "web"}}, "bob": {"secret", nil}})
}

func TestOrderOfDecision(t *testing.T) {
	b := newBox(t, users(t), fakeDirectory{
		"alice": {"of the directory", []string{"boss"}}, "bob": {"secret", []string{"ops", "root(bob)", "a/b"}}, "robot": {"of the directory", nil},
	})
	b.login("alice", "of the directory", inside, WrongPassword) // the file goes before
	b.seed("[alice nowhere robot]")
	b.login("alice", "of the directory", inside, WrongPassword) // and so does HostDB
	b.login("alice", "secret", inside, 0)
	b.login("bob", "wrong", inside, WrongPassword)
	b.login("bob", "", inside, WrongPassword)
	b.login("carol", "secret", inside, WrongPassword)
	b.login("root(bob)", "secret", inside, WrongPassword)

	token := b.login("bob", "secret", inside, 0)
	if id := b.identify(token, 0); id.User != "bob" || fmt.Sprint(id.Groups) != "[ops]" || id.Admin {
		t.Errorf("bob is %+v", id)
	}
	if _, err := b.Identify(token, inside2); codeOf(err) != OtherAddress {
		t.Errorf("from elsewhere: %v", err)
	}
	if got := fmt.Sprint(b.Groups("alice"), b.Groups("bob"), b.Groups("carol")); got != "[ops dba] [ops] []" {
		t.Errorf("groups are %s", got)
	}
	b.clock.now = b.clock.now.Add(DirectoryLifetime)
	b.identify(token, 0)
	b.clock.now = b.clock.now.Add(time.Second)
	b.identify(token, Expired)

	// Who becomes a user of hostmesh is another.
	token = b.login("bob", "secret", inside, 0)
	b.set("bob", Change{Password: ptr("new"), Allow: &[]string{"10.0.0.0/8"}})
	b.identify(token, BadToken)
	b.login("bob", "secret", inside, WrongPassword)
	local := b.login("bob", "new", inside, 0)
	b.remove("bob")
	b.identify(local, BadToken)
	b.login("bob", "secret", inside, 0) // the directory's again
}

func TestDirectoryIsDown(t *testing.T) {
	b := newBox(t, users(t), fakeDirectory{"bob": {"down", nil}})
	for range pairAllowance.burst + 1 { // nothing was found out, so nothing counts
		b.login("bob", "down", inside, NoDirectory)
	}
	if !strings.Contains(b.log.String(), "directory cannot be asked") || !strings.Contains(b.log.String(), errDown.Error()) {
		t.Errorf("the log does not say why:\n%s", b.log)
	}
	_, err := b.Login(context.Background(), "bob", "down", inside)
	if err == nil || strings.Contains(err.Error(), errDown.Error()) || !strings.Contains(err.Error(), "auth.ldap") {
		t.Errorf("what the client is told: %v", err)
	}
	b.login("alice", "secret", inside, 0) // hostmesh's own users need none
	for range 3 {
		if b.Groups("bob") != nil {
			t.Error("groups from nowhere")
		}
	}
	if n := strings.Count(b.log.String(), "groups are not known"); n != 1 {
		t.Errorf("a directory that is down is asked %d times in a moment", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range maxAsking {
		b.directory.asking <- struct{}{}
	}
	if _, err := b.Login(ctx, "bob", "x", inside); !errors.Is(err, context.Canceled) {
		t.Errorf("a login whose client went away: %v", err)
	}
}

func TestGroupsAreRemembered(t *testing.T) {
	d := fakeDirectory{"bob": {"secret", []string{"ops"}}, "carol": {"secret", []string{"web"}}}
	b := newBox(t, "", d)
	b.login("bob", "secret", inside, 0)
	b.Groups("carol")
	d["bob"], d["carol"] = fakeUser{"secret", []string{"new"}}, fakeUser{"secret", []string{"new"}}
	check := func(when, want string) {
		t.Helper()
		if got := fmt.Sprint(b.Groups("bob"), b.Groups("carol")); got != want {
			t.Errorf("%s the groups are %s, want %s", when, got, want)
		}
	}
	check("at once", "[ops] [web]")
	b.clock.now = b.clock.now.Add(groupsFresh)
	check("after a minute", "[ops] [new]")
	b.clock.now = b.clock.now.Add(DirectoryLifetime)
	check("after a day", "[new] [new]")
	for i := range 2 * maxKnown {
		b.Groups(fmt.Sprint("user", i))
	}
	if n := len(b.directory.groups.at); n != maxKnown {
		t.Errorf("the groups of %d users are remembered", n)
	}
}

// TestSources: a user is the same whatever knows it.
func TestSources(t *testing.T) {
	for _, source := range []string{"file", "hostdb", "directory"} {
		t.Run(source, func(t *testing.T) {
			b := newBox(t, map[bool]string{true: users(t)}[source != "directory"], fakeDirectory{"alice": {"secret", []string{"ops", "dba"}}})
			if source == "hostdb" {
				b.seed("[alice nowhere robot]")
			}
			b.login("alice", "wrong", inside, WrongPassword)
			b.login("alice", "", inside, WrongPassword)
			b.login("mallory", "secret", inside, WrongPassword)
			b.login("*", "secret", inside, WrongPassword)
			token := b.login("alice", "secret", inside, 0)
			if id := b.identify(token, 0); id.User != "alice" || fmt.Sprint(id.Groups) != "[ops dba]" || id.Admin || id.Via != "session" {
				t.Errorf("alice is %+v", id)
			}
			if fmt.Sprint(b.Groups("alice")) != "[ops dba]" {
				t.Errorf("alice is in %v", b.Groups("alice"))
			}
			b.reopen() // another node
			b.identify(token, 0)
			if _, err := b.Identify(token, inside2); codeOf(err) != OtherAddress {
				t.Errorf("from another address: %v", err)
			}
			if _, err := b.Identify(token[:len(token)-2]+"AA", inside); codeOf(err) != BadToken {
				t.Errorf("tampered with: %v", err)
			}
		})
	}
}

// TestTooManyGroups: a session that would not fit is refused in words.
func TestTooManyGroups(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("group-with-a-long-name-%d", i))
	}
	b := newBox(t, "", fakeDirectory{"bob": {"secret", many}})
	if _, err := b.Login(context.Background(), "bob", "secret", inside); codeOf(err) != NoDirectory || !strings.Contains(err.Error(), "1000 groups") {
		t.Errorf("%v", err)
	}
}

var _ Store = (*hostdb.Store)(nil)
