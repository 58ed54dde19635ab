package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hostmesh/hostdb"
)

// systemUser is who writes what nobody asked for, as history shows it.
const systemUser = "hostmesh"

// standing is what hostmesh itself knows of a name.
type standing int

const (
	unknown  standing = iota // nothing: another node's users file may know more, or a directory
	removed                  // it was a user
	broken                   // it has a record that cannot be opened
	fileOnly                 // it is a user of this node's users file, and HostDB does not have it yet
	kept                     // it is a user in HostDB
)

// find looks a user up in v, and in the users file where HostDB neither has nor had it.
func (a *Auth) find(v hostdb.View, name string) (user, standing) {
	if a.records != nil {
		u, found, err := a.records.get(v, name)
		switch {
		case err != nil:
			return user{}, broken
		case found:
			return u, kept
		case v.WasDeleted(hostdb.System, userKey(name)):
			return user{}, removed
		}
	}
	if u, ok := a.file[name]; ok {
		return u, fileOnly
	}
	return user{}, unknown
}

// view is what the replica holds now; empty without one.
func (a *Auth) view() hostdb.View {
	if a.store == nil {
		return hostdb.View{}
	}
	return a.store.View()
}

// Login verifies a password and makes a session token for a client at addr. Users that hostmesh itself knows are verified
// here; for all others the directory is asked, if there is one. Errors are *[Error] with WrongPassword, WrongPlace,
// TooMany or NoDirectory, or ctx's when it ends first.
func (a *Auth) Login(ctx context.Context, name, password string, addr netip.Addr) (token string, err error) {
	token, err = a.login(ctx, name, password, plainAddr(addr))
	a.logins.WithLabelValues(resultOf(err)).Inc()
	return token, err
}

func (a *Auth) login(ctx context.Context, name, password string, addr netip.Addr) (string, error) {
	counted := name
	if checkUser(name) != nil {
		counted = "" // no name that anybody has: they are one, so that their length costs nothing
	}
	try, wait := a.limit.begin(counted, addr)
	if wait > 0 {
		wait = (wait + time.Second - 1).Truncate(time.Second)
		return "", &Error{Code: TooMany, Wait: wait, Message: fmt.Sprintf("Too many logins from %s have failed: wait %s, and then try again", addrText(addr), wait)}
	}
	s, err := a.verify(ctx, name, password, addr)
	var no *Error
	switch {
	case err == nil:
		try.succeeded()
	case errors.As(err, &no) && no.Code == WrongPassword: // it stays counted
		return "", err
	default:
		try.undecided()
		return "", err
	}
	token := a.sign(s)
	if len(token) > maxToken {
		a.log.Error("session token would be too long", "user", name, "groups", len(s.groups), "remedy", "let auth.ldap.groups_dn name a part of the groups")
		return "", &Error{Code: NoDirectory, Message: fmt.Sprintf("%s is in %d groups of the directory: too many for a session", name, len(s.groups))}
	}
	return token, nil
}

// verify finds out whether name and password are somebody's, and makes the session.
func (a *Auth) verify(ctx context.Context, name, password string, addr netip.Addr) (session, error) {
	u, is := a.find(a.view(), name)
	switch is {
	case kept, fileOnly:
	case unknown, removed: // somebody who was removed here may be in the directory
		if a.directory != nil && checkUser(name) == nil && password != "" {
			return a.verifyDirectory(ctx, name, password, addr)
		}
		u.password = a.decoy
	case broken: // the warning was given when it was opened
		u.password = a.decoy
	}
	ok, err := a.check(ctx, u.password, password)
	switch {
	case err != nil:
		return session{}, fmt.Errorf("log in %s: %w", name, err)
	case !ok || is != kept && is != fileOnly:
		return session{}, wrongPassword()
	case !u.allows(addr):
		return session{}, &Error{Code: WrongPlace, Message: fmt.Sprintf("%s may not log in from %s: an administrator sees from where by: hostmesh user show %s",
			name, addrText(addr), name)}
	}
	if u.password.md5 != "" && is == kept {
		a.strengthen(ctx, name, u, password)
	}
	return session{kind: localUser, user: name, groups: u.groups, addr: addr, issued: a.clock.Now(), password: a.passwordTag(u)}, nil
}

func wrongPassword() *Error { return &Error{Code: WrongPassword, Message: "Invalid credentials"} }

// verifyDirectory asks the directory.
func (a *Auth) verifyDirectory(ctx context.Context, name, password string, addr netip.Addr) (session, error) {
	groups, err := a.directory.login(ctx, name, password)
	switch {
	case err == nil:
		return session{kind: directoryUser, user: name, groups: groups, addr: addr, issued: a.clock.Now()}, nil
	case errors.Is(err, ErrCredentials):
		return session{}, wrongPassword()
	case ctx.Err() != nil:
		return session{}, fmt.Errorf("log in %s: %w", name, ctx.Err())
	}
	a.log.Error("directory cannot be asked", "user", name, "err", err)
	return session{}, &Error{Code: NoDirectory, Message: fmt.Sprintf("%s is no user of hostmesh itself, and the directory (auth.ldap) cannot be asked: "+
		"the agent's log says why", name)}
}

