package mariadb

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
)

// dialect is what a flavour is told, as statements, and what its answers are called. It is pure.
type dialect struct {
	v version
	// readOnly sets what its name says, and writable clears it, until a moment of the server's clock; open does so only while the server waits for acknowledgements, and noSource switches
	// that off only while it is read-only.
	readOnly, noSource      string
	writable, open          func(limit int64) string
	startSQL, stopIO, start string
	// startUntil runs a statement that starts threads until a moment of the server's clock, and is an error after that; nil = whenever it comes, for nothing is dropped by it.
	startUntil func(statement string, limit int64) string
	leave      []string
	// wait returns 0 once a position was applied, another number after a while.
	wait func(position string, limit time.Duration) string
	// follow are the statements of Follow, from a server that may follow another by now. They need plainQuotes where that is not empty, and have secrets.
	follow func(s mysqlha.Source, a credentials.Account, t *credentials.TLS, demoted bool) ([]string, error)
	// until has a replica that was told whom it follows go on to a position, and stop there.
	until func(position string) string
	// snapshot are the statements that begin one, without locks that last, and ended those that release what they hold. at is the position of the one that a session has; sure is false
	// where another is to be begun a moment later.
	snapshot, ended []string
	at              func(ctx context.Context, c session) (position string, sure bool, err error)
	// limit bounds each statement of the session from now on; 0 = not any more. nil = the flavour cannot.
	limit func(time.Duration) string
	// positions are expressions: see Facts.Binlog and Current.
	binlog, current string
	// replica shows how it follows, with the columns of columns, by what mysqlha calls them.
	replica string
	columns map[string]string
	// heartbeats is a query for the count and the period, for a flavour whose replica does not show them; "".
	heartbeats string
	// status are the counters that Observe reads: enabled, clients, waiting; and uptime, connections.
	status map[string]string
	// since asks, in one statement, for the time by the server's clock and for its uptime, which is what that clock has gone since its process began, whatever was done to it: so their difference never changes.
	since string
	// readOnlyName, sourceName and ackerName are the variables.
	readOnlyName, sourceName, ackerName string
	// settings are what Check looks at, besides.
	settings []string
	// processes is the table of connections; kill are the statements that end some.
	processes string
	kill      func(ids []int64) []string
	// purges says that starting the thread that applies, when both are stopped, drops what was received.
	purges bool
}

// writableUntil clears read_only before a moment of the server's clock, where a condition holds.
func writableUntil(condition string) func(int64) string {
	return func(limit int64) string {
		return fmt.Sprintf("SET GLOBAL read_only = IF(%s%s, 0, @@global.read_only)", condition, before(limit))
	}
}

