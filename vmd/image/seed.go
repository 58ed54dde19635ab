package image

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"hostmesh/hostdb/section"
)

// SeedLabel is the volume label by which cloud-init's NoCloud finds its data.
const SeedLabel = "cidata"

// Bounds of what a seed carries.
const (
	maxKeys     = 1000
	maxKey      = 16 << 10 // bytes: an RSA key of 16384 bits has a quarter of it
	maxCommands = 1000
	maxCommand  = 64 << 10
)

// SeedSpec is what a guest is told at its first boot.
type SeedSpec struct {
	Hostname string // the first label, mostly
	FQDN     string // full name; "" = Hostname
	// UUID is the instance id: a guest that sees another one configures itself anew.
	UUID string
	// User gets Keys; "" = the image's own default user.
	User string
	// Keys are public keys in the form of authorized_keys, one each.
	Keys    []string
	Network SeedNetwork
	// Commands are run by a shell as root at the first boot, in this order.
	Commands []string
}

// SeedNetwork is the static configuration of the guest's one interface. Without MAC the guest is left to find out.
type SeedNetwork struct {
	MAC     net.HardwareAddr
	Addr    netip.Prefix // address and length of its network; invalid = DHCP
	Gateway netip.Addr   // invalid = none
	DNS     []netip.Addr
	Search  []string
}

// Tell adds what the tags of a machine say of guests, but for the profile, which is Profile's. nil says nothing.
func (s *SeedSpec) Tell(g *section.Guest) {
	if g == nil {
		return
	}
	s.Network.DNS = append(s.Network.DNS, g.Resolvers...)
	s.Network.Search = append(s.Network.Search, g.Search...)
}

type userData struct {
	Hostname       string   `yaml:"hostname"`
	FQDN           string   `yaml:"fqdn"`
	ManageEtcHosts bool     `yaml:"manage_etc_hosts"`
	Users          []any    `yaml:"users,omitempty"`
	Keys           []string `yaml:"ssh_authorized_keys,omitempty"`
	RunCmd         []string `yaml:"runcmd,omitempty"`
}

type seedUser struct {
	Name  string   `yaml:"name"`
	Sudo  string   `yaml:"sudo"`
	Shell string   `yaml:"shell"`
	Lock  bool     `yaml:"lock_passwd"`
	Keys  []string `yaml:"ssh_authorized_keys,omitempty"`
}

type metaData struct {
	InstanceID string `yaml:"instance-id"`
	Hostname   string `yaml:"local-hostname"`
}

type networkConfig struct {
	Version   int                     `yaml:"version"`
	Ethernets map[string]seedEthernet `yaml:"ethernets"`
}

type seedEthernet struct {
	Match       map[string]string `yaml:"match"`
	SetName     string            `yaml:"set-name"`
	DHCP4       bool              `yaml:"dhcp4"`
	DHCP6       bool              `yaml:"dhcp6"`
	Addresses   []string          `yaml:"addresses,omitempty"`
	Routes      []seedRoute       `yaml:"routes,omitempty"`
	Nameservers *seedNameservers  `yaml:"nameservers,omitempty"`
}

type seedRoute struct {
	To     string `yaml:"to"`
	Via    string `yaml:"via"`
	OnLink bool   `yaml:"on-link,omitempty"`
}

type seedNameservers struct {
	Addresses []string `yaml:"addresses,omitempty"`
	Search    []string `yaml:"search,omitempty"`
}

// Seed is an ISO 9660 image with which cloud-init's NoCloud configures a guest: meta-data, user-data and network-config.
// The same spec gives the same bytes.
func Seed(s SeedSpec) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("seed of %s: %w", clip(s.Hostname), err)
	}
	files, err := s.files()
	if err != nil {
		return nil, fmt.Errorf("seed of %s: %w", clip(s.Hostname), err)
	}
	iso, err := writeISO(SeedLabel, files)
	if err != nil {
		return nil, fmt.Errorf("seed of %s: %w", clip(s.Hostname), err)
	}
	return iso, nil
}

