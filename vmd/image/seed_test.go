package image

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
	"go.yaml.in/yaml/v4"

	"hostmesh/hostdb/section"
)

const seedUUID = "0acfbcca-161e-427c-8423-ef788bb47f00"

func fullSeed() SeedSpec {
	return SeedSpec{
		Hostname: "web7", FQDN: "web7.dc1.example.com", UUID: seedUUID, User: "admin",
		Keys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE ops@example.com", `restrict,command="echo: 'a' # b" ssh-rsa AAAA x`},
		Network: SeedNetwork{
			MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, Addr: netip.MustParsePrefix("10.1.2.3/20"), Gateway: netip.MustParseAddr("10.1.0.1"),
			DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("2001:db8::53")}, Search: []string{"dc1.example.com"},
		},
		Commands: []string{"echo \"it's: #1\" > /root/a; true\n", "- rm: {x: y}\nssh_pwauth: true\n", "\t tab"},
	}
}

// readISO is what the library reads back.
func readISO(t *testing.T, iso []byte) map[string]string {
	t.Helper()
	img, err := iso9660.OpenImage(bytes.NewReader(iso))
	if err != nil {
		t.Fatal(err)
	}
	root, err := img.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	list, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range list {
		b, err := io.ReadAll(f.Reader())
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name()] = string(b)
	}
	return out
}

func TestSeed(t *testing.T) {
	spec := fullSeed()
	iso, err := Seed(spec)
	if err != nil {
		t.Fatal(err)
	}
	files := readISO(t, iso)
	if len(files) != 3 {
		t.Fatalf("it has %v", files)
	}
	var meta map[string]string
	if err := yaml.Unmarshal([]byte(files["meta-data"]), &meta); err != nil || meta["instance-id"] != seedUUID || meta["local-hostname"] != "web7" {
		t.Errorf("meta-data is %v, %v", meta, err)
	}
	if !strings.HasPrefix(files["user-data"], "#cloud-config\n") {
		t.Errorf("user-data begins as %.20q", files["user-data"])
	}
	var user struct {
		Hostname, FQDN string
		RunCmd         []string `yaml:"runcmd"`
		Users          []any
	}
	if err := yaml.Unmarshal([]byte(files["user-data"]), &user); err != nil {
		t.Fatal(err)
	}
	if user.Hostname != "web7" || user.FQDN != "web7.dc1.example.com" || !slices.Equal(user.RunCmd, spec.Commands) || len(user.Users) != 2 {
		t.Errorf("user-data is %+v", user)
	}
	var top map[string]any
	if err := yaml.Unmarshal([]byte(files["user-data"]), &top); err != nil {
		t.Fatal(err)
	}
	for key := range top {
		if !slices.Contains([]string{"hostname", "fqdn", "manage_etc_hosts", "users", "runcmd"}, key) {
			t.Errorf("a command became the key %s", key)
		}
	}
	admin, _ := user.Users[1].(map[string]any)
	if keys, _ := admin["ssh_authorized_keys"].([]any); admin["name"] != "admin" || len(keys) != 2 || keys[1] != spec.Keys[1] || admin["lock_passwd"] != true {
		t.Errorf("the user is %v", admin)
	}
	var net struct {
		Version   int
		Ethernets map[string]struct {
			Match       map[string]string
			SetName     string `yaml:"set-name"`
			DHCP4       bool
			Addresses   []string
			Routes      []map[string]any
			Nameservers map[string][]string
		}
	}
	if err := yaml.Unmarshal([]byte(files["network-config"]), &net); err != nil {
		t.Fatal(err)
	}
	e := net.Ethernets["eth0"] // a file for networkd or ifupdown bears this name, and it must be the interface's
	if net.Version != 2 || e.SetName != "eth0" || e.Match["macaddress"] != "52:54:00:01:02:03" || e.DHCP4 || !slices.Equal(e.Addresses, []string{"10.1.2.3/20"}) ||
		e.Routes[0]["via"] != "10.1.0.1" || e.Routes[0]["to"] != "0.0.0.0/0" || !slices.Equal(e.Nameservers["addresses"], []string{"10.1.0.53", "2001:db8::53"}) ||
		!slices.Equal(e.Nameservers["search"], []string{"dc1.example.com"}) {
		t.Errorf("network-config is %s", files["network-config"])
	}
	again, err := Seed(fullSeed())
	if err != nil || !bytes.Equal(again, iso) {
		t.Errorf("the same spec gives other bytes (%v)", err)
	}
}

