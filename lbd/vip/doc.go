// Package vip puts virtual addresses on this box's interfaces while a lease says that they are its own, and makes sure that they go
// when it does not: by its own hand, and by the kernel's when there is no hand any more. One Table per process has the claims of all
// daemons.
//
// It leaves to others who may have an address (a Lease says it), which addresses there are, and what listens on them. It knows
// nothing of HostDB.
//
// # When two hosts may have one address
//
// An address is added with a lifetime, and its lifetime is begun anew only on a young renewal of the lease. With s the moment at
// which the holder sent a renewal, and all of it on CLOCK_BOOTTIME:
//
//	the lifetime of 2 s begins anew      until s + 0.3 s, never on an older renewal
//	the kernel removes the address       0 to 0.3 s after the lifetime's end: until s + 2.6 s
//	the holder removes it itself         at s + 2 s, when no later renewal was answered
//	the lease leader grants to another   not before s + 3 s
//	the next holder adds it              after that, when nobody answers a probe
//
// So an agent that is killed, stopped or wedged has no address any more 0.4 s before another can be granted it, whatever it was
// doing. A new address gets a lifetime of 1 s at first, which may rest on a renewal of up to 1.3 s: the sum is the same, and a
// hand-over does not wait for the next renewal.
//
// What remains is an agent that stands still between its look at the lease and the kernel's act, for longer than those 0.4 s:
//
//   - Before it begins a lifetime anew: when it goes on, the kernel has removed the address, and refuses. Linux makes an address that
//     does not exist when it is asked to replace it; one marked as joining a multicast group (IFA_F_MCAUTOJOIN) is refused when it is
//     no group, but only when it would be made. So a late refresh brings nothing back. Table checks at Open that this kernel does that.
//   - Before it adds a new address, or while the old one still has some of its life: the kernel does what it was asked for too late.
//     The lease is read again after each such call, before anything else is done, and the address is removed at once when the lease is
//     over, or its lifetime shortened when it would outlast the 2.6 s. The overlap is what two calls of the kernel take.
//   - The same, and it is stopped again, or killed, right between these two calls: then the overlap ends with the lifetime, after at most
//     1.3 s (added) or 2.3 s (begun anew). This takes two faults, the second within microseconds of the end of the first.
//   - Before it announces: one frame goes out late. The holder that is in the right hears it, and announces again at once.
//
// A machine that is paused as a whole, with its clocks, such as a virtual one, is not covered: its kernel does not know that time
// passed. The address lives for what is left of its lifetime, 2.3 s at most, after it goes on; the holder in the right defends it.
//
// # A planned hand-over
//
// The holder stops what it does on the address, so that it refuses, and calls HandOver: nothing is refreshed or announced any more,
// but the address stays. Then it gives up the lease. The next holder probes, knows the answer for a former holder's (Claim.Ours), adds
// the address and announces it; upon which the former removes it. In between both answer for it, for as long as an announcement and a
// removal take. So there is no moment at which nobody answers, and a dialling client is refused or served, but never waits. A former
// holder that is not recognised is probed again, and removes the address upon that. One that hears nothing at all loses it by its
// lifetime's end.
//
// # Keep
//
// A claim that is to be kept (Claim.Keep) does not end with the lease while the process lives: where no majority grants anything,
// what serves goes on serving. It is then no longer announced, it is probed for every second, and removed as soon as anybody else answers or
// announces. This gives up the promise above: on two sides of a cut two boxes may have the address. A kept address is never added anew.
package vip
