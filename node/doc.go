// Package node is the agent of one box: it puts the parts together, reads their configuration, and runs them.
//
// It owns the wiring, the data directory, the servers on HTTP, HTTPS and the local socket with the web CA, and the one
// reconcile loop in which every Daemon runs. What is specific to a domain (zones, virtual machines, load balancing) is
// the daemons' own; the JSON API's types and handlers are package api's, which node adapts the parts to.
//
// The order of start is such that the replica on disk answers DNS and HTTP at once: nothing waits for a peer or a name.
// Several agents can live in one process, each with its own directory and address.
package node