// TestSeedAsOthersReadIt asks isoinfo, which is how udev and mount see the label and the names.
func TestSeedAsOthersReadIt(t *testing.T) {
	spec := fullSeed()
	spec.Commands = append(spec.Commands, strings.Repeat("echo a long command\n", 3000))
	iso, err := Seed(spec)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(name, iso, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.Command("isoinfo", append([]string{"-i", name}, args...)...).Output()
		if err != nil {
			t.Fatalf("isoinfo %v: %v", args, err)
		}
		return string(out)
	}
	if d := run("-d"); !strings.Contains(d, "Volume id: cidata\n") {
		t.Errorf("isoinfo says\n%s", d)
	}
	list := run("-f")
	for _, want := range []string{"/meta-data;1", "/user-data;1", "/network-config;1"} {
		if !strings.Contains(list, want+"\n") {
			t.Errorf("%s is not in\n%s", want, list)
		}
	}
	if text := run("-x", "/user-data;1"); text != readISO(t, iso)["user-data"] || !strings.Contains(text, "a long command") {
		t.Errorf("isoinfo reads user-data as %d bytes", len(text))
	}
}

func TestSeedWithLittle(t *testing.T) {
	iso, err := Seed(SeedSpec{Hostname: "a", UUID: seedUUID, Keys: []string{"ssh-rsa AAAA"}})
	if err != nil {
		t.Fatal(err)
	}
	files := readISO(t, iso)
	if _, has := files["network-config"]; has || !strings.Contains(files["user-data"], "\nssh_authorized_keys:") || !strings.Contains(files["user-data"], "fqdn: a\n") {
		t.Errorf("it has %v", files)
	}
	iso, err = Seed(SeedSpec{Hostname: "a", UUID: seedUUID, Network: SeedNetwork{MAC: net.HardwareAddr{0x52, 0, 0, 0, 0, 1}}})
	if err != nil || !strings.Contains(readISO(t, iso)["network-config"], "dhcp4: true") {
		t.Errorf("without an address: %v, %v", readISO(t, iso), err)
	}
	v6 := SeedNetwork{MAC: net.HardwareAddr{0x52, 0, 0, 0, 0, 1}, Addr: netip.MustParsePrefix("2001:db8::7/64"), Gateway: netip.MustParseAddr("fe80::1")}
	iso, err = Seed(SeedSpec{Hostname: "a", UUID: seedUUID, Network: v6})
	if text := readISO(t, iso)["network-config"]; err != nil || !strings.Contains(text, "::/0") || !strings.Contains(text, "on-link: true") {
		t.Errorf("with IPv6: %s, %v", text, err)
	}
}

func TestSeedRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *SeedSpec)
		want   string
	}{
		{"line in the host name", func(s *SeedSpec) { s.Hostname = "a\nruncmd: [rm]" }, "host name"},
		{"no host name", func(s *SeedSpec) { s.Hostname = "" }, "host name"},
		{"long label", func(s *SeedSpec) { s.FQDN = strings.Repeat("a", 64) + ".example.com" }, "full name"},
		{"UUID", func(s *SeedSpec) { s.UUID = "1" }, "UUID"},
		{"user", func(s *SeedSpec) { s.User = "root: x" }, "user"},
		{"private key", func(s *SeedSpec) { s.Keys = []string{"-----BEGIN OPENSSH PRIVATE KEY-----"} }, "key 1: it is a private key"},
		{"two lines of keys", func(s *SeedSpec) { s.Keys = []string{"ssh-rsa AAAA a", "ssh-rsa AAAA\nssh-rsa BBBB"} }, "key 2"},
		{"one word", func(s *SeedSpec) { s.Keys = []string{"AAAA"} }, "key 1"},
		{"command with a zero", func(s *SeedSpec) { s.Commands = []string{"a\x00b"} }, "command 1"},
		{"address without MAC", func(s *SeedSpec) { s.Network.MAC = nil }, "MAC, which is missing"},
		{"gateway of another family", func(s *SeedSpec) { s.Network.Gateway = netip.MustParseAddr("fe80::1") }, "family"},
		{"search", func(s *SeedSpec) { s.Network.Search = []string{"a b"} }, "search domain"},
	} {
		s := fullSeed()
		c.change(&s)
		_, err := Seed(s)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSeedOfAGuest(t *testing.T) {
	var s SeedSpec
	s.Tell(nil)
	s.Tell(&section.Guest{Resolvers: []netip.Addr{netip.MustParseAddr("10.1.0.53")}, Search: []string{"example.com"}})
	Profile{User: "ops", Keys: map[string]string{"b": "ssh-rsa B", "a": "ssh-rsa A"}, Commands: map[string]string{"2": "two", "1": "one"}}.Add(&s)
	if s.User != "ops" || !slices.Equal(s.Keys, []string{"ssh-rsa A", "ssh-rsa B"}) || !slices.Equal(s.Commands, []string{"one", "two"}) ||
		len(s.Network.DNS) != 1 || len(s.Network.Search) != 1 {
		t.Errorf("it is told %+v", s)
	}
}
