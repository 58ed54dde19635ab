package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// cpus is how many sockets, processes or threads a server is given.
func cpus() int { return runtime.NumCPU() }

// serveBatches sends every datagram back as an answer, in batches on one socket for each processor: the least that a name
// server in Go must do, if it leaves the system calls to x/net. Ours makes them itself, see dnsd.
func serveBatches(addr string) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	var conns []net.PacketConn
	failed := make(chan error, cpus())
	for range cpus() {
		c, err := lc.ListenPacket(context.Background(), "udp4", addr)
		if err != nil {
			return err
		}
		_ = c.(*net.UDPConn).SetReadBuffer(1 << 20) // less will do
		conns = append(conns, c)
		go func() { failed <- echoBatches(ipv4.NewPacketConn(c)) }()
	}
	fmt.Println(conns[0].LocalAddr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range conns {
		if err := <-failed; err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}

func echoBatches(c *ipv4.PacketConn) error {
	in := make([]ipv4.Message, 64)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, 1500)}
	}
	out := make([]ipv4.Message, len(in))
	for i := range out {
		out[i].Buffers = make([][]byte, 1)
	}
	for {
		n, err := c.ReadBatch(in, 0)
		if err != nil {
			return err
		}
		for i, m := range in[:n] {
			out[i].Buffers[0] = m.Buffers[0][:m.N]
			out[i].Addr = m.Addr
			if m.N > 2 {
				m.Buffers[0][2] |= 0x80 // it is an answer
			}
		}
		for sent := 0; sent < n; {
			k, err := c.WriteBatch(out[sent:n], 0)
			if err != nil {
				return err
			}
			sent += k
		}
	}
}
