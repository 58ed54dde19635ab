package auth

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"hostmesh/hostdb"
)

// ErrSealed is returned by Open for what cannot be opened: sealed with another key, under another name, or damaged.
var ErrSealed = errors.New("cannot be opened: it was sealed with another mesh key or for another name, or is damaged")

// sealVersion stands before everything that is sealed, in clear.
const sealVersion = "1."

// Sealer closes secrets that are kept in HostDB, such as the users of namespace .system, and opens them again. What is
// sealed for one name does not open under another, so nobody who can write the database can give a record to somebody
// else. It is safe for concurrent use.
type Sealer struct {
	aead  cipher.AEAD // XChaCha20-Poly1305
	nonce []byte      // key of the nonces
}

// NewSealer makes a Sealer of a key of at least 32 bytes, the same on every node: derive it from the mesh key under a
// label of its own.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) < chacha20poly1305.KeySize {
		return nil, fmt.Errorf("make sealer: the key has %d bytes, want at least %d", len(key), chacha20poly1305.KeySize)
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "hostmesh sealer", chacha20poly1305.KeySize+sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("make sealer: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived[:chacha20poly1305.KeySize])
	if err != nil {
		return nil, fmt.Errorf("make sealer: %w", err)
	}
	return &Sealer{aead, derived[chacha20poly1305.KeySize:]}, nil
}

// Seal closes a secret for a name, such as ".system/user.alice". The same secret gives the same text for the same name,
// and only then: that is all the text tells.
//
// For that the nonce is computed of name and secret (as RFC 5297 does) and not drawn. So nodes that write the same record
// at the same time write the same, sealing what is there already is no change, and a machine that was copied with the
// state of its random numbers repeats no nonce for another text.
func (s *Sealer) Seal(name string, secret []byte) string {
	mac := hmac.New(sha256.New, s.nonce)
	fmt.Fprintf(mac, "%d:%s", len(name), name)
	mac.Write(secret)
	nonce := mac.Sum(nil)[:chacha20poly1305.NonceSizeX]
	return sealVersion + base64.RawStdEncoding.EncodeToString(s.aead.Seal(nonce, nonce, secret, []byte(name)))
}

// Open gives back the secret that Seal closed for the name. Its error is ErrSealed.
func (s *Sealer) Open(name, sealed string) ([]byte, error) {
	text, ok := strings.CutPrefix(sealed, sealVersion)
	if !ok || len(text) > hostdb.MaxData {
		return nil, ErrSealed
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return nil, ErrSealed
	}
	secret, err := s.aead.Open(nil, raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:], []byte(name))
	if err != nil {
		return nil, ErrSealed
	}
	return secret, nil
}

// sealedField is the one leaf of a sealed record.
const sealedField = "Sealed"

// SealedDocument is a secret as HostDB keeps it under ns/key: a document with one leaf.
func (s *Sealer) SealedDocument(ns, key string, secret []byte) hostdb.Document {
	return hostdb.NewDocument(hostdb.Leaf{Path: hostdb.PathOf(sealedField), Value: hostdb.Text(s.Seal(ns+"/"+key, secret))})
}

// OpenDocument gives back the secret of SealedDocument. Its error is ErrSealed.
func (s *Sealer) OpenDocument(ns, key string, doc hostdb.Document) ([]byte, error) {
	return s.Open(ns+"/"+key, doc.Text(sealedField))
}
