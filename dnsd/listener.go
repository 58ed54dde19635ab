package dnsd

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"hostmesh/mesh/door"
)

// doorListener bounds connections: a client that hoards them loses its own, and does not make others wait.
type doorListener struct {
	*door.Listener
	server   *Server
	patience time.Duration // with a client that does not take its answer

	mu    sync.Mutex // guards the fields below
	conns map[*tcpConn]struct{}
	ended bool // endAll was called
}

func newDoorListener(l net.Listener, most int, patience time.Duration, log *slog.Logger) *doorListener {
	return &doorListener{Listener: door.Listen(l, door.Config{Name: "dns", Max: most, PerSource: most / 4, Logger: log}), patience: patience,
		conns: map[*tcpConn]struct{}{}}
}

// Accept implements net.Listener.
func (l *doorListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := newTCPConn(l.server, c.(*door.Conn), l.patience)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = t.Conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[t] = struct{}{}
	return t, nil
}

// forget is called when a connection is closed.
func (l *doorListener) forget(c *tcpConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// endAll closes what is still open: a zone transfer, or whoever serves it, waits for its client for as long as that reads.
func (l *doorListener) endAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for c := range l.conns {
		_ = c.Conn.Close() // its goroutine sees it, and forgets it
	}
}
