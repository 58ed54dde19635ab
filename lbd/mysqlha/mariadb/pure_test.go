package mariadb

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, comment, flavour string
		want                   [3]int
	}{
		{"10.11.19-MariaDB-0+deb12u1-log", "Debian 12", "mariadb", [3]int{10, 11, 19}},
		{"5.5.5-10.6.4-MariaDB", "", "mariadb", [3]int{10, 6, 4}},
		{"10.5.9-MariaDB", "", "mariadb", [3]int{10, 5, 9}},
		{"11.8.2-MariaDB-ubu2404", "mariadb.org binary distribution", "mariadb", [3]int{11, 8, 2}},
		{"8.0.26", "MySQL Community Server - GPL", "mysql", [3]int{8, 0, 26}},
		{"8.4.3-3", "Percona Server (GPL), Release 3", "mysql", [3]int{8, 4, 3}},
	} {
		v, err := parseVersion(c.text, c.comment)
		if err != nil || v.flavour != c.flavour || v.numbers != c.want {
			t.Errorf("%q: %+v, %v", c.text, v, err)
		}
	}
	for _, c := range []struct{ text, comment, want string }{
		{"10.5.8-MariaDB", "", "10.5.9 is the oldest"},
		{"10.4.34-MariaDB-log", "", "upgrade"},
		{"5.5.5-10.3.39-MariaDB", "", "10.5.9 is the oldest"},
		{"5.7.44-log", "MySQL Community Server", "8.0.26 is the oldest"},
		{"8.0.25", "MySQL Community Server", "8.0.26 is the oldest"},
		{"8.0.11-TiDB-v7.5.0", "TiDB Server", "leads MariaDB"},
		{"8.0.mysql_aurora.3.04.0", "Source distribution", "leads MariaDB"},
		{"", "", "expected a version"},
		{"10.11-MariaDB", "", "expected a version"},
		{"ten.eleven.nine", "", "expected a version"},
		{"-1.0.0", "", "expected a version"},
	} {
		if _, err := parseVersion(c.text, c.comment); !errors.Is(err, mysqlha.ErrFlavour) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; it should say %q", c.text, err, c.want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("10.11.19-MariaDB", "Debian 12")
	f.Add("5.5.5-10.6.4-MariaDB", "")
	f.Fuzz(func(t *testing.T, text, comment string) {
		v, err := parseVersion(text, comment)
		if err != nil && !errors.Is(err, mysqlha.ErrFlavour) || err == nil && !v.atLeast(8, 0, 26) {
			t.Errorf("%q: %+v, %v", text, v, err)
		}
	})
}

// unquote reads a literal as a server does that has NO_BACKSLASH_ESCAPES: the text, and what follows.
func unquote(sql string, quote byte) (text, rest string, ok bool) {
	if sql == "" || sql[0] != quote {
		return "", sql, false
	}
	for i := 1; i < len(sql); i++ {
		if sql[i] != quote {
			text += sql[i : i+1]
			continue
		}
		if i+1 < len(sql) && sql[i+1] == quote {
			text += string(quote)
			i++
			continue
		}
		return text, sql[i+1:], true
	}
	return "", "", false
}

func FuzzQuotes(f *testing.F) {
	for _, s := range []string{"", "'", "''", `\'`, `a'; DROP TABLE x; -- `, "`", "a``b", "\x00", "\xff", "…", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := literal(s); err == nil {
			if got, rest, ok := unquote(q, '\''); !ok || got != s || rest != "" {
				t.Errorf("%q becomes %s, which is %q and %q", s, q, got, rest)
			}
		} else if !errors.Is(err, ErrUnquotable) {
			t.Errorf("%q: %v", s, err)
		}
		if q, err := name(s); err == nil {
			if got, rest, ok := unquote(q, '`'); !ok || got != s || rest != "" {
				t.Errorf("name %q becomes %s, which is %q and %q", s, q, got, rest)
			}
		}
	})
}

func FuzzCheckPosition(f *testing.F) {
	f.Add("0-1-2,1-2-3")
	f.Add("0-1-2') --")
	f.Fuzz(func(t *testing.T, s string) {
		for _, flavour := range []string{flavourMariaDB, flavourMySQL} {
			if checkPosition(flavour, s) == nil && strings.ContainsAny(s, "'\"\\` ()\x00\n") {
				t.Errorf("%q is taken for a position", s)
			}
		}
	})
}

