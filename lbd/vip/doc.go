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
//	the next holder adds it              after that, when nobody answers three probes within 75 ms
//
// So an agent that is killed, stopped or wedged has no address any more 0.4 s before another can be granted it, whatever it was
// doing. A new address gets a lifetime of 1 s at first, which may rest on a renewal of up to 1.3 s: the sum is the same, and a
// hand-over does not wait for the next renewal.
//
// Linux looks at lifetimes once a second at most. When any other address of the same family came, was refreshed or ended in the
// second before, an address goes up to a second late: until s + 3.3 s. All addresses that one agent holds are mostly refreshed within
// milliseconds of each other, and end together; on a busy box they lie more than the 20 ms apart that Linux takes for the same moment, and the
// later one ended 3.0 s after its refresh (measured). One that another program adds right then (DHCP, router advertisements, containers)
// is not known to anybody. That is what the probes are for: the next holder adds nothing while the former's kernel still answers.
//
// What remains is an agent that stands still between its look at the lease and the kernel's act, for longer than those 0.4 s:
//
//   - Before it begins a lifetime anew: when it goes on, the kernel has removed the address, and refuses. Linux makes an address that
//     does not exist when it is asked to replace it; one marked as joining a multicast group (IFA_F_MCAUTOJOIN) is refused when it is
//     no group, but only when it would be made. So a late refresh brings nothing back. Kernel.Check sees that this kernel does that.
//   - Before it adds a new address, or while the old one still has some of its life: the kernel does what it was asked for too late.
//     The lease is read again after each such call, before anything else is done, and the address is removed at once when the lease is
//     over, or its lifetime shortened when it would outlast s + 3 s. The overlap is what two calls of the kernel take (measured: 3 us
//     to 4 ms, on a busy machine).
//   - The same, and it is stopped again, or killed, right between these two calls: then the overlap ends with the lifetime, after 1.0 to
//     1.3 s (added) or 2.0 to 2.3 s (begun anew), and a second later in the worst case named above. This takes two faults, the second
//     within microseconds of the end of the first.
//   - Before it announces: one frame goes out late. The holder that is in the right hears it, and announces again at once.
//
// A machine that is paused as a whole, with its clocks, such as a virtual one, is not covered: its kernel does not know that time
// passed. The address lives for what is left of its lifetime, 2.3 s at most, after it goes on; the holder in the right defends it.
//
// # A planned hand-over
//
// The holder stops what it does on the address, so that it refuses, and calls HandOver: nothing is refreshed or announced any more,
// but the address stays. Then it gives up the lease. The next holder probes. The former one's kernel answers that it has the address, and
// the former holder asks for it, as the next one did: who has an address and asks for it is about to give it up. So the next holder adds
// the address and announces it, upon which the former removes it. In between both answer for it, for as long as an announcement and a
// removal take (measured: 7 ms at most). There is no moment at which nobody answers: a dialling client is refused or served, and never
// waits. A former holder that hears nothing loses the address by its lifetime's end, and is silent then.
//
// # Leave
//
// A process that is started anew can leave an address to the one that follows (Handle.Leave): the kernel keeps it for a life of its own, of some seconds, and whoever claims it here in that time
// goes on with it. This, too, gives up the promise of the table above: for so long the former holder's kernel answers for it, whatever became of the right to it. It announces nothing, and a next
// holder that hears it waits (Claim.Former); one that does not hear it has the address at the same time.
//
// # Keep
//
// A claim that is to be kept (Claim.Keep) does not end with the lease while the process lives: where no majority grants anything,
// what serves goes on serving. It is then no longer announced, it is probed for every second, and removed as soon as anybody else answers or
// announces. This gives up the promise above: on two sides of a cut two boxes may have the address. A kept address is never added anew.
package vip
