package mariadb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
)

// countEvery is how often Observe counts the clients: a look at each connection is what costs most of it.
const countEvery = time.Second

// observer is the kept connection of Observe, with what it asks.
type observer struct {
	db   *sql.DB
	conn *sql.Conn
	d    dialect
	// names are the variables asked for, in order; those of onOff are ON or OFF to people and 1 or 0 to SELECT.
	names []string
	onOff map[string]bool
	// began is when the server's process did, by its own clock; zero = it did not say. The connection ends with that process.
	began time.Time
	// ask is what is asked each time, count what is asked besides, once in countEvery.
	ask, count string
	counted    time.Time
	clients    int
	fresh      bool // it was made for this observation
}

// Observe tells how the server stands. It is one round trip with three statements, over a connection that is kept; Facts.Clients is as old as a second.
func (s *Server) Observe(ctx context.Context) (mysqlha.Facts, error) {
	ctx, cancel := s.bounded(ctx, s.c.Observe)
	defer cancel()
	facts, err := s.observe(ctx)
	return facts, s.fail("observe the server", err)
}

func (s *Server) observe(ctx context.Context) (mysqlha.Facts, error) {
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
	case <-ctx.Done():
		return mysqlha.Facts{}, ctx.Err()
	}
	for {
		if s.ended.Err() != nil {
			return mysqlha.Facts{}, errClosed
		}
		if s.kept == nil {
			o, err := s.newObserver(ctx)
			if err != nil {
				return mysqlha.Facts{}, err
			}
			s.kept = o
		}
		facts, err := s.kept.observe(ctx)
		if err == nil {
			s.kept.fresh = false
			return facts, nil
		}
		again := !s.kept.fresh && ctx.Err() == nil && number(err) == 0
		s.drop()
		// The server may have been started again since: then the old connection says nothing of it.
		if !again {
			return mysqlha.Facts{}, err
		}
	}
}

// drop ends the kept connection. The caller has slot.
func (s *Server) drop() {
	if s.kept == nil {
		return
	}
	// Not closed in order, which writes: to a server that is silent that could take long.
	_ = s.kept.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.kept.conn.Close() // it is gone
	_ = s.kept.db.Close()   // nothing else is in it
	s.kept = nil
}

func (s *Server) newObserver(ctx context.Context) (_ *observer, err error) {
	o := &observer{db: sql.OpenDB(s.watch), fresh: true}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.db.Close())
		}
	}()
	if o.conn, err = o.db.Conn(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = o.conn.Close() // the error is what matters
		}
	}()
	d, err := s.identify(ctx, o.conn)
	if err != nil {
		return nil, err
	}
	o.d = *d
	if err := o.learn(ctx); err != nil {
		return nil, err
	}
	if err := o.date(ctx); err != nil {
		return nil, err
	}
	return o, o.prepare([]string{s.c.Credentials.Admin.User, s.c.Credentials.Replication.User, s.c.Credentials.Backup.User})
}

