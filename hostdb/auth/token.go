package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// DirectoryLifetime is how long a session lives whose user hostmesh itself does not know: nobody tells it when a
// directory removes somebody.
const DirectoryLifetime = 24 * time.Hour

// maxToken bounds the tokens that are made and looked at.
const maxToken = 16 << 10

// kind says where a session's user is known.
type kind uint8

// The kinds. Numbers are part of the token.
const (
	localUser     kind = 1 // of HostDB, or of the users file of the node where it logged in
	directoryUser kind = 2
)

// session is what a token says.
type session struct {
	kind   kind
	user   string
	groups []string
	addr   netip.Addr // of the client; the zero Addr for a client without one
	issued time.Time  // to the second
	// password tells with which password a localUser logged in; see passwordTag.
	password []byte
}

// payload is a session on the wire. Fields are only ever added.
type payload struct {
	Kind   kind     `cbor:"1,keyasint"`
	User   string   `cbor:"2,keyasint"`
	Groups []string `cbor:"3,keyasint,omitempty"`
	Addr   []byte   `cbor:"4,keyasint,omitempty"`
	Issued int64    `cbor:"5,keyasint"` // unix seconds
	Tag    []byte   `cbor:"6,keyasint,omitempty"`
}

// A token is payload and HMAC-SHA256, each in base64url without padding, with a dot between: clients put tokens into
// paths without escaping them.
func (a *Auth) sign(s session) string {
	body, err := cbor.Marshal(payload{s.kind, s.user, s.groups, s.addr.AsSlice(), s.issued.Unix(), s.password})
	if err != nil {
		panic("auth: encode session: " + err.Error()) // no value of these types can fail
	}
	return encode(body) + "." + encode(a.mac(body))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// parse reads what sign wrote, on any node with the same key. Nothing of a token is looked at before its signature.
func (a *Auth) parse(token string) (session, error) {
	left, right, ok := strings.Cut(token, ".")
	if !ok || len(token) > maxToken {
		return session{}, errToken
	}
	b64 := base64.RawURLEncoding.Strict()
	body, err := b64.DecodeString(left)
	if err != nil {
		return session{}, errToken
	}
	mac, err := b64.DecodeString(right)
	if err != nil || !hmac.Equal(mac, a.mac(body)) {
		return session{}, errToken
	}
	var p payload
	if err := cbor.Unmarshal(body, &p); err != nil || p.User == "" || p.Kind != localUser && p.Kind != directoryUser {
		return session{}, errToken
	}
	s := session{kind: p.Kind, user: p.User, groups: p.Groups, issued: time.Unix(p.Issued, 0), password: p.Tag}
	if len(p.Addr) > 0 {
		if s.addr, ok = netip.AddrFromSlice(p.Addr); !ok {
			return session{}, errToken
		}
	}
	return s, nil
}

// passwordTagSize is enough to tell two passwords of one user apart.
const passwordTagSize = 8

// passwordTag tells the sessions that were made with u's password from those made with an earlier one. It is the same on
// every node and reveals nothing of the hash.
func (a *Auth) passwordTag(u user) []byte {
	if len(u.sessions) > 0 {
		return u.sessions
	}
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte("hostmesh password tag\x00"))
	h.Write([]byte(u.password.String()))
	return h.Sum(nil)[:passwordTagSize]
}

func (a *Auth) isPasswordTag(u user, tag []byte) bool { return hmac.Equal(a.passwordTag(u), tag) }

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
