// Package lease decides who may act. A duty (a virtual address, the promotion of a database, the Git mirror) has at most
// one holder, who knows until when, by its own clock, and by which number everybody can tell a former holder from the
// present one. Beside duties it keeps compare-and-set records, on which uniqueness rests: names, address blocks, counters.
//
// It leaves to others what a duty is for, which duties exist, and how its holder makes it real. It knows nothing of HostDB.
//
// # The group
//
// The nodes of one datacenter form a group. Some of them, 1, 3 or 5, are voters and run raft (hashicorp/raft) over the
// peer streams; every other node asks the leader. So a cut between two datacenters leaves both working. A group starts
// with one voter, where the mesh was founded; the leader takes in others, of different racks first, and replaces those
// that died, as long as a majority lives (see voters.go). Gossip is a hint of whom to ask, never a reason to act.
//
// # Duties
//
// A node offers itself for a duty (Campaign, Acquire), or says why it does not (Decline). The leader chooses among the
// offers (see assign.go) and writes the grant into the log; the index of that entry is the fencing number. The leader never
// takes a grant away: it asks the holder to hand over, or waits until the holder's session has ended.
//
// Each agent has one session, which it renews every half second. Only grants and their ends are log entries; sessions are
// in the leader's memory. The times, of which the order is what makes it safe:
//
//	the holder sends a renewal           at s
//	the leader receives it               at r >= s
//	the holder stops by itself           at s + 2 s
//	the leader grants to another         not before r + 3 s
//	a new leader takes office            at o, confirmed to be after s if the old one's answer counted
//	a new leader grants to another       not before o + 3 s
//
// Both sides count on CLOCK_BOOTTIME, which no one sets and which goes on while a machine sleeps. A leader that notices that it
// was itself away (stopped, or asleep) gives every session its full time again, as a new leader does.
//
// An answer of a leader counts only when, after the question came in, a majority of the voters still had no later term
// (see confirm.go): so a leader that was stopped and wakes up answers nothing from its memory.
//
// # Records
//
// Get, Put, Delete and Watch work on the same log. A record has a version; Put and Delete name the one they replace.
// ClaimName, Grant and Next are built on them: unique names, permanent grants and counters that only grow.
//
// # Disk
//
// Raft's files are those of package raftdisk. A disk that cannot be written costs a node its vote and its leadership,
// nothing else. A directory that was restored or cloned is recognised and discarded.
//
// # Loss of the quorum
//
// Without a majority nothing new is granted, and what was granted ends with its session. When the majority is gone for good,
// an operator makes a new generation from what one node has (Recover). Messages of different generations are refused; a
// node that hears of a later one gives up its part in the earlier. Fencing numbers begin with the generation, so they grow
// across that too. Permanent grants are kept by their owners as well, and must all have been brought in again before new
// ones are made.
package lease
