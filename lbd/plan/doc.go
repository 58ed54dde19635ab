// Package plan decides what is balanced, and onto what: from views of HostDB and of the mesh to services with a virtual IP, their
// backends, and why each of these is in or out; which nodes may hold a virtual IP, and which observe its backends. It is pure,
// and the same on every node that saw the same before.
//
// # What a plan keeps
//
// Two rules look at the plan before, so a plan follows from the views and from the last one (Input of NewPlanner):
//
// A tag whose section cannot be used keeps its last good configuration, and a Problem says so; its members and their states go
// on. Where another tag is given the VIP by then, the first one ends.
//
// A pool never shrinks by more than 30 % because of one change of HostDB. What counts are the backends of the last plan that
// HostDB wanted in, whether they worked or not; those that a change takes out (no member any more, retired, in maintenance,
// another address) may be 30 % of them, rounded down, and one always; newcomers that are seen to work make up for as many. Where
// more would leave, none does: all are held (Backend.Held) until HostDB has enough of them back, newcomers work, a person drains
// them one by one, or LB/Force has a text that it had not in the last plan. The last backend, and the last that works, leave for
// no change of members, the last not even with Force: who wants no service takes the section LB out of the tag. A node without
// a last plan takes what HostDB says; whoever runs a Planner keeps Result.Services over restarts.
//
// # Who is in
//
// Leaving on purpose (HostDB, or a person by lb drain) drains: no new connections, and those that are there may go on for
// Service.Drain. What is observed acts at once: a machine that its box reports as not running, an agent that failed, checks that
// failed. A newcomer to a pool that serves waits for its first good check. If everything observed leaves no backend, all are in
// (Service.FailOpen): a wrong guess must not take the service away. Under mass suspicion what was seen of the mesh stands still.
//
// How verdicts come about is lbd/check's, how backends reach the kernel lbd/nft's and lbd/haproxy's, who holds an address mesh/lease's.
package plan
