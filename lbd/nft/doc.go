// Package nft owns what the kernel of this box does for balanced services: the tables hostmesh of nftables (one for IPv4, one for IPv6), the tracked
// flows to their addresses, and the settings that forwarding needs. It is told a whole Table, compares it with what the kernel has, and
// closes the gap in one transaction. Rules of others are neither read for their meaning nor touched.
//
// Beside that it cuts a box from servers elsewhere, or shuts ports of it (Cuts), in a table of its own for each caller.
//
// Which services there are, which members are in, and whether this box holds an address, and what is to be cut, is decided elsewhere (lbd/plan, lbd, lbd/vip).
package nft
