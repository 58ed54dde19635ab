package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// Ports an agent listens on where nothing else is said.
const (
	HTTPPort   = 7950 // plain; loopback only unless http_insecure
	HTTPSPort  = 7951
	DNSPort    = 53
	DNSDevPort = 7953 // --dev needs no privilege
)

// Config is an agent's configuration: the fields of agent.yaml. Begin with DefaultConfig or LoadConfig. The zero value of
// a field takes the default that its comment names.
type Config struct {
	// Name is the node's name and its key in HostDB's hosts. Empty: the box's host name.
	Name string
	// Addr is the one address of this box at which the other members reach it. Empty: 127.0.0.1 with Dev; else an error.
	Addr string
	// Join lists some members, as host or host:port (the gossip port). Empty for a founder, and where the peer list of an
	// earlier run is enough.
	Join []string
	// KeyFile holds the mesh key. Empty: mesh.key in the data directory, if there is one.
	KeyFile string
	// DataDir is the data directory; see Init.
	DataDir string
	// HTTP is the address of plain HTTP. Empty: port 7950 on 127.0.0.1, or on Addr when that is loopback. "none": not served.
	HTTP string
	// HTTPInsecure lets plain HTTP be served off loopback, where sessions and passwords can be read on the wire.
	HTTPInsecure bool
	// HTTPS is the address of HTTPS. Empty: port 7951 on Addr. "none": not served.
	HTTPS string
	// TLS is the certificate of HTTPS. Empty: one issued under the web CA.
	TLS TLSConfig
	// DNS is what DNS serves.
	DNS DNSConfig
	// Libvirt is the connection URI of this box's hypervisor. Empty: none is asked.
	Libvirt string
	// VM is how this box carries virtual machines.
	VM VMConfig
	// LB is what this box balances load with.
	LB LBConfig
	// MySQL is what this box leads databases with.
	MySQL MySQLConfig
	// Labels tell where the box stands, until HostDB's Physical Location says otherwise.
	Labels LabelsConfig
	// Duties are what this box may be elected for: lb, mysql, group, mirror, vm. Empty: all it can do.
	Duties []string
	// Auth is where users come from.
	Auth AuthConfig
	// Mirror keeps a Git repository up to date with HostDB, while this agent holds the duty.
	Mirror MirrorConfig
	// History says what of HostDB's history is kept.
	History HistoryConfig
	// Observe runs every plan, shows what it would do, and touches nothing. DNS is served: it only answers.
	Observe bool
	// Dev is for trying things: an empty data directory becomes a mesh of its own, on loopback, with DNS on port 7953.
	Dev bool
	// ClockOffset names a file that says how far the agent's clock is to be off, with Dev, for tests of clocks. Empty: not at all.
	ClockOffset string

	// The rest is for those who embed an agent; no file sets it.

	// Build is shown in status and version.
	Build api.Build
	// Logger gets all messages. nil = slog.Default().
	Logger *slog.Logger
	// Clock is the wall. nil = the system's.
	Clock hostdb.Clock
}

// TLSConfig is the certificate of HTTPS: both files, or neither. They are read again when they change.
type TLSConfig struct {
	Cert, Key string
	// Allow lists domains and networks in which members of the mesh are reached, beside the mesh domain and the private
	// networks: the web CA vouches for no others. It is part of the CA, so it must be the same on every node.
	Allow []string
}

// DNSConfig says where DNS is served, and the domain of the mesh's own names.
type DNSConfig struct {
	// Listen is the address of DNS, UDP and TCP. Empty: port 53 on Addr, 7953 with Dev. "none": not served.
	Listen string
	// Domain is above <node>.node, <tag>.tag and <tag>.vip. It is the same on every node.
	Domain string
	// Identify tells the node's name and version to whoever asks (RFC 4892, RFC 5001).
	Identify bool
}

// LabelsConfig tells where the box stands.
type LabelsConfig struct{ Datacenter, Rack string }

// AuthConfig is where users come from.
type AuthConfig struct {
	// UsersFile has users to begin with. It is read once, at start; those that HostDB neither has nor had are written
	// into it, and from then on count there. It is never written. Empty: the users are those of HostDB.
	UsersFile string
	// LDAP is a directory of more users. An empty URL: none.
	LDAP LDAPConfig
}

// LDAPConfig is a directory that knows passwords and groups: what auth.LDAPConfig is, in texts. An empty text is its
// default.
type LDAPConfig struct {
	URL, UsersDN, GroupsDN        string
	UserAttribute, GroupAttribute string
	CA                            string // a file
	Timeout                       string // a duration, such as 5s
	StartTLS, Insecure            bool
}

