package mariadb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hostmesh/lbd/mysqlha"
)

const (
	// checksumRows are read from each end of a table, in the order of its primary key: large tables are not read whole. Of tables with texts or the like, which may have 64 KB, or more, in a
	// row, these are fewer. It is told by the columns, which are the same on all servers.
	checksumRows, checksumTexts, checksumLong = 20_000, 2_000, 200
	// checksumCount is how many rows of a table are counted at most: to count all of a large one takes minutes.
	checksumCount = 100_000
	// checksumTables are in a sample.
	checksumTables = 10
)

// Checksum is a checksum of each of the tables named (database.table), all of one snapshot, by the account for backups: the agents' own reads no data.
// It is of the number of rows, up to 100,000, and of the first and last 20,000 of them by primary key, 2,000 or 200 where rows may be large; a table without one, or that has
// no transactions, is left out. The same seed chooses the same tables on servers that have the same. What changes tables (ALTER) while they are read is an
// error: it is tried again.
func (s *Server) Checksum(ctx context.Context, tables []string, seed uint64) (mysqlha.Sums, error) {
	ctx, cancel := s.bounded(ctx, s.c.Checksum)
	defer cancel()
	out := mysqlha.Sums{Tables: map[string]string{}}
	err := s.run(ctx, s.backup, func(ctx context.Context, c session) error {
		all, outside, err := c.checkable(ctx)
		if err != nil {
			return err
		}
		chosen := tables
		if chosen == nil {
			chosen = sample(all, seed)
		}
		if out.Position, err = c.snapshot(ctx); err != nil {
			return err
		}
		out.Outside = outside
		for _, t := range chosen {
			if all[t] == nil {
				continue
			}
			query, err := all[t].query()
			if err != nil {
				return err
			}
			var rows, first, last sql.NullString
			if err := c.QueryRowContext(ctx, query).Scan(&rows, &first, &last); err != nil {
				return fmt.Errorf("table %s: %w", t, err)
			}
			out.Tables[t] = rows.String + ":" + first.String + ":" + last.String
		}
		return c.exec(ctx, "ROLLBACK")
	})
	if err := s.fail("checksums of tables", err); err != nil {
		return mysqlha.Sums{}, err
	}
	return out, nil
}

// Engines are the tables that are not InnoDB's, by the account for backups: the agents' own sees no tables.
func (s *Server) Engines(ctx context.Context) (map[string]string, error) {
	ctx, cancel := s.bounded(ctx, s.c.Statement)
	defer cancel()
	out := map[string]string{}
	err := s.run(ctx, s.backup, func(ctx context.Context, c session) error {
		list, err := c.rowsOf(ctx, "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, ENGINE AS e FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB' AND TABLE_SCHEMA NOT IN "+ownSchemas)
		for _, r := range list {
			out[r["s"]+"."+r["t"]] = r["e"]
		}
		return err
	})
	if err := s.fail("look at the engines of tables", err); err != nil {
		return nil, err
	}
	return out, nil
}

// ownSchemas are the server's.
const ownSchemas = "('mysql', 'sys', 'information_schema', 'performance_schema')"

// table is one that can be compared: its columns, and those of its primary key, in order.
type table struct {
	schema, name string
	snapshots    bool // its engine has them
	rows         int  // that are read from each end
	columns, key []string
}

// checkable are the tables with a primary key and transactions, but for the server's own, and the names of all others.
func (c session) checkable(ctx context.Context) (_ map[string]*table, outside []string, err error) {
	list, err := c.rowsOf(ctx, "SELECT c.TABLE_SCHEMA AS s, c.TABLE_NAME AS t, c.COLUMN_NAME AS c, k.ORDINAL_POSITION AS k, t.ENGINE AS e, c.DATA_TYPE AS y FROM information_schema.COLUMNS c"+
		" JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME AND t.TABLE_TYPE = 'BASE TABLE'"+
		" LEFT JOIN information_schema.KEY_COLUMN_USAGE k ON k.TABLE_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.COLUMN_NAME = c.COLUMN_NAME AND k.CONSTRAINT_NAME = 'PRIMARY'"+
		" WHERE c.TABLE_SCHEMA NOT IN "+ownSchemas+" ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION")
	if err != nil {
		return nil, nil, err
	}
	all := map[string]*table{}
	keys := map[*table][]uint64{}
	for _, r := range list {
		id := r["s"] + "." + r["t"]
		t := all[id]
		if t == nil {
			t = &table{schema: r["s"], name: r["t"], snapshots: r["e"] == "InnoDB", rows: checksumRows}
			all[id] = t
		}
		t.columns = append(t.columns, r["c"])
		switch r["y"] {
		case "blob", "text":
			t.rows = min(t.rows, checksumTexts)
		case "mediumblob", "longblob", "mediumtext", "longtext", "json", "geometry":
			t.rows = min(t.rows, checksumLong)
		}
		if k := r.number("k"); k != 0 {
			at, _ := slices.BinarySearch(keys[t], k)
			keys[t], t.key = slices.Insert(keys[t], at, k), slices.Insert(t.key, at, r["c"])
		}
	}
	for id, t := range all {
		if len(t.key) == 0 || !t.snapshots {
			delete(all, id)
			outside = append(outside, id)
		}
	}
	slices.Sort(outside)
	return all, outside, nil
}

// sample are some of the tables, the same for the same names and seed.
func sample(all map[string]*table, seed uint64) []string {
	type ranked struct {
		rank [sha256.Size]byte
		id   string
	}
	var list []ranked
	for id := range all {
		list = append(list, ranked{sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, seed), id...)), id})
	}
	slices.SortFunc(list, func(a, b ranked) int { return slices.Compare(a.rank[:], b.rank[:]) })
	var out []string
	for _, r := range list[:min(len(list), checksumTables)] {
		out = append(out, r.id)
	}
	slices.Sort(out)
	return out
}

// query gives the number of rows, and the sums of the first and of the last of them.
func (t *table) query() (string, error) {
	var errs []error
	quoted := func(text string) string {
		q, err := name(text)
		errs = append(errs, err)
		return q
	}
	var parts, up, down []string
	for _, c := range t.columns {
		q := quoted(c)
		// All of one length but NULL, so that no two rows are the same text, and none becomes too long for the server.
		parts = append(parts, fmt.Sprintf("IF(%s IS NULL, 'N', MD5(CAST(%s AS BINARY)))", q, q))
	}
	for _, c := range t.key {
		q := quoted(c)
		up, down = append(up, q), append(down, q+" DESC")
	}
	from := quoted(t.schema) + "." + quoted(t.name)
	sum := func(order []string) string {
		return fmt.Sprintf("(SELECT SUM(CAST(CONV(LEFT(MD5(CONCAT(%s)), 15), 16, 10) AS DECIMAL(40))) FROM (SELECT * FROM %s ORDER BY %s LIMIT %d) AS part)",
			strings.Join(parts, ", "), from, strings.Join(order, ", "), t.rows)
	}
	return fmt.Sprintf("SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT %d) AS part), %s, %s", from, checksumCount, sum(up), sum(down)), errors.Join(errs...)
}
