package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/net/http/httpguts"
)

// Target is one port of a member, and what a check of it is told.
type Target struct {
	Addr  netip.Addr
	Port  uint16
	Proto string // tcp or udp
	Host  string // the member's name
	Tag   string
	VIP   netip.Addr
}

func (t Target) hostPort() string { return netip.AddrPortFrom(t.Addr, t.Port).String() }

// Prober tries a target once, until ctx ends at the latest. An error is a bad answer, in words for people. A Remark is a good one. It is called
// by many goroutines at once.
type Prober interface {
	Probe(ctx context.Context, t Target) error
}

// Remark is what a good answer leaves to say: the member serves, and an operator would want to know.
type Remark string

// Error implements error.
func (r Remark) Error() string { return string(r) }

// ErrBad is wrapped by bad answers; other errors of a Prober are about the way to it.
var ErrBad = errors.New("bad answer")

func dial(ctx context.Context, network string, t Target) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, t.hostPort())
	if err != nil {
		return nil, plainly(ctx, err)
	}
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// plainly says of an error what an operator has to know; the address stands beside it already.
func plainly(ctx context.Context, err error) error {
	var late net.Error
	switch {
	case err == nil, errors.Is(err, ErrBad), isRemark(err):
		return err // an answer, however late
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("connection reset")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return errors.New("no route to it, or it does not answer ARP or Neighbor Discovery")
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &late) && late.Timeout():
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection without an answer")
	}
	return err
}

// TCP is good when a connection is made.
type TCP struct{}

// Probe implements Prober.
func (TCP) Probe(ctx context.Context, t Target) error {
	c, err := dial(ctx, "tcp", t)
	if err != nil {
		return err
	}
	return c.Close()
}

// HTTP is good when GET / is answered with a status below 400. Redirects are good, and not followed.
type HTTP struct{}

// Probe implements Prober.
func (HTTP) Probe(ctx context.Context, t Target) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.hostPort()+"/", nil)
	if err != nil {
		return err
	}
	if httpguts.ValidHostHeader(t.Host) { // else the address: names of hosts may have blanks in them
		req.Host = t.Host
	}
	req.Header.Set("User-Agent", "hostmesh-check")
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, t) },
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return plainly(ctx, err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%w: GET / is answered with %s", ErrBad, strings.TrimSpace(printable(resp.Status)))
	}
	return nil
}

// printable is s without what could do something to a terminal or a log, and not long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 200 {
		return string(r[:200])
	}
	return s
}
