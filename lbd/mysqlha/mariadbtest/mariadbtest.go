// Package mariadbtest starts real MariaDB servers for tests: each with a directory, a port and a socket of its own, on an address of the loopback or in a
// network namespace, with the accounts and the least privileges that a cluster has, and with the settings that one should have but for memory.
// All of them end with the test, and with its process.
//
// It leaves to tests what the servers are to each other. It needs mariadb-server: packaging/deps.sh test installs it.
package mariadbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadb"
)

// Patience bounds waits for a server: to start on a loaded machine with little memory takes tens of seconds.
const Patience = 90 * time.Second

// Options are how a server is to be. The zero value is a server on 127.0.0.1 with a free port.
type Options struct {
	// Name is for people: default db<ID>.
	Name string
	// ID is the server's id: default 1.
	ID uint32
	// Addr is where it listens: default 127.0.0.1. Port: default a free one.
	Addr string
	Port int
	// Space is the network namespace that it lives in; "" = that of the test.
	Space string
	// Settings are lines of its configuration, after those of Defaults.
	Settings []string
	// Writable has it start so that it takes writes; else it is read-only.
	Writable bool
	// TLS gives it a certificate, of an authority of its own, for Addr and for the addresses Known.
	TLS   bool
	Known []string
	// In is where its directory is made; "" = where temporary files are.
	In string
	// Files are the accounts; the zero value is Accounts(). Grants are their privileges, nil = mariadb.Grants.
	Accounts credentials.File
	Grants   []string
	// Hosts are from where the accounts come: default everywhere.
	Hosts []string
}

// Accounts are those that servers have by default.
func Accounts() credentials.File {
	return credentials.File{
		Admin:       credentials.Account{User: "hostmesh", Password: credentials.NewSecret("admin's \"password\"")},
		Replication: credentials.Account{User: "hostmesh_repl", Password: credentials.NewSecret("replica's")},
		Backup:      credentials.Account{User: "hostmesh_backup", Password: credentials.NewSecret("backup")},
	}
}

// Server is a server that runs, or did. Its methods fail the test where they cannot do what they say; they are for one goroutine at a time.
type Server struct {
	Name string
	ID   uint32
	Addr string
	Port int
	// Dir has all that is the server's: its Datadir, Config (my.cnf), Socket, PIDFile and Log.
	Dir, Datadir, Config, Socket, PIDFile, Log string
	// Accounts are as a file of credentials.d has them, with Server for those who run it.
	Accounts credentials.File
	t        testing.TB
	under    []string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has
	root     *sql.DB
}

