package mariadb

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
)

// mysql8 is that of MySQL 8.0.26 and later, by its reference manual, chapters "Replication" and "Server System Variables". UNTESTED against a server.
// What differs in kind: read_only has super_read_only, which holds for administrators as well; sets of GTIDs are of intervals; and a replica keeps
// what it has received over a restart, with relay_log_recovery.
func mysql8(v version) dialect {
	return dialect{
		v:            v,
		readOnly:     "SET GLOBAL super_read_only = ON", // which sets read_only as well
		writable:     writableUntil(""),                 // which clears super_read_only as well
		open:         writableUntil("@@global.rpl_semi_sync_source_enabled AND "),
		noSource:     "SET GLOBAL rpl_semi_sync_source_enabled = IF(@@global.read_only, 0, @@global.rpl_semi_sync_source_enabled)",
		readOnlyName: "super_read_only", sourceName: "rpl_semi_sync_source_enabled", ackerName: "rpl_semi_sync_replica_enabled",
		startSQL: "START REPLICA SQL_THREAD", stopIO: "STOP REPLICA IO_THREAD", start: "START REPLICA",
		leave: []string{"STOP REPLICA", "RESET REPLICA ALL"},
		wait: func(position string, limit time.Duration) string {
			// 0 seconds would be for ever.
			return fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %d)", position, max(1, int(math.Ceil(limit.Seconds()))))
		},
		follow: func(s mysqlha.Source, a credentials.Account, t *credentials.TLS, _ bool) ([]string, error) {
			change, err := changeSource(s, a, t, "SOURCE_")
			if err != nil {
				return nil, err
			}
			// gtid_executed has what it wrote itself, so one that was a primary is no special case. Without TLS, caching_sha2_password needs the key.
			if t == nil {
				change += ", GET_SOURCE_PUBLIC_KEY = 1"
			}
			return []string{"STOP REPLICA", "CHANGE REPLICATION SOURCE TO " + change + ", SOURCE_AUTO_POSITION = 1", "START REPLICA"}, nil
		},
		until: func(position string) string {
			return "START REPLICA UNTIL SQL_AFTER_GTIDS = '" + position + "'"
		},
		// It has no position of a snapshot; mysqldump holds writers up for a moment, too (--single-transaction --source-data).
		snapshot: []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "FLUSH TABLES WITH READ LOCK", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"},
		at: func(ctx context.Context, c session) (string, bool, error) {
			has, err := c.current(ctx)
			return has.String(), true, err
		},
		ended:   []string{"UNLOCK TABLES"},
		binlog:  "@@global.gtid_executed",
		current: "@@global.gtid_executed",
		replica: "SHOW REPLICA STATUS",
		columns: map[string]string{
			"connection": "Channel_Name", "host": "Source_Host", "port": "Source_Port", "io": "Replica_IO_Running", "sql": "Replica_SQL_Running",
			"file": "Source_Log_File", "offset": "Read_Source_Log_Pos", "lag": "Seconds_Behind_Source", "ioerrno": "Last_IO_Errno", "ioerror": "Last_IO_Error",
			"sqlerrno": "Last_SQL_Errno", "sqlerror": "Last_SQL_Error", "gtid": "Auto_Position", "received": "Retrieved_Gtid_Set", "delay": "SQL_Delay",
		},
		heartbeats: "SELECT s.COUNT_RECEIVED_HEARTBEATS, c.HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_status s" +
			" JOIN performance_schema.replication_connection_configuration c USING (CHANNEL_NAME) WHERE CHANNEL_NAME = ''",
		status: map[string]string{
			"active": "Rpl_semi_sync_source_status", "clients": "Rpl_semi_sync_source_clients", "waiting": "Rpl_semi_sync_source_wait_sessions",
			"connections": "Threads_connected", "uptime": "Uptime",
		},
		since: "SELECT UNIX_TIMESTAMP(), VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'",
		settings: []string{
			"binlog_expire_logs_seconds", "binlog_format", "enforce_gtid_consistency", "gtid_mode", "innodb_flush_log_at_trx_commit", "log_bin", "log_replica_updates",
			"max_connections", "read_only", "relay_log_recovery", "replica_net_timeout", "require_secure_transport", "rpl_semi_sync_replica_enabled",
			"rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout", "rpl_semi_sync_source_wait_no_replica", "rpl_semi_sync_source_wait_point",
			"server_id", "skip_name_resolve", "skip_replica_start", "super_read_only", "sync_binlog", "sync_relay_log",
		},
		processes: "performance_schema.processlist",
		kill: func(ids []int64) (out []string) {
			for _, id := range ids {
				out = append(out, fmt.Sprintf("KILL %d", id))
			}
			return out
		},
	}
}

// oneLine is a set of GTIDs as MySQL shows it, which breaks lines, on one.
func oneLine(set string) string { return strings.ReplaceAll(set, "\n", "") }

// union is a set that has two; its parts may overlap, which is a set's right.
func union(a, b string) string {
	a, b = strings.Trim(oneLine(a), ", "), strings.Trim(oneLine(b), ", ")
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "," + b
}
