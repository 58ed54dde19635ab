package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
)

// How often a snapshot is begun anew whose position is not sure, and how long a server must have written nothing for it to be sure all the same.
const (
	snapshotTries = 100
	snapshotPause = 50 * time.Millisecond
	snapshotIdle  = time.Second
)

// snapshot begins one, and returns its position: all up to there is in it, and nothing after.
func (c session) snapshot(ctx context.Context) (string, error) {
	last := errors.New("its log was rotated while clients wait for acknowledgements")
	still, since := "", time.Now() // what the log had when nothing was known to wait, and since when that is so
	for range snapshotTries {
		if err := c.exec(ctx, c.d.snapshot...); err != nil {
			return "", err
		}
		position, sure, err := c.d.at(ctx, c)
		if ended := c.exec(ctx, c.d.ended...); err == nil {
			err = ended
		}
		unplaced := errors.Is(err, errUnplaced)
		switch {
		case unplaced: // for a moment, while a log is rotated
			last, still = err, ""
		case err != nil || sure:
			return position, err
		}
		// All that is in the log is in the snapshot, too, when for a while nothing was written, and nobody waits.
		if at, waiting, err := c.log(ctx); err != nil {
			return "", err
		} else if unplaced || waiting || at != still {
			still, since = at, time.Now()
		} else if time.Since(since) > snapshotIdle {
			return position, nil
		}
		if err := c.exec(ctx, "ROLLBACK"); err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(snapshotPause):
		}
	}
	return "", fmt.Errorf("the position of a snapshot is not sure: %w; it is tried again", last)
}

// errUnplaced is returned where a server does not know a place in its own log.
var errUnplaced = errors.New("its binary log was purged, or there is none")

// log is what the log has, and whether clients wait for acknowledgements of the last of that.
func (c session) log(ctx context.Context) (at string, waiting bool, err error) {
	var n sql.NullInt64
	err = c.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos, (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS')").Scan(&at, &n)
	return at, n.Int64 > 0, err
}

// mariaPosition is the position of the snapshot that a session of MariaDB has. What was received stands in a table, which is the snapshot's as any other. What the server
// wrote itself is known by where in the log the snapshot is (binlog_snapshot_file and _position, which stay what they are whatever is written or rotated later); a log that was
// begun anew, as that of a copy, says nothing of what was before, and the table does. But that place also moves when the log is rotated, and with a checkpoint that the server writes, though what waits for acknowledgement before it is not in the
// snapshot: then it is not sure.
func mariaPosition(ctx context.Context, c session) (position string, sure bool, err error) {
	var id uint32
	var engine sql.NullString
	if err := c.QueryRowContext(ctx, "SELECT @@global.server_id, (SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'gtid_slave_pos')").Scan(&id, &engine); err != nil {
		return "", false, err
	}
	received, err := c.rowsOf(ctx, "SELECT p.domain_id AS d, p.server_id AS s, p.seq_no AS n FROM mysql.gtid_slave_pos p"+
		" JOIN (SELECT domain_id, MAX(sub_id) AS last FROM mysql.gtid_slave_pos GROUP BY domain_id) m ON m.domain_id = p.domain_id AND m.last = p.sub_id")
	if err != nil {
		return "", false, err
	}
	status, err := c.rowsOf(ctx, "SHOW STATUS WHERE Variable_name IN ('binlog_snapshot_file', 'binlog_snapshot_position')")
	if err != nil {
		return "", false, err
	}
	where := row{}
	for _, r := range status {
		where[strings.ToLower(r["Variable_name"])] = r["Value"]
	}
	file, offset := where["binlog_snapshot_file"], where.number("binlog_snapshot_position")
	quoted, err := literal(file)
	if err != nil {
		return "", false, err
	}
	var at sql.NullString
	if err := c.QueryRowContext(ctx, fmt.Sprintf("SELECT BINLOG_GTID_POS(%s, %d)", quoted, offset)).Scan(&at); err != nil {
		return "", false, err
	}
	if !at.Valid {
		return "", false, errUnplaced
	}
	byDomain := map[string]string{}
	for _, r := range received {
		byDomain[r["d"]] = r["d"] + "-" + r["s"] + "-" + r["n"]
	}
	sure = true
	for _, gtid := range strings.Split(at.String, ",") {
		domain, rest, _ := strings.Cut(strings.TrimSpace(gtid), "-")
		if domain == "" {
			continue
		}
		own := strings.HasPrefix(rest, strconv.FormatUint(uint64(id), 10)+"-")
		if own {
			sure = false
		}
		if own || byDomain[domain] == "" || engine.String != "InnoDB" {
			byDomain[domain] = gtid
		}
	}
	if !sure {
		if sure, err = c.committed(ctx, file, quoted, offset); err != nil {
			return "", false, err
		}
	}
	var list []string
	for _, gtid := range byDomain {
		list = append(list, gtid)
	}
	all, err := mysqlha.ParseGTIDs(c.d.v.flavour, strings.Join(list, ","))
	return all.String(), sure, err
}

// committed reports whether what ends at an offset of a log is a transaction, and not what the server writes there by itself: the beginning of a log, and its checkpoints, which come some time after
// it was rotated. The size of these is known; where none begins is no event, which the server complains about.
func (c session) committed(ctx context.Context, file, quoted string, offset uint64) (bool, error) {
	first, err := c.rowsOf(ctx, "SHOW BINLOG EVENTS IN "+quoted+" LIMIT 6")
	if err != nil {
		return false, err
	}
	begun := false
	for _, r := range first {
		if r["Event_type"] == "Gtid" {
			begun = r.number("Pos") < offset
			break
		}
	}
	for _, sum := range []uint64{0, 4} { // of an event; it is a setting whether there is one
		from := offset - eventHead - 4 - uint64(len(file)) - sum
		if !begun {
			return false, nil
		}
		last, err := c.rowsOf(ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN %s FROM %d LIMIT 1", quoted, from))
		switch {
		case number(err) == noEvent:
		case err != nil:
			return false, err
		case len(last) == 1 && last[0]["Event_type"] == "Binlog_checkpoint" && last[0].number("End_log_pos") == offset:
			return false, nil
		}
	}
	return begun, nil
}

// eventHead is how long the head of an event is.
const eventHead = 19