func TestErrorsHaveTheirMeaning(t *testing.T) {
	t.Parallel()
	s := &Server{addr: "10.0.0.1:3306"}
	said := func(n uint16) error { return &mysql.MySQLError{Number: n, Message: "as the server says"} }
	for _, c := range []struct {
		err, want error
		text      string
	}{
		{said(1040), mysqlha.ErrSaturated, "as the server says"},
		{said(1203), mysqlha.ErrSaturated, "MAX_USER_CONNECTIONS"},
		{said(1044), mysqlha.ErrDenied, ""},
		{said(1045), mysqlha.ErrDenied, "credentials.d"},
		{said(1130), mysqlha.ErrDenied, "grants"},
		{said(1129), mysqlha.ErrDenied, "FLUSH HOSTS"},
		{said(1227), mysqlha.ErrDenied, "grants"},
		{said(1698), mysqlha.ErrDenied, ""},
		{said(4151), mysqlha.ErrDenied, "UNLOCK"},
		{said(1236), mysqlha.ErrMissingLog, ""},
		{said(1593), mysqlha.ErrMissingLog, ""},
		{said(1053), mysqlha.ErrUnreachable, ""},
		{said(1317), mysqlha.ErrUnreachable, ""},
		{said(1969), mysqlha.ErrUnreachable, ""},
		{said(1290), nil, "as the server says"},
		{said(1064), nil, "as the server says"},
		{mysql.ErrInvalidConn, mysqlha.ErrUnreachable, "invalid connection"},
		{io.EOF, mysqlha.ErrUnreachable, ""},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, mysqlha.ErrUnreachable, "refused"},
		{context.DeadlineExceeded, mysqlha.ErrUnreachable, ""},
		{context.Canceled, mysqlha.ErrUnreachable, ""},
		{x509.UnknownAuthorityError{}, mysqlha.ErrDenied, ""},
		{mysql.ErrNoTLS, mysqlha.ErrDenied, ""},
		{fmt.Errorf("x: %w", mysqlha.ErrFlavour), mysqlha.ErrFlavour, ""},
	} {
		got := s.fail("do that", c.err)
		if !errors.Is(got, c.err) || !strings.HasPrefix(got.Error(), "do that at 10.0.0.1:3306: ") || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%v becomes %v", c.err, got)
		}
		for _, is := range []error{mysqlha.ErrUnreachable, mysqlha.ErrSaturated, mysqlha.ErrDenied, mysqlha.ErrFlavour, mysqlha.ErrMissingLog, mysqlha.ErrPurge} {
			if errors.Is(got, is) != (is == c.want) {
				t.Errorf("%v: is it %q? %t", got, is, errors.Is(got, is))
			}
		}
	}
	if s.fail("do that", nil) != nil {
		t.Error("nil becomes an error")
	}
	for n, want := range map[int]error{2003: mysqlha.ErrUnreachable, 2013: mysqlha.ErrUnreachable, 2026: mysqlha.ErrUnreachable, 1236: mysqlha.ErrMissingLog, 13114: mysqlha.ErrMissingLog, 1062: nil} {
		if got := sentinelOf(n); got != want {
			t.Errorf("a replica's error %d is %v, and not %v", n, got, want)
		}
	}
	if got := causeOf(&mysqlha.Replication{IOErrno: 1597, IOError: "COM_REGISTER_SLAVE failed: Access denied (Errno: 1045)"}); got != 1045 {
		t.Errorf("cause is %d", got)
	}
}

