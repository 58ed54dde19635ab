// Package lbd makes balanced services real: it offers this node for the duty of each virtual address that it could hold, has the
// kernel or HAProxy divide what arrives there while it holds one, and tries members for itself and for the others.
//
// It leaves to others what should be balanced (lbd/plan), whose an address is (mesh/lease), how an address gets onto the box and off it
// again (lbd/vip), how connections are divided (lbd/nft, lbd/haproxy), and how a member is tried (lbd/check). It writes nothing into HostDB: what it
// observes is this node's report.
//
// # The order of a change of holders
//
// A node that is granted a duty first has the kernel know the members, and only then claims the address. One that hands over goes on
// dividing what still arrives until the address is gone: nobody is refused in between. One that lost its lease does the same, for the
// kernel takes the address away. So there are rules for exactly those addresses that are here, were a moment ago, or will be in a moment.
//
// # What a failure leaves
//
// The last good state. Where nf_tables or HAProxy refuse a change, what they had stays, the daemon fails visibly and tries again; a plan
// with problems keeps what was planned before. An agent that was killed leaves its rules, which match an address that the kernel has removed by
// then; the next start removes them.
package lbd