// learn finds out which of the variables the server has: to ask for one that it has not got is an error, and to ask by pattern each time takes
// thirty times as long.
func (o *observer) learn(ctx context.Context) error {
	rows, err := o.conn.QueryContext(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err says what there is to say
	o.onOff = map[string]bool{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		name = strings.ToLower(name)
		if slices.Contains(o.d.settings, name) {
			o.names = append(o.names, name)
			o.onOff[name] = value == "ON" || value == "OFF"
		}
		if name == "wsrep_on" && value == "ON" {
			return fmt.Errorf("%w: it is a node of Galera (wsrep_on), which has no primary; take it out of the tag", mysqlha.ErrFlavour)
		}
	}
	// Of an answer that was cut off, as by a server that stood still amid it, nothing can be said to be missing.
	if err := rows.Err(); err != nil {
		return err
	}
	slices.Sort(o.names)
	return o.complete(rows.Err())
}

// date finds out when the process began.
func (o *observer) date(ctx context.Context) error {
	var now int64
	var up string
	switch err := o.conn.QueryRowContext(ctx, o.d.since).Scan(&now, &up); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	n, err := strconv.ParseUint(up, 10, 64)
	if err != nil {
		return fmt.Errorf("uptime of the server: %w", err)
	}
	o.began = time.Unix(now-int64(n), 0).UTC() // below 0, when its clock was set to before that, it is shown as what is left to 2^64
	return nil
}

// complete reports whether a server has all variables that are needed, unless the answer broke off: then nothing is known of the rest.
func (o *observer) complete(broken error) error {
	if broken != nil {
		return broken
	}
	for _, needed := range []string{"server_id", "max_connections", o.d.readOnlyName, o.d.sourceName, o.d.ackerName} {
		if !slices.Contains(o.names, needed) {
			return fmt.Errorf("%w: it has no variable %s; install its plugin of semi-synchronous replication where that is one", mysqlha.ErrFlavour, needed)
		}
	}
	return nil
}

// prepare writes what is asked. Users are ours.
func (o *observer) prepare(users []string) error {
	var b strings.Builder
	b.WriteString("SELECT @@global.version, " + o.d.binlog + ", " + o.d.current)
	for _, name := range o.names {
		b.WriteString(", @@global." + name)
	}
	var counters []string
	for _, name := range o.d.status {
		counters = append(counters, "'"+name+"'")
	}
	slices.Sort(counters)
	b.WriteString("; SHOW GLOBAL STATUS WHERE Variable_name IN (" + strings.Join(counters, ", ") + "); " + o.d.replica)
	if o.d.heartbeats != "" {
		b.WriteString("; " + o.d.heartbeats)
	}
	o.ask = b.String()
	others, err := notOurs(users)
	o.count = "; SELECT COUNT(*) FROM " + o.d.processes + " WHERE " + others
	return err
}

// notOurs is the condition for connections of others: neither of these users, nor the server's own threads, nor replicas.
func notOurs(users []string) (string, error) {
	list := []string{"''", "'system user'", "'event_scheduler'"}
	for _, u := range users {
		text, err := literal(u)
		if err != nil {
			return "", err
		}
		list = append(list, text)
	}
	return "ID <> CONNECTION_ID() AND COMMAND NOT IN ('Binlog Dump', 'Binlog Dump GTID', 'Daemon') AND USER NOT IN (" + strings.Join(list, ", ") + ")", nil
}

func (o *observer) observe(ctx context.Context) (mysqlha.Facts, error) {
	ask, count := o.ask, time.Since(o.counted) >= countEvery
	if count {
		ask += o.count
	}
	rows, err := o.conn.QueryContext(ctx, ask)
	if err != nil {
		return mysqlha.Facts{}, err
	}
	f := mysqlha.Facts{Flavour: o.d.v.flavour, Began: o.began}
	reads := []func([]row) error{
		func(r []row) error { return o.variables(&f, r) },
		func(r []row) error { return o.counters(&f, r) },
		func(r []row) error { return o.d.replication(&f, r) },
	}
	if o.d.heartbeats != "" {
		reads = append(reads, func(r []row) error { return heartbeats(&f, r) })
	}
	if count {
		reads = append(reads, func(r []row) error {
			if len(r) != 1 {
				return errors.New("no count of clients")
			}
			o.clients, o.counted = int(r[0].number("COUNT(*)")), time.Now()
			return nil
		})
	}
	for i, read := range reads {
		if i > 0 && !rows.NextResultSet() {
			err = errors.Join(rows.Err(), fmt.Errorf("answer %d of %d is missing", i+1, len(reads)))
			break
		}
		list, readErr := readRows(rows)
		if readErr != nil {
			err = readErr
			break
		}
		if err = read(list); err != nil {
			break
		}
	}
	if err := errors.Join(err, rows.Close()); err != nil {
		return mysqlha.Facts{}, err
	}
	f.Clients = o.clients
	return f, nil
}

// row is one row of an answer, by column. What is NULL is not in it.
type row map[string]string

func (r row) number(column string) uint64 {
	n, _ := strconv.ParseUint(r[column], 10, 64) // NULL and what is no number are 0
	return n
}

func readRows(rows *sql.Rows) ([]row, error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var out []row
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		r := make(row, len(columns))
		for i, v := range values {
			if v != nil {
				r[columns[i]] = string(v)
			}
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (o *observer) variables(f *mysqlha.Facts, list []row) error {
	if len(list) != 1 {
		return fmt.Errorf("variables are %d rows", len(list))
	}
	r := list[0]
	f.Version = r["@@global.version"]
	f.Binlog, f.Current = oneLine(r[o.d.binlog]), oneLine(r[o.d.current])
	f.Settings = make(map[string]string, len(o.names))
	for _, name := range o.names {
		value := r["@@global."+name]
		if o.onOff[name] {
			value = map[string]string{"0": "OFF", "1": "ON"}[value]
		}
		f.Settings[name] = value
	}
	f.ServerID = uint32(r.number("@@global.server_id"))
	f.MaxConnections = int(r.number("@@global.max_connections"))
	f.ReadOnly = f.Settings[o.d.readOnlyName] == "ON"
	f.Semi.Source, f.Semi.Acker = f.Settings[o.d.sourceName] == "ON", f.Settings[o.d.ackerName] == "ON"
	return nil
}

func (o *observer) counters(f *mysqlha.Facts, list []row) error {
	values := row{}
	for _, r := range list {
		values[r["Variable_name"]] = r["Value"]
	}
	f.Uptime = time.Duration(values.number(o.d.status["uptime"])) * time.Second
	f.Connections = int(values.number(o.d.status["connections"]))
	f.Semi.Active = values[o.d.status["active"]] == "ON"
	f.Semi.Clients, f.Semi.Waiting = int(values.number(o.d.status["clients"])), int(values.number(o.d.status["waiting"]))
	return nil
}

// replication reads how a server follows. One that follows several is none that we lead.
func (d dialect) replication(f *mysqlha.Facts, list []row) error {
	if len(list) == 0 {
		return nil
	}
	c := d.columns
	if len(list) > 1 || list[0][c["connection"]] != "" {
		return fmt.Errorf("%w: it follows a source by a named connection, %q; hostmesh leads servers that follow one source, without a name: RESET SLAVE '...' ALL", mysqlha.ErrFlavour,
			list[len(list)-1][c["connection"]])
	}
	r := list[0]
	get := func(what string) string { return r[c[what]] }
	repl := &mysqlha.Replication{
		SourceHost: get("host"), SourcePort: int(r.number(c["port"])), IO: get("io"), SQL: get("sql") == "Yes", Position: get("file") + ":" + get("offset"),
		Heartbeats: r.number(c["heartbeats"]), IOErrno: int(r.number(c["ioerrno"])), IOError: get("ioerror"), SQLErrno: int(r.number(c["sqlerrno"])), SQLError: get("sqlerror"),
		Delay: time.Duration(r.number(c["delay"])) * time.Second,
	}
	if repl.Position == ":" || repl.Position == ":0" {
		repl.Position = ""
	}
	if lag, known := r[c["lag"]]; known {
		n, err := strconv.ParseUint(lag, 10, 32)
		if err != nil {
			return fmt.Errorf("lag of the replica: %w", err)
		}
		d := time.Duration(n) * time.Second
		repl.Lag = &d
	}
	if period, ok := r[c["period"]]; ok {
		repl.HeartbeatPeriod = periodOf(period)
	}
	f.Received = get("received")
	switch d.v.flavour {
	case flavourMySQL:
		repl.UsesGTID = get("gtid") == "1"
		f.Received = union(f.Current, f.Received)
	default:
		repl.UsesGTID = get("gtid") != "" && !strings.EqualFold(get("gtid"), "No")
	}
	f.Replica = repl
	return nil
}

// heartbeats reads what a flavour keeps in another place.
func heartbeats(f *mysqlha.Facts, list []row) error {
	if f.Replica == nil || len(list) == 0 {
		return nil
	}
	f.Replica.Heartbeats = list[0].number("COUNT_RECEIVED_HEARTBEATS")
	f.Replica.HeartbeatPeriod = periodOf(list[0]["HEARTBEAT_INTERVAL"])
	return nil
}

func periodOf(text string) time.Duration {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1e9 {
		return 0
	}
	return time.Duration(n * float64(time.Second))
}