// MirrorConfig is the Git repository that shows HostDB's history. Of the agents that have it, one at a time keeps it up to date: the
// holder of the duty mirror.
type MirrorConfig struct {
	// Git is the directory of the repository; it is made if it does not exist. Empty: none is kept.
	Git string
	// Every is the least time between two updates, as a Go duration. Empty: DefaultMirrorEvery.
	Every string
}

// interval is Every as a duration.
func (m MirrorConfig) interval() (time.Duration, error) {
	if m.Every == "" {
		return DefaultMirrorEvery, nil
	}
	d, err := time.ParseDuration(m.Every)
	if err != nil || d < time.Second || d > 24*time.Hour {
		return 0, fmt.Errorf("mirror.every %q: want a duration from 1s to 24h, such as %s", m.Every, DefaultMirrorEvery)
	}
	return d, nil
}

// VMConfig is how a box carries virtual machines.
type VMConfig struct {
	// Dir is where disks and base images are. Empty: vmDir where there is a hypervisor, vm in the data directory with Dev or
	// libvirt's test driver, and otherwise none, so that the box keeps no images.
	Dir string
	// Keep is how long the disks of a deleted machine are kept, as a duration or in days, such as 7d. Empty: DefaultVMKeep.
	Keep string
	// Shutdown is how long a guest may take to end before its power is cut. Empty: DefaultVMShutdown.
	Shutdown string
	// Bridges are the bridges of this box that machines may be connected to. None: all that it has.
	Bridges []string
	// LocalURLs lets images be fetched from web servers on this box itself.
	LocalURLs bool
	// Guests is the directory of the profiles that guests are made with. Empty: guestsDir.
	Guests string
}

// guestsDir is beside the agent's own configuration, because what stands in it is root on the machines made with it.
const guestsDir = "/etc/hostmesh/guests.d"

// vmDir is where libvirt's own tools and the rules of AppArmor expect disks.
const vmDir = "/var/lib/libvirt/images/hostmesh"

// LBConfig is what a box balances load with. What is in its directories only root may have put there: HostDB names it, no more.
type LBConfig struct {
	// Enabled has this box take part. A box that cannot, for want of rights or programs, says so and does without.
	Enabled bool
	// Checks has the programs by which members are tried. Empty: checksDir.
	Checks string
	// Certificates are what clients are shown, NAME.pem with chain and key. Empty: certificatesDir.
	Certificates string
	// HAProxy is the program for the modes tcp and http. Empty: haproxy of the path.
	HAProxy string
}

// MySQLConfig is what a box leads databases with.
type MySQLConfig struct {
	// Credentials has the accounts of clusters, NAME.yaml; only root may have put them there: HostDB names one, no more. Empty: credentialsDir.
	Credentials string
}

const (
	checksDir       = "/etc/hostmesh/checks.d"
	certificatesDir = "/etc/hostmesh/balancer.d"
)

// NoListener is the address of a listener that is not wanted.
const NoListener = "none"

// DefaultConfig returns the defaults. Addresses that follow from others stay empty; LoadConfig and Open fill them in.
func DefaultConfig() Config {
	return Config{
		DataDir: "/var/lib/hostmesh",                           // where the FHS wants the state of a service
		DNS:     DNSConfig{Domain: "mesh.internal"},            // .internal is reserved for private use (ICANN, 2024)
		Libvirt: "",                                            // most boxes run no virtual machines
		LB:      LBConfig{Enabled: true},                       // it sleeps until a tag has the section LB
		Build:   api.Build{Version: "devel"},                   // cmd knows better
		Auth:    AuthConfig{UsersFile: "", LDAP: LDAPConfig{}}, // nobody logs in
	}
}

// resolve fills in what follows from other fields.
func (c *Config) resolve() error {
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("name: the box does not know its own (%w); set --name or name", err)
		}
		c.Name = name
	}
	if c.Addr == "" {
		if !c.Dev {
			return fmt.Errorf("addr: set --addr or addr to the one address of this box at which the other members reach it%s", ownAddresses())
		}
		c.Addr = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(c.Addr)
	if err != nil {
		return fmt.Errorf("addr %q: want one IP address of this box, without a port", c.Addr)
	}
	addr = addr.Unmap()
	c.Addr = addr.String()
	port := func(field *string, host netip.Addr, n uint16) {
		if *field == "" {
			*field = netip.AddrPortFrom(host, n).String()
		}
	}
	plain := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if addr.IsLoopback() {
		plain = addr
	}
	port(&c.HTTP, plain, HTTPPort)
	port(&c.HTTPS, addr, HTTPSPort)
	if c.Dev {
		port(&c.DNS.Listen, addr, DNSDevPort)
	} else {
		port(&c.DNS.Listen, addr, DNSPort)
	}
	c.DNS.Domain = hostdb.NormalName(c.DNS.Domain)
	switch {
	case c.VM.Dir != "":
	case c.Dev || strings.HasPrefix(c.Libvirt, "test:"):
		if c.VM.Dir, err = filepath.Abs(filepath.Join(c.DataDir, "vm")); err != nil {
			return fmt.Errorf("vm.dir: %w", err)
		}
	case c.Libvirt != "":
		c.VM.Dir = vmDir
	}
	return nil
}

