package auth

import (
	"crypto/hmac"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// DirectoryLifetime is how long a session lives whose user this node's users file does not know.
const DirectoryLifetime = 24 * time.Hour

// maxToken bounds the tokens that are looked at.
const maxToken = 8 << 10

// kind says where a session's user is known.
type kind uint8

// fileUser is a user of the users file of the node where it logged in. Numbers are part of the token.
const fileUser kind = 1

// session is what a token says.
type session struct {
	kind   kind
	user   string
	groups []string
	addr   netip.Addr // of the client; the zero Addr for a client without one
	issued time.Time  // to the second
}

// payload is a session on the wire. Fields are only ever added.
type payload struct {
	Kind   kind     `cbor:"1,keyasint"`
	User   string   `cbor:"2,keyasint"`
	Groups []string `cbor:"3,keyasint,omitempty"`
	Addr   []byte   `cbor:"4,keyasint,omitempty"`
	Issued int64    `cbor:"5,keyasint"` // unix seconds
}

// A token is payload and HMAC-SHA256, each in base64url without padding, with a dot between: clients put tokens into
// paths without escaping them.
func (a *Auth) sign(s session) string {
	body, err := cbor.Marshal(payload{s.kind, s.user, s.groups, s.addr.AsSlice(), s.issued.Unix()})
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
	if err := cbor.Unmarshal(body, &p); err != nil || p.User == "" {
		return session{}, errToken
	}
	s := session{kind: p.Kind, user: p.User, groups: p.Groups, issued: time.Unix(p.Issued, 0)}
	if len(p.Addr) > 0 {
		if s.addr, ok = netip.AddrFromSlice(p.Addr); !ok {
			return session{}, errToken
		}
	}
	return s, nil
}
