package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
)

// TestDatabasesOfFive has five members, so that the agents beside servers are all that there are.
func TestDatabasesOfFive(t *testing.T) {
	quick := []string{"kill -9", "two servers killed"} // not each of three again
	inSite(t, dbShape{five: true}, func(c dbChoice) []dbFault {
		few := !c.all
		c.all = true
		return slices.DeleteFunc(c.of(true, dbFaults(), dbCuts(), dbKilled(), dbTroubles()), func(f dbFault) bool { return few && !slices.Contains(quick, f.name) })
	})
}

// TestDatabasesWithoutRoom has the disk of the primary's server fill up, and room made. It takes minutes: servers look once in a minute whether there is room again.
func TestDatabasesWithoutRoom(t *testing.T) {
	inSite(t, dbShape{small: true}, func(c dbChoice) []dbFault {
		return c.of(false, []dbFault{{name: "disk full at the primary", more: true, stays: true, breaks: func(s *dbSite, primary string) {
			disk := s.disks[primary]
			disk.fill(0, 1<<30, 0)
			s.says(mysqlha.PrimaryFull, primary)
			time.Sleep(10 * time.Second) // for others to do what they must not
			disk.clear()
		}}})
	})
}

// inSite makes faults in a cluster of a shape, in namespaces of its own.
func inSite(t *testing.T, shape dbShape, list func(c dbChoice) []dbFault) {
	c := dbChoiceOf(t)
	faults := list(c)
	if len(faults) == 0 {
		t.Logf("nothing of this is meant by %s", c.only)
		return
	}
	if os.Getenv(inNamespaces) == "" {
		t.Parallel()
		inOwnProcesses(t, "ip", "nft", "mariadbd", "mariadb-backup")
		return
	}
	ownProcesses(t)
	s := newDBSiteOf(t, shape)
	s.begin()
	s.makes(faults, c.runs)
	s.table()
}

// encrypted checks that those who replicate verify from whom.
func (s *dbSite) encrypted() {
	s.t.Helper()
	for _, host := range s.replicas(s.settles()) {
		for _, field := range []string{"Master_SSL_Allowed", "Master_SSL_Verify_Server_Cert"} {
			if got := s.sourceOf(host, field); got != "Yes" {
				s.t.Errorf("%s replicates with %s %q", host, field, got)
			}
		}
	}
	for host, db := range s.dbs { // the user of checks is locked: nobody comes in by it
		open, err := s.text(host, "SELECT GROUP_CONCAT(User) FROM mysql.global_priv WHERE User <> 'root' AND User <> 'mariadb.sys' AND User <> 'mysql' AND User <> 'bench' AND User <> 'hostmesh-check' AND User <> '' AND COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0) = 0")
		if err != nil || open != "" {
			s.t.Errorf("%s lets %q in without TLS: %v", db.Name, open, err)
		}
	}
}

// sourceOf is a field of how a host's server follows its source.
func (s *dbSite) sourceOf(host, field string) string {
	s.t.Helper()
	rows, err := s.dbs[host].Root().QueryContext(s.t.Context(), "SHOW SLAVE STATUS")
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		s.t.Fatal(err)
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new([]byte)
	}
	if rows.Next() {
		if err := rows.Scan(values...); err != nil {
			s.t.Fatal(err)
		}
		for i, name := range columns {
			if strings.EqualFold(name, field) {
				return string(*values[i].(*[]byte))
			}
		}
	}
	return ""
}

// done waits until the last piece of work of a kind with a host has ended well.
func (s *dbSite) done(what, host string) {
	s.t.Helper()
	s.await(what+" of "+host+" ends", func() error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		for i := len(c.Tasks) - 1; i >= 0; i-- {
			switch x := c.Tasks[i]; {
			case x.What != what || x.Host != host:
			case x.Error != "":
				s.t.Fatalf("%s of %s: %s\n%s", what, host, x.Error, s.told())
			case x.Done:
				return nil
			default:
				return fmt.Errorf("it is at %s", x.Step)
			}
		}
		return fmt.Errorf("no %s of %s", what, host)
	})
}
