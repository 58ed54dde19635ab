package auth

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// maxPassword bounds the passwords that are set, in bytes.
const maxPassword = 4096

// User is what an administrator sees of a user that hostmesh itself knows: everything but the password's hash.
type User struct {
	Name   string
	Allow  []netip.Prefix // networks to log in from; without any, none
	Groups []string
	// MD5 tells that the password is kept as upstream kept it, until the user logs in.
	MD5 bool
	// FileOnly tells that only the users file of this node has the user yet.
	FileOnly bool
	// Broken tells that the record cannot be opened: the user is nobody until it is set anew.
	Broken bool
	// Modified is when HostDB's record was written last; zero for a user of the file.
	Modified time.Time
}

// Users are the users that hostmesh itself knows, sorted by name. Those of a directory are not among them.
func (a *Auth) Users() []User {
	v := a.view()
	names := map[string]bool{}
	for name := range a.file {
		names[name] = true
	}
	if a.records != nil {
		for key := range v.Keys(hostdb.System) {
			if name, ok := strings.CutPrefix(key, userPrefix); ok {
				names[name] = true
			}
		}
	}
	var out []User
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if u, ok := a.describe(v, name); ok {
			out = append(out, u)
		}
	}
	return out
}

// User is one of Users; ok is false when it is not there.
func (a *Auth) User(name string) (u User, ok bool) { return a.describe(a.view(), name) }

func (a *Auth) describe(v hostdb.View, name string) (User, bool) {
	u, is := a.find(v, name)
	if is == unknown || is == removed {
		return User{}, false
	}
	out := User{Name: name, Allow: u.allow, Groups: u.groups, MD5: u.password.md5 != "", FileOnly: is == fileOnly, Broken: is == broken}
	if item, ok := v.Get(hostdb.System, userKey(name)); ok {
		out.Modified = item.Modified()
	}
	return out, true
}

// Change is what shall be different of a user. A nil field leaves what is there.
type Change struct {
	Password *string
	Allow    *[]string // addresses and networks, such as 10.0.0.0/8
	Groups   *[]string
}

// SetUser makes a user, who needs a password, or changes one, for the whole mesh. A new password, be it the same again,
// ends the user's sessions. The caller has checked that the writer is an administrator; req says who that is. Errors wrap
// hostdb's sentinels; created is true for a user that was not there.
func (a *Auth) SetUser(ctx context.Context, req hostdb.Request, name string, c Change) (created bool, commit hostdb.Commit, err error) {
	if err := a.checkWritable(name); err != nil {
		return false, hostdb.Commit{}, err
	}
	next, err := c.parse()
	if err != nil {
		return false, hostdb.Commit{}, err
	}
	if c.Password != nil {
		if next.password, err = a.hash(ctx, *c.Password); err != nil {
			return false, hostdb.Commit{}, fmt.Errorf("hash the password of %s: %w", name, err)
		}
	}
	commit, err = a.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		u, is := a.find(tx.View(), name)
		created = is == unknown || is == removed
		if c.Password != nil {
			u.password, u.sessions = next.password, nil
		} else if is != kept && is != fileOnly {
			return fmt.Errorf("user %s needs a password: there is none that could stay: %w", name, hostdb.ErrInvalid)
		}
		if c.Allow != nil {
			u.allow = next.allow
		}
		if c.Groups != nil {
			u.groups = next.groups
		}
		return a.records.put(tx, name, u)
	})
	return created && err == nil, commit, err
}

// parse checks a change and gives its lists.
func (c Change) parse() (user, error) {
	var u user
	if p := c.Password; p != nil {
		switch {
		case *p == "":
			return user{}, fmt.Errorf("the password is empty: %w", hostdb.ErrInvalid)
		case len(*p) > maxPassword:
			return user{}, fmt.Errorf("a password of %d bytes, at most %d are allowed: %w", len(*p), maxPassword, hostdb.ErrInvalid)
		}
	}
	if c.Allow != nil {
		for _, text := range *c.Allow {
			p, err := parsePrefix(text)
			if err != nil {
				return user{}, fmt.Errorf("allow %q: expected an address or a network, such as 10.0.0.0/8: %w", text, hostdb.ErrInvalid)
			}
			u.allow = append(u.allow, p)
		}
	}
	if c.Groups != nil {
		for _, g := range *c.Groups {
			if err := checkUser(g); err != nil {
				return user{}, fmt.Errorf("group: %w", err)
			}
			u.groups = append(u.groups, g)
		}
	}
	if len(u.allow) > maxRecord || len(u.groups) > maxRecord {
		return user{}, fmt.Errorf("a user has at most %d networks and %d groups: %w", maxRecord, maxRecord, hostdb.ErrTooLarge)
	}
	return u, nil
}

// RemoveUser removes a user from the whole mesh and ends its sessions. A users file does not bring it back. Its error
// wraps hostdb.ErrNotFound when hostmesh itself does not know the user.
func (a *Auth) RemoveUser(ctx context.Context, req hostdb.Request, name string) (hostdb.Commit, error) {
	if err := a.checkWritable(name); err != nil {
		return hostdb.Commit{}, err
	}
	u, is := a.find(a.view(), name)
	if is == fileOnly {
		// Only what was there is known to have been deleted.
		if _, err := a.store.Update(ctx, req, func(tx *hostdb.Tx) error { return a.records.put(tx, name, u) }); err != nil {
			return hostdb.Commit{}, err
		}
	}
	return a.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		if !tx.Exists(hostdb.System, userKey(name)) {
			return fmt.Errorf("hostmesh has no user %s: %w", name, hostdb.ErrNotFound)
		}
		return tx.Delete(hostdb.System, userKey(name))
	})
}

// checkWritable reports why a user cannot be written.
func (a *Auth) checkWritable(name string) error {
	if a.store == nil {
		return fmt.Errorf("this agent keeps no users, because it has no mesh key (key_file): %w", hostdb.ErrUnavailable)
	}
	if err := checkUser(name); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	if len(name) > maxUserName {
		return fmt.Errorf("user name of %d bytes, at most %d are allowed: %w", len(name), maxUserName, hostdb.ErrBadName)
	}
	return nil
}

// Seed writes the users of the users file into HostDB that are not there and never were, and tells which. It is to be
// called once this replica knows what the others know, else it could bring back who was removed; after an error, such as
// in read-only mode, again later. Nothing to write makes no revision.
func (a *Auth) Seed(ctx context.Context) (names []string, err error) {
	if a.store == nil {
		return nil, nil
	}
	missing := func(v hostdb.View) []string {
		var out []string
		for _, name := range slices.Sorted(maps.Keys(a.file)) {
			if _, is := a.find(v, name); is == fileOnly {
				out = append(out, name)
			}
		}
		return out
	}
	if names = missing(a.view()); len(names) == 0 {
		return nil, nil
	}
	log := "users of the users file: " + strings.Join(names, ", ")
	if len(log) > hostdb.MaxLog {
		log = fmt.Sprintf("%d users of the users file", len(names))
	}
	_, err = a.store.Update(ctx, hostdb.Request{User: systemUser, Log: log}, func(tx *hostdb.Tx) error {
		names = missing(tx.View())
		for _, name := range names {
			if err := a.records.put(tx, name, a.file[name]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write users of the users file: %w", err)
	}
	return names, nil
}
