// Package dnsd is the authoritative DNS server of an agent. It owns the sockets, the limits of messages and connections,
// the serial numbers of zones, and the metrics. What names exist and what they answer is compiled by dnsd/zone; a query
// reads one atomic pointer to the result, takes no lock and does not touch HostDB.
//
// Zone transfers, NOTIFY and signed requests are handed to Transfers. Not served: dynamic updates.
package dnsd
