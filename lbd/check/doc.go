// Package check owns how members of balanced tags are tried: the probes, and when which is run. Its results are this node's observations; they
// travel in its report.
//
// Which members are checked by which node, and what follows from the results, is decided elsewhere (lbd, lbd/plan, mesh/report.Judge).
package check
