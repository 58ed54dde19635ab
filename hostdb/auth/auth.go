// Package auth knows who somebody is and what they may do.
//
// It owns passwords, the users of the users file, of namespace .system and of a directory, how secrets are sealed that
// stand in HostDB ([Sealer]), session tokens, the rate of failed logins, the [Identity] that a request carries, and the
// question whether that identity may write a part of a key. It leaves the access lists themselves to hostdb
// ([hostdb.View.Permits]), HTTP to hostdb/rest, and the identity behind the unix socket to the server of that socket,
// which sets it by [WithIdentity].
package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	// Store is the replica whose namespace .system has the users of the mesh; nil: only the users file counts.
	Store Store
	// Sealer opens and closes the users in Store. Required with it.
	Sealer *Sealer
	// Directory is asked for users that neither Store nor the users file has; nil: there are no others.
	Directory Directory
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
	// Clock is the wall; nil is the system's.
	Clock hostdb.Clock
	// Logger is nil for none.
	Logger *slog.Logger
}

// Auth verifies passwords and session tokens. All methods are safe for concurrent use. It holds no resource that would
// have to be closed.
type Auth struct {
	key       []byte
	file      map[string]user // of the users file
	store     Store           // nil: none
	records   *records        // of store; nil without
	directory *directory      // nil: none
	limit     *limiter
	logins    *prometheus.CounterVec
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
// the password in no time. Open warns of each. The user's record in Store gets an argon2id at the first login.
//
// Users of the file count until Store has them, which [Auth.Seed] sees to, and then no more: Store's record decides.
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
	if cfg.Store != nil {
		if cfg.Sealer == nil {
			return nil, errors.New("open auth: a Store needs a Sealer")
		}
		a.store, a.records = cfg.Store, &records{sealer: cfg.Sealer, broken: a.warnBroken}
	}
	if cfg.Directory != nil {
		a.directory = newDirectory(cfg.Directory, a.clock)
	}
	a.limit, a.logins = newLimiter(a.clock), newLogins(cfg.Registerer)
	if cfg.UsersFile == "" {
		return a, nil
	}
	text, err := os.ReadFile(cfg.UsersFile)
	if err != nil {
		return nil, fmt.Errorf("read users file (auth.users_file): %w", err)
	}
	if a.file, err = parseUsers(text); err != nil {
		return nil, fmt.Errorf("users file %s: %w", cfg.UsersFile, err)
	}
	a.warn(cfg.UsersFile)
	return a, nil
}

func (a *Auth) warn(path string) {
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o004 != 0 {
		a.log.Warn("users file can be read by everybody", "file", path, "remedy", "chmod o-r "+path)
	}
	for name, u := range a.file {
		if u.password.md5 != "" {
			a.log.Warn("password is kept as md5, which is weak", "file", path, "user", name)
		}
	}
}

// warnBroken tells of a record that cannot be opened.
func (a *Auth) warnBroken(name string, err error) {
	a.log.Error("user cannot be opened and is nobody", "user", name, "err", err, "remedy", "hostmesh user set "+name)
}
