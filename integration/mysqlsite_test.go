package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
	"hostmesh/node/api"
)

// The addresses of the cluster, and its tag.
var (
	writeVIP = netip.MustParseAddr("10.77.0.100")
	readVIP  = netip.MustParseAddr("10.77.0.101")
)

const (
	shopTag = "shop-db"
	// shopHosts are from where accounts come, as hostmesh mysql check prints them.
	shopHosts = "10.77.0.0/255.255.255.0"
)

// dbShape is how a cluster under test is.
type dbShape struct {
	// five: all boxes have a server, and are members.
	five bool
	// tls: servers have certificates, and nobody is let in without.
	tls bool
	// small: members have their data on a disk of 640 MB.
	small bool
	// settings are of the servers, beside the usual ones.
	settings []string
}

// dbSite is a mesh with a database cluster: db1 to db3 have a server each and are its members, box4 and box5 watch over it. box4 has an empty server, too.
type dbSite struct {
	*lbSite
	dbShape
	dbs     map[string]*mariadbtest.Server // by host
	members []string
	trust   *tls.Config           // of clients; nil = nothing is encrypted
	disks   map[string]*smallDisk // by host, where it has one
	writes  *dbWriters
	reads   *dbReaders
	gaps    map[string][]time.Duration // without a write, by what had happened
	undo    []func()                   // of the fault that is being made, the last first
}

// newDBSite makes one whose servers let nobody in without TLS, and have some settings beside the usual ones.
func newDBSite(t *testing.T, settings ...string) *dbSite {
	return newDBSiteOf(t, dbShape{tls: true, settings: settings})
}

