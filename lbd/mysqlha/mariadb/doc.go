// Package mariadb speaks to database servers: it is mysqlha.Server by SQL. The dialect of MariaDB, 10.5.9 and later, is tested against real servers. That of
// MySQL, 8.0.26 and later, is written by its manual and UNTESTED against a server: it is refused unless it is asked for.
//
// It leaves to others what is to be done, and when: lbd/mysqlha decides. Processes, files and addresses are lbd/mysqlha/local's.
package mariadb