// ownAddresses suggests values for addr.
func ownAddresses() string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var found []string
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().String())
		}
	}
	if len(found) == 0 {
		return " (it has none but loopback; --dev tries hostmesh on that)"
	}
	return " (it has " + strings.Join(found, ", ") + ")"
}

// validate checks what can be checked without looking at the box. The fields are resolved.
func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	addr := netip.MustParseAddr(c.Addr)
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		bad("addr %s: want the one address at which the other members reach this box", c.Addr)
	}
	if c.Dev && !addr.IsLoopback() {
		bad("addr %s: with --dev the agent stays on loopback; leave addr out, or leave --dev out", c.Addr)
	}
	if c.DataDir == "" {
		bad("data_dir: set --data-dir or data_dir")
	}
	if err := hostdb.CheckName(c.Name); err != nil {
		bad("name: %w", err)
	}
	for _, l := range []struct{ knob, addr string }{{"http", c.HTTP}, {"https", c.HTTPS}, {"dns.listen", c.DNS.Listen}} {
		if l.addr == NoListener {
			continue
		}
		ap, err := netip.ParseAddrPort(l.addr)
		if err != nil {
			bad("%s %q: want IP:port, such as %s, or %s", l.knob, l.addr, netip.AddrPortFrom(addr, HTTPSPort), NoListener)
			continue
		}
		if l.knob == "http" && !ap.Addr().Unmap().IsLoopback() && !c.HTTPInsecure {
			bad("http %s: plain HTTP off loopback shows sessions and passwords to the network; use https, or set http_insecure: true", l.addr)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls: either both tls.cert and tls.key must be set, or neither")
	}
	for _, a := range c.TLS.Allow {
		if _, err := parseAllow(a); err != nil {
			bad("tls.allow: %w", err)
		}
	}
	if !isDomain(c.DNS.Domain) {
		bad("dns.domain %q: want a domain name, such as mesh.internal", c.DNS.Domain)
	}
	if l, err := c.Auth.LDAP.resolve(); err != nil {
		errs = append(errs, err)
	} else if c.Auth.LDAP.URL != "" {
		if err := l.Check(); err != nil {
			errs = append(errs, err)
		}
	} else if c.Auth.LDAP != (LDAPConfig{}) {
		bad("auth.ldap.url: set it, or leave auth.ldap out")
	}
	if _, err := c.Mirror.interval(); err != nil {
		bad("%w", err)
	}
	if _, err := c.History.policy(); err != nil {
		bad("%w", err)
	}
	if c.Mirror.Git == "" && c.Mirror.Every != "" {
		bad("mirror.git: set it to the directory of the repository, or leave mirror.every out")
	}
	if c.Mirror.Git != "" && !filepath.IsAbs(c.Mirror.Git) {
		bad("mirror.git %s: want an absolute path", c.Mirror.Git)
	}
	if _, err := c.VM.keep(); err != nil {
		bad("%w", err)
	}
	if _, err := c.VM.shutdown(); err != nil {
		bad("%w", err)
	}
	if c.VM.Dir != "" && !filepath.IsAbs(c.VM.Dir) {
		bad("vm.dir %s: want an absolute path", c.VM.Dir)
	}
	for _, k := range []struct{ name, dir string }{{"lb.checks", c.LB.Checks}, {"lb.certificates", c.LB.Certificates}, {"mysql.credentials", c.MySQL.Credentials}} {
		if k.dir != "" && !filepath.IsAbs(k.dir) {
			bad("%s %s: want an absolute path", k.name, k.dir)
		}
	}
	if c.VM.Guests != "" && !filepath.IsAbs(c.VM.Guests) {
		bad("vm.guests %s: want an absolute path", c.VM.Guests)
	}
	if c.ClockOffset != "" && !c.Dev {
		bad("clock_offset: a clock is set wrong on purpose only with --dev")
	}
	for _, d := range c.Duties {
		if !slices.Contains(knownDuties, d) {
			bad("duties: %q is none; want some of %s", d, strings.Join(knownDuties, ", "))
		}
	}
	return errors.Join(errs...)
}

