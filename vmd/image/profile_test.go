package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProfile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := LoadProfile(dir, ""); err != nil || p.User != "" {
		t.Errorf("without a default profile: %+v, %v", p, err)
	}
	write("shop.yaml", "User: ops\nKeys: {a: ssh-rsa AAAA}\nCommands: {1: echo}\n", 0o644)
	if p, err := LoadProfile(dir, "shop"); err != nil || p.User != "ops" || p.Keys["a"] != "ssh-rsa AAAA" || p.Commands["1"] != "echo" {
		t.Errorf("got %+v, %v", p, err)
	}
	write("default.yaml", "", 0o600)
	if _, err := LoadProfile(dir, ""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	write("open.yaml", "User: ops\n", 0o666)
	write("odd.yaml", "Password: hunter2\n", 0o600)
	write("list.yaml", "[hunter2]\n", 0o600)
	write("large.yaml", "#"+strings.Repeat("x", maxProfile), 0o600)
	if err := os.Mkdir(filepath.Join(dir, "dir.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("theirs.yaml", "User: ops\n", 0o644)
	foreign := os.Chown(filepath.Join(dir, "theirs.yaml"), 12345, 12345) == nil // root alone may
	for name, want := range map[string]string{
		"none": "this box has no", "open": "chmod go-w", "odd": "User, Keys and Commands", "list": "User, Keys and Commands",
		"large": "expected at most", "dir": "not a regular file", "../shop": "plain name", ".shop": "plain name", "theirs": "chown it to root",
	} {
		if name == "theirs" && !foreign {
			continue
		}
		_, err := LoadProfile(dir, name)
		if !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}
