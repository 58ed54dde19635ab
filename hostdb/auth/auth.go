// Package auth knows who somebody is and what they may do.
//
// It owns passwords, the users file, session tokens, the [Identity] that a request carries, and the question whether
// that identity may write a part of a key. It leaves the access lists themselves to hostdb ([hostdb.View.Permits]), HTTP
// to hostdb/rest, and the identity behind the unix socket to the server of that socket, which sets it by [WithIdentity].
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// minSessionKey is the least length of a session key in bytes: what HMAC-SHA256 can use of it.
const minSessionKey = sha256.Size

// maxVerifying bounds the passwords that are verified at a time. Each takes argonMemory, and an agent is small.
const maxVerifying = 2

// Config is what an Auth needs.
type Config struct {
	// UsersFile is the path of the users file; "" is no file users. See [Open].
	UsersFile string
	// SessionKey signs session tokens. It must be the same on every node for a session to be valid at every node:
	// derive it from the mesh key under a label of its own. At least 32 bytes; required.
	SessionKey []byte
	// Clock is the wall; nil is the system's.
	Clock hostdb.Clock
	// Logger is nil for none.
	Logger *slog.Logger
}

// Auth verifies passwords and session tokens. All methods are safe for concurrent use. It holds no resource that would
// have to be closed.
type Auth struct {
	key       []byte
	users     map[string]user
	clock     hostdb.Clock
	log       *slog.Logger
	verifying chan struct{} // a slot for each password that is being verified
	decoy     passwordHash  // verified for names that are not there, so that time does not tell
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// Open reads the users file. It is read once; what changes in it later takes effect at the next Open.
//
// The file is a YAML mapping of user names, in the format of Flipkart HostDB's "clients" file with groups added:
//
//	alice:
//	  password: $argon2id$v=19$m=19456,t=2,p=1$...  # see HashPassword; or an md5 in hexadecimal
//	  allow: [10.0.0.0/8, 2001:db8::/32, 192.0.2.7] # addresses to log in from; without any, none
//	  groups: [ops]
//
// A password may be an md5 in hexadecimal, as upstream writes it. It is accepted, and weak: whoever reads the file finds
// the password in no time. Open warns of each.
func Open(cfg Config) (*Auth, error) {
	if len(cfg.SessionKey) < minSessionKey {
		return nil, fmt.Errorf("open auth: the session key has %d bytes, want at least %d", len(cfg.SessionKey), minSessionKey)
	}
	a := &Auth{
		key:       slices.Clone(cfg.SessionKey),
		clock:     cfg.Clock,
		log:       cfg.Logger,
		verifying: make(chan struct{}, maxVerifying),
	}
	if a.clock == nil {
		a.clock = systemClock{}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if a.decoy, err = newPasswordHash("decoy"); err != nil {
		return nil, fmt.Errorf("open auth: %w", err)
	}
	if cfg.UsersFile == "" {
		return a, nil
	}
	text, err := os.ReadFile(cfg.UsersFile)
	if err != nil {
		return nil, fmt.Errorf("read users file (auth.users_file): %w", err)
	}
	if a.users, err = parseUsers(text); err != nil {
		return nil, fmt.Errorf("users file %s: %w", cfg.UsersFile, err)
	}
	a.warn(cfg.UsersFile)
	return a, nil
}

func (a *Auth) warn(path string) {
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o004 != 0 {
		a.log.Warn("users file can be read by everybody", "file", path, "remedy", "chmod o-r "+path)
	}
	for name, u := range a.users {
		if u.password.md5 != "" {
			a.log.Warn("password is kept as md5, which is weak", "file", path, "user", name)
		}
	}
}

// Login verifies a password and makes a session token for a client at addr. Errors are *[Error] with WrongPassword or
// WrongPlace, or ctx's when it ends while others are being verified.
func (a *Auth) Login(ctx context.Context, name, password string, addr netip.Addr) (token string, err error) {
	u, known := a.users[name]
	hash := u.password
	if !known {
		hash = a.decoy
	}
	select {
	case a.verifying <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("log in %s: %w", name, ctx.Err())
	}
	ok := hash.verify(password)
	<-a.verifying
	if !known || !ok {
		return "", &Error{WrongPassword, "Invalid credentials"}
	}
	addr = plainAddr(addr)
	if !u.allows(addr) {
		return "", &Error{WrongPlace, fmt.Sprintf("%s is not allowed to log in from %s", name, addrText(addr))}
	}
	return a.sign(session{kind: fileUser, user: name, groups: u.groups, addr: addr, issued: a.clock.Now()}), nil
}

// Identify says who a session token stands for, when a client at addr presents it. Errors are *[Error] with BadToken,
// OtherAddress, Expired or WrongPlace.
//
// A user of this node's file has the groups that the file says now, and a token that does not expire. Any other user
// has the groups of the moment of the login, and [DirectoryLifetime]: it may have left the file of the node it logged in at.
func (a *Auth) Identify(token string, addr netip.Addr) (Identity, error) {
	if token == "" {
		return Identity{}, &Error{BadToken, "No session token: log in first"}
	}
	s, err := a.parse(token)
	if err != nil {
		return Identity{}, &Error{BadToken, "Session token seems to be corrupted"}
	}
	addr = plainAddr(addr)
	if s.addr != addr {
		return Identity{}, &Error{OtherAddress, "Session token was made for another client address than " + addrText(addr)}
	}
	id := Identity{User: s.user, Groups: s.groups, Via: "session"}
	u, known := a.users[s.user]
	if s.kind == fileUser && known {
		if !u.allows(addr) {
			return Identity{}, &Error{WrongPlace, fmt.Sprintf("%s is not allowed from %s", s.user, addrText(addr))}
		}
		id.Groups = u.groups
		return id, nil
	}
	if a.clock.Now().Sub(s.issued) > DirectoryLifetime {
		return Identity{}, &Error{Expired, "Session token expired"}
	}
	return id, nil
}

// Groups are the groups of a user of the users file; nil when it is not there. The slice is shared.
func (a *Auth) Groups(name string) []string { return a.users[name].groups }

func (a *Auth) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte("hostmesh session token\x00"))
	h.Write(payload)
	return h.Sum(nil)
}

// plainAddr is addr as sessions keep it: an IPv4 address is one however the listener saw it.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return "an unknown address"
	}
	return addr.String()
}

var errToken = errors.New("not a session token of this mesh")