func accounts() credentials.File {
	return credentials.File{
		Admin:       credentials.Account{User: "hostmesh", Password: credentials.NewSecret("a")},
		Replication: credentials.Account{User: "repl", Password: credentials.NewSecret(`it's\`)},
		Backup:      credentials.Account{User: "backup", Password: credentials.NewSecret("b")},
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("10.0.0.1")
	noReplication, quoted, noFile := accounts(), accounts(), accounts()
	noReplication.Replication = credentials.Account{}
	quoted.Admin.User = "a'b"
	noFile.TLS = &credentials.TLS{CA: "/no/such/file", Verify: credentials.VerifyIdentity}
	for name, c := range map[string]Config{
		"no address": DefaultConfig(netip.Addr{}, 3306, accounts()), "port 0": DefaultConfig(addr, 0, accounts()), "port": DefaultConfig(addr, 70000, accounts()),
		"no account": DefaultConfig(addr, 3306, noReplication), "quote": DefaultConfig(addr, 3306, quoted), "no CA": DefaultConfig(addr, 3306, noFile),
	} {
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "database server") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatementsOfFollow(t *testing.T) {
	t.Parallel()
	source := mysqlha.Source{Name: "db1", Host: "10.0.0.1", Port: 3306}
	encrypted := &credentials.TLS{CA: "/etc/ca's.pem", Cert: "/c", Key: "/k", Verify: credentials.VerifyIdentity}
	for name, c := range map[string]struct {
		d       dialect
		tls     *credentials.TLS
		demoted bool
		want    []string
	}{
		"MariaDB": {maria(version{flavourMariaDB, [3]int{10, 11, 0}}), nil, false, []string{
			"STOP SLAVE",
			`CHANGE MASTER TO MASTER_HOST = '10.0.0.1', MASTER_PORT = 3306, MASTER_USER = 'repl', MASTER_PASSWORD = 'it''s\', MASTER_HEARTBEAT_PERIOD = 0.25, MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0, MASTER_USE_GTID = slave_pos`,
			"START SLAVE",
		}},
		"MariaDB, demoted, TLS": {maria(version{flavourMariaDB, [3]int{10, 11, 0}}), encrypted, true, []string{
			"STOP SLAVE",
			`CHANGE MASTER TO MASTER_HOST = '10.0.0.1', MASTER_PORT = 3306, MASTER_USER = 'repl', MASTER_PASSWORD = 'it''s\', MASTER_HEARTBEAT_PERIOD = 0.25, MASTER_CONNECT_RETRY = 1, MASTER_SSL = 1, MASTER_SSL_CA = '/etc/ca''s.pem', MASTER_SSL_CERT = '/c', MASTER_SSL_KEY = '/k', MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_USE_GTID = slave_pos, MASTER_DEMOTE_TO_SLAVE = 1`,
			"START SLAVE",
		}},
		"MariaDB 10.5, demoted": {maria(version{flavourMariaDB, [3]int{10, 5, 9}}), nil, true, []string{
			"STOP SLAVE", "SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos",
			`CHANGE MASTER TO MASTER_HOST = '10.0.0.1', MASTER_PORT = 3306, MASTER_USER = 'repl', MASTER_PASSWORD = 'it''s\', MASTER_HEARTBEAT_PERIOD = 0.25, MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0, MASTER_USE_GTID = slave_pos`,
			"START SLAVE",
		}},
		"MySQL": {mysql8(version{flavourMySQL, [3]int{8, 0, 26}}), nil, true, []string{
			"STOP REPLICA",
			`CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.0.0.1', SOURCE_PORT = 3306, SOURCE_USER = 'repl', SOURCE_PASSWORD = 'it''s\', SOURCE_HEARTBEAT_PERIOD = 0.25, SOURCE_CONNECT_RETRY = 1, SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION = 1`,
			"START REPLICA",
		}},
		"MySQL, TLS": {mysql8(version{flavourMySQL, [3]int{8, 4, 0}}), &credentials.TLS{CA: "/ca", Verify: credentials.VerifyCA}, false, []string{
			"STOP REPLICA",
			`CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.0.0.1', SOURCE_PORT = 3306, SOURCE_USER = 'repl', SOURCE_PASSWORD = 'it''s\', SOURCE_HEARTBEAT_PERIOD = 0.25, SOURCE_CONNECT_RETRY = 1, SOURCE_SSL = 1, SOURCE_SSL_CA = '/ca', SOURCE_SSL_VERIFY_SERVER_CERT = 0, SOURCE_AUTO_POSITION = 1`,
			"START REPLICA",
		}},
	} {
		got, err := c.d.follow(source, accounts().Replication, c.tls, c.demoted)
		if err != nil || strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %v\n%s\nexpected\n%s", name, err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		for _, bad := range []mysqlha.Source{{Host: "db1", Port: 3306}, {Host: "10.0.0.1', MASTER_SSL = 0 -- ", Port: 1}, {Host: "10.0.0.1"}, {Host: "fe80::1%eth0", Port: 1}, {Port: 1}} {
			if _, err := c.d.follow(bad, accounts().Replication, nil, false); err == nil {
				t.Errorf("%s: follows %+v", name, bad)
			}
		}
	}
}

// TestAnAnswerThatBreaksOffIsNoFlavour has a server be told from one that lacks a variable when only its answer was cut short.
func TestAnAnswerThatBreaksOffIsNoFlavour(t *testing.T) {
	t.Parallel()
	o := &observer{d: maria(version{})}
	if err := o.complete(context.DeadlineExceeded); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, mysqlha.ErrFlavour) {
		t.Errorf("an answer that broke off: %v", err)
	}
	if err := o.complete(nil); !errors.Is(err, mysqlha.ErrFlavour) {
		t.Errorf("one that has none of the variables: %v", err)
	}
	o.names = []string{"server_id", "max_connections", o.d.readOnlyName, o.d.sourceName, o.d.ackerName}
	if err := o.complete(nil); err != nil {
		t.Errorf("one that has all: %v", err)
	}
}
