package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

// fakeUsers keeps what it is told.
type fakeUsers struct {
	users map[string]User
	wrote []string
}

func (f *fakeUsers) Users() []User {
	var out []User
	for _, u := range f.users {
		out = append(out, u)
	}
	return out
}

func (f *fakeUsers) User(name string) (User, error) {
	u, ok := f.users[name]
	if !ok {
		return User{}, ErrNotFound
	}
	return u, nil
}

func (f *fakeUsers) SetUser(_ context.Context, who Identity, name string, c UserChange, log string) (UserWritten, error) {
	u, there := f.users[name]
	if c.Password == nil && !there {
		return UserWritten{}, fmt.Errorf("it needs a password: %w", hostdb.ErrInvalid)
	}
	if c.Groups != nil {
		u.Groups = *c.Groups
	}
	if c.Allow != nil {
		u.Allow = *c.Allow
	}
	u.Name, u.State, u.Password = name, UserKept, "argon2id"
	f.users[name] = u
	f.wrote = append(f.wrote, who.User+": "+log)
	return UserWritten{Name: name, Created: !there, Revision: "r", Acks: 1}, nil
}

func (f *fakeUsers) RemoveUser(_ context.Context, who Identity, name, log string) (UserWritten, error) {
	if _, there := f.users[name]; !there {
		return UserWritten{}, hostdb.ErrNotFound
	}
	delete(f.users, name)
	f.wrote = append(f.wrote, who.User+": "+log)
	return UserWritten{Name: name, Revision: "r", Acks: 2}, nil
}

func usersHandler() (*fakeUsers, http.Handler) {
	f := &fakeUsers{users: map[string]User{"alice": {Name: "alice", Allow: []string{"10.0.0.0/8"}, Groups: []string{"ops"}, Password: "md5", State: UserKept}}}
	return f, NewHandler(Config{Users: f, Identify: identify})
}

// TestUsersAreForAdministrators: nobody else sees or changes one, not even on the loopback.
func TestUsersAreForAdministrators(t *testing.T) {
	f, h := usersHandler()
	for _, c := range []struct {
		method, path, body, from, token string
		status                          int
	}{
		{"GET", "/api/v1/users", "", near, "", 401},
		{"GET", "/api/v1/users", "", near, "bob", 403},
		{"GET", "/api/v1/users/alice", "", near, "", 401},
		{"GET", "/api/v1/users/alice", "", near, "bob", 403},
		{"GET", "/api/v1/users/nobody", "", near, "bob", 403},
		{"POST", "/api/v1/users/alice", `{"groups":[]}`, near, "", 401},
		{"POST", "/api/v1/users/bob", `{"password":"x"}`, near, "bob", 403},
		{"DELETE", "/api/v1/users/alice", "", near, "", 401},
		{"DELETE", "/api/v1/users/alice", "", near, "bob", 403},

		{"GET", "/api/v1/users", "", far, "root", 200},
		{"GET", "/api/v1/users/nobody", "", far, "root", 404},
		{"POST", "/api/v1/users/carol", `{"groups":[]}`, far, "root", 400},
		{"POST", "/api/v1/users/carol", `{"password":""}`, near, "root", 422},
		{"POST", "/api/v1/users/carol", `{"passwort":"x"}`, near, "root", 422},
		{"POST", "/api/v1/users/carol", `{"password":"x"}`, far, "root", 403}, // in clear
		{"POST", "/api/v1/users/alice", `{"allow":[]}`, far, "root", 200},
		{"DELETE", "/api/v1/users/nobody", "", far, "root", 404},
	} {
		w := askUsers(h, c.method, c.path, c.body, c.from, c.token)
		if w.Code != c.status {
			t.Errorf("%s %s by %q: %d, want %d: %s", c.method, c.path, c.token, w.Code, c.status, w.Body)
		}
		if c.status >= 400 {
			var p struct{ Detail string }
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Detail == "" || strings.Contains(w.Body.String(), "10.0.0.0") {
				t.Errorf("%s %s by %q: %v: %s", c.method, c.path, c.token, err, w.Body)
			}
		}
	}
	if diff := cmp.Diff([]string{"root(alice): set user alice"}, f.wrote); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func askUsers(h http.Handler, method, path, body, from, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = from
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.AddCookie(&http.Cookie{Name: SessionCookie, Value: token})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestUsersClient: client and handler understand each other.
func TestUsersClient(t *testing.T) {
	f, h := usersHandler()
	srv := httptest.NewServer(h)
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL, Token: "root"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	name, password := "o'ne two?&%2f", "correct horse"
	done, err := c.SetUser(ctx, name, UserChange{Password: &password, Groups: &[]string{"dba"}}, "why & how")
	if err != nil || !done.Created || done.Name != name || done.Revision != "r" {
		t.Fatalf("%+v, %v", done, err)
	}
	u, err := c.User(ctx, name)
	if want := (User{Name: name, Groups: []string{"dba"}, Password: "argon2id", State: UserKept}); err != nil || !cmp.Equal(want, u) {
		t.Errorf("%+v, %v", u, err)
	}
	if list, err := c.Users(ctx); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if done, err := c.RemoveUser(ctx, name, ""); err != nil || done.Acks != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if diff := cmp.Diff([]string{"root(alice): why & how", "root(alice): remove user " + name}, f.wrote); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	abroad, err := NewClient(ClientConfig{Server: "http://192.0.2.1:7950", Token: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := abroad.SetUser(ctx, "alice", UserChange{Password: &password}, ""); err == nil || !strings.Contains(err.Error(), "use https") || strings.Contains(err.Error(), password) {
		t.Errorf("a password in clear: %v", err)
	}
}
