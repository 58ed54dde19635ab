package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hostmesh/hostdb"
)

// ErrCredentials is returned by a Directory for a user that it does not have, or a password that is not theirs.
var ErrCredentials = errors.New("no such user, or another password")

// Directory knows users that hostmesh itself does not, with their passwords and groups. *LDAP is one. Its methods are
// safe for concurrent use and return in bounded time, whatever the directory does.
type Directory interface {
	// Login verifies a password and returns the user's groups. An error that wraps ErrCredentials is the directory's
	// no; every other error means that it could not be asked. An empty password is never right.
	Login(ctx context.Context, name, password string) (groups []string, err error)
	// Groups are the groups of a user; none when the directory has no such user.
	Groups(ctx context.Context, name string) ([]string, error)
}

// Bounds of what is asked of a directory.
const (
	maxAsking   = 8                // logins at a time
	maxWondered = 4                // questions for groups at a time: anybody may cause them, and logins must not wait for them
	groupsFresh = time.Minute      // how long an answer to a question for groups is kept
	groupsPause = 10 * time.Second // how long nobody's groups are asked for after it did not answer
	maxKnown    = 4096             // users whose groups are kept
)

// directory asks a Directory, never more than maxAsking and maxWondered times at once, and remembers groups.
type directory struct {
	ask    Directory
	clock  hostdb.Clock
	asking chan struct{} // a slot for each login under way
	wonder chan struct{} // a slot for each question for groups under way

	mu     sync.Mutex // guards the fields below
	groups lru[string, knownGroups]
	pause  time.Time // until when nobody's groups are asked for
}

type knownGroups struct {
	list  []string
	until time.Time
}

func newDirectory(ask Directory, clock hostdb.Clock) *directory {
	return &directory{ask: ask, clock: clock, asking: make(chan struct{}, maxAsking), wonder: make(chan struct{}, maxWondered), groups: newLRU[string, knownGroups](maxKnown)}
}

// login is Directory.Login. Groups that could name a user of the local socket are left out.
func (d *directory) login(ctx context.Context, name, password string) ([]string, error) {
	select {
	case d.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other logins: %w", ctx.Err())
	}
	groups, err := d.ask.Login(ctx, name, password)
	<-d.asking
	if err != nil {
		return nil, err
	}
	groups = goodGroups(groups)
	d.remember(name, groups, DirectoryLifetime)
	return groups, nil
}

// groupsOf are a user's groups: those of a login of the last day, else those that the directory says now; nil when it
// does not.
func (d *directory) groupsOf(ctx context.Context, name string) ([]string, error) {
	now := d.clock.Now()
	d.mu.Lock()
	known, pause := d.groups.get(name), d.pause
	d.mu.Unlock()
	if now.Before(known.until) {
		return known.list, nil
	}
	if now.Before(pause) {
		return nil, nil
	}
	select {
	case d.wonder <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other questions: %w", ctx.Err())
	}
	groups, err := d.ask.Groups(ctx, name)
	<-d.wonder
	if err != nil {
		d.mu.Lock()
		d.pause = now.Add(groupsPause)
		d.mu.Unlock()
		return nil, err
	}
	groups = goodGroups(groups)
	d.remember(name, groups, groupsFresh)
	return groups, nil
}

func (d *directory) remember(name string, groups []string, lifetime time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups.set(name, knownGroups{groups, d.clock.Now().Add(lifetime)})
}

// goodGroups are those that an access list can name.
func goodGroups(groups []string) []string {
	var out []string
	for _, g := range groups {
		if checkUser(g) == nil {
			out = append(out, g)
		}
	}
	return out
}
