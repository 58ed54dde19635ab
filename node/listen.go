package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"hostmesh/mesh/door"
)

// Most connections that are open at a time. When another comes, the one that waited longest for its client to ask is
// closed, of the source that has the most; while all are being served it waits.
const (
	maxWebConns    = 1024
	maxWebConnsOf  = 512 // of one source: all that come through a proxy are one
	maxSocketConns = 256
)

// maxSocketPath is what a Unix address holds (unix(7)), without the final NUL.
const maxSocketPath = 107

// listenTCP binds an address and says which knob to turn when it cannot.
func listenTCP(knob, addr string, log *slog.Logger) (*door.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, explainListen(knob, addr, err)
	}
	return door.Listen(ln, door.Config{Name: knob, Max: maxWebConns, PerSource: maxWebConnsOf, Logger: log}), nil
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
func listenSocket(path string, log *slog.Logger) (*door.Listener, error) {
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
	return door.Listen(ln, door.Config{Name: "socket", Max: maxSocketConns, Logger: log}), nil
}
