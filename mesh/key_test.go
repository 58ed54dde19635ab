package mesh

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyText(t *testing.T) {
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	text := string(k.Text())
	good := []string{text, strings.TrimSpace(text), "# the mesh key\n\n  " + text + "\r\n# end\n", strings.TrimRight(text, "=\n")}
	for _, s := range good {
		got, err := ParseKey([]byte(s))
		if err != nil || got != k {
			t.Errorf("ParseKey(%d bytes): %v", len(s), err)
		}
	}
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	bad := map[string]string{
		"":                         "it is empty",
		"# only a comment\n":       "it is empty",
		text + text:                "more than one line",
		"not base64!":              "not base64",
		short:                      "31 bytes, want 32",
		strings.Repeat("A", 43):    "all bytes are zero",
		strings.Repeat("x", 100e3): "not a mesh key",
	}
	for s, want := range bad {
		_, err := ParseKey([]byte(s))
		if !errors.Is(err, ErrBadKey) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseKey(%.20q...): %v, want %q", s, err, want)
		}
		if err != nil && len(s) > 20 && strings.Contains(err.Error(), s[:20]) {
			t.Errorf("error quotes the key: %v", err)
		}
	}
}

func TestKeyNeverShown(t *testing.T) {
	k, _ := NewKey()
	secret := strings.TrimSpace(string(k.Text()))
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("key", "key", k, "cfg", Config{Key: k}, "ptr", &k)
	js, _ := json.Marshal(map[string]any{"key": k, "cfg": struct{ K Key }{k}})
	b.Write(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&b, verb+" "+verb+" "+verb+"\n", k, &k, struct{ K Key }{k})
	}
	out := b.String()
	hex := fmt.Sprintf("%x", k.b[:])
	dec := strings.Trim(fmt.Sprint(k.b[:8]), "[]")
	for _, s := range []string{secret, secret[:12], hex[:16], strings.ToUpper(hex[:16]), dec} {
		if strings.Contains(out, s) {
			t.Fatalf("key is shown:\n%s", out)
		}
	}
}

func TestKeyDerive(t *testing.T) {
	a, _ := NewKey()
	b, _ := NewKey()
	seen := map[string]bool{}
	for _, k := range []Key{a, b} {
		for _, l := range []string{LabelGossip, LabelPeerCA, LabelWebCA, LabelSession, LabelSeal, LabelNetwork} {
			d := string(k.Derive(l, 32))
			if len(d) != 32 || seen[d] {
				t.Fatalf("label %q: wrong length or not its own", l)
			}
			seen[d] = true
			if d != string(k.Derive(l, 32)) {
				t.Fatal("not the same twice")
			}
		}
	}
	// The derivation is a contract between versions: all nodes of a mesh must agree.
	k, err := ParseKey([]byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", k.Derive(LabelGossip, 8)); got != goldenGossip {
		t.Errorf("derivation changed: %s", got)
	}
}

const goldenGossip = "9f50cc82c4e2ce15"

func TestLoadKeyFile(t *testing.T) {
	k, _ := NewKey()
	path := filepath.Join(t.TempDir(), "mesh.key")
	if _, err := LoadKeyFile(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "hostmesh keygen") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, k.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadKeyFile(path); err != nil || got != k {
		t.Fatalf("LoadKeyFile: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o610, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyFile(path)
		if !errors.Is(err, ErrKeyFileMode) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyFile(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	if _, err := LoadKeyFile(filepath.Dir(path)); err == nil {
		t.Error("a directory is no key file")
	}
	os.Chmod(path, 0o600)
	os.WriteFile(path, bytes.Repeat([]byte("#\n"), 4000), 0o600)
	if _, err := LoadKeyFile(path); !errors.Is(err, ErrBadKey) {
		t.Errorf("large file: %v", err)
	}
}
