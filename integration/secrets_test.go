package integration

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

// secrets are the texts that must be nowhere, by what they are.
func (s *site) secrets() map[string]string {
	s.t.Helper()
	key := strings.TrimSpace(readFile(s.t, s.keyFile))
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		s.t.Fatalf("%s: %v, %d bytes", s.keyFile, err, len(raw))
	}
	out := map[string]string{
		"the mesh key":                  strings.TrimRight(key, "="),
		"the mesh key, as bytes":        string(raw),
		"the mesh key, in hexadecimal":  hex.EncodeToString(raw),
		"the mesh key, as decimal list": strings.Trim(fmt.Sprint(raw), "[]"),
		"the password":                  s.password,
		"the hash of the password":      strings.Split(readFile(s.t, s.users), "'")[1],
	}
	if s.token != "" {
		out["a session token"] = s.token
	}
	return out
}

// TestSecretsStayIn: with everything logged, and after refusals of all kinds, no secret is where people look.
func TestSecretsStayIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.start()
	b := s.boxes[0]
	shown := map[string]string{}
	post := func(name, method, path string, form url.Values) {
		t.Helper()
		status, text, err := b.do(method, path, form)
		if err != nil {
			t.Fatal(err)
		}
		shown["answer to "+name] = fmt.Sprint(status, " ", text)
	}
	b.mustPut("hosts/a", "Owner: me\n")
	wrong := s.password + "x"
	post("a wrong password", http.MethodPost, "/v1/auth/session", url.Values{"username": {"ann"}, "password": {wrong}})
	post("a wrong user", http.MethodPost, "/v1/auth/session", url.Values{"username": {"nobody"}, "password": {s.password}})
	post("a damaged token", http.MethodPut, "/v1/hosts/a", url.Values{"value": {"x: y"}, "log": {"l"}, "session": {s.token + "x"}})
	post("no log", http.MethodPut, "/v1/hosts/a", url.Values{"value": {"x: y"}, "session": {s.token}})
	post("no right", http.MethodPut, "/v1/nowhere/a", url.Values{"value": {"x: y"}, "log": {"l"}, "session": {s.token}})
	post("bad YAML", http.MethodPut, "/v1/hosts/a", url.Values{"value": {"x: [y"}, "log": {"l"}, "session": {s.token}})
	post("a token in a query", http.MethodDelete, "/v1/hosts/nothing?log=l&session="+s.token, nil)
	post("a token to the wrong place", http.MethodPost, "/api/v1/import?session="+s.token, url.Values{"session": {s.token}})
	post("a path that is none", http.MethodGet, "/nothing/"+s.token[:3], nil)
	for _, path := range []string{"/metrics", "/api/v1/status", "/api/v1/members", "/api/v1/digest", "/openapi.json", "/v1", "/v1/hosts/a", "/healthz", "/readyz"} {
		post(path, http.MethodGet, path, nil)
	}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}, {"members", "-o", "json"}, {"version"}, {"db", "get", ".system"}, {"db", "get", ".system/users"}} {
		out, errs, _ := b.hostmesh(args...)
		shown[strings.Join(args, " ")] = out + errs
	}
	for _, b := range s.boxes {
		for _, file := range []string{"cmdline", "environ", "comm"} {
			shown[b.name+"'s "+file] = readFile(t, fmt.Sprintf("/proc/%d/%s", b.cmd.Process.Pid, file))
		}
		b.stop()
		shown[b.name+"'s log"] = b.log()
	}
	secrets := s.secrets()
	secrets["the wrong password"] = wrong
	for where, text := range shown {
		if strings.HasSuffix(where, "metrics") && !strings.Contains(text, "hostmesh") {
			t.Errorf("%s has no metric of ours: this tests nothing", where)
		}
		for name, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s", where, name)
			}
		}
	}

	// On disk the key is where it was put, and nowhere else; what is there is for its owner only.
	for _, b := range s.boxes {
		entries, err := os.ReadDir(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && e.Name() != "web-ca.crt" {
				t.Errorf("%s of %s can be read by others: %s", e.Name(), b.name, info.Mode())
			}
			if info.Mode().IsRegular() {
				text := readFile(t, b.dir+"/"+e.Name())
				for name, secret := range secrets {
					if strings.Contains(text, secret) {
						t.Errorf("%s of %s holds %s", e.Name(), b.name, name)
					}
				}
			}
		}
	}
}
