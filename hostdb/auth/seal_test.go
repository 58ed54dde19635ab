package auth

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sealer(t testing.TB, key string) *Sealer {
	t.Helper()
	s, err := NewSealer([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	sealKey  = "abcdefghijklmnopqrstuvwxyz012345"
	otherKey = "Abcdefghijklmnopqrstuvwxyz012345"
)

func TestSeal(t *testing.T) {
	if _, err := NewSealer([]byte(sealKey[1:])); err == nil {
		t.Error("a short key is taken")
	}
	s, other := sealer(t, sealKey), sealer(t, otherKey)
	rapid.Check(t, func(rt *rapid.T) {
		name, secret := rapid.String().Draw(rt, "name"), rapid.SliceOf(rapid.Byte()).Draw(rt, "secret")
		text := s.Seal(name, secret)
		if got, err := s.Open(name, text); err != nil || !bytes.Equal(got, secret) {
			rt.Fatalf("Open gives %q, %v", got, err)
		}
		if text != sealer(t, sealKey).Seal(name, secret) {
			rt.Error("the same secret gives another text")
		}
		if len(secret) >= 8 && strings.Contains(text, string(secret)) {
			rt.Error("the secret can be read")
		}
		if text == s.Seal(name+"x", secret) || text == s.Seal(name, append(secret, 0)) {
			rt.Error("two secrets give one text")
		}
		for what, open := range map[string]func() ([]byte, error){
			"another name": func() ([]byte, error) { return s.Open(name+"x", text) },
			"another key":  func() ([]byte, error) { return other.Open(name, text) },
			"cut off":      func() ([]byte, error) { return s.Open(name, text[:len(text)-1]) },
			"no version":   func() ([]byte, error) { return s.Open(name, text[len(sealVersion):]) },
			"changed": func() ([]byte, error) {
				i := rapid.IntRange(0, len(text)-1).Draw(rt, "at")
				c := byte('A')
				if text[i] == c {
					c = 'B'
				}
				return s.Open(name, text[:i]+string(c)+text[i+1:])
			},
		} {
			if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
				rt.Errorf("%s: it opens to %q, %v", what, got, err)
			}
		}
	})
}

// FuzzSealed: whatever stands in a record, it is a user or an error, and never a crash.
func FuzzSealed(f *testing.F) {
	s := sealer(f, sealKey)
	h, err := parsePassword(md5Secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", []byte{})
	f.Add("1.AAAA", []byte{0xa0})
	f.Add(s.Seal("n", nil), encodeRecord(user{password: h, groups: []string{"ops"}}))
	f.Fuzz(func(t *testing.T, text string, secret []byte) {
		if got, err := s.Open("another name than that of any seed", text); err == nil {
			t.Errorf("%q opens to %q", text, got)
		}
		u, err := decodeRecord(secret)
		if err != nil {
			return
		}
		again, err := decodeRecord(encodeRecord(u))
		if err != nil || !again.equal(u) {
			t.Errorf("%x is %+v, and written again %+v, %v", secret, u, again, err)
		}
	})
}
