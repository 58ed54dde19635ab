package transfer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/miekg/dns"

	"hostmesh/hostdb"
)

// Store is what keys need of a hostdb.Store.
type Store interface {
	View() hostdb.View
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// Sealer closes secrets that stand in HostDB with the mesh key, and opens them.
type Sealer interface {
	SealedDocument(ns, key string, secret []byte) hostdb.Document
	OpenDocument(ns, key string, doc hostdb.Document) ([]byte, error)
}

const (
	// KeyPrefix is before the key's name in the keys of namespace .system.
	KeyPrefix = "tsig."
	// keyVersion is the version of keyRecord that this build writes. It reads any: fields are only ever added.
	keyVersion = 1
	// usualHMAC is that of keys made here: every name server has it.
	usualHMAC = "hmac-sha256"

	minSecret = 16  // bytes of a secret that is brought along; RFC 8945 section 8 wants the length of the hash
	maxSecret = 512 //
	newSecret = 32  // bytes of one made here
)

// keyRecord is a key in HostDB, before it is sealed.
type keyRecord struct {
	Version   int    `cbor:"1,keyasint"`
	Algorithm string `cbor:"2,keyasint"`
	Secret    []byte `cbor:"3,keyasint"`
}

// Key is what is told of a TSIG key: everything but its secret.
type Key struct {
	Name      string    // in lower case, without the final dot
	Algorithm string    // such as hmac-sha256; empty when Broken
	Broken    bool      // it was sealed with another mesh key, or is damaged
	Modified  time.Time // when it was written last
}

// NewKey is a key with its secret, as its maker is shown it once.
type NewKey struct {
	Name, Algorithm string
	Secret          string // in base64, as configurations of name servers have it
}

// Keys are the TSIG keys of the mesh. All methods are safe for concurrent use.
type Keys struct {
	store  Store
	sealer Sealer
	opened sync.Map // of canonical name to *openedKey
}

// openedKey is a record opened, or that it cannot be: then key is nil.
type openedKey struct {
	revision hostdb.Stamp
	key      *secretKey
}

// NewKeys are the keys in store. sealer is nil for an agent without a mesh key, which keeps none.
func NewKeys(store Store, sealer Sealer) *Keys { return &Keys{store: store, sealer: sealer} }

// keyName is the canonical name of a key, as messages have it: in lower case, with a final dot.
func keyName(text string) string { return dns.CanonicalName(text) }

// recordKey is where a key stands in .system; name is canonical.
func recordKey(name string) string { return KeyPrefix + strings.TrimSuffix(name, ".") }

// find is the key of that canonical name; nil when there is none, or it cannot be opened.
func (k *Keys) find(name string) *secretKey {
	if k == nil || k.sealer == nil {
		return nil
	}
	item, ok := k.store.View().Get(hostdb.System, recordKey(name))
	if !ok {
		k.opened.Delete(name)
		return nil
	}
	return k.open(name, item)
}

func (k *Keys) open(name string, item hostdb.Item) *secretKey {
	if was, ok := k.opened.Load(name); ok && was.(*openedKey).revision == item.Revision() {
		return was.(*openedKey).key
	}
	o := &openedKey{revision: item.Revision()}
	var r keyRecord
	secret, err := k.sealer.OpenDocument(hostdb.System, recordKey(name), item.Data())
	if err == nil {
		err = cbor.Unmarshal(secret, &r)
	}
	if _, known := algorithms[r.Algorithm]; err == nil && r.Version >= 1 && known && len(r.Secret) > 0 {
		o.key = &secretKey{name: name, algorithm: r.Algorithm, secret: r.Secret}
	}
	k.opened.Store(name, o)
	return o.key
}

// List tells of all keys, by name.
func (k *Keys) List() []Key {
	v := k.store.View()
	var out []Key
	for key := range v.Keys(hostdb.System) {
		text, ok := strings.CutPrefix(key, KeyPrefix)
		if !ok {
			continue
		}
		item, ok := v.Get(hostdb.System, key)
		if !ok {
			continue
		}
		one := Key{Name: text, Broken: true, Modified: item.Modified()}
		if k.sealer != nil {
			if open := k.open(keyName(text), item); open != nil {
				one.Algorithm, one.Broken = open.algorithm, false
			}
		}
		out = append(out, one)
	}
	return out
}

// checkKeyName reports why text cannot be the name of a key. It must be one that Transfer/Key of a section can name.
func checkKeyName(text string) error {
	bad := func(why string) error {
		return fmt.Errorf("key name %q %s: expected a domain name of letters, digits, hyphens and underscores, such as xfer or dc1-ns2.example.com: %w", text, why, hostdb.ErrBadName)
	}
	if len(text) > 127 {
		return bad("is longer than 127 bytes")
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 {
			return bad("has a label that is empty or longer than 63 bytes")
		}
		if i := strings.IndexFunc(label, func(r rune) bool {
			return !(r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
		}); i >= 0 {
			return bad(fmt.Sprintf("has %q", label[i]))
		}
	}
	if text[0] == '-' {
		return bad("begins with a hyphen")
	}
	return nil
}

func (k *Keys) writable() error {
	if k.sealer == nil {
		return fmt.Errorf("this agent keeps no TSIG keys, because it has no mesh key (key_file): %w", hostdb.ErrUnavailable)
	}
	return nil
}

// Add makes a key, with a secret of its own where secret is empty, and gives it back once. One that is there is only
// replaced if replace is set. The caller has checked that the writer is an administrator. Errors wrap hostdb's sentinels
// and have no secret.
func (k *Keys) Add(ctx context.Context, req hostdb.Request, name, algorithm, secret string, replace bool) (NewKey, hostdb.Commit, error) {
	fail := func(err error) (NewKey, hostdb.Commit, error) { return NewKey{}, hostdb.Commit{}, err }
	if err := firstError(k.writable(), checkKeyName(name)); err != nil {
		return fail(err)
	}
	if algorithm == "" {
		algorithm = usualHMAC
	}
	algorithm = strings.TrimSuffix(strings.ToLower(algorithm), ".")
	if _, ok := algorithms[algorithm]; !ok {
		return fail(fmt.Errorf("TSIG algorithm %q: expected %s: %w", algorithm, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "), hostdb.ErrInvalid))
	}
	raw := make([]byte, newSecret)
	if secret == "" {
		if _, err := rand.Read(raw); err != nil {
			return fail(fmt.Errorf("make a secret: %w", err))
		}
	} else {
		var err error
		if raw, err = base64.StdEncoding.DecodeString(secret); err != nil {
			return fail(fmt.Errorf("the secret is not in base64: %w", hostdb.ErrInvalid))
		}
		if len(raw) < minSecret || len(raw) > maxSecret {
			return fail(fmt.Errorf("the secret has %d bytes, expected %d to %d: %w", len(raw), minSecret, maxSecret, hostdb.ErrInvalid))
		}
	}
	canonical := keyName(name)
	record, err := cbor.Marshal(keyRecord{Version: keyVersion, Algorithm: algorithm, Secret: raw})
	if err != nil {
		return fail(fmt.Errorf("encode TSIG key %s: %w", name, err))
	}
	at := recordKey(canonical)
	commit, err := k.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		if !replace && tx.Exists(hostdb.System, at) {
			return fmt.Errorf("there is a TSIG key %s: replace it if no secondary needs the old one: %w", name, hostdb.ErrExists)
		}
		return tx.Put(hostdb.System, at, k.sealer.SealedDocument(hostdb.System, at, record))
	})
	if err != nil {
		return fail(err)
	}
	return NewKey{Name: strings.TrimSuffix(canonical, "."), Algorithm: algorithm, Secret: base64.StdEncoding.EncodeToString(raw)}, commit, nil
}

// Remove removes a key from the whole mesh. Its error wraps hostdb.ErrNotFound when there is none.
func (k *Keys) Remove(ctx context.Context, req hostdb.Request, name string) (hostdb.Commit, error) {
	if err := firstError(k.writable(), checkKeyName(name)); err != nil {
		return hostdb.Commit{}, err
	}
	at := recordKey(keyName(name))
	return k.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		if !tx.Exists(hostdb.System, at) {
			return fmt.Errorf("there is no TSIG key %s: %w", name, hostdb.ErrNotFound)
		}
		return tx.Delete(hostdb.System, at)
	})
}

// firstError is the first error that is one.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
