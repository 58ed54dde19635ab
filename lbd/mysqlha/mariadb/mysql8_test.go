package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/lbd/mysqlha"
)

// manual is a server that answers as MySQL's reference manual says: it notes what it is told, and answers queries by how they begin.
type manual struct {
	mu      sync.Mutex
	told    []string
	answers map[string]answer
}

type answer struct {
	columns []string
	rows    [][]driver.Value
}

func (m *manual) Connect(context.Context) (driver.Conn, error) { return manualConn{m}, nil }
func (m *manual) Driver() driver.Driver                        { return nil }

type manualConn struct{ *manual }

func (manualConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (manualConn) Begin() (driver.Tx, error)           { return nil, errors.New("no transactions") }
func (manualConn) Close() error                        { return nil }

func (c manualConn) ExecContext(_ context.Context, statement string, _ []driver.NamedValue) (driver.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, statement)
	return driver.RowsAffected(0), nil
}

func (c manualConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, query)
	r := &manualRows{}
	for statement := range strings.SplitSeq(query, "; ") {
		found := false
		for begin, a := range c.answers {
			if strings.HasPrefix(statement, begin) {
				r.sets, found = append(r.sets, a), true
				break
			}
		}
		if !found {
			return nil, fmt.Errorf("the manual knows no answer to %q", statement)
		}
	}
	return r, nil
}

type manualRows struct {
	sets []answer
	at   int
}

func (r *manualRows) Columns() []string { return r.sets[0].columns }
func (r *manualRows) Close() error      { return nil }
func (r *manualRows) HasNextResultSet() bool {
	return len(r.sets) > 1
}

func (r *manualRows) NextResultSet() error {
	if len(r.sets) < 2 {
		return io.EOF
	}
	r.sets, r.at = r.sets[1:], 0
	return nil
}

func (r *manualRows) Next(to []driver.Value) error {
	if r.at == len(r.sets[0].rows) {
		return io.EOF
	}
	copy(to, r.sets[0].rows[r.at])
	r.at++
	return nil
}

func list(columns string, rows ...[]driver.Value) answer {
	return answer{strings.Fields(columns), rows}
}

func newManual(t *testing.T) (*manual, *Server) {
	t.Helper()
	d := mysql8(version{flavourMySQL, [3]int{8, 0, 36}})
	variables := answer{columns: []string{"Variable_name", "Value"}}
	asked := answer{columns: []string{"@@global.version", d.binlog, d.current}, rows: [][]driver.Value{{"8.0.36", "aa-1:1-5,\nbb-1:1-3", "aa-1:1-5,\nbb-1:1-3"}}}
	names := slices.Sorted(slices.Values(d.settings))
	for _, n := range names {
		show, is := "ON", "1"
		switch n {
		case "server_id":
			show, is = "7", "7"
		case "max_connections":
			show, is = "151", "151"
		case "rpl_semi_sync_source_enabled":
			show, is = "OFF", "0"
		}
		variables.rows = append(variables.rows, []driver.Value{n, show})
		asked.columns, asked.rows[0] = append(asked.columns, "@@global."+n), append(asked.rows[0], is)
	}
	m := &manual{answers: map[string]answer{
		identify:                               list("v c", []driver.Value{"8.0.36", "MySQL Community Server - GPL"}),
		"SHOW GLOBAL VARIABLES":                variables,
		"SELECT @@global.version, " + d.binlog: asked,
		"SHOW GLOBAL STATUS WHERE": list("Variable_name Value", []driver.Value{"Uptime", "60"}, []driver.Value{"Threads_connected", "9"}, []driver.Value{"Rpl_semi_sync_source_status", "OFF"},
			[]driver.Value{"Rpl_semi_sync_source_clients", "0"}, []driver.Value{"Rpl_semi_sync_source_wait_sessions", "0"}),
		"SHOW REPLICA STATUS": list("Channel_Name Source_Host Source_Port Replica_IO_Running Replica_SQL_Running Source_Log_File Read_Source_Log_Pos Seconds_Behind_Source Last_IO_Errno Last_IO_Error Last_SQL_Errno Last_SQL_Error Auto_Position Retrieved_Gtid_Set SQL_Delay",
			[]driver.Value{"", "10.0.0.1", "3306", "Yes", "Yes", "binlog.000002", "157", "2", "0", "", "0", "", "1", "bb-1:2-9", "0"}),
		d.since:                           list("t v", []driver.Value{int64(1700000060), "60"}),
		d.heartbeats:                      list("COUNT_RECEIVED_HEARTBEATS HEARTBEAT_INTERVAL", []driver.Value{"41", "0.250"}),
		"SELECT COUNT(*) FROM":            list("COUNT(*)", []driver.Value{"3"}),
		"SELECT @@global.super_read":      list("v", []driver.Value{int64(0)}),
		"SELECT @@global.rpl_semi_sync_s": list("v", []driver.Value{int64(0)}),
		"SELECT @@global.rpl_semi_sync_r": list("v", []driver.Value{int64(1)}),
		"SELECT TIMESTAMPDIFF":            list("t", []driver.Value{int64(1)}),
		"SELECT ID FROM":                  list("ID", []driver.Value{int64(5)}, []driver.Value{int64(6)}),
		"SELECT WAIT_FOR_EXECUTED":        list("w", []driver.Value{int64(0)}),
		"SELECT @@global.gtid_executed":   list("g", []driver.Value{"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1-3"}),
		"SELECT c.TABLE_SCHEMA":           list("s t c k e"),
	}}
	c := DefaultConfig(netip.MustParseAddr("10.0.0.2"), 3306, accounts())
	c.Untested = true
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s.watch, s.hold, s.admin, s.backup = m, m, sql.OpenDB(m), sql.OpenDB(m)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, s
}

