package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"

	"hostmesh/node/api"
)

// nameserver is somebody else's name server, as Debian packages it.
type nameserver struct {
	t    *testing.T
	kind string
	serverConfig
	under []string // what it is started by; mostly nothing
	cmd   *exec.Cmd
	ended chan struct{}
}

// serverConfig is what the configuration of a name server says.
type serverConfig struct {
	Dir          string
	Addr         string   // that it asks from, which only this test has
	Listen, Port string   // where it answers
	Primaries    []string // addresses of agents
	Zones        []string
	Key          *api.DNSKeyMade // nil for none
}

// answersAt is what the configuration of a server says of its addresses. On the loopback BIND takes none but those that the
// interface has.
func answersAt(t *testing.T, kind, addr string) serverConfig {
	t.Helper()
	c := serverConfig{Addr: addr, Listen: addr, Port: "5300"}
	if kind == "bind" && strings.HasPrefix(addr, "127.") {
		c.Listen, c.Port = "127.0.0.1", freePort(t)
	}
	return c
}

// freePort is a port of 127.0.0.1 that is free for TCP and UDP, and likely stays so.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		_, port, _ := net.SplitHostPort(tcp.Addr().String())
		if udp, err := net.ListenPacket("udp", "127.0.0.1:"+port); err == nil {
			udp.Close()
			return port
		}
	}
	t.Fatal("no port of 127.0.0.1 is free")
	return ""
}

// serverKinds are the name servers that zones are transferred to, with their configuration. Each runs in the foreground,
// writes below its directory alone, and takes zones and NOTIFY from every agent.
var serverKinds = map[string]struct {
	program string
	args    []string
	config  string
}{
	"nsd": {"/usr/sbin/nsd", []string{"-d", "-c", "conf"}, `
server:
	ip-address: {{.Listen}}@{{.Port}}
	username: ""
	chroot: ""
	zonesdir: "{{.Dir}}"
	database: ""
	xfrdfile: "{{.Dir}}/xfrd.state"
	xfrdir: "{{.Dir}}"
	zonelistfile: "{{.Dir}}/zone.list"
	pidfile: "{{.Dir}}/nsd.pid"
	server-count: 1
	xfrd-reload-timeout: 0
	verbosity: 3
remote-control:
	control-enable: no
{{with .Key}}key:
	name: "{{.Name}}"
	algorithm: {{.Algorithm}}
	secret: "{{.Secret}}"
{{end}}{{range $z := .Zones}}zone:
	name: {{$z}}
	zonefile: {{$z}}.zone
	outgoing-interface: {{$.Addr}}
	provide-xfr: 0.0.0.0/0 NOKEY
{{range $.Primaries}}	request-xfr: {{.}}@7953 {{with $.Key}}{{.Name}}{{else}}NOKEY{{end}}
	allow-notify: {{.}} {{with $.Key}}{{.Name}}{{else}}NOKEY{{end}}
{{end}}{{end}}`},
	"knot": {"/usr/sbin/knotd", []string{"-c", "conf"}, `
server:
    rundir: {{.Dir}}
    listen: {{.Listen}}@{{.Port}}
log:
  - target: stderr
    any: info
database:
    storage: {{.Dir}}
{{with .Key}}key:
  - id: {{.Name}}
    algorithm: {{.Algorithm}}
    secret: {{.Secret}}
{{end}}remote:
{{range .Primaries}}  - id: "{{.}}"
    address: {{.}}@7953
    via: {{$.Addr}}
{{with $.Key}}    key: {{.Name}}
{{end}}{{end}}acl:
{{range .Primaries}}  - id: "from-{{.}}"
    remote: "{{.}}"
    action: notify
{{end}}  - id: read
    address: 0.0.0.0/0
    action: transfer
zone:
{{range $z := .Zones}}  - domain: {{$z}}
    storage: {{$.Dir}}
    master: [{{range $i, $p := $.Primaries}}{{if $i}}, {{end}}"{{$p}}"{{end}}]
    acl: [{{range $p := $.Primaries}}"from-{{$p}}", {{end}}read]
{{end}}`},
	"bind": {"/usr/sbin/named", []string{"-g", "-c", "conf"}, `
{{with .Key}}key "{{.Name}}" { algorithm {{.Algorithm}}; secret "{{.Secret}}"; };
{{end}}options {
	directory "{{.Dir}}";
	pid-file "{{.Dir}}/named.pid";
	session-keyfile "{{.Dir}}/session.key";
	listen-on port {{.Port}} { {{.Listen}}; };
	listen-on-v6 { none; };
	transfer-source {{.Addr}};
	query-source address {{.Addr}};
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { any; };
	allow-query { any; };
	empty-zones-enable no;
};
controls { };
{{range $z := .Zones}}zone "{{$z}}" {
	type secondary;
	file "{{$z}}.db";
	masterfile-format text;
	primaries port 7953 { {{range $.Primaries}}{{.}}{{with $.Key}} key "{{.Name}}"{{end}}; {{end}}};
	allow-notify { {{range $.Primaries}}{{.}}; {{end}}};
};
{{end}}`},
	"unbound": {"/usr/sbin/unbound", []string{"-d", "-c", "conf"}, `
server:
	interface: {{.Listen}}@{{.Port}}
	outgoing-interface: {{.Addr}}
	username: ""
	chroot: ""
	directory: "{{.Dir}}"
	pidfile: "{{.Dir}}/unbound.pid"
	use-syslog: no
	logfile: ""
	num-threads: 1
	do-not-query-localhost: no
	access-control: 127.0.0.0/8 allow
	module-config: "iterator"
{{range .Zones}}	local-zone: "{{.}}" transparent
{{end}}remote-control:
	control-enable: no
{{range $z := .Zones}}stub-zone:
	name: "{{$z}}"
{{range $.Primaries}}	stub-addr: {{.}}@7953
{{end}}{{end}}`},
}

