package mesh

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets is the real Network. Everything leaves from the node's own address, so that the others see on each connection
// who it is, also where a host has several addresses.
type sockets struct{ addr netip.Addr }

func (s sockets) Gossip(addr netip.AddrPort, logger *log.Logger) (memberlist.NodeAwareTransport, netip.AddrPort, error) {
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{addr.Addr().String()},
		BindPort:  int(addr.Port()),
		Logger:    logger,
	})
	if err != nil {
		return nil, addr, bindError("gossip", addr, err)
	}
	return &boundTransport{t, s}, netip.AddrPortFrom(addr.Addr(), uint16(t.GetAutoBindPort())), nil
}

func (s sockets) Listen(addr netip.AddrPort) (net.Listener, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, bindError("stream", addr, err)
	}
	return l, nil
}

func (s sockets) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.addr, 0))}
	return d.DialContext(ctx, "tcp", addr.String())
}

func (s sockets) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// boundTransport makes memberlist's connections leave from the node's own address.
type boundTransport struct {
	*memberlist.NetTransport
	net sockets
}

func (t *boundTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.net.Dial(ctx, ap)
}

func (t *boundTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown also works where memberlist does not read yet: the original waits for its listeners, which wait for a reader.
func (t *boundTransport) Shutdown() error {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-t.PacketCh():
			case c := <-t.StreamCh():
				c.Close()
			case <-done:
				return
			}
		}
	}()
	defer close(done)
	return t.NetTransport.Shutdown()
}

// bindError adds the remedy. memberlist does not wrap the system's error, so its text must do.
func bindError(what string, addr netip.AddrPort, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, syscall.EADDRINUSE) || strings.Contains(text, "address already in use"):
		return fmt.Errorf("bind %s port %s: %w; another agent (or a serf or consul) uses it: stop that, or give this agent another address (addr, --addr)", what, addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL) || strings.Contains(text, "cannot assign requested address"):
		return fmt.Errorf("bind %s port %s: %w; set addr to an address that this host has", what, addr, err)
	}
	return fmt.Errorf("bind %s port %s: %w", what, addr, err)
}

// peerAddr returns the address of a connection's other side.
func peerAddr(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case nil:
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
