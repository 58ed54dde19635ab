package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// openAuth makes what knows users. Without a mesh key none are kept in HostDB: nobody could open them after a restart.
func (a *Agent) openAuth() error {
	cfg := auth.Config{
		UsersFile:  a.cfg.Auth.UsersFile,
		SessionKey: a.key.Derive(mesh.LabelSession, mesh.KeySize),
		Registerer: a.metrics,
		Clock:      a.clock,
		Logger:     a.log,
	}
	if !a.keyless {
		sealer, err := auth.NewSealer(a.key.Derive(mesh.LabelSeal, mesh.KeySize))
		if err != nil {
			return err
		}
		a.sealer = sealer
		cfg.Store, cfg.Sealer = a.store, sealer
	}
	directory, err := a.cfg.Auth.LDAP.open()
	if err != nil {
		return err
	}
	if directory != nil {
		cfg.Directory = directory
	}
	a.auth, err = auth.Open(cfg)
	return err
}

// resolve puts defaults where nothing is set.
func (c LDAPConfig) resolve() (auth.LDAPConfig, error) {
	out := auth.DefaultLDAPConfig()
	out.URL, out.UsersDN, out.GroupsDN = c.URL, c.UsersDN, c.GroupsDN
	out.CAFile, out.StartTLS, out.Insecure = c.CA, c.StartTLS, c.Insecure
	if c.UserAttribute != "" {
		out.UserAttribute = c.UserAttribute
	}
	if c.GroupAttribute != "" {
		out.GroupAttribute = c.GroupAttribute
	}
	if c.Timeout != "" {
		d, err := time.ParseDuration(c.Timeout)
		if err != nil {
			return out, fmt.Errorf("auth.ldap.timeout %q: want a duration, such as 5s", c.Timeout)
		}
		out.Timeout = d
	}
	return out, nil
}

// open makes the directory; nil when none is set.
func (c LDAPConfig) open() (*auth.LDAP, error) {
	if c.URL == "" {
		return nil, nil
	}
	cfg, err := c.resolve()
	if err != nil {
		return nil, err
	}
	return auth.OpenLDAP(cfg)
}

// seedRetry is how often the users file is tried again, when HostDB could not be written.
const seedRetry = time.Second

// seedUsers brings the users of the users file into HostDB, once, as soon as this replica knows whom the others have
// removed; then it has nothing to do until ctx ends.
func (a *Agent) seedUsers(ctx context.Context) error {
	tick := time.NewTicker(seedRetry)
	defer tick.Stop()
	last := ""
	for {
		if a.replica.Synced() || a.founder && a.aloneWithIt() {
			names, err := a.auth.Seed(ctx)
			if err == nil {
				if len(names) > 0 {
					a.log.Info("users of the users file are in HostDB now", "file", a.cfg.Auth.UsersFile, "users", strings.Join(names, ", "))
				}
				<-ctx.Done()
				return nil
			}
			if err.Error() != last {
				last = err.Error()
				a.log.Warn("users of the users file are not in HostDB yet: they can log in here alone", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// users implements api.Users.
type users struct{ auth *auth.Auth }

func (u users) Users() []api.User {
	out := []api.User{}
	for _, x := range u.auth.Users() {
		out = append(out, userOf(x))
	}
	return out
}

func (u users) User(name string) (api.User, error) {
	x, ok := u.auth.User(name)
	if !ok {
		return api.User{}, api.ErrNotFound
	}
	return userOf(x), nil
}

func userOf(x auth.User) api.User {
	out := api.User{Name: x.Name, Allow: []string{}, Groups: append([]string{}, x.Groups...), State: api.UserKept}
	for _, p := range x.Allow {
		out.Allow = append(out.Allow, p.String())
	}
	switch {
	case x.Broken:
		out.State = api.UserBroken
	case x.FileOnly:
		out.State = api.UserInFile
	}
	out.Password = "argon2id"
	if x.MD5 {
		out.Password = "md5"
	}
	if x.Broken {
		out.Password = ""
	}
	if !x.Modified.IsZero() {
		out.Modified = &x.Modified
	}
	return out
}

// userWrite is a write to the users, which the caller has let an administrator alone do.
func userWrite(who api.Identity, log string) hostdb.Request {
	return hostdb.Request{User: who.User, Log: log}
}

func (u users) SetUser(ctx context.Context, who api.Identity, name string, c api.UserChange, log string) (api.UserWritten, error) {
	created, commit, err := u.auth.SetUser(ctx, userWrite(who, log), name, auth.Change{Password: c.Password, Allow: c.Allow, Groups: c.Groups})
	return api.UserWritten{Name: name, Created: created, Revision: commit.Revision.String(), Acks: commit.Acks}, err
}

func (u users) RemoveUser(ctx context.Context, who api.Identity, name, log string) (api.UserWritten, error) {
	commit, err := u.auth.RemoveUser(ctx, userWrite(who, log), name)
	if errors.Is(err, hostdb.ErrNoParent) { // it went between the look and the write
		err = api.ErrNotFound
	}
	return api.UserWritten{Name: name, Revision: commit.Revision.String(), Acks: commit.Acks}, err
}