// check verifies a password, maxVerifying at a time.
func (a *Auth) check(ctx context.Context, h passwordHash, password string) (bool, error) {
	select {
	case a.verifying <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-a.verifying }()
	ok := h.verify(password)
	if !ok && h.md5 != "" { // an md5 takes no time: that would tell that the user is there
		a.decoy.verify(password)
	}
	return ok, nil
}

// hash makes an argon2id of a password, under the same bound as check.
func (a *Auth) hash(ctx context.Context, password string) (passwordHash, error) {
	select {
	case a.verifying <- struct{}{}:
	case <-ctx.Done():
		return passwordHash{}, ctx.Err()
	}
	defer func() { <-a.verifying }()
	return newPasswordHash(password)
}

var errOvertaken = errors.New("it was changed in the meantime")

// strengthen replaces an md5 by an argon2id of the same password, of which there is no better moment than a login. When
// it cannot be written now, a later login will.
func (a *Auth) strengthen(ctx context.Context, name string, u user, password string) {
	h, err := a.hash(ctx, password)
	if err == nil {
		next := u
		next.password, next.sessions = h, a.passwordTag(u) // sessions made with the md5 stay good
		_, err = a.store.Update(ctx, hostdb.Request{User: systemUser, Log: "password of " + name + ": argon2id instead of md5"}, func(tx *hostdb.Tx) error {
			if now, is := a.find(tx.View(), name); is != kept || !now.equal(u) {
				return errOvertaken
			}
			return a.records.put(tx, name, next)
		})
	}
	if err != nil {
		a.log.Info("md5 password stays until a later login", "user", name, "err", err)
		return
	}
	a.log.Info("md5 password replaced by argon2id", "user", name)
}

// Identify says who a session token stands for, when a client at addr presents it. Errors are *[Error] with BadToken,
// OtherAddress, Expired or WrongPlace.
//
// A user that hostmesh itself knows has the groups of now; the session does not expire, and ends when the user is removed
// or gets a new password. A user of the directory has the groups of the login and [DirectoryLifetime]. So has a user of
// the users file of another node until HostDB has it.
func (a *Auth) Identify(token string, addr netip.Addr) (Identity, error) {
	if token == "" {
		return Identity{}, badToken("No session token: log in first")
	}
	s, err := a.parse(token)
	if err != nil {
		return Identity{}, badToken("Session token seems to be corrupted, or is of another mesh: log in again")
	}
	addr = plainAddr(addr)
	if s.addr != addr {
		return Identity{}, &Error{Code: OtherAddress, Message: "Session token was made for another client address than " + addrText(addr)}
	}
	id := Identity{User: s.user, Groups: s.groups, Via: "session"}
	u, is := a.find(a.view(), s.user)
	switch {
	case s.kind == localUser && (is == kept || is == fileOnly):
		if !a.isPasswordTag(u, s.password) {
			return Identity{}, badToken(fmt.Sprintf("The password of %s has changed since: log in again", s.user))
		}
		if !u.allows(addr) {
			return Identity{}, &Error{Code: WrongPlace, Message: fmt.Sprintf("%s may not come from %s any more: an administrator sees from where by: hostmesh user show %s",
				s.user, addrText(addr), s.user)}
		}
		id.Groups = u.groups
		return id, nil
	case s.kind == localUser && is != unknown:
		return Identity{}, badToken(fmt.Sprintf("%s is no user any more", s.user))
	case s.kind == directoryUser && (is != unknown && is != removed):
		return Identity{}, badToken(fmt.Sprintf("%s is a user of hostmesh itself now, and was one of the directory: log in again", s.user))
	}
	if a.clock.Now().Sub(s.issued) > DirectoryLifetime {
		return Identity{}, &Error{Code: Expired, Message: "Session token expired: log in again"}
	}
	return id, nil
}

func badToken(message string) *Error { return &Error{Code: BadToken, Message: message} }

// Groups are the groups of a user: those that HostDB or the users file says, else those that the directory does, now or at
// a login of the last day; nil when nobody knows the user. It may wait for the directory, for a bounded time. The slice is
// shared.
func (a *Auth) Groups(name string) []string {
	u, is := a.find(a.view(), name)
	if is != unknown && is != removed || a.directory == nil || checkUser(name) != nil {
		return u.groups
	}
	ctx, cancel := context.WithTimeout(context.Background(), groupsPatience)
	defer cancel()
	groups, err := a.directory.groupsOf(ctx, name)
	if err != nil {
		a.log.Warn("groups are not known: the directory cannot be asked", "user", name, "err", err)
	}
	return groups
}

// groupsPatience bounds how long Groups waits for the directory.
const groupsPatience = 5 * time.Second
