package main

import (
	"context"
	"net"
)

// lookup asks one server for one address, without the time that starting dig takes.
func lookup(ctx context.Context, server, name string) (string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server)
	}}
	addrs, err := r.LookupHost(ctx, name+".")
	if err != nil || len(addrs) == 0 {
		return "", nil // not yet, or not any more: the caller asks again
	}
	return addrs[0], ctx.Err()
}
