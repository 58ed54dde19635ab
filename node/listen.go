package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// Most connections that are served at a time; further ones wait in the kernel's queue.
const (
	maxWebConns    = 1024
	maxSocketConns = 256
)

// maxSocketPath is what a Unix address holds (unix(7)), without the final NUL.
const maxSocketPath = 107

// listenTCP binds an address and says which knob to turn when it cannot.
func listenTCP(knob, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, explainListen(knob, addr, err)
	}
	return newBoundedListener(ln, maxWebConns), nil
}

// explainListen makes the kernel's reasons for refusing an address an operator's.
func explainListen(knob, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: port of %s is in use by another process: stop that, or set %s to another address: %w", knob, addr, knob, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this box does not have the address of %s: set %s to one it has: %w", knob, addr, knob, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no permission for %s: ports below 1024 need root or CAP_NET_BIND_SERVICE; give it, or set %s to a higher port: %w", knob, addr, knob, err)
	}
	return fmt.Errorf("%s: %w", knob, err)
}

// listenSocket binds the local socket, for everybody: who somebody is, the socket tells. The caller holds the data
// directory's lock, so a socket that lies there is a dead agent's.
func listenSocket(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("data_dir: the path of the socket %s has %d bytes, and %d are possible: use a shorter one", path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a former agent: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		ln.Close()
		return nil, fmt.Errorf("open the socket to everybody: %w", err)
	}
	return newBoundedListener(ln, maxSocketConns), nil
}

// boundedListener bounds the connections that are open at a time. Unlike netutil.LimitListener it leaves a way to the
// connection below, for the credentials of its peer and for half-closing it.
type boundedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBoundedListener(ln net.Listener, most int) *boundedListener {
	return &boundedListener{Listener: ln, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

func (c *boundedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// NetConn is the connection below.
func (c *boundedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http end an answer to a client that is still sending.
func (c *boundedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
