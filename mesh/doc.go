// Package mesh owns who is in the mesh and how nodes talk: members and their states, network distances, the peer list
// that survives restarts, and the peer streams with their Handle and Call. What it knows is read from an immutable View.
//
// It leaves to others what the members are for: it knows nothing of HostDB, duties or daemons, and never decides what
// follows from a failure. Exclusive jobs belong to package lease; what nodes observe, to package report.
//
// # How it works
//
// Membership is serf's, on the gossip port; packets are encrypted under a key derived from the mesh key, and labelled
// with another, public derivation, so that meshes with different keys do not even try to decrypt each other. Two meshes
// with one key are kept apart by the mesh id, which is checked on every alive message, on every full exchange and on
// every stream.
//
// Peer streams are TLS 1.3 with certificates of both sides under a CA that every holder of the mesh key can compute.
// A stream carries many requests at once. Names, deadlines and errors cross; nothing is retried here.
//
// There are two lanes, each with a stream of its own to a member: Call's, and CallUrgent's for small messages on which a
// decision waits. An urgent one is bounded (MaxUrgent), waits behind no large answer, has places of its own at the member,
// and finds a member behind a healed cut within a second or so: dials are short and soon repeated, and a connection over
// which nothing comes while a request waits is given up. The lane stands in the hello of a stream, where builds that do not
// know it skip it: they serve such a stream as an ordinary one.
//
// A member that was once seen is dialled for ever until it is removed, so that a partition of any length heals.
//
// # Failure detection
//
// The settings are fixed (see tuneGossip, which gives the reasons), because nodes with different ones accuse each other.
//
//	setting                  value     memberlist's LAN default
//	probe interval           500 ms    1 s
//	probe timeout            300 ms    500 ms
//	indirect checks          3         3
//	suspicion multiplier     4         4
//	suspicion max multiplier 6         6
//	awareness max multiplier 8         8
//	gossip interval          100 ms    200 ms
//	gossip fan-out           3         3
//	push/pull interval       15 s      30 s
//	stream timeout           5 s       10 s
//	dead node reclaim        30 s      never
//
// A member of a small mesh that is killed is seen as failed by the others after 2.5 to 3.5 s: up to 1.0 s until it is
// probed, 0.5 s of probing, then 2 s in which it may refute. The last term grows with the logarithm of the members: about
// 3.5 s in all with 10 members, 5 s with 60. A node that does not get the processor for less than two seconds is not
// accused falsely.
package mesh
