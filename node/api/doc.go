// Package api is the JSON interface of an agent under /api/v1: the wire types,
// the handlers and the Go client, together, so that the two sides cannot drift.
//
// Each area (members, status, import, digest, DNS zones, schema, namespaces)
// has a file of its own with its types, the one small interface through which
// its answers come, its handler and its client method. Package node implements
// the interfaces over the daemons; this package knows none of them.
//
// The client also speaks /v1, HostDB's own interface, because a command line
// needs both. What /v1 means and serves is hostdb/rest's business.
//
// Errors are RFC 9457 problem documents. The description of it all is
// OpenAPI 3.1, at /openapi.json.
package api
