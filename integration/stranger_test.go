package integration

import (
	"bufio"
	"crypto/rand"
	enc "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hostmesh/node/api"
)

func (b *box) status() api.Status {
	b.site.t.Helper()
	st, err := b.api.Status(b.site.t.Context())
	if err != nil {
		b.site.t.Fatal(err)
	}
	return st
}

// stranger adds a box that tries to join a site and must not. It returns when it was turned away several times.
func (s *site) stranger(x *box, refusals func(api.MeshStatus) uint64) {
	s.t.Helper()
	x.settings = append(x.settings, "join: ["+s.boxes[0].addr+"]")
	x.launch()
	s.wait("the stranger is turned away several times", func() error {
		if !x.running() {
			s.t.Fatalf("the stranger ended by itself: %s\n%s", x.cmd.ProcessState, lastLines(x.log(), 5))
		}
		st, err := x.api.Status(s.t.Context())
		if err != nil {
			return err
		}
		if n := refusals(st.Mesh); n < 4 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if n := refusals(s.boxes[0].status().Mesh); n < 2 {
		s.t.Errorf("%s counts %d refusals of %s", s.boxes[0].name, n, x.name)
	}
}

// refusedOnce checks that a box told once, with the address and the reason, that it turned somebody away.
func (b *box) refusedOnce(addr, reason string) {
	b.site.t.Helper()
	if lines := b.logged("peer refused", "addr="+addr+":", reason); len(lines) != 1 {
		b.site.t.Errorf("%s logged %d times that it refuses %s for %q, want once:\n%s", b.name, len(lines), addr, reason, strings.Join(lines, "\n"))
	}
	if lines := b.logged("level=", addr+":"); len(lines) > 30 {
		b.site.t.Errorf("%s logged %d lines about %s, even at debug level", b.name, len(lines), addr)
	}
}

// unharmed checks that the mesh is what it was: its own members only, equal, and taking writes.
func (s *site) unharmed(id string) {
	s.t.Helper()
	s.boxes[0].mustPut(id, "Owner: me\n")
	s.equal(s.boxes...)
	s.allAlive()
	for _, b := range s.boxes {
		if st := b.status(); st.Mesh.Members != len(s.boxes) || st.Mesh.Failed != 0 {
			s.t.Errorf("%s knows %d members, %d failed; want %d and 0", b.name, st.Mesh.Members, st.Mesh.Failed, len(s.boxes))
		}
		if lines := b.logged("level=ERROR"); len(lines) > 0 {
			s.t.Errorf("%s: %s", b.name, strings.Join(lines, "\n"))
		}
	}
}

// TestWrongKey: a box with another key is turned away, both sides say so once, and nothing else happens to either.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	s, other := newSite(t, 2), newSite(t, 1)
	s.start()
	x := other.boxes[0]
	other.must(exec.Command(x.binary, "keygen", other.keyFile))
	s.stranger(x, func(m api.MeshStatus) uint64 { return m.RefusedKey })
	x.refusedOnce(s.boxes[0].addr, "wrong mesh key")
	s.boxes[0].refusedOnce(x.addr, "wrong mesh key")
	s.unharmed("hosts/after-wrong-key")
	if st := x.status(); st.Mesh.ID != "" || st.Mesh.Alive > 1 || st.HostDB.Hosts != 0 {
		t.Errorf("the stranger got in: %+v %+v", st.Mesh, st.HostDB)
	}
	out, _, code := x.hostmesh("status")
	if code != 1 || !strings.Contains(out, "key") {
		t.Errorf("status of the stranger: exit code %d, and no word of the key:\n%s", code, out)
	}
	x.stop()

	// With the right key the same directory joins: the refusal left no mark.
	if err := os.WriteFile(other.keyFile, []byte(readFile(t, s.keyFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	x.start()
	s.equal(append(s.boxes, x)...)
}

// TestOtherMesh: a founder of another mesh with the same key is turned away in the same way, and keeps its own data.
func TestOtherMesh(t *testing.T) {
	t.Parallel()
	s, other := newSite(t, 2), newSite(t, 1)
	s.start()
	x := other.boxes[0]
	other.keyFile = s.keyFile
	x.found()
	s.stranger(x, func(m api.MeshStatus) uint64 { return m.RefusedMesh })
	x.refusedOnce(s.boxes[0].addr, "other mesh")
	s.boxes[0].refusedOnce(x.addr, "other mesh")
	if _, err := x.api.Put(t.Context(), "hosts/of-the-other", []byte("Owner: other\n"), "test"); err != nil {
		t.Errorf("the other mesh goes on for itself: %v", err)
	}
	s.unharmed("hosts/after-other-mesh")
	for _, b := range s.boxes {
		if _, err := b.get("hosts/of-the-other"); err == nil {
			t.Errorf("%s has what the other mesh wrote", b.name)
		}
	}
	if out, _, code := x.hostmesh("db", "get", "hosts/after-other-mesh"); code != 1 {
		t.Errorf("the other mesh has what was written here: %s", out)
	}
	x.stop()
}

// hostile does to one address what strangers do, until stop is closed. Errors are its point.
type hostile struct {
	addr string
	stop chan struct{}
	wg   sync.WaitGroup
}

func (h *hostile) loop(f func()) {
	h.wg.Go(func() {
		for {
			select {
			case <-h.stop:
				return
			default:
				f()
			}
		}
	})
}

// dial connects; without a connection it waits a little, and returns nil.
func (h *hostile) dial(port string) net.Conn {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(h.addr, port), time.Second)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return nil
	}
	return c
}

// garbage sends bytes that are nothing, and goes, once politely and once with a reset.
func (h *hostile) garbage(port string) {
	h.loop(func() {
		c := h.dial(port)
		if c == nil {
			return
		}
		defer c.Close()
		junk := make([]byte, 1+int(randByte())*64)
		rand.Read(junk)
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = c.Write(junk)
		if randByte()%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(c, 4096))
	})
}

func randByte() byte {
	var b [1]byte
	rand.Read(b[:])
	return b[0]
}

// silent opens many connections and says nothing, or a byte now and then.
func (h *hostile) silent(port string, n int, begin []byte) {
	h.wg.Go(func() {
		var open []net.Conn
		for range n {
			if c := h.dial(port); c != nil {
				_, _ = c.Write(begin)
				open = append(open, c)
			}
		}
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-h.stop:
				for _, c := range open {
					c.Close()
				}
				return
			case <-tick.C:
				for _, c := range open {
					_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
					_, _ = c.Write([]byte{'x'})
				}
			}
		}
	})
}

