package mariadb

import (
	"fmt"
	"strconv"
	"strings"

	"hostmesh/lbd/mysqlha"
)

// Flavours, as Facts name them.
const (
	flavourMariaDB = "mariadb"
	flavourMySQL   = "mysql"
)

// version is a server's: its flavour and numbers.
type version struct {
	flavour string
	numbers [3]int
}

func (v version) atLeast(major, minor, patch int) bool {
	for i, want := range [3]int{major, minor, patch} {
		if v.numbers[i] != want {
			return v.numbers[i] > want
		}
	}
	return true
}

// parseVersion reads what a server says of itself: @@version and @@version_comment. ErrFlavour for one that we do not know how to lead.
func parseVersion(text, comment string) (version, error) {
	refuse := func(why string) (version, error) {
		return version{}, fmt.Errorf("%w: it says %.60q, %.60q: %s", mysqlha.ErrFlavour, text, comment, why)
	}
	both := strings.ToLower(text + " " + comment)
	// Some that speak the protocol say a version of MySQL's.
	for _, other := range []string{"tidb", "aurora", "vitess", "oceanbase", "singlestore", "memsql", "clickhouse", "doris", "starrocks", "polardb", "proxysql", "maxscale"} {
		if strings.Contains(both, other) {
			return refuse("hostmesh leads MariaDB; take it out of the tag")
		}
	}
	v := version{flavour: flavourMySQL}
	if strings.Contains(strings.ToLower(text), "mariadb") {
		v.flavour = flavourMariaDB
		// Written before the version in the handshake, for clients that know MySQL alone; some proxies pass it on.
		text = strings.TrimPrefix(text, "5.5.5-")
	}
	head, _, _ := strings.Cut(text, "-")
	parts := strings.Split(head, ".")
	if len(parts) < 3 {
		return refuse("expected a version such as 10.11.19-MariaDB")
	}
	for i := range v.numbers {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return refuse("expected a version such as 10.11.19-MariaDB")
		}
		v.numbers[i] = int(n)
	}
	switch {
	case v.flavour == flavourMariaDB && !v.atLeast(10, 5, 9):
		return refuse("MariaDB 10.5.9 is the oldest whose privileges hostmesh knows; upgrade it")
	case v.flavour == flavourMySQL && !v.atLeast(8, 0, 26):
		return refuse("MySQL 8.0.26 is the oldest whose statements hostmesh knows; upgrade it")
	}
	return v, nil
}