// startServer runs a name server of a kind in the foreground. It dies with this test.
func startServer(t *testing.T, kind string, cfg serverConfig, under ...string) *nameserver {
	t.Helper()
	k := serverKinds[kind]
	cfg.Dir = filepath.Join(shortDir(t), kind)
	n := &nameserver{t: t, kind: kind, serverConfig: cfg, under: under}
	if err := os.Mkdir(n.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var conf bytes.Buffer
	if err := template.Must(template.New(kind).Parse(k.config)).Execute(&conf, cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "conf"), conf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// A copy: where AppArmor confines the program by its path, it would not read files of a test.
	program, err := os.ReadFile(k.program)
	if err != nil {
		t.Fatalf("%v: packaging/deps.sh test installs it", err)
	}
	copied := filepath.Join(n.Dir, "server")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(n.Dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := slices.Concat(under, []string{copied}, k.args)
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Dir, n.cmd.Stdout, n.cmd.Stderr = n.Dir, log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // it has children
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func() { _ = n.cmd.Wait(); close(n.ended) }() // how it ends says nothing
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			text, _ := os.ReadFile(n.Dir + ".log")
			t.Logf("log of %s, its end:\n%s", kind, lastLines(string(text), 40))
		}
	})
	return n
}

// stop ends the server and its children.
func (n *nameserver) stop() {
	select {
	case <-n.ended:
		return
	default:
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL) // a group of our own
	<-n.ended
}

// dig asks the server.
func (n *nameserver) dig(args ...string) string {
	n.t.Helper()
	all := slices.Concat(n.under, []string{"dig", "@" + n.Listen, "-p", n.Port, "+time=2", "+tries=1"}, args)
	out, err := exec.Command(all[0], all[1:]...).Output()
	if err != nil {
		return fmt.Sprintf("dig %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// records are all records of a zone that the server has, sorted, the SOA once.
func (n *nameserver) records(zone string) string {
	return sortedRecords(n.dig("+noall", "+answer", zone, "AXFR"))
}

// sortedRecords makes what dig or a zone file shows comparable.
func sortedRecords(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 5 && !strings.HasPrefix(f[0], ";") && !strings.HasPrefix(f[0], "$") {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// fileRecords are all records of a zone that this box serves, in the form of nameserver.records.
func (b *box) fileRecords(zone string) string {
	out, _, code := b.hostmesh("dns", "zone", zone)
	if code != 0 {
		return fmt.Sprintf("hostmesh dns zone %s: %d", zone, code)
	}
	return sortedRecords(out)
}