// Start starts a server, and returns when it serves.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.ID == 0 {
		o.ID = 1
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("db%d", o.ID)
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1"
	}
	s := &Server{Name: o.Name, ID: o.ID, Addr: o.Addr, Port: o.Port, t: t, Accounts: o.Accounts}
	if o.Space != "" {
		s.under = []string{"ip", "netns", "exec", o.Space}
		if s.Port == 0 {
			s.Port = 3306
		}
	}
	if s.Port == 0 {
		s.Port = freePort(t, s.Addr)
	}
	if s.Accounts.Admin.User == "" {
		s.Accounts = Accounts()
	}
	// Not t.TempDir: a socket's path has 107 bytes at most, and names of tests are long.
	dir, err := os.MkdirTemp(o.In, "mdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, dir) })
	s.Dir, s.Datadir, s.Config = dir, filepath.Join(dir, "data"), filepath.Join(dir, "my.cnf")
	s.Socket, s.PIDFile, s.Log = filepath.Join(dir, "sock"), filepath.Join(dir, "pid"), filepath.Join(dir, "error.log")
	fresh(t, s.Datadir)
	settings := append(Defaults(s), o.Settings...)
	if o.TLS {
		settings = append(settings, s.certify(o.Known)...)
	}
	if err := os.WriteFile(s.Config, []byte("[mysqld]\n"+strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Accounts.Server = &credentials.Server{
		Port: uint16(s.Port), Socket: s.Socket, Datadir: s.Datadir, PIDFile: s.PIDFile, Log: s.Log, User: currentUser(t),
		Start: append(slices.Clone(s.under), program(t, "mariadbd"), "--defaults-file="+s.Config),
	}
	s.openRoot()
	t.Cleanup(s.end)
	first := []string{"--read-only=1"}
	if o.Writable {
		first = []string{"--read-only=0"}
	}
	s.Restart(first...)
	if o.Hosts == nil {
		o.Hosts = []string{"%"}
	}
	s.makeAccounts(o.Grants, o.Hosts)
	return s
}

// Defaults are the settings of a server: those of a cluster as it should be, little memory, and nothing that a test has no use for.
func Defaults(s *Server) []string {
	return []string{
		"datadir=" + s.Datadir, "socket=" + s.Socket, "pid-file=" + s.PIDFile, "log-error=" + s.Log, "tmpdir=" + s.Dir,
		fmt.Sprintf("port=%d", s.Port), "bind-address=" + s.Addr, fmt.Sprintf("server-id=%d", s.ID), "user=" + currentUser(s.t),
		"log-bin=binlog", "relay-log=relay", "log-slave-updates=1", "binlog-format=ROW", "gtid-strict-mode=1", "skip-slave-start", "skip-name-resolve", "slave-net-timeout=10",
		"rpl-semi-sync-master-wait-point=AFTER_SYNC", "rpl-semi-sync-master-timeout=315360000000", "rpl-semi-sync-master-wait-no-slave=ON",
		"innodb-flush-log-at-trx-commit=1", "sync-binlog=1",
		"innodb-buffer-pool-size=8M", "innodb-log-file-size=8M", "innodb-log-buffer-size=2M", "innodb-buffer-pool-dump-at-shutdown=0", "innodb-buffer-pool-load-at-startup=0",
		"key-buffer-size=256K", "aria-pagecache-buffer-size=1M", "performance-schema=0", "table-open-cache=200", "max-connections=60", "thread-cache-size=8",
	}
}

// Restart starts the server when it does not run, with arguments besides those of its configuration, and returns when it serves.
func (s *Server) Restart(args ...string) {
	s.t.Helper()
	s.Launch(args...)
	s.AwaitServing()
}

// Launch starts the server and does not wait until it serves.
func (s *Server) Launch(args ...string) {
	s.t.Helper()
	if s.Running() {
		s.t.Fatalf("%s runs already", s.Name)
	}
	start := append(slices.Clone(s.Accounts.Server.Start), args...)
	s.cmd = exec.Command(start[0], start[1:]...)
	// Its own group: an interrupt at a terminal is for the test, which ends it.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var out bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", s.Name, err)
	}
	ended := make(chan struct{})
	s.ended = ended
	cmd := s.cmd
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
}

// AwaitServing waits until the server answers at its socket, or fails the test with its log when it ended instead.
func (s *Server) AwaitServing() {
	s.t.Helper()
	limit := time.Now().Add(Patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := s.root.ExecContext(ctx, "DO 1") // a node of Galera answers pings before it serves
		cancel()
		if err == nil {
			return
		}
		if !s.Running() {
			s.t.Fatalf("%s ended instead of serving:\n%s", s.Name, s.Tail())
		}
		if time.Now().After(limit) {
			s.t.Fatalf("%s does not serve within %s: %v\n%s", s.Name, Patience, err, s.Tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Running reports whether the process is there.
func (s *Server) Running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// PID is that of the process; 0 = none runs.
func (s *Server) PID() int {
	if !s.Running() {
		return 0
	}
	return s.cmd.Process.Pid
}

// Ended is closed when the process that runs now has ended.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Signal sends one to the process.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("%s to %s: %v", sig, s.Name, err)
	}
}

// Freeze stops the process (SIGSTOP), and returns when each of its threads stands: until then one may still answer. Thaw lets it go on.
func (s *Server) Freeze() {
	s.t.Helper()
	s.Signal(syscall.SIGSTOP)
	for limit := time.Now().Add(Patience); !s.stands(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			s.t.Fatalf("%s is not stopped within %s", s.Name, Patience)
		}
	}
}

// stands reports whether all threads of the process are stopped.
func (s *Server) stands() bool {
	dir := fmt.Sprintf("/proc/%d/task", s.PID())
	threads, err := os.ReadDir(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(dir, thread.Name(), "stat"))
		if err != nil {
			return false // it ended meanwhile: look again
		}
		// "pid (name) T ...": the name may have parentheses itself.
		_, state, ok := strings.Cut(string(text[max(0, bytes.LastIndexByte(text, ')')):]), " ")
		if !ok || !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.t.Helper(); s.Signal(syscall.SIGCONT) }

// Kill ends the process with SIGKILL, and returns when it is gone.
func (s *Server) Kill() { s.t.Helper(); s.Signal(syscall.SIGKILL); <-s.ended }

// Stop ends the process in order.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(Patience):
		s.t.Fatalf("%s does not end within %s\n%s", s.Name, Patience, s.Tail())
	}
}

func (s *Server) end() {
	if s.Running() {
		// A frozen process ends by SIGKILL as well.
		_ = s.cmd.Process.Kill() // it may have ended this moment
		<-s.ended
	}
	_ = s.root.Close() // of a server that is gone
	if s.t.Failed() {
		s.t.Logf("log of %s (%s:%d):\n%s", s.Name, s.Addr, s.Port, s.Tail())
	}
}

// Tail are the last lines of its log.
func (s *Server) Tail() string {
	text, err := os.ReadFile(s.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (s *Server) makeAccounts(grants, hosts []string) {
	s.t.Helper()
	users, err := mariadb.Users(s.Accounts, hosts)
	if err == nil && grants == nil {
		grants, err = mariadb.Grants(s.Accounts, hosts)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	// Each server has them by itself: they are no transactions of the cluster.
	s.Exec(slices.Concat([]string{"SET sql_log_bin=0"}, users, grants)...)
}

func freePort(t testing.TB, addr string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%v: packaging/deps.sh test installs it", err)
		}
	}
	return path
}

func currentUser(t testing.TB) string {
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func remove(t testing.TB, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// template is an empty database, made once for a test binary.
type template struct {
	mu  sync.Mutex
	dir string
}

var made template

// Main runs the tests of a binary, and removes at the end what they share. It is for TestMain: os.Exit(mariadbtest.Main(m)). Without it
// each server makes its database anew, which takes a second.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mdbnew")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	made.dir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// fresh makes an empty database.
func fresh(t testing.TB, datadir string) {
	t.Helper()
	made.mu.Lock()
	defer made.mu.Unlock()
	if made.dir == "" {
		install(t, datadir)
		return
	}
	from := filepath.Join(made.dir, "data")
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		install(t, from)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, datadir).CombinedOutput(); err != nil {
		t.Fatalf("copy an empty database: %v\n%s", err, out)
	}
}

func install(t testing.TB, datadir string) {
	t.Helper()
	cmd := exec.Command(program(t, "mariadb-install-db"), "--no-defaults", "--datadir="+datadir, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--user="+currentUser(t), "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=8M")
	// Its temporary tables are named by the number of its process, which another has in a namespace of its own.
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(datadir))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make an empty database: %v\n%s", err, out)
	}
}

func (s *Server) openRoot() {
	s.t.Helper()
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.Logger = "root", "unix", s.Socket, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.root = sql.OpenDB(connector)
}
