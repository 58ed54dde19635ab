package node

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb/auth"
	"hostmesh/node/api"
)

// md5 of "secret", as upstream's file has it.
const md5Secret = "5ebe2294ecd0e0f08eab7690d2a6ee69"

func usersFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (a *testAgent) login(name, password string) (string, error) {
	return a.auth.Login(context.Background(), name, password, netip.MustParseAddr("10.1.2.3"))
}

// TestUsersOfAMesh: who is in the users file of one node is a user at all; a session of one counts at the others; and who
// is removed at one is nobody anywhere, also when the users file still has the entry.
func TestUsersOfAMesh(t *testing.T) {
	first := founder(t)
	first.Auth.UsersFile = usersFile(t, "alice: {password: "+md5Secret+", allow: [10.0.0.0/8], groups: [ops]}\n")
	a := runAgent(t, first)
	wait(t, "the users file is in HostDB", func() bool { u, ok := a.auth.User("alice"); return ok && !u.FileOnly })

	b := runAgent(t, joiner(t, "box2", first))
	wait(t, "the other node knows her", func() bool { _, ok := b.auth.User("alice"); return ok })
	token, err := b.login("alice", "secret")
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "her md5 is replaced at both", func() bool {
		x, _ := a.auth.User("alice")
		y, _ := b.auth.User("alice")
		return !x.MD5 && !y.MD5
	})
	for _, x := range []*testAgent{a, b} {
		id, err := x.auth.Identify(token, netip.MustParseAddr("10.1.2.3"))
		if err != nil || id.User != "alice" || strings.Join(id.Groups, " ") != "ops" {
			t.Errorf("%s: %+v, %v", x.Config().Name, id, err)
		}
	}

	client, err := api.NewClient(api.ClientConfig{Socket: b.SocketPath()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.RemoveUser(t.Context(), "alice", "test"); err != nil {
		t.Fatal(err)
	}
	wait(t, "she is nobody at both", func() bool {
		_, first := a.auth.User("alice")
		_, second := b.auth.User("alice")
		return !first && !second
	})
	var refused *auth.Error
	if _, err := a.auth.Identify(token, netip.MustParseAddr("10.1.2.3")); !errors.As(err, &refused) || refused.Code != auth.BadToken {
		t.Errorf("her session: %v", err)
	}
	a.stop()
	a = runAgent(t, first)
	wait(t, "the replicas have met", func() bool { return a.replica.Synced() })
	if _, err := a.login("alice", "secret"); !errors.As(err, &refused) || refused.Code != auth.WrongPassword {
		t.Errorf("the users file brings her back: %v", err)
	}
	if _, ok := a.auth.User("alice"); ok {
		t.Error("she is a user again")
	}
}

// TestUsersAreNotServed: no way to read HostDB gives out the sealed records.
func TestUsersAreNotServed(t *testing.T) {
	a := runAgent(t, founder(t))
	wait(t, "ready", a.ready)
	client, err := api.NewClient(api.ClientConfig{Socket: a.SocketPath()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	password := "correct horse"
	if _, err := client.SetUser(t.Context(), "alice", api.UserChange{Password: &password, Allow: &[]string{"10.0.0.0/8"}}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := a.login("alice", password); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/v1", "/v1/.system", "/v1/.system/user.alice", "/v1/%2esystem/user.alice", "/v1/.system/user.alice/Sealed", "/v1/.system?meta=revisions",
		"/v1/.system/user.alice?meta=blame", "/api/v1/users", "/api/v1/users/alice", "/api/v1/digest",
	} {
		status, body := a.do(http.MethodGet, path, nil)
		if strings.Contains(body, "argon2id$") || strings.Contains(body, "1.") && strings.Contains(body, "Sealed") || strings.Contains(path, "system") && status == http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := a.do(http.MethodPut, "/v1/.system/user.alice", url.Values{"value": {"Sealed: x"}, "log": {"x"}}); status < 400 {
		t.Errorf("a record is written by /v1: %d", status)
	}
}

// TestUsersWithoutMeshKey: an agent whose key ends with it seals nothing, and says so.
func TestUsersWithoutMeshKey(t *testing.T) {
	cfg := founder(t)
	cfg.Auth.UsersFile = usersFile(t, "alice: {password: "+md5Secret+", allow: [10.0.0.0/8]}\n")
	cfg.KeyFile = ""
	a := runAgent(t, cfg)
	wait(t, "ready", a.ready)
	if _, err := a.login("alice", "secret"); err != nil {
		t.Errorf("a user of the file: %v", err)
	}
	client, err := api.NewClient(api.ClientConfig{Socket: a.SocketPath()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	password := "x"
	if _, err := client.SetUser(t.Context(), "bob", api.UserChange{Password: &password}, ""); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "key_file") {
		t.Errorf("%v", err)
	}
	if n := a.store.View().Len(".system"); n != 0 {
		t.Errorf("%d records are sealed with a key that nobody has", n)
	}
}

func TestLDAPSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		ldap LDAPConfig
		want string
	}{
		{"well", LDAPConfig{URL: "ldaps://ldap.example.com", UsersDN: "ou=people", Timeout: "2s", GroupAttribute: "ou"}, ""},
		{"none", LDAPConfig{}, ""},
		{"in clear", LDAPConfig{URL: "ldap://ldap.example.com", UsersDN: "ou=people"}, "auth.ldap.start_tls"},
		{"timeout", LDAPConfig{URL: "ldaps://ldap.example.com", UsersDN: "ou=people", Timeout: "5"}, "auth.ldap.timeout"},
		{"no url", LDAPConfig{StartTLS: true}, "auth.ldap.url"},
		{"no file", LDAPConfig{URL: "ldaps://ldap.example.com", UsersDN: "ou=people", CA: "/nowhere"}, "auth.ldap.ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := founder(t)
			cfg.Auth.LDAP = c.ldap
			for what, err := range map[string]error{"check": cfg.Check(), "start": openAndClose(cfg)} {
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
			}
		})
	}
	c := DefaultConfig()
	if err := c.readYAML([]byte("auth: {ldap: {url: ldaps://x, users_dn: ou=p, user_attribute: cn, timeout: 2s, ca: f, insecure: true}}")); err != nil {
		t.Fatal(err)
	}
	got, err := c.Auth.LDAP.resolve()
	want := auth.DefaultLDAPConfig()
	want.URL, want.UsersDN, want.UserAttribute, want.Timeout, want.CAFile, want.Insecure = "ldaps://x", "ou=p", "cn", 2e9, "f", true
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func openAndClose(cfg Config) error {
	a, err := Open(cfg)
	if err != nil {
		return err
	}
	return a.Close()
}
