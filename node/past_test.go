package node

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/node/api"
)

// pastClock goes on by a second with each look, so that each write has a time of its own.
type pastClock struct{ now time.Time }

func (c *pastClock) Now() time.Time {
	c.now = c.now.Add(time.Second)
	return c.now
}

// past is a replica in memory, with its history behind the API.
type past struct {
	t     *testing.T
	store *hostdb.Store
	clock *pastClock
	*api.Client
}

func openPast(t *testing.T, node string) *past {
	t.Helper()
	p := &past{t: t, clock: &pastClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	var err error
	p.store, err = hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: node, Clock: p.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.store.Close() })
	p.Client = p.as("alice", true)
	return p
}

// as is a client of somebody.
func (p *past) as(user string, admin bool) *api.Client {
	p.t.Helper()
	h := history{store: p.store, now: p.clock.Now}
	handler := api.NewHandler(api.Config{
		History: h, Restorer: h, Conflicts: h, ReadOnly: h,
		Identify: func(*http.Request) (api.Identity, bool, error) {
			return api.Identity{User: user, Admin: admin}, user != "", nil
		},
	})
	socket := filepath.Join(shortDir(p.t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		p.t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: handler}}
	srv.Start()
	p.t.Cleanup(srv.Close)
	c, err := api.NewClient(api.ClientConfig{Socket: socket})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// write makes one revision and returns it.
func (p *past) write(user, log string, fns ...func(*hostdb.Tx) error) string {
	p.t.Helper()
	c, err := p.store.Update(p.t.Context(), hostdb.Request{User: user, Log: log}, func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Revision.String()
}

func doc(text string) hostdb.Document {
	d, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		panic(err)
	}
	return d
}

func put(id, text string) func(*hostdb.Tx) error {
	ns, key, _ := strings.Cut(id, "/")
	key, path, deep := strings.Cut(key, "/")
	return func(tx *hostdb.Tx) error {
		if deep {
			return tx.PutPath(ns, key, strings.Split(path, "/"), doc(text))
		}
		return tx.Put(ns, key, doc(text))
	}
}

func members(id, raw string) func(*hostdb.Tx) error {
	ns, key, _ := strings.Cut(id, "/")
	return func(tx *hostdb.Tx) error {
		list, err := hostdb.ParseMembers(raw)
		if err != nil {
			return err
		}
		return tx.SetMembers(ns, key, list)
	}
}

func rename(id, to string) func(*hostdb.Tx) error {
	ns, key, _ := strings.Cut(id, "/")
	return func(tx *hostdb.Tx) error { return tx.Rename(ns, key, to) }
}

func remove(id string) func(*hostdb.Tx) error {
	ns, key, _ := strings.Cut(id, "/")
	return func(tx *hostdb.Tx) error { return tx.Delete(ns, key) }
}

func perms(id, text string) func(*hostdb.Tx) error {
	ns, key, _ := strings.Cut(id, "/")
	return func(tx *hostdb.Tx) error {
		acl, err := hostdb.ParseACL([]byte(text))
		if err != nil {
			return err
		}
		return tx.SetPerms(ns, key, acl)
	}
}

// lines shows changes as a person would write them down.
func lines(list []api.RevisionChange) []string {
	out := []string{}
	for _, c := range list {
		line := c.Kind + " " + c.Place()
		if c.From != "" {
			line += " from " + c.From
		}
		if c.Old != nil {
			line += " -" + strings.ReplaceAll(*c.Old, "\n", "|")
		}
		if c.New != nil {
			line += " +" + strings.ReplaceAll(*c.New, "\n", "|")
		}
		out = append(out, line)
	}
	return out
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func status(err error) int {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
