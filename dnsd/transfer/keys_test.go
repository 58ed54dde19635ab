package transfer

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

func TestKeys(t *testing.T) {
	s := newSource(t, "{}")
	req := hostdb.Request{User: "test", Log: "test"}
	k, _, err := s.keys.Add(t.Context(), req, "Xfer.Example.COM", "", "", false)
	if err != nil || k.Name != "xfer.example.com" || k.Algorithm != "hmac-sha256" {
		t.Fatalf("%+v, %v", k, err)
	}
	if raw, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || len(raw) != 32 {
		t.Errorf("the secret has %d bytes, %v", len(raw), err)
	}
	if strings.Contains(s.store.View().Data(hostdb.System, "tsig.xfer.example.com").YAML(), k.Secret) {
		t.Error("HostDB has the secret in clear")
	}
	if _, _, err := s.keys.Add(t.Context(), req, "xfer.example.com", "", "", false); !errors.Is(err, hostdb.ErrExists) {
		t.Errorf("a key that is there is replaced: %v", err)
	}
	own := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	if n, _, err := s.keys.Add(t.Context(), req, "xfer.example.com", "HMAC-SHA512.", own, true); err != nil || n.Secret != own || n.Algorithm != "hmac-sha512" {
		t.Errorf("%+v, %v", n, err)
	}
	if f := s.keys.find("xfer.example.com."); f == nil || f.algorithm != "hmac-sha512" {
		t.Errorf("%+v is found after it was replaced", f)
	}
	// Another mesh key opens nothing.
	sealer, err := auth.NewSealer([]byte(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	other := NewKeys(s.store, sealer)
	if other.find("xfer.example.com.") != nil {
		t.Error("a key is opened with another mesh key")
	}
	if list := other.List(); len(list) != 1 || !list[0].Broken {
		t.Errorf("%+v", list)
	}
	if list := s.keys.List(); len(list) != 1 || list[0].Broken || list[0].Name != "xfer.example.com" || list[0].Algorithm != "hmac-sha512" {
		t.Errorf("%+v", list)
	}
	if _, err := s.keys.Remove(t.Context(), req, "XFER.example.com"); err != nil {
		t.Error(err)
	}
	if _, err := s.keys.Remove(t.Context(), req, "xfer.example.com"); !errors.Is(err, hostdb.ErrNotFound) {
		t.Error(err)
	}
	if s.keys.find("xfer.example.com.") != nil {
		t.Error("a key that was removed is found")
	}
}

func TestBadKeys(t *testing.T) {
	s := newSource(t, "{}")
	secret := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	for _, c := range []struct{ name, algorithm, secret, want string }{
		{"", "", "", "label that is empty"},
		{"a..b", "", "", "label that is empty"},
		{"a b", "", "", "has ' '"},
		{"-x", "", "", "begins with a hyphen"},
		{strings.Repeat("a", 64), "", "", "longer than 63"},
		{"x", "hmac-md5", "", "expected hmac-sha1, hmac-sha224, hmac-sha256"},
		{"x", "", "???", "base64"},
		{"x", "", "c2hvcnQ=", "5 bytes"},
	} {
		_, _, err := s.keys.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, c.name, c.algorithm, c.secret, false)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.secret != "" && strings.Contains(err.Error(), c.secret) {
			t.Errorf("%q %q: %v", c.name, c.algorithm, err)
		}
	}
	none := NewKeys(s.store, nil)
	if _, _, err := none.Add(t.Context(), hostdb.Request{User: "test", Log: "test"}, "x", "", secret, false); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Error(err)
	}
}

func lists(list ...string) [][]netip.Prefix { return [][]netip.Prefix{prefixes(list...)} }

// A policy that cannot be read opens nothing.
func TestPolicyFailsClosed(t *testing.T) {
	for text, want := range map[string]policy{
		"{}":                                   {},
		"{Allow: [10.0.0.53], Key: 'a/b'}":     {allow: lists("10.0.0.53/32"), key: "a/b."},
		"{Allow: [10.0.0.53], Key: {a: b}}":    {},
		"{Allow: [nonsense, 10.0.0.53]}":       {allow: lists("10.0.0.53/32")},
		"{Allow: 10.0.0.0/8}":                  {allow: lists("10.0.0.0/8")},
		"{Allow: [10.0.0.53], Key: ''}":        {allow: lists("10.0.0.53/32")},
		"[10.0.0.53]":                          {},
		"{Notify: [10.0.0.53], Allow: {a: b}}": {},
	} {
		doc, err := hostdb.ParseDocument([]byte("DNS: {Zone: x.test, Transfer: " + text + "}"))
		if err != nil {
			t.Fatal(err)
		}
		got := readPolicy(doc)
		if len(got.allow) != len(want.allow) || got.key != want.key || len(got.allow) > 0 && !slices.Equal(got.allow[0], want.allow[0]) {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
