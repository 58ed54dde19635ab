package mariadb_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/check"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestChecksAreQuiet: a server whose readers are checked writes nothing into its log for that, with the user that Grants makes, and never blocks the box that checks it. Without
// that user it writes a line for each; it does not block then either.
func TestChecksAreQuiet(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	b := mariadbtest.NewBoxes(t, 1)
	// Only of hosts whose names it looks up does a server count errors.
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "127.0.0.1 localhost\n"+mariadbtest.HostAddr+" checker.example\n")
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	s := b.Start(1, mariadbtest.Options{Settings: []string{"skip-name-resolve=0", "max-connect-errors=5", "log-warnings=2"}})
	log := func() string {
		text, err := os.ReadFile(s.Log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	target := check.Target{Addr: netip.MustParseAddr(s.Addr), Port: uint16(s.Port), Proto: "tcp"}
	const checks = 100
	try := func() string {
		before := len(log())
		for i := range checks {
			if err := (check.MySQL{}).Probe(ctx(t), target); err != nil {
				t.Fatalf("check %d: %v", i, err)
			}
		}
		m := open(t, s, s.Accounts)
		if err := m.Ping(ctx(t)); err != nil {
			t.Fatalf("after %d checks the box is not let in any more: %v", checks, err)
		}
		return log()[before:]
	}
	if said := try(); said != "" {
		t.Errorf("the server says of %d checks:\n%.2000s", checks, said)
	}
	s.Exec("SET sql_log_bin = 0", "DROP USER 'hostmesh-check'@'%'")
	if n := strings.Count(try(), "Access denied"); n != checks {
		t.Errorf("without the user %d lines were written of %d checks: the test shows nothing", n, checks)
	}
	for range 10 { // who hangs up on the greeting is blocked, so the server does count
		c, err := net.Dial("tcp", netip.AddrPortFrom(target.Addr, target.Port).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	var err error
	for range 100 { // the server hears of the last ones a little later
		if err = (check.MySQL{}).Probe(ctx(t), target); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil || !strings.Contains(err.Error(), "1129") {
		t.Errorf("a box that hung up ten times is told %v: the test shows nothing of boxes that are blocked", err)
	}
}
