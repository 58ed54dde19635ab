package node

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Flag describes a flag of hostmesh agent. Each is also HOSTMESH_<NAME>, in capitals with underscores.
type Flag struct {
	Name  string
	Value string // what to write for the value in help; empty for a switch
	Usage string
	Key   string // of the file
}

// Env is the flag's environment variable.
func (f Flag) Env() string {
	return "HOSTMESH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// Flags are the flags of hostmesh agent that set the configuration, in the order of help. LoadConfig takes their values.
func Flags() []Flag {
	var out []Flag
	for _, k := range knobs() {
		out = append(out, k.Flag)
	}
	return out
}

// knob is one setting. Exactly one of text, list and on is set.
type knob struct {
	Flag
	text func(*Config) *string
	list func(*Config) *[]string
	on   func(*Config) *bool
}

// knobs lists every setting. It is the one place that ties flags, variables and the file to Config.
func knobs() []knob {
	text := func(name, key, value, usage string, f func(*Config) *string) knob {
		return knob{Flag: Flag{name, value, usage, key}, text: f}
	}
	list := func(name, key, value, usage string, f func(*Config) *[]string) knob {
		return knob{Flag: Flag{name, value, usage, key}, list: f}
	}
	on := func(name, key, usage string, f func(*Config) *bool) knob {
		return knob{Flag: Flag{name, "", usage, key}, on: f}
	}
	return []knob{
		text("name", "name", "NAME", "this node's name, its key in HostDB's hosts (default: the host name)", func(c *Config) *string { return &c.Name }),
		text("data-dir", "data_dir", "DIR", "data directory", func(c *Config) *string { return &c.DataDir }),
		text("addr", "addr", "IP", "the address at which the other members reach this box", func(c *Config) *string { return &c.Addr }),
		list("join", "join", "A,B", "some members of the mesh to join", func(c *Config) *[]string { return &c.Join }),
		text("key-file", "key_file", "FILE", "the mesh key (default: mesh.key in the data directory)", func(c *Config) *string { return &c.KeyFile }),
		text("http", "http", "IP:PORT", "plain HTTP, loopback only (default: 127.0.0.1:7950, or on addr when that is loopback)", func(c *Config) *string { return &c.HTTP }),
		on("http-insecure", "http_insecure", "allow plain HTTP off loopback", func(c *Config) *bool { return &c.HTTPInsecure }),
		text("https", "https", "IP:PORT", "HTTPS (default: port 7951 on addr)", func(c *Config) *string { return &c.HTTPS }),
		text("tls-cert", "tls.cert", "FILE", "certificate of HTTPS (default: issued under the web CA)", func(c *Config) *string { return &c.TLS.Cert }),
		text("tls-key", "tls.key", "FILE", "key of that certificate", func(c *Config) *string { return &c.TLS.Key }),
		list("tls-allow", "tls.allow", "DOMAIN,CIDR", "what the web CA vouches for beside the mesh domain and private networks; the same on every node", func(c *Config) *[]string { return &c.TLS.Allow }),
		text("dns", "dns.listen", "IP:PORT", "DNS, UDP and TCP (default: port 53 on addr; 7953 with --dev)", func(c *Config) *string { return &c.DNS.Listen }),
		text("domain", "dns.domain", "DOMAIN", "domain of the mesh's own names; the same on every node", func(c *Config) *string { return &c.DNS.Domain }),
		on("dns-identify", "dns.identify", "tell who asks by DNS which node and version answer: version.bind, hostname.bind, NSID", func(c *Config) *bool { return &c.DNS.Identify }),
		text("libvirt", "libvirt", "URI", "this box's hypervisor, such as qemu:///system (default: none)", func(c *Config) *string { return &c.Libvirt }),
		text("vm-guests", "vm.guests", "DIR", "where the profiles are that guests are made with (default: /etc/hostmesh/guests.d)", func(c *Config) *string { return &c.VM.Guests }),
		text("vm-dir", "vm.dir", "DIR", "where disks and base images are (default: /var/lib/libvirt/images/hostmesh with a hypervisor; vm in the data directory with --dev)", func(c *Config) *string { return &c.VM.Dir }),
		list("vm-bridges", "vm.bridges", "BR0,BR1", "the bridges of this box that machines may be connected to (default: all)", func(c *Config) *[]string { return &c.VM.Bridges }),
		on("vm-local-urls", "vm.local_urls", "let images be fetched from web servers on this box itself", func(c *Config) *bool { return &c.VM.LocalURLs }),
		text("vm-keep", "vm.keep", "DURATION", "how long the disks of a deleted machine are kept (default: 7d)", func(c *Config) *string { return &c.VM.Keep }),
		text("vm-shutdown", "vm.shutdown", "DURATION", "how long a guest may take to end before its power is cut (default: 1m)", func(c *Config) *string { return &c.VM.Shutdown }),
		on("lb-enabled", "lb.enabled", "take part in load balancing (default: true)", func(c *Config) *bool { return &c.LB.Enabled }),
		text("lb-checks", "lb.checks", "DIR", "where the programs are by which members of balanced tags are tried (default: /etc/hostmesh/checks.d)", func(c *Config) *string { return &c.LB.Checks }),
		text("lb-certificates", "lb.certificates", "DIR", "where the certificates are that clients of balanced tags are shown (default: /etc/hostmesh/balancer.d)", func(c *Config) *string { return &c.LB.Certificates }),
		text("lb-haproxy", "lb.haproxy", "FILE", "the program for balanced tags of the modes tcp and http (default: haproxy of the path)", func(c *Config) *string { return &c.LB.HAProxy }),
		text("mysql-credentials", "mysql.credentials", "DIR", "where the accounts of database clusters are (default: /etc/hostmesh/credentials.d)", func(c *Config) *string { return &c.MySQL.Credentials }),
		text("datacenter", "labels.datacenter", "NAME", "datacenter of the box, until HostDB says otherwise", func(c *Config) *string { return &c.Labels.Datacenter }),
		text("rack", "labels.rack", "NAME", "rack of the box, until HostDB says otherwise", func(c *Config) *string { return &c.Labels.Rack }),
		list("duties", "duties", "A,B", "what this box may be elected for: lb, mysql, group, mirror, vm (default: all it can do)", func(c *Config) *[]string { return &c.Duties }),
		text("users-file", "auth.users_file", "FILE", "users to begin with: read at start, written into HostDB where it never had them", func(c *Config) *string { return &c.Auth.UsersFile }),
		text("ldap-url", "auth.ldap.url", "URL", "directory of users", func(c *Config) *string { return &c.Auth.LDAP.URL }),
		text("ldap-users-dn", "auth.ldap.users_dn", "DN", "where the directory has its users", func(c *Config) *string { return &c.Auth.LDAP.UsersDN }),
		text("ldap-groups-dn", "auth.ldap.groups_dn", "DN", "where the directory has its groups", func(c *Config) *string { return &c.Auth.LDAP.GroupsDN }),
		text("ldap-user-attribute", "auth.ldap.user_attribute", "NAME", "the attribute that names users in their DN (default: uid)", func(c *Config) *string { return &c.Auth.LDAP.UserAttribute }),
		text("ldap-group-attribute", "auth.ldap.group_attribute", "NAME", "the attribute with a group's name (default: cn)", func(c *Config) *string { return &c.Auth.LDAP.GroupAttribute }),
		on("ldap-start-tls", "auth.ldap.start_tls", "encrypt ldap:// by StartTLS", func(c *Config) *bool { return &c.Auth.LDAP.StartTLS }),
		text("ldap-ca", "auth.ldap.ca", "FILE", "authorities that vouch for the directory (default: the system's)", func(c *Config) *string { return &c.Auth.LDAP.CA }),
		text("ldap-timeout", "auth.ldap.timeout", "DURATION", "how long to wait for the directory (default: 5s)", func(c *Config) *string { return &c.Auth.LDAP.Timeout }),
		on("ldap-insecure", "auth.ldap.insecure", "allow passwords in clear to a directory off loopback", func(c *Config) *bool { return &c.Auth.LDAP.Insecure }),
		text("mirror-git", "mirror.git", "DIR", "keep the history in a Git repository while this agent holds the duty mirror (default: none)", func(c *Config) *string { return &c.Mirror.Git }),
		text("mirror-every", "mirror.every", "DURATION", "least time between two updates of it (default: 10s)", func(c *Config) *string { return &c.Mirror.Every }),
		text("history-keep", "history.keep", "DURATION", "drop operations of history that are older, such as 400d (default: all is kept)", func(c *Config) *string { return &c.History.Keep }),
		text("history-at-least", "history.at_least", "N", "keep the N newest operations all the same", func(c *Config) *string { return &c.History.AtLeast }),
		on("observe", "observe", "run every plan, show what it would do, and touch nothing", func(c *Config) *bool { return &c.Observe }),
		on("dev", "dev", "try it: a mesh of its own on loopback, made in an empty data directory", func(c *Config) *bool { return &c.Dev }),
		text("clock-offset", "clock_offset", "FILE", "with --dev: set the agent's clock wrong by the duration in a file, such as -90s", func(c *Config) *string { return &c.ClockOffset }),
	}
}

// set gives a knob the text of a flag or variable.
func (k knob) set(c *Config, value string) error {
	switch {
	case k.text != nil:
		*k.text(c) = strings.TrimSpace(value)
	case k.list != nil:
		var items []string
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		*k.list(c) = items
	default:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q: want true or false", value)
		}
		*k.on(c) = b
	}
	return nil
}

