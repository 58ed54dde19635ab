package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// serfCrowd is a cluster of Debian's serf agents. They are told and heard over their RPC, as serf event and serf monitor
// do it, but without a process for each.
type serfCrowd struct {
	agents  []*serfAgent
	hear    chan hearing
	readers sync.WaitGroup
}

type serfAgent struct {
	addr  string
	mark  net.PacketConn
	cmd   *exec.Cmd
	ended chan struct{}
	tell  *serfConn
	hear  *serfConn
}

func (b *bench) serfCrowd(ctx context.Context, n int) (_ crowd, err error) {
	path, err := debian(ctx, "serf", "serf")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "serf")
	if err != nil {
		return nil, err
	}
	c := &serfCrowd{hear: make(chan hearing, 4*n)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for i := range n {
		if err := c.start(ctx, path, filepath.Join(dir, fmt.Sprintf("serf%d.log", i+1))); err != nil {
			return nil, fmt.Errorf("serf agent %d: %w", i+1, err)
		}
	}
	for i, a := range c.agents {
		err := until(ctx, 60*time.Second, 50*time.Millisecond, fmt.Sprintf("serf agent %d sees all alive", i+1), func() (bool, error) {
			alive, err := a.tell.alive()
			return alive == n, err
		})
		if err != nil {
			return nil, err
		}
		if a.hear, err = dialSerf(ctx, a.addr); err != nil {
			return nil, err
		}
		if err := a.hear.call("stream", "Type", "user:bench"); err != nil {
			return nil, err
		}
		c.readers.Go(func() {
			for {
				word, err := a.hear.event()
				c.hear <- hearing{agent: i, word: word, at: time.Now(), err: err}
				if err != nil {
					return
				}
			}
		})
	}
	return c, nil
}

func (c *serfCrowd) start(ctx context.Context, path, log string) error {
	addr, mark, err := loopback()
	if err != nil {
		return err
	}
	a := &serfAgent{addr: addr + ":7373", mark: mark, ended: make(chan struct{})}
	args := []string{"agent", "-node=" + addr, "-bind=" + addr + ":7946", "-rpc-addr=" + a.addr, "-log-level=warn"}
	if len(c.agents) > 0 {
		first, _, _ := strings.Cut(c.agents[0].addr, ":")
		args = append(args, "-join="+first)
	}
	out, err := os.Create(log)
	if err != nil {
		return errors.Join(err, mark.Close())
	}
	defer out.Close()
	a.cmd = exec.Command(path, args...)
	a.cmd.Stdout, a.cmd.Stderr = out, out
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		return errors.Join(err, mark.Close())
	}
	go func() { _ = a.cmd.Wait(); close(a.ended) }()
	c.agents = append(c.agents, a)
	return until(ctx, 20*time.Second, 10*time.Millisecond, "it answers", func() (bool, error) {
		select {
		case <-a.ended:
			text, _ := os.ReadFile(log) // whatever it left
			return false, fmt.Errorf("it ended by itself: %s\n%.500s", a.cmd.ProcessState, text)
		default:
		}
		var err error
		a.tell, err = dialSerf(ctx, a.addr)
		return err == nil, nil
	})
}

func (c *serfCrowd) size() int             { return len(c.agents) }
func (c *serfCrowd) heard() <-chan hearing { return c.hear }

func (c *serfCrowd) pids() []int {
	var out []int
	for _, a := range c.agents {
		out = append(out, a.cmd.Process.Pid)
	}
	return out
}

func (c *serfCrowd) tell(agent int, word string) error {
	return c.agents[agent].tell.call("event", "Name", "bench", "Payload", word, "Coalesce", false)
}

func (c *serfCrowd) close() {
	for _, a := range c.agents {
		for _, s := range []*serfConn{a.tell, a.hear} {
			if s != nil {
				_ = s.c.Close()
			}
		}
		_ = a.cmd.Process.Kill() // nobody is to hear that it left
	}
	ended := make(chan struct{})
	go func() { c.readers.Wait(); close(ended) }()
	for done := false; !done; {
		select {
		case <-c.hear:
		case <-ended:
			done = true
		}
	}
	for _, a := range c.agents {
		<-a.ended
		_ = a.mark.Close()
	}
}

// serfConn is a connection of serf's RPC: MessagePack maps, a header and mostly a body for each request and answer
// (https://www.serf.io/docs/agent/rpc.html). It is used by one goroutine.
type serfConn struct {
	c   net.Conn
	r   *bufio.Reader
	seq int
}

