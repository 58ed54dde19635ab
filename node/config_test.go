package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func writeText(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const fullYAML = `
# everything there is
name: box12.dc1.example.com
addr: 10.1.0.12
join: [10.1.0.11, 10.1.0.13]
key_file: /etc/hostmesh/mesh.key
data_dir: /srv/hostmesh
http: 127.0.0.1:7950
https: 10.1.0.12:7951
tls: {cert: /etc/hostmesh/tls.crt, key: /etc/hostmesh/tls.key, allow: [example.com, 203.0.113.0/24]}
dns: {listen: "10.1.0.12:53", domain: Mesh.Internal.}
libvirt: qemu:///system
labels: {datacenter: dc1, rack: 007}
duties: [lb, mysql]
auth: {users_file: /etc/hostmesh/users.yaml, ldap: {url: "ldaps://ldap.example.com", users_dn: "ou=people", groups_dn: "ou=groups"}}
observe: true
`

func fullConfig() Config {
	return Config{
		Name: "box12.dc1.example.com", Addr: "10.1.0.12", Join: []string{"10.1.0.11", "10.1.0.13"},
		KeyFile: "/etc/hostmesh/mesh.key", DataDir: "/srv/hostmesh", HTTP: "127.0.0.1:7950", HTTPS: "10.1.0.12:7951",
		TLS:     TLSConfig{Cert: "/etc/hostmesh/tls.crt", Key: "/etc/hostmesh/tls.key", Allow: []string{"example.com", "203.0.113.0/24"}},
		DNS:     DNSConfig{Listen: "10.1.0.12:53", Domain: "mesh.internal"},
		Libvirt: "qemu:///system", Labels: LabelsConfig{Datacenter: "dc1", Rack: "007"}, Duties: []string{"lb", "mysql"},
		Auth: AuthConfig{UsersFile: "/etc/hostmesh/users.yaml", LDAP: LDAPConfig{
			URL: "ldaps://ldap.example.com", UsersDN: "ou=people", GroupsDN: "ou=groups"}},
		VM:      VMConfig{Dir: "/var/lib/libvirt/images/hostmesh"},
		LB:      LBConfig{Enabled: true},
		Observe: true,
	}
}

var ignoreBuild = cmpopts.IgnoreFields(Config{}, "Build")

func TestLoadConfigFile(t *testing.T) {
	got, err := LoadConfig(writeText(t, filepath.Join(t.TempDir(), "agent.yaml"), fullYAML), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullConfig(), got, ignoreBuild); d != "" {
		t.Error(d)
	}
}

func TestLoadConfigPrecedence(t *testing.T) {
	file := writeText(t, filepath.Join(t.TempDir(), "agent.yaml"), "name: from-file\naddr: 10.0.0.1\ndata_dir: /file\nlabels: {rack: file}\n")
	environ := []string{"HOSTMESH_NAME=from-env", "HOSTMESH_ADDR=10.0.0.2", "PATH=/bin", "HOSTMESH_SOCKET=/x", "HOSTMESH_TEST_REQUIRE=all", "HOSTMESH_JOIN=a, b,"}
	got, err := LoadConfig(file, environ, map[string]string{"name": "from-flag", "observe": "true"})
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Name, want.Addr, want.DataDir, want.Labels.Rack, want.Observe = "from-flag", "10.0.0.2", "/file", "file", true
	want.Join = []string{"a", "b"}
	want.HTTP, want.HTTPS, want.DNS.Listen = "127.0.0.1:7950", "10.0.0.2:7951", "10.0.0.2:53"
	if d := cmp.Diff(want, got, ignoreBuild); d != "" {
		t.Error(d)
	}
}

func TestConfigAddresses(t *testing.T) {
	for _, c := range []struct {
		name             string
		flags            map[string]string
		http, https, dns string
	}{
		{"a box", map[string]string{"addr": "10.1.0.12"}, "127.0.0.1:7950", "10.1.0.12:7951", "10.1.0.12:53"},
		{"loopback", map[string]string{"addr": "127.0.0.12"}, "127.0.0.12:7950", "127.0.0.12:7951", "127.0.0.12:53"},
		{"dev", map[string]string{"dev": "true"}, "127.0.0.1:7950", "127.0.0.1:7951", "127.0.0.1:7953"},
		{"IPv6", map[string]string{"addr": "fd00::12"}, "127.0.0.1:7950", "[fd00::12]:7951", "[fd00::12]:53"},
		{"said", map[string]string{"addr": "10.1.0.12", "http": "127.0.0.1:80", "https": "none", "dns": "10.1.0.53:53"}, "127.0.0.1:80", "none", "10.1.0.53:53"},
		{"insecure", map[string]string{"addr": "10.1.0.12", "http": "10.1.0.12:80", "http-insecure": "true"}, "10.1.0.12:80", "10.1.0.12:7951", "10.1.0.12:53"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := LoadConfig("", nil, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got.HTTP != c.http || got.HTTPS != c.https || got.DNS.Listen != c.dns {
				t.Errorf("http %s, https %s, dns %s; want %s, %s, %s", got.HTTP, got.HTTPS, got.DNS.Listen, c.http, c.https, c.dns)
			}
		})
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	addr := map[string]string{"addr": "10.0.0.1"}
	with := func(k, v string) map[string]string { return map[string]string{"addr": "10.0.0.1", k: v} }
	for _, c := range []struct {
		name, yaml string
		environ    []string
		flags      map[string]string
		want       []string
	}{
		{"unknown key", "name: x\nkeyfile: y\n", nil, addr, []string{"line 2", "keyfile", "did you mean key_file?"}},
		{"unknown nested key", "dns:\n  listne: y\n", nil, addr, []string{"line 2", "dns.listne", "did you mean dns.listen?"}},
		{"nothing like it", "quux: y\n", nil, addr, []string{"line 1", "no such key: quux"}},
		{"a scalar for a mapping", "dns: 10.0.0.1:53\n", nil, addr, []string{"line 1", "dns: want a mapping"}},
		{"a list for a text", "name: [a]\n", nil, addr, []string{"line 1", "name: want a single value"}},
		{"twice", "name: a\nname: b\n", nil, addr, []string{"line 2", "name"}},
		{"bad switch", "observe: perhaps\n", nil, addr, []string{"line 1", "observe", "want true or false"}},
		{"no YAML", "name: [\n", nil, addr, []string{"agent.yaml"}},
		{"not a mapping", "- a\n", nil, addr, []string{"want a mapping"}},
		{"slip in the environment", "", []string{"HOSTMESH_DATADIR=x"}, addr, []string{"HOSTMESH_DATADIR", "did you mean HOSTMESH_DATA_DIR?"}},
		{"bad value in the environment", "", []string{"HOSTMESH_DEV=x"}, addr, []string{"HOSTMESH_DEV", "true or false"}},
		{"unknown flag", "", nil, with("nmae", "x"), []string{"--nmae"}},
		{"no address", "", nil, nil, []string{"addr", "--addr"}},
		{"an address with a port", "", nil, map[string]string{"addr": "10.0.0.1:7946"}, []string{"addr", "without a port"}},
		{"any address", "", nil, map[string]string{"addr": "0.0.0.0"}, []string{"addr 0.0.0.0"}},
		{"dev off loopback", "", nil, with("dev", "true"), []string{"--dev", "loopback"}},
		{"plain HTTP off loopback", "", nil, with("http", "10.0.0.1:80"), []string{"http 10.0.0.1:80", "http_insecure"}},
		{"plain HTTP everywhere", "", nil, with("http", "0.0.0.0:80"), []string{"http_insecure"}},
		{"http without a port", "", nil, with("http", "10.0.0.1"), []string{"http", "want IP:port"}},
		{"https by name", "", nil, with("https", "box:443"), []string{"https", "want IP:port"}},
		{"half a certificate", "", nil, with("tls-cert", "/x"), []string{"either both tls.cert and tls.key must be set, or neither"}},
		{"tls.allow", "", nil, with("tls-allow", "a b"), []string{"tls.allow", `"a b"`}},
		{"domain", "", nil, with("domain", "mesh internal"), []string{"dns.domain"}},
		{"duty", "", nil, with("duties", "lb,cook"), []string{"duties", `"cook"`, "lb, mysql, group"}},
		{"LDAP without url", "", nil, with("ldap-users-dn", "x"), []string{"auth.ldap.url"}},
		{"LDAP without users", "", nil, with("ldap-url", "ldaps://x"), []string{"auth.ldap.users_dn"}},
		{"LDAP over HTTP", "", nil, with("ldap-url", "http://x"), []string{"auth.ldap.url", "ldaps://"}},
		{"name", "", nil, with("name", "a/b"), []string{"name"}},
		{"no data directory", "", nil, with("data-dir", ""), []string{"data_dir", "--data-dir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeText(t, filepath.Join(t.TempDir(), "agent.yaml"), c.yaml)
			_, err := LoadConfig(file, c.environ, c.flags)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"), nil, addr); err == nil {
		t.Error("a file that is not there is no error")
	}
}

func TestWriteEffective(t *testing.T) {
	var first bytes.Buffer
	want := fullConfig()
	if err := want.WriteEffective(&first); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(writeText(t, filepath.Join(t.TempDir(), "agent.yaml"), first.String()), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, first.String())
	}
	if d := cmp.Diff(want, got, ignoreBuild); d != "" {
		t.Errorf("%s\nfrom\n%s", d, first.String())
	}
	var least bytes.Buffer
	if err := (Config{LB: LBConfig{Enabled: true}}).WriteEffective(&least); err != nil || least.String() != "{}\n" {
		t.Errorf("nothing set: %q, %v", least.String(), err)
	}
	// What is on unless it is turned off stays off.
	least.Reset()
	if err := (Config{}).WriteEffective(&least); err != nil || least.String() != "lb:\n    enabled: false\n" {
		t.Errorf("turned off: %q, %v", least.String(), err)
	}
}

// Every knob can be set by a flag, a variable and the file, and reaches the same field.
func TestKnobs(t *testing.T) {
	seen := map[string]string{}
	for _, k := range knobs() {
		for _, name := range []string{"flag " + k.Name, "variable " + k.Env(), "key " + k.Key} {
			if seen[name] != "" {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = k.Name
		}
		if (k.text != nil) == (k.list != nil) && (k.text != nil) == (k.on != nil) || k.Usage == "" {
			t.Errorf("%s: want one way to set it, and a usage", k.Name)
		}
		if (k.Value == "") != (k.on != nil) {
			t.Errorf("%s: a switch has no value, all others have one", k.Name)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	base := func() Config {
		c := DefaultConfig()
		c.Name, c.Addr, c.DataDir, c.Join = "box1", "127.0.0.1", filepath.Join(dir, "data"), []string{"127.0.0.2"}
		c.KeyFile = filepath.Join(dir, "mesh.key")
		return c
	}
	if _, err := makeKeyFile(base().KeyFile); err != nil {
		t.Fatal(err)
	}
	if err := base().Check(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	if _, err := os.Stat(base().DataDir); !os.IsNotExist(err) {
		t.Error("Check made the data directory")
	}
	for _, c := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"no key off loopback", func(c *Config) { c.KeyFile, c.Addr = "", "192.0.2.1" }, "hostmesh keygen"},
		{"no key to join with", func(c *Config) { c.KeyFile = "" }, "key_file"},
		{"key file missing", func(c *Config) { c.KeyFile = filepath.Join(dir, "none") }, "key_file"},
		{"address of another box", func(c *Config) { c.Addr = "192.0.2.1" }, "addr 192.0.2.1"},
		{"neither init nor join", func(c *Config) { c.Join = nil }, "hostmesh init"},
		{"users file missing", func(c *Config) { c.Auth.UsersFile = filepath.Join(dir, "users") }, "auth.users_file"},
		{"users file bad", func(c *Config) { c.Auth.UsersFile = writeText(t, filepath.Join(dir, "bad"), "alice: 3\n") }, "alice"},
		{"certificate missing", func(c *Config) { c.TLS.Cert, c.TLS.Key = filepath.Join(dir, "c"), filepath.Join(dir, "k") }, "tls.cert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := base()
			c.edit(&cfg)
			if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to name %q", err, c.want)
			}
		})
	}
}