func (s SeedSpec) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkHostname(s.Hostname); err != nil {
		bad("host name %w", err)
	}
	if s.FQDN != "" {
		if err := checkHostname(s.FQDN); err != nil {
			bad("full name %w", err)
		}
	}
	if !isUUID(s.UUID) {
		bad("UUID %q: want one in lower case", clip(s.UUID))
	}
	if s.User != "" && !CheckUser(s.User) {
		bad("user %q: want a lower-case letter or underscore, then letters, digits, dashes and underscores, at most 32", clip(s.User))
	}
	if len(s.Keys) > maxKeys || len(s.Commands) > maxCommands {
		bad("it has %d keys and %d commands; a seed takes %d and %d", len(s.Keys), len(s.Commands), maxKeys, maxCommands)
	}
	for n, k := range s.Keys {
		if err := CheckKey(k); err != nil {
			bad("key %d: %w", n+1, err)
		}
	}
	for n, c := range s.Commands {
		if len(c) > maxCommand || !utf8.ValidString(c) || strings.ContainsRune(c, 0) {
			bad("command %d: want a text of at most %d bytes", n+1, maxCommand)
		}
	}
	n := s.Network
	if len(n.MAC) != 0 && len(n.MAC) != 6 {
		bad("MAC %s: want six bytes", n.MAC)
	}
	if n.Addr.IsValid() && len(n.MAC) == 0 {
		bad("address %s: the interface is found by its MAC, which is missing", n.Addr)
	}
	if n.Gateway.IsValid() && n.Addr.IsValid() && n.Gateway.Is4() != n.Addr.Addr().Is4() {
		bad("gateway %s is not of the family of %s", n.Gateway, n.Addr)
	}
	for _, d := range n.Search {
		if err := checkHostname(d); err != nil {
			bad("search domain %w", err)
		}
	}
	return errors.Join(errs...)
}

// checkHostname reports a name that no guest can have.
func checkHostname(name string) error {
	bad := fmt.Errorf("%q: want letters, digits and dashes in labels of at most 63, at most 253 in all", clip(name))
	if name == "" || len(name) > 253 {
		return bad
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return bad
			}
		}
	}
	return nil
}

// CheckUser reports whether name can be that of a user of a guest.
func CheckUser(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r == '_'
		if !letter && (i == 0 || (r < '0' || r > '9') && r != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 32
}

// CheckKey reports what is wrong with a public key in the form of authorized_keys.
func CheckKey(key string) error {
	switch {
	case strings.Contains(key, "PRIVATE KEY"):
		return errors.New("it is a private key; want the public one (the file that ends in .pub)")
	case len(key) > maxKey || strings.TrimSpace(key) != key || len(strings.Fields(key)) < 2 || strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("%q: want one line as in authorized_keys, such as: ssh-ed25519 AAAA... name", clip(key))
	}
	return nil
}

// seedFile is one file of a seed.
type seedFile struct {
	name string
	text []byte
}

func (s SeedSpec) files() ([]seedFile, error) {
	fqdn := s.FQDN
	if fqdn == "" {
		fqdn = s.Hostname
	}
	user := userData{Hostname: s.Hostname, FQDN: fqdn, ManageEtcHosts: true, RunCmd: s.Commands}
	if s.User == "" {
		user.Keys = s.Keys // of the image's default user
	} else {
		user.Users = []any{"default", seedUser{Name: s.User, Sudo: "ALL=(ALL) NOPASSWD:ALL", Shell: "/bin/bash", Lock: true, Keys: s.Keys}}
	}
	list := []struct {
		name, head string
		v          any
	}{
		{"meta-data", "", metaData{s.UUID, s.Hostname}},
		{"user-data", "#cloud-config\n", user},
		{"network-config", "", s.Network.config()},
	}
	var out []seedFile
	for _, f := range list {
		if n, ok := f.v.(*networkConfig); ok && n == nil {
			continue
		}
		var b bytes.Buffer
		b.WriteString(f.head)
		enc := yaml.NewEncoder(&b)
		if err := enc.Encode(f.v); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if err := enc.Close(); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		out = append(out, seedFile{f.name, b.Bytes()})
	}
	return out, nil
}

// seedInterface is what the guest's interface is called there. It is renamed, because most of what cloud-init hands this to (networkd, ifupdown,
// sysconfig) goes by the name, beside or in place of the MAC, and who writes a seed cannot know what the image would call it.
const seedInterface = "eth0"

func (n SeedNetwork) config() *networkConfig {
	if len(n.MAC) == 0 {
		return nil
	}
	e := seedEthernet{Match: map[string]string{"macaddress": n.MAC.String()}, SetName: seedInterface}
	if !n.Addr.IsValid() {
		e.DHCP4 = true
	} else {
		e.Addresses = []string{n.Addr.String()}
		if n.Gateway.IsValid() {
			to := "0.0.0.0/0"
			if n.Gateway.Is6() {
				to = "::/0"
			}
			e.Routes = []seedRoute{{To: to, Via: n.Gateway.String(), OnLink: !n.Addr.Contains(n.Gateway)}}
		}
	}
	if len(n.DNS) > 0 || len(n.Search) > 0 {
		e.Nameservers = &seedNameservers{Search: n.Search}
		for _, a := range n.DNS {
			e.Nameservers.Addresses = append(e.Nameservers.Addresses, a.String())
		}
	}
	return &networkConfig{Version: 2, Ethernets: map[string]seedEthernet{seedInterface: e}}
}

// seedTime is the time of everything in a seed: what is in it decides its bytes, not when it was made.
var seedTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
