package dnsd

import (
	"log/slog"
	"net"
	"time"

	"hostmesh/mesh/door"
)

// doorListener bounds connections: a client that hoards them loses its own, and does not make others wait.
type doorListener struct {
	*door.Listener
	patience time.Duration // with a client that does not take its answer
}

func newDoorListener(l net.Listener, most int, patience time.Duration, log *slog.Logger) *doorListener {
	return &doorListener{door.Listen(l, door.Config{Name: "dns", Max: most, PerSource: most / 4, Logger: log}), patience}
}

// Accept implements net.Listener.
func (l *doorListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tcpConn{c.(*door.Conn), l.patience}, nil
}

type tcpConn struct {
	*door.Conn
	patience time.Duration
}

// Write bounds how long a client may take for an answer, and ends with one that does not take it: the DNS library does
// neither. A client that took it whole goes last when room is made.
func (c *tcpConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close() // what is left of the answer would be taken for the next one
		return n, err
	}
	c.Busy()
	c.Waiting()
	return n, nil
}