// LoadConfig makes the effective configuration of the defaults, the file ("" for none), HOSTMESH_* of environ (as
// os.Environ gives it) and flags (name to text), each beating those before it, and checks it as far as that needs no
// look at the box. Errors name the knob, and what is unknown gets the nearest name that is not.
func LoadConfig(file string, environ []string, flags map[string]string) (Config, error) {
	c := DefaultConfig()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
		if err := c.readYAML(text); err != nil {
			return Config{}, fmt.Errorf("configuration %s: %w", file, err)
		}
	}
	if err := c.readEnviron(environ); err != nil {
		return Config{}, err
	}
	if err := c.readFlags(flags); err != nil {
		return Config{}, err
	}
	if err := c.resolve(); err != nil {
		return Config{}, err
	}
	return c, c.validate()
}

func (c *Config) readEnviron(environ []string) error {
	byEnv := map[string]knob{}
	var names []string
	for _, k := range knobs() {
		byEnv[k.Env()] = k
		names = append(names, k.Env())
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "HOSTMESH_") {
			continue
		}
		k, ok := byEnv[name]
		if !ok {
			// Other parts of hostmesh have variables of their own; only a slip of the finger is an error.
			if near := nearest(name, names, 2); near != "" && name != "HOSTMESH_SOCKET" && name != "HOSTMESH_SERVER" {
				return fmt.Errorf("%s: no such variable; did you mean %s?", name, near)
			}
			continue
		}
		if err := k.set(c, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *Config) readFlags(flags map[string]string) error {
	all := knobs()
	for name, value := range flags {
		i := slices.IndexFunc(all, func(k knob) bool { return k.Name == name })
		if i < 0 {
			return fmt.Errorf("--%s: no such flag", name)
		}
		if err := all[i].set(c, value); err != nil {
			return fmt.Errorf("--%s %w", name, err)
		}
	}
	return nil
}

// readYAML reads an agent.yaml.
func (c *Config) readYAML(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	return c.readMapping(doc.Content[0], "")
}

// readMapping reads the mapping below prefix ("", or "dns.").
func (c *Config) readMapping(n *yaml.Node, prefix string) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: want a mapping", n.Line, strings.TrimSuffix(prefix, "."))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		if seen[key] {
			return fmt.Errorf("line %d: %s is set twice", name.Line, key)
		}
		seen[key] = true
		if err := c.readKey(key, name.Line, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) readKey(key string, line int, value *yaml.Node) error {
	var names []string
	for _, k := range knobs() {
		if k.Key == key {
			if err := k.read(c, value); err != nil {
				return fmt.Errorf("line %d: %s: %w", value.Line, key, err)
			}
			return nil
		}
		for part := k.Key; ; { // dns.listen, dns
			names = append(names, part)
			i := strings.LastIndexByte(part, '.')
			if i < 0 {
				break
			}
			if part = part[:i]; part == key {
				return c.readMapping(value, key+".")
			}
		}
	}
	if near := nearest(key, names, 3); near != "" {
		return fmt.Errorf("line %d: no such key: %s; did you mean %s?", line, key, near)
	}
	return fmt.Errorf("line %d: no such key: %s", line, key)
}

