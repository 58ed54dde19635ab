package mariadb_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// uses is one use of each method of a Server: what needs privileges.
func uses(t *testing.T, m *member, source mysqlha.Source) map[string]func() error {
	s := m.server
	return map[string]func() error{
		"Observe":     func() error { _, err := s.Observe(ctx(t)); return err },
		"Ping":        func() error { return s.Ping(ctx(t)) },
		"Hold":        func() error { c, cancel := context.WithCancel(ctx(t)); cancel(); return s.Hold(c) },
		"SetReadOnly": func() error { return errors.Join(s.SetReadOnly(ctx(t), false), s.SetReadOnly(ctx(t), true)) },
		"Open": func() error {
			return errors.Join(s.SetSource(ctx(t), true), s.Open(ctx(t)), s.SetReadOnly(ctx(t), true), s.SetSource(ctx(t), false))
		},
		"SetSource": func() error { return errors.Join(s.SetSource(ctx(t), true), s.SetSource(ctx(t), false)) },
		"SetAcker":  func() error { return errors.Join(s.SetAcker(ctx(t), true), s.SetAcker(ctx(t), false)) },
		"Follow": func() error {
			return errors.Join(s.Follow(ctx(t), source, false), s.StopIO(ctx(t)), s.StartSQL(ctx(t)), s.Start(ctx(t)), s.Leave(ctx(t)))
		},
		"Leave":       func() error { return s.Leave(ctx(t)) },
		"WaitApplied": func() error { return s.WaitApplied(ctx(t), "") },
		"EndClients": func() error {
			alive := m.Client()
			n, err := s.EndClients(ctx(t))
			if err == nil && (n == 0 || alive()) {
				err = fmt.Errorf("%d clients ended, and one lives", n)
			}
			return err
		},
		"Apply": func() error {
			want := []mysqlha.Setting{
				{Name: "sync_binlog", Want: "1"}, {Name: "binlog_format", Want: "ROW"}, {Name: "gtid_strict_mode", Want: "ON"},
				{Name: "rpl_semi_sync_master_wait_point", Want: "AFTER_SYNC"}, {Name: "rpl_semi_sync_master_timeout", Want: "4294967295"},
				{Name: "rpl_semi_sync_master_wait_no_slave", Want: "ON"}, {Name: "slave_net_timeout", Want: "10"}, {Name: "sync_relay_log", Want: "10000"},
				{Name: "max_connections", Want: "60"}, {Name: "rpl_semi_sync_slave_kill_conn_timeout", Want: "1"},
			}
			restart, err := s.Apply(ctx(t), want)
			if len(restart) > 0 {
				err = errors.Join(err, fmt.Errorf("not applied: %+v", restart))
			}
			return err
		},
		"Checksum": func() error {
			sums, err := s.Checksum(ctx(t), nil, 1)
			if err == nil && len(sums.Tables) == 0 {
				err = errors.New("no checksums")
			}
			return err
		},
		"Backup": func() error {
			// A clone is of a replica.
			if err := s.Follow(ctx(t), source, false); err != nil {
				return err
			}
			return errors.Join(backup(t, m), s.Leave(ctx(t)))
		},
	}
}

// backup has mariadb-backup copy a replica as a clone does.
func backup(t *testing.T, m *member) error {
	a := m.real.Accounts.Backup
	defaults := filepath.Join(t.TempDir(), "backup.cnf")
	write(t, defaults, "[client]\nuser="+a.User+"\npassword=\""+a.Password.Reveal()+"\"\nhost="+m.real.Addr+"\n"+fmt.Sprintf("port=%d\nprotocol=tcp\n", m.real.Port))
	cmd := exec.CommandContext(ctx(t), "mariadb-backup", "--defaults-file="+m.real.Config, "--defaults-extra-file="+defaults, "--backup", "--stream=mbstream", "--slave-info",
		"--safe-slave-backup", "--safe-slave-backup-timeout=10", "--datadir="+m.real.Datadir, "--target-dir="+t.TempDir())
	// The extra file must be the first argument.
	cmd.Args[1], cmd.Args[2] = cmd.Args[2], cmd.Args[1]
	cmd.Args = slices.Delete(cmd.Args, 2, 3)
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Run()
	if err != nil || !strings.Contains(said.String(), "completed OK") {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("mariadb-backup: %w: %s", errors.Join(err, errors.New("not completed OK")), strings.Join(lines[max(0, len(lines)-3):], "; "))
	}
	return nil
}