func dialSerf(ctx context.Context, addr string) (*serfConn, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &serfConn{c: c, r: bufio.NewReader(c)}
	if err := s.call("handshake", "Version", 1); err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

// call sends a request with a body of names and values, and waits for the header of its answer.
func (s *serfConn) call(command string, body ...any) error {
	s.seq++
	msg := packMap(nil, "Command", command, "Seq", s.seq)
	if len(body) > 0 {
		msg = packMap(msg, body...)
	}
	if _, err := s.c.Write(msg); err != nil {
		return fmt.Errorf("serf %s: %w", command, err)
	}
	if err := s.header(); err != nil {
		return fmt.Errorf("serf %s: %w", command, err)
	}
	return nil
}

func (s *serfConn) header() error {
	head, err := unpack(s.r)
	if err != nil {
		return err
	}
	fields, ok := head.(map[string]any)
	if !ok {
		return fmt.Errorf("an answer begins with %v", head)
	}
	if text, _ := fields["Error"].(string); text != "" {
		return errors.New(text)
	}
	return nil
}

// event waits for the next user event of a stream, and returns its payload.
func (s *serfConn) event() (string, error) {
	if err := s.header(); err != nil {
		return "", err
	}
	body, err := unpack(s.r)
	if err != nil {
		return "", err
	}
	fields, _ := body.(map[string]any)
	word, ok := fields["Payload"].(string)
	if !ok {
		return "", fmt.Errorf("an event is %v", body)
	}
	return word, nil
}

// alive is how many members the agent sees alive.
func (s *serfConn) alive() (int, error) {
	if err := s.call("members"); err != nil {
		return 0, err
	}
	body, err := unpack(s.r)
	if err != nil {
		return 0, err
	}
	fields, _ := body.(map[string]any)
	list, _ := fields["Members"].([]any)
	n := 0
	for _, m := range list {
		if fields, ok := m.(map[string]any); ok && fields["Status"] == "alive" {
			n++
		}
	}
	return n, nil
}

// packMap appends a map of names and values: texts, numbers below 2^31, and truths.
func packMap(to []byte, pairs ...any) []byte {
	to = append(to, 0x80|byte(len(pairs)/2))
	for _, v := range pairs {
		switch v := v.(type) {
		case string:
			to = binary.BigEndian.AppendUint16(append(to, 0xda), uint16(len(v)))
			to = append(to, v...)
		case int:
			to = binary.BigEndian.AppendUint32(append(to, 0xce), uint32(v))
		case bool:
			if v {
				to = append(to, 0xc3)
			} else {
				to = append(to, 0xc2)
			}
		default:
			panic(fmt.Sprintf("no %T is sent to serf", v))
		}
	}
	return to
}

// unpack reads a value of MessagePack; texts and bytes are both strings, whole numbers are int64.
func unpack(r *bufio.Reader) (any, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	number := func(size int) (uint64, error) {
		var buf [8]byte
		_, err := io.ReadFull(r, buf[8-size:])
		return binary.BigEndian.Uint64(buf[:]), err
	}
	text := func(n uint64, err error) (any, error) {
		if err != nil || n > 1<<20 {
			return nil, errors.Join(err, fmt.Errorf("a text of %d bytes", n))
		}
		buf := make([]byte, n)
		_, err = io.ReadFull(r, buf)
		return string(buf), err
	}
	list := func(n uint64, err error) (any, error) {
		var out []any
		for ; n > 0 && err == nil; n-- {
			var v any
			v, err = unpack(r)
			out = append(out, v)
		}
		return out, err
	}
	table := func(n uint64, err error) (any, error) {
		out := map[string]any{}
		for ; n > 0 && err == nil; n-- {
			var k, v any
			if k, err = unpack(r); err == nil {
				v, err = unpack(r)
			}
			out[fmt.Sprint(k)] = v
		}
		return out, err
	}
	whole := func(n uint64, err error) (any, error) { return int64(n), err }
	switch {
	case kind < 0x80:
		return int64(kind), nil
	case kind < 0x90:
		return table(uint64(kind&0x0f), nil)
	case kind < 0xa0:
		return list(uint64(kind&0x0f), nil)
	case kind < 0xc0:
		return text(uint64(kind&0x1f), nil)
	case kind >= 0xe0:
		return int64(int8(kind)), nil
	}
	switch kind {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return kind == 0xc3, nil
	case 0xc4, 0xd9:
		return text(number(1))
	case 0xc5, 0xda:
		return text(number(2))
	case 0xc6, 0xdb:
		return text(number(4))
	case 0xca:
		n, err := number(4)
		return math.Float32frombits(uint32(n)), err
	case 0xcb:
		n, err := number(8)
		return math.Float64frombits(n), err
	case 0xcc, 0xd0:
		return whole(number(1))
	case 0xcd, 0xd1:
		return whole(number(2))
	case 0xce, 0xd2:
		return whole(number(4))
	case 0xcf, 0xd3:
		return whole(number(8))
	case 0xdc:
		return list(number(2))
	case 0xdd:
		return list(number(4))
	case 0xde:
		return table(number(2))
	case 0xdf:
		return table(number(4))
	}
	return nil, fmt.Errorf("MessagePack of kind %#x", kind)
}
