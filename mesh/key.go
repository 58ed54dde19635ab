package mesh

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// KeySize is the length of a mesh key in bytes.
const KeySize = 32

// The labels under which keys are derived from the mesh key. Each use has its own label, so that a key which leaks, or an
// algorithm which falls, takes no other use with it. A label is never reused for another purpose: make a new one.
const (
	LabelGossip  = "hostmesh gossip v1"  // 32 bytes: AES-256-GCM of the gossip
	LabelPeerCA  = "hostmesh peer-ca v1" // 32 bytes: ed25519 seed of the CA of the peer streams
	LabelWebCA   = "hostmesh web-ca v1"  // seed of the P-256 key of the web CA
	LabelSession = "hostmesh session v1" // signs web sessions
	LabelSeal    = "hostmesh seal v1"    // seals secrets that are kept in HostDB
	LabelNetwork = "hostmesh network v1" // public: names the network on every gossip packet; reveals nothing of the key
)

// ErrBadKey is returned when a text is not a mesh key.
var ErrBadKey = errors.New("not a mesh key")

// ErrKeyFileMode is returned when a key file can be read or written by others than its owner.
var ErrKeyFileMode = errors.New("key file is open to group or others")

// Key is the mesh's secret: 32 random bytes, the same on every node. It is never used itself; every use derives its own
// key from it. Printing, logging or marshalling a Key shows a placeholder. The zero Key is no key.
type Key struct {
	b   [KeySize]byte
	set bool
}

const redacted = "mesh-key(redacted)"

// NewKey makes a random key.
func NewKey() (Key, error) {
	k := Key{set: true}
	if _, err := rand.Read(k.b[:]); err != nil {
		return Key{}, fmt.Errorf("make mesh key: %w", err)
	}
	return k, nil
}

// ParseKey reads the content of a key file: 32 bytes in standard base64, with or without padding. Blanks around it,
// empty lines and lines that start with # are allowed. Errors wrap ErrBadKey and never quote the text.
func ParseKey(text []byte) (Key, error) {
	var found string
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if found != "" {
			return Key{}, fmt.Errorf("%w: more than one line of key, want exactly one", ErrBadKey)
		}
		found = line
	}
	if err := sc.Err(); err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	if found == "" {
		return Key{}, fmt.Errorf("%w: it is empty; make one with: hostmesh keygen", ErrBadKey)
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(found, "="))
	if err != nil {
		return Key{}, fmt.Errorf("%w: not base64; make one with: hostmesh keygen", ErrBadKey)
	}
	if len(raw) != KeySize {
		return Key{}, fmt.Errorf("%w: %d bytes, want %d; make one with: hostmesh keygen", ErrBadKey, len(raw), KeySize)
	}
	k := Key{set: true}
	copy(k.b[:], raw)
	clear(raw)
	if k.b == [KeySize]byte{} {
		return Key{}, fmt.Errorf("%w: all bytes are zero", ErrBadKey)
	}
	return k, nil
}

// LoadKeyFile reads a key file. It refuses a file that group or others may read or write.
func LoadKeyFile(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Key{}, fmt.Errorf("read mesh key: %w; make one with: hostmesh keygen", err)
		}
		return Key{}, fmt.Errorf("read mesh key: %w", err)
	}
	defer f.Close()
	// The open file is looked at, not the path, so that it cannot be exchanged between the two.
	st, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("read mesh key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Key{}, fmt.Errorf("read mesh key %s: not a regular file", path)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("read mesh key %s: %w (mode %04o); remedy: chmod 600 %s", path, ErrKeyFileMode, st.Mode().Perm(), path)
	}
	text := make([]byte, 4097)
	n, err := f.Read(text)
	if n == 0 && err != nil {
		n = 0
	}
	if n > 4096 {
		return Key{}, fmt.Errorf("read mesh key %s: %w: longer than 4096 bytes", path, ErrBadKey)
	}
	k, err := ParseKey(text[:n])
	clear(text)
	if err != nil {
		return Key{}, fmt.Errorf("read mesh key %s: %w", path, err)
	}
	return k, nil
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return !k.set }

// Text returns the secret in the form ParseKey reads, with a final newline. It is what a key file holds.
func (k Key) Text() []byte {
	return append(base64.StdEncoding.AppendEncode(nil, k.b[:]), '\n')
}

// Derive returns n bytes that belong to the label (HKDF-SHA256). It panics on the zero Key, and when n is over 8160:
// both are a programmer's errors.
func (k Key) Derive(label string, n int) []byte {
	if !k.set {
		panic("mesh: Derive of the zero Key")
	}
	out, err := hkdf.Key(sha256.New, k.b[:], []byte("hostmesh"), label, n)
	if err != nil {
		panic("mesh: derive: " + err.Error())
	}
	return out
}

// String returns a placeholder.
func (k Key) String() string { return redacted }

// GoString returns a placeholder.
func (k Key) GoString() string { return redacted }

// Format writes a placeholder for every verb, %x and %d included.
func (k Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// LogValue returns a placeholder.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder, so that a dumped configuration never holds the secret.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