func newDBSiteOf(t *testing.T, shape dbShape) *dbSite {
	s := &dbSite{lbSite: &lbSite{w: wires{t}, macs: map[string]*box{}, spaces: map[*box]string{}}, dbShape: shape, dbs: map[string]*mariadbtest.Server{}, disks: map[string]*smallDisk{}}
	names := []string{"db1", "db2", "db3", "box4", "box5"}
	servers := 4
	if s.members = names[:3]; shape.five {
		s.members, servers = names, 5
	}
	s.members = slices.Clone(s.members)
	slices.Sort(s.members)
	addrs := map[string]string{"c1": "10.77.0.61"}
	for i, name := range names {
		addrs[name] = fmt.Sprintf("10.77.0.%d", i+1)
	}
	s.w.lay(addrs)
	s.w.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv4.ip_forward=0")
	s.w.ip("link", "add", "br1", "type", "bridge") // of those that are cut off
	s.w.ip("link", "set", "br1", "up")
	s.site = newSite(t, 0)
	accounts := shopAccounts()
	security := ""
	if shape.tls {
		accounts.TLS = &credentials.TLS{CA: filepath.Join(s.dir, "authorities.pem"), Verify: credentials.VerifyIdentity}
		security = "tls: {ca: " + accounts.TLS.CA + ", verify: identity}\n"
	}
	for i, name := range names {
		b := s.newBox(addrs[name])
		b.name = name
		b.under = []string{"ip", "netns", "exec", name}
		// A server that the agent has started outlives it, and is for the test to end.
		creds := filepath.Join(s.dir, name+"-credentials.d")
		if err := os.Mkdir(creds, 0o700); err != nil {
			t.Fatal(err)
		}
		text := "admin: {user: hostmesh, password: \"admin's\"}\nreplication: {user: hostmesh_repl, password: \"replica's\"}\nbackup: {user: hostmesh_backup, password: backup}\n"
		text += security
		if i < servers {
			o := mariadbtest.Options{
				Name: name, ID: uint32(i + 1), Space: name, Addr: addrs[name], Port: 3306, Settings: append([]string{"bind-address=0.0.0.0"}, shape.settings...), Accounts: accounts, Hosts: []string{shopHosts},
				TLS: shape.tls, Known: []string{writeVIP.String(), readVIP.String()},
			}
			if shape.small && slices.Contains(s.members, name) {
				o.In = filepath.Join(s.dir, name+"-disk")
				s.disks[name] = newSmallDiskAt(s.site, o.In)
			}
			db := mariadbtest.Start(t, o)
			s.dbs[name] = db
			require := ""
			if shape.tls {
				require = " REQUIRE SSL"
			}
			db.Exec("SET sql_log_bin=0", "CREATE USER app@'10.77.0.%' IDENTIFIED BY 'app'"+require, "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER ON shop.* TO app@'10.77.0.%'")
			x := db.Accounts.Server
			text += fmt.Sprintf("server:\n  port: %d\n  socket: %s\n  datadir: %s\n  pid_file: %s\n  log: %s\n  user: %s\n  start: [%s, --defaults-file=%s]\n",
				x.Port, x.Socket, x.Datadir, x.PIDFile, x.Log, x.User, x.Start[len(x.Start)-2], db.Config)
			t.Cleanup(func() { s.endServer(name) })
		}
		if err := os.WriteFile(filepath.Join(creds, "shop.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.settings = append(b.settings, fmt.Sprintf("labels: {datacenter: dc1, rack: r%d}", i+1), "mysql: {credentials: "+creds+"}")
		s.spaces[b] = name
		s.macs[s.mac(name)] = b
	}
	t.Cleanup(func() { // before servers end: agents would start them again
		for _, b := range s.boxes {
			b.kill()
		}
	})
	s.vips = []netip.Addr{writeVIP, readVIP}
	if shape.tls {
		s.trusts(accounts.TLS.CA)
	}
	return s
}

// trusts writes a file of the authorities of all servers, which clients and agents trust.
func (s *dbSite) trusts(file string) {
	s.t.Helper()
	var all []byte
	for _, db := range s.dbs {
		text, err := os.ReadFile(filepath.Join(db.Dir, "ca.pem"))
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(file, all, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.trust = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	s.trust.RootCAs.AppendCertsFromPEM(all)
}

// ownProcesses has this process, the first of its namespace, see those of that alone: all of them end with it.
func ownProcesses(t *testing.T) {
	t.Helper()
	if os.Getpid() != 1 {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("private mounts: %v", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatalf("own /proc: %v", err)
	}
}

// box is that of a name.
func (s *dbSite) box(name string) *box {
	s.t.Helper()
	for _, b := range s.boxes {
		if b.name == name {
			return b
		}
	}
	s.t.Fatalf("no box is named %s", name)
	return nil
}

// pid is the process of a host's server, whoever started it; 0 = none runs.
func (s *dbSite) pid(host string) int {
	text, err := os.ReadFile(s.dbs[host].PIDFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || dir != s.dbs[host].Datadir {
		return 0
	}
	return pid
}

// signals sends a signal to the server of a host.
func (s *dbSite) signals(host string, sig syscall.Signal) {
	s.t.Helper()
	pid := s.pid(host)
	if pid == 0 {
		s.t.Fatalf("%s runs no server", host)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("%s to the server of %s: %v", sig, host, err)
	}
}

func (s *dbSite) endServer(host string) {
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		pid := s.pid(host)
		if pid == 0 {
			return
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// patience is for what servers do in their own time, on a machine that is busy.
const dbPatience = 2 * time.Minute

func (s *dbSite) await(what string, ok func() error) time.Duration {
	s.t.Helper()
	begin := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > dbPatience {
			s.t.Fatalf("not within %s: %s: %v\n%s", dbPatience, what, err, s.told())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// told is what hostmesh mysql says, for a test that fails.
func (s *dbSite) told() string {
	var out strings.Builder
	running := s.running()
	if len(running) == 0 {
		return "no agent runs"
	}
	b := running[0]
	for _, what := range []string{"status", "explain", "history"} {
		text, errs, _ := b.hostmesh("mysql", what, shopTag)
		fmt.Fprintf(&out, "%s: hostmesh mysql %s:\n%s%s", b.name, what, text, errs)
	}
	for _, b := range s.boxes {
		var said []string
		for line := range strings.Lines(b.log()) {
			for _, what := range []string{"database", "a change of the primary", "the primary", "looked for", "over a", "server was made a copy"} {
				if strings.Contains(line, what) && !strings.Contains(line, "level=DEBUG") {
					said = append(said, line)
					break
				}
			}
		}
		fmt.Fprintf(&out, "%s said of databases, the last:\n%s", b.name, strings.Join(said[max(0, len(said)-30):], ""))
	}
	return out.String()
}

// cluster is how it stands, by the word of an agent that runs.
func (s *dbSite) cluster() (api.MySQLCluster, error) {
	var errs []error
	for _, b := range s.running() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		c, err := b.api.MySQLCluster(ctx, shopTag)
		cancel()
		if err == nil && c.Record != nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w %s", b.name, err, c.NotWatched))
	}
	return api.MySQLCluster{}, errors.Join(errs...)
}

// settles waits until the cluster is well: one takes writes, all others follow it and acknowledge. It returns who.
func (s *dbSite) settles() (primary string) {
	s.t.Helper()
	took := s.await("the cluster is well", func() error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		primary = c.Record.Primary
		others := slices.DeleteFunc(slices.Clone(s.members), func(h string) bool { return h == primary })
		if c.Verdict.Name != "well" || c.Record.Intent != nil || len(c.Record.Fenced) > 0 || !slices.Equal(c.Record.Ackers, others) {
			return fmt.Errorf("%s (%s), intent %+v, fenced %v, ackers %v", c.Verdict.Name, c.Verdict.Text, c.Record.Intent, c.Record.Fenced, c.Record.Ackers)
		}
		return s.one(primary)
	})
	s.t.Logf("    well after %d ms: %s is the primary", took.Milliseconds(), primary)
	return primary
}

// one reports whether a host takes writes and has the address, and no other.
func (s *dbSite) one(primary string) error {
	for host, db := range s.dbs {
		if s.pid(host) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		var readOnly bool
		err := db.Root().QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly)
		cancel()
		if err != nil || readOnly == (host == primary) {
			return fmt.Errorf("the primary is %s, and %s has read_only=%v %w", primary, host, readOnly, err)
		}
	}
	for _, b := range s.boxes {
		if s.has(b, writeVIP) != (b.name == primary) {
			return fmt.Errorf("the primary is %s, and that %s has %s is %v", primary, b.name, writeVIP, b.name != primary)
		}
	}
	return nil
}

// watcher is the agent that watches over the cluster.
func (s *dbSite) watcher() (b *box) {
	s.t.Helper()
	s.await("somebody watches over the cluster", func() error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		if c.Watcher == nil {
			return errors.New(c.NotWatched)
		}
		b = s.box(c.Watcher.Name)
		if !b.running() {
			return fmt.Errorf("%s watches, which does not run", b.name)
		}
		return nil
	})
	return b
}

// cli runs hostmesh mysql by an agent, and fails the test where that fails.
func (s *dbSite) cli(b *box, args ...string) string {
	s.t.Helper()
	out, errs, code := b.hostmesh(append([]string{"mysql"}, args...)...)
	if code != 0 {
		s.t.Fatalf("hostmesh mysql %s: %d\n%s%s\n%s", strings.Join(args, " "), code, out, errs, s.told())
	}
	return out + errs
}

// begin starts the agents, makes the servers a cluster, and has clients use it.
func (s *dbSite) begin() {
	t := s.t
	t.Helper()
	s.launch()
	for i, b := range s.boxes {
		s.puts("hosts/"+b.name, fmt.Sprintf("Network: {IP: 10.77.0.%d}\n", i+1))
	}
	s.puts("tags/net", "Subnet: {CIDR: 10.77.0.0/24, VIPs: 10.77.0.96/27, Datacenter: dc1}\n")
	s.puts("tags/"+shopTag, fmt.Sprintf("MySQL: {VIP: %s, ReadVIP: %s, Credentials: shop, Failover: auto, Durability: strict}\n", writeVIP, readVIP))
	s.puts("tags/"+shopTag+"/members", strings.Join(s.members, "\n")+"\n")
	s.ears = append(s.ears, newEar(t, "c1", netip.MustParseAddr("10.77.0.61"), s.vips))
	(&dutiesSite{site: s.site}).voters(s.boxes[0], 3)

	first := s.boxes[4]
	s.await("the servers are seen", func() error {
		c, err := first.api.CheckMySQL(t.Context(), shopTag)
		if err != nil {
			return err
		}
		for _, x := range c.Servers {
			if x.Error != "" {
				return fmt.Errorf("%s: %s", x.Host, x.Error)
			}
		}
		if len(c.Servers) != len(s.members) {
			return fmt.Errorf("%d servers", len(c.Servers))
		}
		return nil
	})
	// On a machine that is busy a server may not answer in time, once.
	says := func(args ...string) (said string) {
		t.Helper()
		s.await("hostmesh mysql "+strings.Join(args, " "), func() error {
			out, errs, code := first.hostmesh(append([]string{"mysql"}, args...)...)
			if said = out + errs; code != 0 {
				return fmt.Errorf("%d %s", code, said)
			}
			return nil
		})
		return said
	}
	says("check", shopTag)
	grant := says("check", shopTag, "--grants")
	grants, err := mariadb.Grants(s.dbs["db1"].Accounts, []string{shopHosts})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range grants {
		if !strings.Contains(grant, g) {
			t.Errorf("hostmesh mysql check --grants does not print %q:\n%s", g, grant)
		}
	}
	t.Log(says("setup", shopTag, "--primary", "db1", "--apply"))
	s.settles()
	s.dbs["db1"].Exec("CREATE DATABASE shop", "CREATE TABLE shop.written (id BIGINT PRIMARY KEY, who INT)")
	s.writes = newDBWriters(s)
	s.reads = newDBReaders(s)
	s.writes.goesOn(time.Now())
	s.reads.goesOn(time.Now())
	t.Log(s.cli(first, "status", shopTag))
}

// addrOf is the address of a host.
func (s *dbSite) addrOf(host string) netip.Addr { return netip.MustParseAddr(s.box(host).addr) }

func (s *dbSite) link(host, state string) {
	s.t.Helper()
	s.must(exec.Command("ip", "link", "set", "to-"+host, state))
}

// text is the first column of the first row of what a host's server answers to root.
func (s *dbSite) text(host, query string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	var text sql.NullString
	if err := s.dbs[host].Root().QueryRowContext(ctx, query, args...).Scan(&text); err != nil {
		return "", fmt.Errorf("%s: %s: %w", host, query, err)
	}
	return text.String, nil
}

// replicas are the members but one.
func (s *dbSite) replicas(primary string) []string {
	return slices.DeleteFunc(slices.Clone(s.members), func(h string) bool { return h == primary })
}

// keepsUp waits until replicas are not behind: a planned change is refused otherwise.
func (s *dbSite) keepsUp() {
	s.t.Helper()
	s.await("replicas keep up", func() error {
		c, err := s.cluster()
		for _, x := range c.Servers {
			if x.LagMS != nil && *x.LagMS > 0 {
				return fmt.Errorf("%s is %d ms behind", x.Host, *x.LagMS)
			}
		}
		return err
	})
}