// TestGrantsAreEnoughAndNoneIsTooMuch has every method work with exactly the grants, and some method fail without each of them.
func TestGrantsAreEnoughAndNoneIsTooMuch(t *testing.T) {
	t.Parallel()
	w := &world{}
	p, m := w.add(t), w.add(t)
	if err := m.server.SetReadOnly(ctx(t), true); err != nil {
		t.Fatal(err)
	}
	try := func() (failed []string) {
		for name, use := range uses(t, m, p.Source()) {
			if err := use(); err != nil {
				failed = append(failed, fmt.Sprintf("%s: %v", name, err))
			}
		}
		return failed
	}
	if failed := try(); len(failed) > 0 {
		t.Fatalf("with all grants:\n%s", strings.Join(failed, "\n"))
	}
	grants, err := mariadb.Grants(m.real.Accounts, []string{"%"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, grant := range grants {
		if strings.HasPrefix(grant, "CREATE USER ") {
			continue
		}
		list, to, ok := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
		on, who, ok2 := strings.Cut(to, " TO ")
		if !ok || !ok2 {
			t.Fatalf("grant is %q", grant)
		}
		for privilege := range strings.SplitSeq(list, ", ") {
			if privilege == "REPLICATION SLAVE" {
				continue // of the other server: below
			}
			n++
			m.real.Exec("SET sql_log_bin = 0", "REVOKE "+privilege+" ON "+on+" FROM "+who)
			reopen(t, m)
			failed := try()
			if len(failed) == 0 {
				t.Errorf("all works without %s on %s for %s", privilege, on, who)
			}
			m.real.Exec("SET sql_log_bin = 0", "GRANT "+privilege+" ON "+on+" TO "+who)
			reopen(t, m)
			t.Logf("without %s on %s for %s: %d fail, such as %.200s", privilege, on, who, len(failed), strings.Join(failed, "; "))
		}
	}
	if n < 10 {
		t.Errorf("%d privileges were tried", n)
	}
	t.Run("dump", func(t *testing.T) { dumps(t, m) })
	p.real.Exec("SET sql_log_bin = 0", "REVOKE REPLICATION SLAVE ON *.* FROM '"+p.real.Accounts.Replication.User+"'@'%'")
	if err := m.server.Follow(ctx(t), p.Source(), false); !errors.Is(err, mysqlha.ErrDenied) {
		t.Errorf("follows without REPLICATION SLAVE: %v", err)
	}
}

// dumpArguments are those of a clone by mariadb-dump.
var dumpArguments = []string{"--all-databases", "--single-transaction", "--quick", "--gtid", "--master-data=2", "--routines", "--events", "--triggers", "--hex-blob", "--flush-privileges"}

// dumps has mariadb-dump copy a server as a clone does, with exactly the grants of that, and fail, or leave something out, without each of those that it needs besides.
func dumps(t *testing.T, m *member) {
	m.real.Exec("SET sql_log_bin = 0", "CREATE VIEW shop.shop_words AS SELECT word FROM shop.ledger", "CREATE TRIGGER shop.shop_ticks BEFORE INSERT ON shop.ledger FOR EACH ROW SET NEW.word = 'x'",
		"CREATE EVENT shop.shop_never ON SCHEDULE EVERY 1 YEAR DISABLE DO DO 1", "CREATE PROCEDURE shop.shop_nothing() DO 1")
	dump := func() string {
		a := m.real.Accounts.Backup
		defaults := filepath.Join(t.TempDir(), "dump.cnf")
		write(t, defaults, "[client]\nuser="+a.User+"\npassword=\""+a.Password.Reveal()+"\"\nsocket="+m.real.Socket+"\n")
		cmd := exec.CommandContext(ctx(t), "mariadb-dump", append([]string{"--defaults-extra-file=" + defaults}, dumpArguments...)...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, said.String())
		}
		for _, part := range []string{"gtid_slave_pos", "shop_words", "shop_ticks", "shop_never", "shop_nothing", "Dump completed"} {
			if !strings.Contains(string(out), part) {
				return part + " is not in the dump"
			}
		}
		return ""
	}
	if dump() == "" {
		t.Error("without the grants for dumps all is dumped")
	}
	grants, err := mariadb.DumpGrants(m.real.Accounts, []string{"%"})
	must(t, err)
	m.real.Exec(append([]string{"SET sql_log_bin = 0"}, grants...)...)
	if failed := dump(); failed != "" {
		t.Fatalf("with all grants: %s", failed)
	}
	list, to, _ := strings.Cut(strings.TrimPrefix(grants[0], "GRANT "), " ON *.* TO ")
	for privilege := range strings.SplitSeq(list, ", ") {
		m.real.Exec("SET sql_log_bin = 0", "REVOKE "+privilege+" ON *.* FROM "+to)
		failed := dump()
		if failed == "" {
			t.Errorf("all is dumped without %s", privilege)
		}
		m.real.Exec("SET sql_log_bin = 0", "GRANT "+privilege+" ON *.* TO "+to)
		t.Logf("without %s: %.200s", privilege, failed)
	}
}

// reopen has the connections know of new privileges.
func reopen(t *testing.T, m *member) { m.server = open(t, m.real, m.real.Accounts) }

func TestGrantsOfOneAccount(t *testing.T) {
	t.Parallel()
	f := mariadbtest.Accounts()
	f.Backup = f.Admin
	grants, err := mariadb.Grants(f, []string{"10.0.0.1", "10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(grants, "\n")
	if strings.Count(text, "'hostmesh'@'10.0.0.1'") != 2 || strings.Count(text, "'hostmesh_repl'@'10.0.0.2'") != 1 || strings.Count(text, "PROCESS,") != 4 ||
		strings.Count(text, "'hostmesh'@'localhost'") != 2 || strings.Contains(text, "'hostmesh_repl'@'localhost'") {
		t.Errorf("grants are\n%s", text)
	}
	for _, secret := range []string{f.Admin.Password.Reveal(), f.Replication.Password.Reveal()} {
		if strings.Contains(text, secret) {
			t.Errorf("grants have a password:\n%s", text)
		}
	}
	if _, err := mariadb.Grants(f, []string{"10.0.0.\x00"}); !errors.Is(err, mariadb.ErrUnquotable) {
		t.Errorf("a host with a zero byte: %v", err)
	}
}
