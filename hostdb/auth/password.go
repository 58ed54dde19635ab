package auth

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash: OWASP's second choice for argon2id. RFC 9106 would take 64 MiB, which is most of what an agent
// may use.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	saltSize     = 16
	hashSize     = 32
)

// The most that a hash of a users file may cost: a wrong digit must not stop the agent.
const (
	maxArgonMemory  = 256 << 10 // KiB
	maxArgonTime    = 64
	maxArgonThreads = 64
)

// passwordHash is what is kept of a password: argon2id, or the md5 of upstream's files.
type passwordHash struct {
	md5          string // 32 lower-case hexadecimal digits; "" for argon2id
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

// HashPassword makes what a users file keeps of a password: argon2id in PHC form, with a random salt.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errors.New("hash password: it is empty")
	}
	h, err := newPasswordHash(password)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return h.String(), nil
}

func newPasswordHash(password string) (passwordHash, error) {
	h := passwordHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, saltSize)}
	if _, err := rand.Read(h.salt); err != nil {
		return passwordHash{}, err
	}
	h.sum = h.derive(password, hashSize)
	return h, nil
}

func (h passwordHash) derive(password string, size int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(size))
}

// verify reports whether password is the one that was hashed. An empty password never is.
func (h passwordHash) verify(password string) bool {
	if password == "" {
		return false
	}
	if h.md5 != "" {
		sum := md5.Sum([]byte(password))
		return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(h.md5)) == 1
	}
	return subtle.ConstantTimeCompare(h.derive(password, len(h.sum)), h.sum) == 1
}

// String is h as a users file keeps it.
func (h passwordHash) String() string {
	if h.md5 != "" {
		return h.md5
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

const phcForm = "$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH"

// parsePassword reads what String writes. Errors never quote the text.
func parsePassword(text string) (passwordHash, error) {
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == md5.Size {
		return passwordHash{md5: strings.ToLower(text)}, nil
	}
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return passwordHash{}, errors.New("expected " + phcForm + ", or an md5 in hexadecimal")
	}
	var h passwordHash
	var version int
	if n, err := fmt.Sscanf(parts[2], "v=%d", &version); n != 1 || err != nil || version != argon2.Version {
		return passwordHash{}, fmt.Errorf("argon2id version must be v=%d", argon2.Version)
	}
	var threads uint32
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &threads); n != 3 || err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.time, threads) {
		return passwordHash{}, errors.New("argon2id cost must have the form m=19456,t=2,p=1")
	}
	if h.time < 1 || h.time > maxArgonTime || threads < 1 || threads > maxArgonThreads ||
		h.memory < 8*threads || h.memory > maxArgonMemory {
		return passwordHash{}, fmt.Errorf("argon2id cost out of bounds: m 8 to %d KiB and at least 8 times p, t 1 to %d, p 1 to %d",
			maxArgonMemory, maxArgonTime, maxArgonThreads)
	}
	h.threads = uint8(threads)
	var err error
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return passwordHash{}, errors.New("argon2id salt must be 8 to 64 bytes in base64 without padding")
	}
	if h.sum, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(h.sum) < 16 || len(h.sum) > 64 {
		return passwordHash{}, errors.New("argon2id hash must be 16 to 64 bytes in base64 without padding")
	}
	return h, nil
}
