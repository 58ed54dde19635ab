package mysqlha

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"
)

// Errors of Servers; each wraps what the server or the network said.
var (
	// ErrUnreachable is returned when the server could not be asked: refused, reset, timed out. Whether what was asked has happened is unknown.
	ErrUnreachable = errors.New("server does not answer")
	// ErrClosed is returned beside ErrUnreachable when Close has ended it: that says nothing of the server.
	ErrClosed = errors.New("its connections were closed by us")
	// ErrSaturated is returned when it has no connection left (error 1040). It lives.
	ErrSaturated = errors.New("server has too many connections")
	// ErrDenied is returned when it does not let us in, or not do that: the accounts are wrong.
	ErrDenied = errors.New("server refuses the account")
	// ErrUnfit is returned when it is not as it must be for what was asked. Nothing has happened.
	ErrUnfit = errors.New("server is not as it must be for this")
	// ErrFlavour is returned when it is one that we do not know how to lead.
	ErrFlavour = errors.New("server is of another flavour or too old")
	// ErrMissingLog is returned when the source has not got any more what the replica asks for (error 1236), or the replica has what the source
	// never had.
	ErrMissingLog = errors.New("replica cannot follow this source")
)

// Server is one server, by SQL. Its methods are safe for concurrent use, keep to their contexts, and bound themselves
// where those do not. What changes something is idempotent.
type Server interface {
	// Observe tells how the server stands, over a connection that is kept.
	Observe(ctx context.Context) (Facts, error)
	// Ping proves that a new client is served: a new connection, the handshake, and a SELECT that reads a row.
	Ping(ctx context.Context) error
	// Hold keeps a connection on which the server waits, and returns when it has ended: nil when ctx has, else ErrUnreachable, at once when the
	// server's process ends.
	Hold(ctx context.Context) error

	// SetReadOnly sets or clears read_only. Setting hangs behind waiters of semi-sync and LOCK TABLES, and returns ErrUnreachable when ctx ends. What opens a server (this and Open), has it wait, acknowledge or
	// start a thread (SetSource, SetAcker, StartSQL, Start, Follow, FollowUntil) is not done after ctx has ended, which the server decides itself, by its own clock: the statement may reach one late that stood still,
	// or whose network was cut, and others rely on its state by then.
	SetReadOnly(ctx context.Context, on bool) error
	// Open clears read_only if the server waits for acknowledgements, which it decides itself, in the statement: ErrUnfit if it does not. So one who was overtaken while that
	// was on its way opens no server that could acknowledge alone.
	Open(ctx context.Context) error
	// SetSource has it acknowledge only what a replica has (rpl_semi_sync_master_enabled). Never on a replica: its SQL thread would hang. It is switched off
	// only while the server is read-only, which it decides itself, too: ErrUnfit; who waits for an acknowledgement would be told that all is well.
	SetSource(ctx context.Context, on bool) error
	// SetAcker has a replica acknowledge (rpl_semi_sync_slave_enabled); it counts from the next start of its IO thread.
	SetAcker(ctx context.Context, on bool) error
	// StartSQL starts the thread that applies, and never when both threads are stopped with GTIDs: that purges the relay log. ErrPurge then.
	StartSQL(ctx context.Context) error
	// StopIO stops the thread that receives.
	StopIO(ctx context.Context) error
	// Start starts both threads.
	Start(ctx context.Context) error
	// WaitApplied waits until the server has applied all up to a GTID position.
	WaitApplied(ctx context.Context, position string) error
	// Leave ends replication for good: STOP SLAVE, RESET SLAVE ALL. Only what was applied is kept.
	Leave(ctx context.Context) error
	// Follow replicates from a source by GTID, and starts: CHANGE MASTER. demoted says that it was a primary until now
	// (MASTER_DEMOTE_TO_SLAVE). ErrMissingLog.
	Follow(ctx context.Context, s Source, demoted bool) error
	// FollowUntil is Follow up to a position that the source has, of the domains that it names: it returns when all up to there, and nothing after, is applied and both
	// threads have stopped. One that is there already is left there. ErrMissingLog; ErrUnfit for a server that is further. When ctx ends the threads may go on to there.
	FollowUntil(ctx context.Context, s Source, position string, demoted bool) error
	// Inherit has a server whose binary log is empty, as a copy's is, count transactions as its own history, as Inherited says them.
	Inherit(ctx context.Context, history string) error
	// EndClients ends the connections of clients, but for accounts of ours and replicas, and returns how many there were. Not on a primary with waiters of semi-sync
	// that is not read-only: a KILL commits them.
	EndClients(ctx context.Context) (int, error)
	// Apply sets variables at run time, as the settings of Check say, and returns those that need the file and a restart.
	Apply(ctx context.Context, want []Setting) (restart []Setting, err error)
	// Checksum is a checksum of each of the tables named, in one snapshot; nil = a sample of them, chosen by seed. It takes no locks. Of a table named that is not there,
	// or cannot be compared, there is none.
	Checksum(ctx context.Context, tables []string, seed uint64) (Sums, error)
	// Engines are the tables that are not InnoDB's, but for the server's own: database.table -> engine.
	Engines(ctx context.Context) (map[string]string, error)
	// Close ends the connections. It is idempotent.
	Close() error
}

