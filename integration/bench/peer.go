package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hostmesh/integration/dutybox"
)

// peer is this program run again as something to compare with. It prints where it listens, and ends with its standard
// input, so it cannot outlive the bench.
type peer struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	addr  string // its first line
}

func (b *bench) startPeer(name string, args ...string) (*peer, error) {
	p := &peer{cmd: exec.Command(b.self, append([]string{"-child", name}, args...)...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(stdout)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.end()
		return nil, fmt.Errorf("peer %s did not start: %w", name, err)
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

func (p *peer) pid() int { return p.cmd.Process.Pid }

func (p *peer) end() {
	_ = p.stdin.Close()
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-ended
	}
}

func runChild(name string, args []string) error {
	switch {
	case name == "http" && len(args) == 1:
		return serveBare(args[0])
	case name == "lease" && len(args) == 0:
		return dutybox.Child(os.Stdin, os.Stdout)
	case name == "raft" && len(args) == 1:
		return serveRaft(args[0])
	case name == "udp" && len(args) == 0:
		return serveEcho()
	case name == "vmcreate" && len(args) == 3:
		turns, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return createVMs(args[0], args[1], turns)
	case name == "reply" && len(args) == 1:
		return serveReply(args[0])
	case name == "balance" && len(args) == 5:
		turns, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		turn, err := time.ParseDuration(args[4])
		if err != nil {
			return err
		}
		return balanceChild(args[0], args[1], args[2], turns, turn)
	case name == "batches" && len(args) == 1:
		return serveBatches(args[0])
	}
	return fmt.Errorf("no peer %q with arguments %q", name, args)
}

// answer is what the bare handler sends.
type answer struct {
	Header http.Header
	Body   []byte
}

// serveBare is net/http with a handler that does nothing but send the answer of a file.
func serveBare(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return err
	}
	a.Header.Del("Date") // net/http's own
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		_, _ = w.Write(a.Body)
	})}
	// A process this small would collect garbage all the time, an agent with its large heap seldom: that is left out, to
	// the peer's advantage.
	debug.SetGCPercent(2000)
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the bench ends
		_ = srv.Close()
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveEcho sends every datagram back, as plainly as Go can.
func serveEcho() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	fmt.Println(c.LocalAddr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = c.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			_, err = c.WriteToUDPAddrPort(buf[:n], from)
		}
		if err != nil {
			return err
		}
	}
}
