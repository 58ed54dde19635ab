// Package mysqlha keeps a cluster of MySQL or MariaDB servers writable at one address, and decides when another server is to be
// the primary. What it decides is pure: observations -> diagnosis (Diagnose), diagnosis and record -> steps (Next); a runner carries the
// steps out, and another agent can go on at any of them.
//
// It leaves to others who may decide (mesh/lease grants the duty of a cluster), how an address gets onto a box (lbd/vip), and how
// a server is spoken to (Server; package mariadb).
//
// # What safety rests on
//
// Not on clocks. A primary is deposed by taking away the replicas that may acknowledge its transactions, or by killing it, before another is
// promoted; and the cluster's record, in the lease log, changes only by compare-and-set, with the number of the grant. A runner that was overtaken can
// do nothing any more: its record is refused, and so are its orders by hosts that have seen a higher epoch or number.
package mysqlha
