package mariadb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hostmesh/lbd/mysqlha/credentials"
)

// ErrUnquotable is returned for a text that cannot stand in a statement.
var ErrUnquotable = errors.New("cannot stand in a statement")

// Privileges that the accounts need, of MariaDB 10.5.9 and later, where SUPER is split. SUPER itself is not among them: a variable that only SUPER sets
// is for the server's file, and Apply says so.
var (
	adminPrivileges = []string{
		"PROCESS",                  // Observe counts clients, EndClients finds them
		"RELOAD",                   // Leave: RESET SLAVE, FLUSH BINARY LOGS
		"CONNECTION ADMIN",         // EndClients ends those of others; and one connection more than max_connections, where all are taken
		"READ_ONLY ADMIN",          // SetReadOnly
		"BINLOG ADMIN",             // Apply: binlog_format, sync_binlog
		"REPLICATION MASTER ADMIN", // SetSource; Apply: semi-sync's settings at the source, gtid_strict_mode
		"REPLICATION SLAVE ADMIN",  // SetAcker, StartSQL, StopIO, Start, Leave, Follow
		"SLAVE MONITOR",            // Observe: SHOW ALL SLAVES STATUS
	}
	replicationPrivileges = []string{"REPLICATION SLAVE"}
	backupPrivileges      = []string{
		"SELECT",                  // Checksum
		"RELOAD",                  // mariadb-backup: BACKUP STAGE
		"PROCESS",                 // mariadb-backup looks at InnoDB's state
		"BINLOG MONITOR",          // mariadb-backup notes the position
		"SLAVE MONITOR",           // mariadb-backup --slave-info
		"REPLICATION SLAVE ADMIN", // mariadb-backup --safe-slave-backup stops the SQL thread, and starts it again
	}
	// dumpPrivileges are what the account of clones needs besides where mariadb-backup is not installed, for mariadb-dump. TRIGGER and EVENT allow to make such, too: so they are not given
	// to a cluster that has no use for them.
	dumpPrivileges = []string{
		"SHOW VIEW", // definitions of views
		"TRIGGER",   // --triggers
		"EVENT",     // --events
	}
	// ownHosts are what a server calls its own host: there a clone is made of it, by its socket or by the loopback. A pattern of a network has neither in it.
	ownHosts = []string{"localhost", "127.0.0.1"}
	// pinged is the table that Ping reads. It has names of tables, and how large they are.
	pinged = "mysql.innodb_table_stats"
	// checkUser is whom checks of ReadVIP ask to log in as (lbd/check). It is locked and has no privilege: the server refuses it without a line in its log.
	checkUser = "hostmesh-check"
)

// Grants are the least that the accounts need, as statements without secrets, the same for each server of a cluster. hosts are from where
// they come: addresses of the nodes, or patterns such as 10.0.0.%; the account of clones comes from the server's own host as well. The users exist by then: Users. The one that nobody can log in as is made here. ErrUnquotable.
func Grants(f credentials.File, hosts []string) ([]string, error) {
	var out []string
	err := eachUser(f, hosts, func(user string, privileges []string, admin bool, _ credentials.Account) error {
		out = append(out, fmt.Sprintf("GRANT %s ON *.* TO %s", strings.Join(privileges, ", "), user))
		if admin {
			out = append(out, fmt.Sprintf("GRANT SELECT ON %s TO %s", pinged, user))
		}
		return nil
	})
	for _, host := range hosts {
		from, err2 := literal(host)
		if err2 != nil {
			return out, errors.Join(err, err2)
		}
		out = append(out, fmt.Sprintf("CREATE USER IF NOT EXISTS '%s'@%s ACCOUNT LOCK", checkUser, from))
	}
	return out, err
}

// DumpGrants are what the account of clones needs besides Grants where mariadb-backup is not installed, so that copies are dumps. ErrUnquotable.
func DumpGrants(f credentials.File, hosts []string) ([]string, error) {
	var out []string
	err := eachUser(f, hosts, func(user string, _ []string, _ bool, a credentials.Account) error {
		if a.User == f.Backup.User {
			out = append(out, fmt.Sprintf("GRANT %s ON *.* TO %s", strings.Join(dumpPrivileges, ", "), user))
		}
		return nil
	})
	return out, err
}

// Users are the statements that make the accounts. They HAVE THE PASSWORDS: they are for a server, and for nobody's eyes. An account that is there gets the
// file's password. Where the file has TLS the accounts are let in by nothing else. The statements are for one session, which is not used for others after that.
func Users(f credentials.File, hosts []string) ([]string, error) {
	out := []string{plainQuotes}
	require := ""
	if f.TLS != nil {
		require = " REQUIRE SSL"
	}
	err := eachUser(f, hosts, func(user string, _ []string, _ bool, a credentials.Account) error {
		password, err := literal(a.Password.Reveal())
		if err != nil {
			return fmt.Errorf("password of %s: %w", a.User, err)
		}
		out = append(out, fmt.Sprintf("CREATE USER IF NOT EXISTS %s", user), fmt.Sprintf("ALTER USER %s IDENTIFIED BY %s%s", user, password, require))
		return nil
	})
	return out, err
}

func eachUser(f credentials.File, hosts []string, do func(user string, privileges []string, admin bool, a credentials.Account) error) error {
	list := []struct {
		account    credentials.Account
		privileges []string
		admin      bool
		clones     bool
	}{{f.Admin, adminPrivileges, true, false}, {f.Replication, replicationPrivileges, false, false}, {f.Backup, backupPrivileges, false, true}}
	if f.Backup.User == f.Admin.User {
		both := slices.Concat(adminPrivileges, backupPrivileges)
		slices.Sort(both)
		list[0].privileges, list[0].clones = slices.Compact(both), true
		list = list[:2]
	}
	for _, l := range list {
		from := slices.Clone(hosts)
		for _, own := range ownHosts {
			if l.clones && !slices.Contains(hosts, own) && !slices.Contains(hosts, "%") {
				from = append(from, own)
			}
		}
		for _, host := range from {
			user, err := literal(l.account.User)
			if err != nil {
				return err
			}
			from, err := literal(host)
			if err != nil {
				return err
			}
			if err := do(user+"@"+from, l.privileges, l.admin, l.account); err != nil {
				return err
			}
		}
	}
	return nil
}
