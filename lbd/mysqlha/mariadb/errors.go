package mariadb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha"
)

// Numbers of a server's errors.
const (
	tooManyConnections = 1040
	deniedDatabase     = 1044
	deniedAccount      = 1045
	shuttingDown       = 1053
	badSyntax          = 1064
	noSuchThread       = 1094
	hostBlocked        = 1129
	hostNotAllowed     = 1130
	deniedTable        = 1142
	deniedColumn       = 1143
	tooManyOfUser      = 1203
	deniedPrivilege    = 1227
	noEvent            = 1220 // SHOW BINLOG EVENTS
	missingLog         = 1236
	readOnlyVariable   = 1238
	interrupted        = 1317
	missingLogMySQL    = 13114
	sameServerID       = 1593
	deniedPlugin       = 1698
	killed             = 1927
	outOfTime          = 1969 // max_statement_time
	outOfTimeMySQL     = 3024 // max_execution_time
	accountLocked      = 4151
	accountLockedMySQL = 3118
	expired            = 1862
	secureTransport    = 3159
	errantInReplica    = 1950 // GTID out of order
)

// number is that of a server's error; 0 = it is none.
func number(err error) uint16 {
	if said, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return said.Number
	}
	return 0
}

// sentinelOf is what a number means to mysqlha; nil = nothing of its own.
func sentinelOf(n int) error {
	switch n {
	case tooManyConnections, tooManyOfUser:
		return mysqlha.ErrSaturated
	case deniedDatabase, deniedAccount, hostBlocked, hostNotAllowed, deniedTable, deniedColumn, deniedPrivilege, deniedPlugin, accountLocked, accountLockedMySQL, expired, secureTransport:
		return mysqlha.ErrDenied
	case missingLog, missingLogMySQL, sameServerID, errantInReplica:
		return mysqlha.ErrMissingLog
	case shuttingDown, interrupted, killed, outOfTime, outOfTimeMySQL:
		return mysqlha.ErrUnreachable
	}
	// The client's own: 2000 to 2999. A replica says them of its source.
	if n >= 2000 && n < 3000 {
		return mysqlha.ErrUnreachable
	}
	return nil
}

// remedies are said with an error, where its own text names none.
var remedies = map[uint16]string{
	hostBlocked:     "FLUSH HOSTS there, and find out why connections from here broke",
	hostNotAllowed:  "make the account for this address: hostmesh mysql check TAG --grants prints the statements",
	deniedAccount:   "compare user and password with credentials.d, and the account's host with this address",
	deniedPrivilege: "hostmesh mysql check TAG --grants prints the grants that are needed",
	deniedTable:     "hostmesh mysql check TAG --grants prints the grants that are needed",
	accountLocked:   "ALTER USER ... ACCOUNT UNLOCK",
	tooManyOfUser:   "raise the account's MAX_USER_CONNECTIONS",
	secureTransport: "set tls in credentials.d",
}

// fail gives an error its sentinel, what was done, and to whom. nil stays nil.
func (s *Server) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{mysqlha.ErrUnreachable, mysqlha.ErrSaturated, mysqlha.ErrDenied, mysqlha.ErrFlavour, mysqlha.ErrMissingLog, mysqlha.ErrPurge, mysqlha.ErrUnfit} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s at %s: %w", what, s.addr, err)
		}
	}
	if n := number(err); n != 0 {
		hint := ""
		if r := remedies[n]; r != "" {
			hint = ": " + r
		}
		if is := sentinelOf(int(n)); is != nil {
			return fmt.Errorf("%s at %s: %w: %w%s", what, s.addr, is, err, hint)
		}
		return fmt.Errorf("%s at %s: %w%s", what, s.addr, err, hint)
	}
	is := mysqlha.ErrUnreachable
	if notLetIn(err) {
		is = mysqlha.ErrDenied
	}
	return fmt.Errorf("%s at %s: %w: %w", what, s.addr, is, err)
}

// notLetIn reports whether an error is of how client and server prove who they are.
func notLetIn(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	for _, e := range []error{mysql.ErrNoTLS, mysql.ErrCleartextPassword, mysql.ErrNativePassword, mysql.ErrOldPassword, mysql.ErrUnknownPlugin} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