// Sums are checksums of tables, all of one snapshot.
type Sums struct {
	// Position is the GTID position of the snapshot: all up to it is in it, and nothing after.
	Position string
	// Tables are those that were looked at: database.table -> sum. Two servers at one position have the same sums.
	Tables map[string]string
	// Outside are tables, sorted, that no sample has: they are not InnoDB's, so that a snapshot does not hold for them, or have no primary key, so that their rows have no order.
	Outside []string
}

// ErrPurge is returned for what would make a replica drop transactions that it has received and not applied.
var ErrPurge = errors.New("this would purge the relay log of a replica that has not applied it")

// Source is whom a replica follows. The account is the Server's business.
type Source struct {
	Host string // address
	Port int
	Name string // key in hosts, for errors
}

func (s Source) String() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Facts are how a server stands, by its own account.
type Facts struct {
	Version  string // as it says: 10.11.19-MariaDB
	Flavour  string // mariadb, mysql
	ServerID uint32
	Uptime   time.Duration
	// Began is when its process did, by its own clock: the same whoever asks, and whatever is done to any clock; zero = it does not say.
	Began    time.Time
	ReadOnly bool
	// Positions are in the flavour's text. Binlog is the set that its binary log has, of which membership is asked (gtid_binlog_state: the last of each
	// domain and server; gtid_executed); Current is the position that it has applied and written (gtid_current_pos), Received that which it has
	// received from its source, applied or not (Gtid_IO_Pos); "" = not a replica.
	Binlog, Current, Received string
	// Replica is how it follows; nil = it follows nobody.
	Replica *Replication
	Semi    SemiSync
	// Clients are connections of others than ours, Connections all, MaxConnections how many there may be.
	Clients, Connections, MaxConnections int
	// Settings are the variables that Check looks at, by lower-case name.
	Settings map[string]string
}

// Replication is how a replica follows its source.
type Replication struct {
	SourceHost string
	SourcePort int
	// IO is the state of the thread that receives: Yes, No, Connecting, Preparing. SQL is whether the one that applies runs.
	IO  string
	SQL bool
	// Position is where in the source's log it is: file and offset, which move with each event. Heartbeats are those received since its start.
	Position        string
	Heartbeats      uint64
	HeartbeatPeriod time.Duration
	// Lag is how far behind it is; nil = unknown.
	Lag *time.Duration
	// IOError and SQLError are the last errors; "" = none.
	IOErrno, SQLErrno int
	IOError, SQLError string
	UsesGTID          bool
	// Delay is what it waits on purpose (MASTER_DELAY).
	Delay time.Duration
}

// SemiSync is how acknowledgements stand.
type SemiSync struct {
	Source, Acker bool // enabled as
	// Active says that the source really waits, Clients how many ackers are connected, Waiting how many sessions wait.
	Active           bool
	Clients, Waiting int
}

// Setting is a variable as it must be.
type Setting struct {
	Name, Want string
	// Have is what it is, Why what happens otherwise, Severity error or warning.
	Have, Why, Severity string
	// Restart says that it cannot be set at run time: it belongs in the server's file.
	Restart bool
}