// packets sends datagrams of rubbish, and some that begin like a real one.
func (h *hostile) packets(port string, begin []byte) {
	h.loop(func() {
		c, err := net.Dial("udp", net.JoinHostPort(h.addr, port))
		if err != nil {
			return
		}
		defer c.Close()
		for range 50 {
			junk := make([]byte, 1+int(randByte())*5)
			rand.Read(junk)
			copy(junk, begin)
			_, _ = c.Write(junk)
			time.Sleep(time.Millisecond)
		}
	})
}

// memory is what a process holds now, and has held at most, in MiB.
func (b *box) memory() (now, most int) {
	b.site.t.Helper()
	for line := range strings.Lines(readFile(b.site.t, fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			now = kb >> 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			most = kb >> 10
		}
	}
	return now, most
}

// TestHostileNeighbours: rubbish, half-open and slow connections on every port of an agent for some seconds. It goes on
// answering everybody else, and belongs to its mesh; its memory is bounded, and it ends in order.
func TestHostileNeighbours(t *testing.T) {
	t.Parallel()
	const most = 400 // MiB: an agent that buffers what strangers send is far beyond
	s := newSite(t, 2)
	s.start()
	s.lab()
	b := s.boxes[0]
	before, _ := b.memory()
	pid := b.cmd.Process.Pid

	h := &hostile{addr: b.addr, stop: make(chan struct{})}
	end := sync.OnceFunc(func() { close(h.stop); h.wg.Wait() })
	defer end()
	for _, port := range []string{"7946", "7947", "7950", "7951", "7953"} {
		h.garbage(port)
	}
	huge := enc.BigEndian.AppendUint32(nil, 0xfffffff0)
	h.silent("7946", 60, append([]byte{9}, huge...)) // memberlist: an encrypted message of 4 GiB follows
	h.silent("7946", 30, append([]byte{10}, huge...))
	h.silent("7947", 60, []byte{0x16, 0x03, 0x01, 0x40, 0x00}) // TLS: a long record follows
	h.silent("7950", 60, []byte("PUT /v1/hosts/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"))
	h.silent("7950", 30, []byte("POST /api/v1/import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n"))
	h.silent("7951", 60, []byte{0x16, 0x03, 0x01, 0x02, 0x00})
	h.silent("7953", 60, []byte{0xff, 0xff}) // DNS over TCP: 65535 bytes follow
	h.packets("7946", nil)
	h.packets("7946", []byte{12}) // memberlist: a label follows
	h.packets("7953", nil)
	h.packets("7953", []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}) // DNS: one question follows
	h.loop(func() {                                               // whole requests that are wrong
		c := h.dial("7950")
		if c == nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprintf(c, "PUT /v1/hosts/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 20\r\nConnection: close\r\n\r\nvalue=[&log=&session", strings.Repeat("a/", int(randByte())))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return
		}
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("a wrong request is answered with %s", resp.Status)
		}
	})

	begin, asked, slowest := time.Now(), 0, time.Duration(0)
	for time.Since(begin) < 8*time.Second {
		one := time.Now()
		if err := b.put("hosts/web1.lab.test/Rack", fmt.Sprint(asked)); err != nil {
			t.Errorf("a write while strangers are there: %v", err)
		}
		if got, err := b.get("hosts/web1.lab.test/Network/IP"); err != nil || got != "10.9.0.1" {
			t.Errorf("a read while strangers are there: %q, %v", got, err)
		}
		if got := b.dig("web1.lab.test", "+tries=3"); got != "10.9.0.1" {
			t.Errorf("a question while strangers are there: %q", got)
		}
		asked++
		slowest = max(slowest, time.Since(one))
		if t.Failed() {
			break
		}
	}
	_, peak := b.memory()
	end()
	s.equal(s.boxes...)
	s.allAlive()
	after, _ := b.memory()
	t.Logf("%d times asked and answered, the slowest (write, read and dig) in %s; memory %d MiB before, %d at most, %d after", asked, slowest.Round(time.Millisecond), before, peak, after)
	if peak > most {
		t.Errorf("its memory grew to %d MiB", peak)
	}
	if b.cmd.Process.Pid != pid || !b.running() {
		t.Error("it did not survive")
	}
	if info, err := os.Stat(b.logFile()); err != nil || info.Size() > 20<<20 {
		t.Errorf("strangers fill the log: %v, %v", info.Size(), err)
	}
	loud := 0
	for _, level := range []string{"level=INFO", "level=WARN", "level=ERROR"} {
		loud += len(b.logged(level))
	}
	if loud > 200 {
		t.Errorf("strangers fill the log: %d lines that are not for debugging\n%s", loud, lastLines(withoutGossip(b.log()), 10))
	}
	t.Logf("it stops in %s", b.stop())
	if err := b.cmd.Process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("it is still there: %v", err)
	}
}
