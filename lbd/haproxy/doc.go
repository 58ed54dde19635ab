// Package haproxy runs HAProxy for the services whose mode is tcp or http: its file, its process, and what changes while it runs.
//
// # The file
//
// Render is a pure function of services (lbd/plan) and Settings, and gives the whole file. It is written beside the one in use and
// tried with haproxy -c, but for the first, which the start tries. Where it is refused the service that is to blame keeps what it had, or is left out, and the others go
// on; Apply says so. Names of tags and hosts become ids that HAProxy takes (idOf): nothing that stands in HostDB can add a word
// to the file or to a command. The checks of HAProxy are off: lbd/check judges, and the state of each server is set here.
//
// Every frontend is bound with transparent, which lets the address be one that this box does not have (yet): whoever may hold a VIP
// can have HAProxy ready, listening to nothing until the address comes, so that taking over costs no start of a program. No packet
// for an address reaches a box that does not have it.
//
// # The process
//
// HAProxy runs in the foreground (-db), as a child, and not under its own master: a master that is told to reload says neither
// whether nor why it did not (before 2.7), and dies with its worker, so there would be two supervisors. Here a reload is a new
// process that takes the listening sockets over from the old one (-x: no connection is refused) and tells it, once it
// has read its file and is bound, to finish (-sf). If it fails it says why and exits, and the old one never heard of it. The old one
// ends with its last connection, or after the longest Drain of its services.
//
// What concerns backends alone goes over the runtime socket: servers are added, deleted, drained, and put in maintenance while it
// runs. The file is written all the same, because what was added at run time is not in the next process.
//
// A process that dies is started again, with a growing pause. It ends with the agent, orderly or not: the lease of a VIP does not
// outlive the agent, so nobody would come. One that a killed agent left is found by its argument (our file in our directory), its program and its
// user, and ended at Open; a file of process ids would say less, and could say it late.
//
// It starts as root where the agent does, to bind low ports and read keys, and goes on as user haproxy in an empty root directory.
//
// Who holds a VIP, and whether a backend works, is the business of others.
package haproxy
