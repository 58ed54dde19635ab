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
	server   *Server
	patience time.Duration // with a client that does not take its answer
}

func newDoorListener(l net.Listener, most int, patience time.Duration, log *slog.Logger) *doorListener {
	return &doorListener{Listener: door.Listen(l, door.Config{Name: "dns", Max: most, PerSource: most / 4, Logger: log}), patience: patience}
}

// Accept implements net.Listener.
func (l *doorListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newTCPConn(l.server, c.(*door.Conn), l.patience), nil
}