func TestMySQLObserves(t *testing.T) {
	t.Parallel()
	_, s := newManual(t)
	for range 2 {
		got, err := s.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lag := 2 * time.Second
		want := mysqlha.Facts{
			Version: "8.0.36", Flavour: "mysql", ServerID: 7, Uptime: time.Minute, Began: time.Unix(1700000000, 0).UTC(), ReadOnly: true, Binlog: "aa-1:1-5,bb-1:1-3", Current: "aa-1:1-5,bb-1:1-3",
			Received: "aa-1:1-5,bb-1:1-3,bb-1:2-9", Semi: mysqlha.SemiSync{Acker: true}, Clients: 3, Connections: 9, MaxConnections: 151, Settings: got.Settings,
			Replica: &mysqlha.Replication{SourceHost: "10.0.0.1", SourcePort: 3306, IO: "Yes", SQL: true, Position: "binlog.000002:157", Heartbeats: 41, HeartbeatPeriod: 250 * time.Millisecond, Lag: &lag, UsesGTID: true},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if got.Settings["gtid_mode"] != "ON" || got.Settings["rpl_semi_sync_source_enabled"] != "OFF" || len(got.Settings) < 15 {
			t.Errorf("settings are %v", got.Settings)
		}
	}
}

// TestMySQLIsTold has each change be the statements of the manual.
func TestMySQLIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(ctx context.Context, s *Server) error
		want []string
	}{
		"read-only": {func(ctx context.Context, s *Server) error { return s.SetReadOnly(ctx, true) }, []string{"SELECT @@global.super_read_only", "SET GLOBAL super_read_only = ON"}},
		"writable":  {func(ctx context.Context, s *Server) error { return s.SetReadOnly(ctx, false) }, []string{"SELECT @@global.super_read_only", "SELECT " + clock, "SET GLOBAL read_only = IF(" + clock + " <= ", "SELECT @@global.super_read_only"}},
		"no source": {func(ctx context.Context, s *Server) error { return s.SetSource(ctx, false) }, []string{"SET GLOBAL rpl_semi_sync_source_enabled = IF(@@global.read_only, 0, @@global.rpl_semi_sync_source_enabled)", "SELECT @@global.rpl_semi_sync_source_enabled"}},
		"open":      {func(ctx context.Context, s *Server) error { return s.Open(ctx) }, []string{"SELECT " + clock, "SET GLOBAL read_only = IF(@@global.rpl_semi_sync_source_enabled AND " + clock + " <= ", "SELECT @@global.super_read_only"}},
		"acker":     {func(ctx context.Context, s *Server) error { return s.SetAcker(ctx, true) }, []string{"SELECT " + clock, "SET GLOBAL rpl_semi_sync_replica_enabled = IF(" + clock + " <= ", "SELECT @@global.rpl_semi_sync_replica_enabled"}},
		"no acker":  {func(ctx context.Context, s *Server) error { return s.SetAcker(ctx, false) }, []string{"SET GLOBAL rpl_semi_sync_replica_enabled = 0"}},
		"stop":      {func(ctx context.Context, s *Server) error { return s.StopIO(ctx) }, []string{"STOP REPLICA IO_THREAD"}},
		"start":     {func(ctx context.Context, s *Server) error { return s.Start(ctx) }, []string{"START REPLICA"}},
		"leave":     {func(ctx context.Context, s *Server) error { return s.Leave(ctx) }, []string{"STOP REPLICA", "RESET REPLICA ALL"}},
		"applies":   {func(ctx context.Context, s *Server) error { return s.StartSQL(ctx) }, []string{"SHOW REPLICA STATUS"}},
		"wait": {func(ctx context.Context, s *Server) error {
			return s.WaitApplied(ctx, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5")
		},
			[]string{"SELECT WAIT_FOR_EXECUTED_GTID_SET('3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5', 1)"}},
		"clients": {func(ctx context.Context, s *Server) error { _, err := s.EndClients(ctx); return err }, []string{"SELECT ID FROM performance_schema.processlist", "KILL 5", "KILL 6"}},
		"follows": {func(ctx context.Context, s *Server) error {
			return s.Follow(ctx, mysqlha.Source{Name: "db1", Host: "10.0.0.1", Port: 3306}, true)
		}, []string{"SHOW REPLICA STATUS"}}, // it does already
		"follows until": {func(ctx context.Context, s *Server) error {
			err := s.FollowUntil(ctx, mysqlha.Source{Name: "db1", Host: "10.0.0.1", Port: 3306}, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4", false)
			if !errors.Is(err, mysqlha.ErrUnfit) {
				return fmt.Errorf("one that is further: %w", err)
			}
			return s.FollowUntil(ctx, mysqlha.Source{Name: "db1", Host: "10.0.0.1", Port: 3306}, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", false) // it is there
		}, []string{"SELECT @@global.rpl_semi_sync_source_enabled", plainQuotes, "STOP REPLICA", "CHANGE", "SELECT @@global.gtid_executed",
			"SELECT @@global.rpl_semi_sync_source_enabled", plainQuotes, "STOP REPLICA", "CHANGE", "SELECT @@global.gtid_executed"}},
		"snapshot": {func(ctx context.Context, s *Server) error {
			sums, err := s.Checksum(ctx, nil, 1)
			if err == nil && sums.Position != "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,4e11fa47-71ca-11e1-9e33-c80aa9429562:1-3" {
				err = fmt.Errorf("its position is %q", sums.Position)
			}
			return err
		}, []string{"SELECT c.TABLE_SCHEMA", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "FLUSH TABLES WITH READ LOCK", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
			"SELECT @@global.gtid_executed", "UNLOCK TABLES", "ROLLBACK"}},
		"apply": {func(ctx context.Context, s *Server) error {
			_, err := s.Apply(ctx, []mysqlha.Setting{{Name: "sync_binlog", Want: "1"}, {Name: "binlog_format", Want: "ROW"}})
			return err
		}, []string{plainQuotes, "SET GLOBAL sync_binlog = 1", "SET GLOBAL binlog_format = 'ROW'"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, s := newManual(t)
			if err := c.do(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			told := m.told
			if len(told) == 0 || told[0] != identify {
				t.Fatalf("it is told %q", told)
			}
			told = told[1:]
			same := len(told) == len(c.want)
			for i := 0; same && i < len(told); i++ {
				begins := strings.HasPrefix(c.want[i], "SELECT ID") || c.want[i] == "CHANGE" || strings.HasSuffix(c.want[i], "<= ") || c.want[i] == "SELECT c.TABLE_SCHEMA"
				same = told[i] == c.want[i] || begins && strings.HasPrefix(told[i], c.want[i])
			}
			if !same {
				t.Errorf("it is told %q, and not %q", told, c.want)
			}
		})
	}
}

func TestMySQLIsRefusedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	_, s := newManual(t)
	s.c.Untested = false
	if _, err := s.Observe(t.Context()); !errors.Is(err, mysqlha.ErrFlavour) || !strings.Contains(err.Error(), "never tried") {
		t.Errorf("observe: %v", err)
	}
	if err := s.SetReadOnly(t.Context(), true); !errors.Is(err, mysqlha.ErrFlavour) {
		t.Errorf("set read-only: %v", err)
	}
}