// maria is MariaDB's.
func maria(v version) dialect {
	return dialect{
		v:            v,
		readOnly:     "SET GLOBAL read_only = 1",
		writable:     writableUntil(""),
		open:         writableUntil("@@global.rpl_semi_sync_master_enabled AND "),
		noSource:     "SET GLOBAL rpl_semi_sync_master_enabled = IF(@@global.read_only, 0, @@global.rpl_semi_sync_master_enabled)",
		readOnlyName: "read_only", sourceName: "rpl_semi_sync_master_enabled", ackerName: "rpl_semi_sync_slave_enabled",
		startSQL: "START SLAVE SQL_THREAD", stopIO: "STOP SLAVE IO_THREAD", start: "START SLAVE",
		startUntil: func(statement string, limit int64) string {
			return fmt.Sprintf("BEGIN NOT ATOMIC IF %s THEN %s; ELSE SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'it came too late'; END IF; END", before(limit), statement)
		},
		// A replica's place is looked for from the beginning of a file: whoever follows this one next need not wait for that.
		leave: []string{"STOP SLAVE", "RESET SLAVE ALL", "FLUSH LOCAL BINARY LOGS"},
		wait: func(position string, limit time.Duration) string {
			return fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %s)", position, seconds(limit))
		},
		follow: func(s mysqlha.Source, a credentials.Account, t *credentials.TLS, demoted bool) ([]string, error) {
			change, err := changeSource(s, a, t, "MASTER_")
			if err != nil {
				return nil, err
			}
			before := []string{"STOP SLAVE"}
			use := ", MASTER_USE_GTID = slave_pos"
			if demoted && v.atLeast(10, 10, 0) {
				use += ", MASTER_DEMOTE_TO_SLAVE = 1"
			} else if demoted {
				// What MASTER_DEMOTE_TO_SLAVE does, for those that do not have it: what it wrote itself counts as applied.
				before = append(before, "SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos")
			}
			return append(before, "CHANGE MASTER TO "+change+use, "START SLAVE"), nil
		},
		until: func(position string) string {
			return "START SLAVE UNTIL master_gtid_pos = '" + position + "'"
		},
		snapshot: []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"},
		at:       mariaPosition,
		limit:    func(d time.Duration) string { return "SET SESSION max_statement_time = " + seconds(d) },
		binlog:   "@@global.gtid_binlog_state",
		current:  "@@global.gtid_current_pos",
		replica:  "SHOW ALL SLAVES STATUS",
		columns: map[string]string{
			"connection": "Connection_name", "host": "Master_Host", "port": "Master_Port", "io": "Slave_IO_Running", "sql": "Slave_SQL_Running",
			"file": "Master_Log_File", "offset": "Read_Master_Log_Pos", "heartbeats": "Slave_received_heartbeats", "period": "Slave_heartbeat_period",
			"lag": "Seconds_Behind_Master", "ioerrno": "Last_IO_Errno", "ioerror": "Last_IO_Error", "sqlerrno": "Last_SQL_Errno", "sqlerror": "Last_SQL_Error",
			"gtid": "Using_Gtid", "received": "Gtid_IO_Pos", "delay": "SQL_Delay",
		},
		status: map[string]string{
			"active": "Rpl_semi_sync_master_status", "clients": "Rpl_semi_sync_master_clients", "waiting": "Rpl_semi_sync_master_wait_sessions",
			"connections": "Threads_connected", "uptime": "Uptime",
		},
		since: "SELECT UNIX_TIMESTAMP(), VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'",
		settings: []string{
			"binlog_expire_logs_seconds", "binlog_format", "expire_logs_days", "extra_max_connections", "extra_port", "gtid_domain_id", "gtid_strict_mode", "innodb_flush_log_at_trx_commit",
			"log_bin", "log_slave_updates", "max_connections", "read_only", "relay_log_recovery", "replicate_do_db", "replicate_do_table", "replicate_ignore_db",
			"replicate_ignore_table", "replicate_wild_do_table", "replicate_wild_ignore_table", "require_secure_transport", "rpl_semi_sync_master_enabled",
			"rpl_semi_sync_master_timeout", "rpl_semi_sync_master_wait_no_slave", "rpl_semi_sync_master_wait_point", "rpl_semi_sync_slave_delay_master",
			"rpl_semi_sync_slave_enabled", "rpl_semi_sync_slave_kill_conn_timeout", "server_id", "skip_name_resolve", "slave_exec_mode",
			"slave_net_timeout", "slave_parallel_mode", "slave_parallel_threads", "slave_skip_errors", "sync_binlog", "sync_relay_log", "wsrep_on",
		},
		processes: "information_schema.PROCESSLIST",
		kill: func(ids []int64) []string {
			var b strings.Builder
			b.WriteString("BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; ")
			for _, id := range ids {
				fmt.Fprintf(&b, "KILL %d; ", id)
			}
			return []string{b.String() + "END"}
		},
		purges: true,
	}
}

// changeSource are the options that say whom a replica follows, and by which account; p is how they begin. The session has plainQuotes.
func changeSource(s mysqlha.Source, a credentials.Account, t *credentials.TLS, p string) (string, error) {
	// A name would be resolved by the server, at a moment of its own.
	addr, err := netip.ParseAddr(s.Host)
	if err != nil || addr.Zone() != "" {
		return "", fmt.Errorf("source %s: %.60q is no address", s.Name, s.Host)
	}
	if s.Port < 1 || s.Port > 65535 {
		return "", fmt.Errorf("source %s: port %d: expected 1 to 65535", s.Name, s.Port)
	}
	user, err := literal(a.User)
	if err != nil {
		return "", err
	}
	password, err := literal(a.Password.Reveal())
	if err != nil {
		return "", err
	}
	out := []string{
		fmt.Sprintf("%sHOST = '%s'", p, addr), fmt.Sprintf("%sPORT = %d", p, s.Port), p + "USER = " + user, p + "PASSWORD = " + password,
		p + "HEARTBEAT_PERIOD = 0.25", // how soon silence is noticed
		p + "CONNECT_RETRY = 1",       // a source that was restarted is found within a second
	}
	if t == nil {
		return strings.Join(append(out, p+"SSL = 0"), ", "), nil
	}
	out = append(out, p+"SSL = 1")
	for option, file := range map[string]string{"SSL_CA": t.CA, "SSL_CERT": t.Cert, "SSL_KEY": t.Key} {
		if file == "" {
			continue
		}
		text, err := literal(file)
		if err != nil {
			return "", err
		}
		out = append(out, p+option+" = "+text)
	}
	verify := 0
	if t.Verify == credentials.VerifyIdentity {
		verify = 1
	}
	out = append(out, fmt.Sprintf("%sSSL_VERIFY_SERVER_CERT = %d", p, verify))
	slices.Sort(out[6:])
	return strings.Join(out, ", "), nil
}

// checkPosition reports whether a text can be a GTID position of a flavour: it stands in a statement.
func checkPosition(flavour, position string) error {
	letters := "0123456789-,"
	if flavour == flavourMySQL {
		letters += ":abcdefABCDEF_ghijklmnopqrstuvwxyz" // of tags, since 8.3
	}
	if len(position) > 1<<16 || strings.ContainsFunc(position, func(r rune) bool { return !strings.ContainsRune(letters, r) }) {
		return fmt.Errorf("%.80q is no GTID position of %s", position, flavour)
	}
	return nil
}