// read takes a value of the file.
func (k knob) read(c *Config, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if k.list != nil && n.Kind == yaml.SequenceNode {
		var items []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return fmt.Errorf("want a list of texts")
			}
			items = append(items, item.Value)
		}
		*k.list(c) = items
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("want a single value")
	}
	return k.set(c, n.Value)
}

// WriteEffective writes the configuration as an agent.yaml. It holds the names of files with secrets, never the secrets.
func (c Config) WriteEffective(w io.Writer) error {
	root, usual := &yaml.Node{Kind: yaml.MappingNode}, DefaultConfig()
	for _, k := range knobs() {
		value := &yaml.Node{}
		var err error
		switch {
		case k.text != nil && *k.text(&c) != "":
			value.SetString(*k.text(&c))
		case k.list != nil && len(*k.list(&c)) > 0:
			err = value.Encode(*k.list(&c))
		case k.on != nil && *k.on(&c) != *k.on(&usual):
			err = value.Encode(*k.on(&c))
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		at := root
		parts := strings.Split(k.Key, ".")
		for _, part := range parts[:len(parts)-1] {
			at = child(at, part)
		}
		name := &yaml.Node{}
		name.SetString(parts[len(parts)-1])
		at.Content = append(at.Content, name, value)
	}
	text, err := yaml.Marshal(root)
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// child is the mapping below a key, made if need be.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	name, sub := &yaml.Node{}, &yaml.Node{Kind: yaml.MappingNode}
	name.SetString(key)
	n.Content = append(n.Content, name, sub)
	return sub
}

// nearest is the name at the least edit distance from word, at most limit and less than half of word; "" for none.
func nearest(word string, names []string, limit int) string {
	best, found := min(limit, (len(word)-1)/2)+1, ""
	for _, n := range names {
		if d := editDistance(word, n); d < best {
			best, found = d, n
		}
	}
	return found
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
