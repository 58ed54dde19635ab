// Package transfer copies our zones to other name servers: AXFR (RFC 5936) and IXFR (RFC 1995) out of a journal of what
// zones contained under which serial, TSIG (RFC 8945) with keys that HostDB keeps sealed, and NOTIFY (RFC 1996) by one live
// member for each zone, with an eye on whether the secondaries follow.
//
// It owns who may have a zone (section DNS, Transfer), the order of the records and the bounds of what askers may cost. It
// does no compiling and counts no serials: it is told of each zone.Zones that is served, in order. Sockets are left to
// dnsd, which hands over the requests that are for this package.
package transfer
