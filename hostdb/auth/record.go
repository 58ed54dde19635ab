package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// Store is what auth needs of a hostdb.Store.
type Store interface {
	View() hostdb.View
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// userPrefix is before the user's name in the keys of namespace .system.
const userPrefix = "user."

// maxUserName leaves room for userPrefix in a key.
const maxUserName = hostdb.MaxName - len(userPrefix)

// recordVersion is the version of record that this build writes. It reads any: fields are only ever added.
const recordVersion = 1

// maxRecord bounds the lists that a record may have.
const maxRecord = 10_000

// record is a user in HostDB, before it is sealed.
type record struct {
	Version  int      `cbor:"1,keyasint"`
	Password string   `cbor:"2,keyasint"`
	Allow    []string `cbor:"3,keyasint,omitempty"`
	Groups   []string `cbor:"4,keyasint,omitempty"`
	Sessions []byte   `cbor:"5,keyasint,omitempty"`
}

// encodeRecord is u as it is sealed. Equal users have equal bytes.
func encodeRecord(u user) []byte {
	r := record{Version: recordVersion, Password: u.password.String(), Groups: u.groups, Sessions: u.sessions}
	for _, p := range u.allow {
		r.Allow = append(r.Allow, p.String())
	}
	b, err := cbor.Marshal(r)
	if err != nil {
		panic("auth: encode user: " + err.Error()) // no value of these types can fail
	}
	return b
}

var errRecord = errors.New("its content is not that of a user")

// decodeRecord reads what encodeRecord writes, or what a newer version of it does. Errors quote nothing.
func decodeRecord(b []byte) (user, error) {
	var r record
	if err := cbor.Unmarshal(b, &r); err != nil {
		return user{}, errRecord
	}
	if r.Version < 1 || len(r.Allow) > maxRecord || len(r.Groups) > maxRecord || len(r.Sessions) > sha256.Size {
		return user{}, errRecord
	}
	h, err := parsePassword(r.Password)
	if err != nil {
		return user{}, fmt.Errorf("its password: %w", err)
	}
	u := user{password: h, groups: r.Groups, sessions: r.Sessions}
	for _, text := range r.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return user{}, errRecord
		}
		u.allow = append(u.allow, p.Masked())
	}
	return u, nil
}

func userKey(name string) string { return userPrefix + name }

// equal reports whether u and o are the same in every field.
func (u user) equal(o user) bool {
	return u.password.String() == o.password.String() && slices.Equal(u.allow, o.allow) && slices.Equal(u.groups, o.groups) &&
		slices.Equal(u.sessions, o.sessions)
}

// records are the users of HostDB, opened. Opened records are kept until they change, so that a hit costs a lookup.
type records struct {
	sealer *Sealer
	broken func(name string, err error) // told once of each record that cannot be opened
	opened sync.Map                     // of name to *opened
}

// opened is a record, or that it cannot be opened.
type opened struct {
	revision hostdb.Stamp
	user     user
	err      error
}

// get looks a user up. found is false when HostDB has no record; an error is for one that cannot be opened.
func (r *records) get(v hostdb.View, name string) (u user, found bool, err error) {
	item, ok := v.Get(hostdb.System, userKey(name))
	if !ok {
		r.opened.Delete(name)
		return user{}, false, nil
	}
	// The revision is that of the record's only leaf: whatever changes in it changes the revision.
	if c, ok := r.opened.Load(name); ok {
		if c := c.(*opened); c.revision == item.Revision() {
			return c.user, true, c.err
		}
	}
	o := r.open(name, item)
	was, loaded := r.opened.Swap(name, o)
	if o.err != nil && (!loaded || was.(*opened).revision != o.revision) {
		r.broken(name, o.err)
	}
	return o.user, true, o.err
}

func (r *records) open(name string, item hostdb.Item) *opened {
	o := &opened{revision: item.Revision()}
	secret, err := r.sealer.OpenDocument(hostdb.System, userKey(name), item.Data())
	if err == nil {
		o.user, err = decodeRecord(secret)
	}
	o.err = err
	return o
}

// put writes a user. What is there already makes no revision.
func (r *records) put(tx *hostdb.Tx, name string, u user) error {
	return tx.Put(hostdb.System, userKey(name), r.sealer.SealedDocument(hostdb.System, userKey(name), encodeRecord(u)))
}