// knownDuties are the kinds of duties that a box may be kept from.
var knownDuties = []string{"lb", "mysql", "group", mirrorDuty, vmKind}

// may reports whether this box may be elected for a kind of duty.
func (c *Config) may(kind string) bool { return len(c.Duties) == 0 || slices.Contains(c.Duties, kind) }

// isDomain reports whether name is a DNS name in the letters of host names, in lower case and without a final dot.
func isDomain(name string) bool {
	if name == "" || len(name) > 200 { // leaves room for <node>.node.
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

// keyFile is where the mesh key is looked for.
func (c *Config) keyFile() string {
	if c.KeyFile != "" {
		return c.KeyFile
	}
	return filepath.Join(c.DataDir, keyName)
}

// loadKey reads the mesh key. found is false, without an error, when none is set and the data directory has none.
func (c *Config) loadKey() (key mesh.Key, found bool, err error) {
	key, err = mesh.LoadKeyFile(c.keyFile())
	switch {
	case err == nil:
		return key, true, nil
	case c.KeyFile == "" && errors.Is(err, fs.ErrNotExist):
		return mesh.Key{}, false, nil
	}
	return mesh.Key{}, false, fmt.Errorf("key_file: %w", err)
}

// checkKey says what is wrong with having no key.
func (c *Config) checkKey(found bool) error {
	switch {
	case found:
		return nil
	case !netip.MustParseAddr(c.Addr).IsLoopback():
		return fmt.Errorf("addr %s: off loopback the agent needs the mesh key: set --key-file or key_file; make a key with: hostmesh keygen", c.Addr)
	case len(c.Join) > 0:
		return errors.New("join: the other members have a mesh key; set --key-file or key_file to the same")
	}
	return nil
}

// Check validates all that can be checked without side effects, files and addresses included: what agent --check does.
// The data directory may be in use by an agent.
func (c Config) Check() error {
	if err := c.resolve(); err != nil {
		return err
	}
	errs := []error{c.validate()}
	_, found, err := c.loadKey()
	if err == nil {
		err = c.checkKey(found)
	}
	errs = append(errs, err)
	if errs[0] == nil {
		errs = append(errs, c.checkAddresses())
	}
	if c.TLS.Cert != "" && c.TLS.Key != "" {
		_, err := newFileCert(c.TLS.Cert, c.TLS.Key)
		errs = append(errs, err)
	}
	if c.Auth.UsersFile != "" {
		errs = append(errs, c.checkUsersFile())
	}
	if errs[0] == nil {
		_, err := c.Auth.LDAP.open()
		errs = append(errs, err)
	}
	_, err = inspectDataDir(c.DataDir)
	if err == nil {
		err = c.checkStart()
	}
	return errors.Join(append(errs, err)...)
}

// checkUsersFile reads the users file as auth does at start.
func (c *Config) checkUsersFile() error {
	_, err := auth.Open(auth.Config{UsersFile: c.Auth.UsersFile, SessionKey: make([]byte, mesh.KeySize)})
	return err
}

// checkAddresses reports addresses that this box does not have.
func (c *Config) checkAddresses() error {
	var errs []error
	for _, l := range []struct{ knob, addr string }{
		{"addr", net.JoinHostPort(c.Addr, "0")}, {"http", c.HTTP}, {"https", c.HTTPS}, {"dns.listen", c.DNS.Listen},
	} {
		if l.addr == NoListener {
			continue
		}
		ap, err := netip.ParseAddrPort(l.addr)
		if err != nil {
			continue // validate said so
		}
		// Port 0: the agent that runs here may hold the real one.
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ap.Addr(), 0)))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: this box cannot use the address: %w", l.knob, ap.Addr(), err))
			continue
		}
		ln.Close()
	}
	return errors.Join(errs...)
}

// checkStart reports a directory with which an agent would refuse to start.
func (c *Config) checkStart() error {
	found, err := inspectDataDir(c.DataDir)
	if err != nil {
		return err
	}
	if found.Mesh.ID == "" && len(c.Join) == 0 && !c.Dev {
		return fmt.Errorf("%w: %s: make one, once, with: hostmesh init --data-dir %s; or join the members of one with --join or join", ErrNoMesh, c.DataDir, c.DataDir)
	}
	return nil
}
