package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Users knows the users of the mesh. The caller has checked that who is an administrator.
type Users interface {
	// Users are sorted by name. Those of a directory are not among them.
	Users() []User
	// User returns an error that wraps ErrNotFound when there is no such user.
	User(name string) (User, error)
	// SetUser makes or changes a user. Errors wrap hostdb's sentinels.
	SetUser(ctx context.Context, who Identity, name string, c UserChange, log string) (UserWritten, error)
	// RemoveUser removes a user and ends its sessions. Errors wrap hostdb's sentinels, or ErrNotFound.
	RemoveUser(ctx context.Context, who Identity, name, log string) (UserWritten, error)
}

// States of a user.
const (
	UserKept   = "kept"       // in HostDB, for the whole mesh
	UserInFile = "file"       // in the users file of the answering node, and not in HostDB yet
	UserBroken = "unreadable" // in HostDB, sealed with another mesh key: nobody until it is set again
)

// User is a user as administrators see it. It never has a password or a hash.
type User struct {
	Name     string     `json:"name" doc:"Name to log in with"`
	Allow    []string   `json:"allow" nullable:"false" doc:"Networks the user may come from; without any, none"`
	Groups   []string   `json:"groups" nullable:"false" doc:"Groups, as access lists name them"`
	Password string     `json:"password,omitempty" enum:"argon2id,md5" doc:"How the password is kept; md5 until the user logs in"`
	State    string     `json:"state" enum:"kept,file,unreadable" doc:"kept: in HostDB; file: in this node's users file only, yet; unreadable: sealed with another mesh key"`
	Modified *time.Time `json:"modified,omitempty" doc:"When it was last written; absent for a user of the file"`
}

// UsersBody is the answer of GET /api/v1/users.
type UsersBody struct {
	Users []User `json:"users" nullable:"false"`
}

// UserChange is what POST /api/v1/users/{name} is sent. What is absent stays as it is.
type UserChange struct {
	Password *string   `json:"password,omitempty" minLength:"1" maxLength:"4096" doc:"New password; it ends the user's sessions. A new user needs one"`
	Allow    *[]string `json:"allow,omitempty" doc:"Networks and addresses the user may come from, instead of all before" example:"[\"10.0.0.0/8\"]"`
	Groups   *[]string `json:"groups,omitempty" doc:"Groups, instead of all before" example:"[\"ops\"]"`
}

// UserWritten tells what became of a write to the users.
type UserWritten struct {
	Name     string `json:"name"`
	Created  bool   `json:"created,omitempty" doc:"True when the user was not there before"`
	Revision string `json:"revision,omitempty" doc:"Absent when nothing changed"`
	Acks     int    `json:"acks" doc:"Boxes that hold the write, this one included"`
}

type userInput struct {
	Name string `path:"name" maxLength:"248" doc:"Name of the user" example:"alice"`
}

// setUserInput refuses a password that came in clear from elsewhere: it was shown to the network, and is not to be used.
type setUserInput struct {
	Name string `path:"name" maxLength:"248" doc:"Name of the user" example:"alice"`
	Log  string `query:"log" maxLength:"4096" doc:"Why, for those who read the history; by default the name alone"`
	Body UserChange
}

// Resolve implements huma.Resolver.
func (in *setUserInput) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	if in.Body.Password != nil && r.TLS == nil && !isLocal(r) {
		return []error{problem(http.StatusForbidden, "the password came over the network in clear: choose another, and send it over https or the agent's socket")}
	}
	return nil
}

func registerUsers(a huma.API, u Users) {
	admin := func(ctx context.Context) error {
		who := identityOf(ctx)
		switch {
		case who.User == "":
			return problem(http.StatusUnauthorized, "nobody is logged in: users are shown to administrators alone")
		case !who.Admin:
			return problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may see and change users", who.User))
		}
		return nil
	}
	reason := func(log, otherwise string) string {
		if strings.TrimSpace(log) == "" {
			return otherwise
		}
		return log
	}
	huma.Register(a, huma.Operation{
		OperationID: "list-users", Method: http.MethodGet, Path: "/api/v1/users",
		Summary: "Users of the mesh", Tags: []string{"access"}, Security: writeSecurity,
		Description: "Only an administrator may. Users of a directory are not listed.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[UsersBody], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		list := u.Users()
		if list == nil {
			list = []User{}
		}
		return &bodyOf[UsersBody]{Body: UsersBody{Users: list}}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "get-user", Method: http.MethodGet, Path: "/api/v1/users/{name}",
		Summary: "A user", Tags: []string{"access"}, Security: writeSecurity,
		Description: "Only an administrator may.",
	}, func(ctx context.Context, in *userInput) (*bodyOf[User], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		out, err := u.User(in.Name)
		if err != nil {
			return nil, problemOf(fmt.Errorf("user %q: %w", in.Name, err))
		}
		return &bodyOf[User]{Body: out}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "set-user", Method: http.MethodPost, Path: "/api/v1/users/{name}",
		Summary: "Make or change a user", Tags: []string{"access"}, Security: writeSecurity, Metadata: secretive,
		Description: "Only an administrator may. A password is taken over the socket, https and the loopback only.",
	}, func(ctx context.Context, in *setUserInput) (*bodyOf[UserWritten], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		out, err := u.SetUser(ctx, identityOf(ctx), in.Name, in.Body, reason(in.Log, "set user "+in.Name))
		if err != nil {
			return nil, problemOf(fmt.Errorf("user %q: %w", in.Name, err))
		}
		return &bodyOf[UserWritten]{Body: out}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "remove-user", Method: http.MethodDelete, Path: "/api/v1/users/{name}",
		Summary: "Remove a user", Tags: []string{"access"}, Security: writeSecurity,
		Description: "Only an administrator may. The user's sessions end; a users file does not bring the user back.",
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"248" doc:"Name of the user" example:"alice"`
		Log  string `query:"log" maxLength:"4096" doc:"Why, for those who read the history; by default the name alone"`
	}) (*bodyOf[UserWritten], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		out, err := u.RemoveUser(ctx, identityOf(ctx), in.Name, reason(in.Log, "remove user "+in.Name))
		if err != nil {
			return nil, problemOf(fmt.Errorf("user %q: %w", in.Name, err))
		}
		return &bodyOf[UserWritten]{Body: out}, nil
	})
}

// Users asks for the users of the mesh. It takes an administrator.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	var out UsersBody
	err := c.getJSON(ctx, "/api/v1/users", &out)
	return out.Users, err
}

// User asks for one user; the error matches ErrNotFound when there is none. It takes an administrator.
func (c *Client) User(ctx context.Context, name string) (User, error) {
	var out User
	err := c.getJSON(ctx, userPath(name, ""), &out)
	return out, err
}

// SetUser makes or changes a user. log may be empty. It takes an administrator. A password is sent over the socket, https
// or the loopback only.
func (c *Client) SetUser(ctx context.Context, name string, change UserChange, log string) (UserWritten, error) {
	var out UserWritten
	if change.Password != nil && c.inClear() {
		return out, fmt.Errorf("the password would cross the network in clear to %s: use https", c.Where())
	}
	err := c.writeJSON(ctx, http.MethodPost, userPath(name, log), change, &out)
	return out, err
}

// RemoveUser removes a user and ends its sessions. log may be empty. It takes an administrator.
func (c *Client) RemoveUser(ctx context.Context, name, log string) (UserWritten, error) {
	var out UserWritten
	body, _, err := c.roundTrip(ctx, http.MethodDelete, userPath(name, log), nil, "", nil)
	if err != nil {
		return out, err
	}
	return out, c.decode(body, &out)
}

func userPath(name, log string) string {
	path := "/api/v1/users/" + url.PathEscape(name)
	if log != "" {
		path += "?" + url.Values{"log": {log}}.Encode()
	}
	return path
}

// inClear reports whether what is sent can be read on the way.
func (c *Client) inClear() bool {
	u, err := url.Parse(c.base)
	if c.socket != "" || err != nil || u.Scheme == "https" || u.Hostname() == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err != nil || !addr.Unmap().IsLoopback()
}
