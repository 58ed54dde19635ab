package nft

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"hostmesh/integration/wires"
)

// The boxes of these tests: this process is in the holder's namespace; backends one, two and three and the client near share its subnet, far is
// behind it in another one. The holder is everybody's gateway.
var (
	backends = []string{"one", "two", "three"}
	vip4     = addr("10.77.0.100")
	vip6     = addr("fd77::100")
)

const nearSources = 60 // addresses of near

func backendAddr(i int, six bool) netip.Addr {
	if six {
		return addr(fmt.Sprintf("fd77::1%d", i+1))
	}
	return addr(fmt.Sprintf("10.77.0.1%d", i+1))
}

func nearAddr(i int, six bool) netip.Addr {
	if six {
		return addr(fmt.Sprintf("fd77::2:%x", i+1))
	}
	return addr(fmt.Sprintf("10.77.2.%d", i+1))
}

func farAddr(six bool) netip.Addr {
	if six {
		return addr("fd78::2")
	}
	return addr("10.78.0.2")
}

// lay makes them, once for all tests.
func lay() error {
	var steps [][]string
	do := func(line string) { steps = append(steps, strings.Fields(line)) }
	do("link set lo up")
	do("link add br0 type bridge")
	do("link set br0 up")
	do("addr add 10.77.0.1/16 dev br0")
	do("addr add fd77::1/64 dev br0 nodad")
	do("addr add 10.77.0.100/32 dev br0 preferred_lft 0")
	do("addr add fd77::100/128 dev br0 preferred_lft 0 nodad")
	do("link add br1 type bridge")
	do("link set br1 up")
	do("addr add 10.78.0.1/24 dev br1")
	do("addr add fd78::1/64 dev br1 nodad")
	box := func(name, bridge string, v4, v6 []string, gw4, gw6 string) {
		do("netns add " + name)
		do("link add to-" + name + " type veth peer name eth0 netns " + name)
		do("link set to-" + name + " master " + bridge + " up")
		do("-n " + name + " link set lo up")
		do("-n " + name + " link set eth0 up")
		for _, a := range v4 {
			do("-n " + name + " addr add " + a + " dev eth0")
		}
		for _, a := range v6 {
			do("-n " + name + " addr add " + a + " dev eth0 nodad")
		}
		do("-n " + name + " route add default via " + gw4)
		do("-n " + name + " -6 route add default via " + gw6)
	}
	for i, name := range backends {
		box(name, "br0", []string{backendAddr(i, false).String() + "/16"}, []string{backendAddr(i, true).String() + "/64"}, "10.77.0.1", "fd77::1")
	}
	var v4, v6 []string
	for i := range nearSources {
		v4, v6 = append(v4, nearAddr(i, false).String()+"/16"), append(v6, nearAddr(i, true).String()+"/64")
	}
	box("near", "br0", v4, v6, "10.77.0.1", "fd77::1")
	box("far", "br1", []string{"10.78.0.2/24"}, []string{"fd78::2/64"}, "10.78.0.1", "fd78::1")
	for _, s := range steps {
		if _, err := wires.Output(exec.Command("ip", s...)); err != nil {
			return err
		}
	}
	return nil
}

// in runs f in a box; sockets that it opens stay there.
func in(box string, f func() error) error {
	if box == "" || box == "holder" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(box)
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// server says its name and whom it sees to everybody, over TCP and UDP, and then, over TCP, what it hears.
type server struct {
	name string
	tcp  net.Listener
	udp  net.PacketConn
	seen atomic.Int64
}

// serve starts the backends on a port.
func serve(t testing.TB, port uint16, names ...string) {
	t.Helper()
	for _, name := range names {
		s := &server{name: name}
		err := in(name, func() (err error) {
			if s.tcp, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err != nil {
				return err
			}
			s.udp, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.tcp.Close(); s.udp.Close() })
		go func() {
			for {
				c, err := s.tcp.Accept()
				if err != nil {
					return
				}
				s.seen.Add(1)
				go func() {
					defer c.Close()
					fmt.Fprintf(c, "%s %s\n", s.name, c.RemoteAddr())
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		go func() {
			b := make([]byte, 1500)
			for {
				_, from, err := s.udp.ReadFrom(b)
				if err != nil {
					return
				}
				s.seen.Add(1)
				_, _ = s.udp.WriteTo([]byte(s.name+" "+from.String()), from)
			}
		}()
	}
}

// call is a client's connection; who answers stands in name, and whom that one sees in sees.
type call struct {
	net.Conn
	name string
	sees netip.Addr
}

var errSilent = errors.New("no answer")

func dial(box string, proto Proto, from netip.Addr, to netip.AddrPort) (*call, error) {
	var c net.Conn
	err := in(box, func() (err error) {
		d := net.Dialer{Timeout: 20 * time.Second}
		if from.IsValid() {
			if proto == TCP {
				d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
			} else {
				d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
			}
		}
		c, err = d.Dial(string(proto), to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	x := &call{Conn: c}
	if proto == UDP {
		return x, x.ask()
	}
	return x, x.hello()
}

// hello reads what a TCP server says first.
func (c *call) hello() error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	return c.parse(line, err)
}

// ask sends a packet and reads who answers it.
func (c *call) ask() error {
	var err error
	for range 10 { // neighbours may have to be found first
		if _, err = c.Write([]byte("?")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		b := make([]byte, 200)
		var n int
		if n, err = c.Read(b); err == nil {
			return c.parse(string(b[:n]), nil)
		}
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() {
			return err
		}
	}
	return errors.Join(errSilent, err)
}

func (c *call) parse(line string, err error) error {
	if err != nil {
		return err
	}
	name, from, _ := strings.Cut(strings.TrimSpace(line), " ")
	ap, err := netip.ParseAddrPort(from)
	c.name, c.sees = name, ap.Addr().Unmap()
	return err
}

// echo is whether a TCP call is still alive.
func (c *call) echo() error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// clock is a clock that tests set.
type clock struct{ at atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) forward(d time.Duration) { c.at.Add(int64(d)) }

func open(t *testing.T) (*Balancer, *clock) {
	t.Helper()
	cfg, c := DefaultConfig(), &clock{}
	c.at.Store(time.Now().UnixNano())
	cfg.Clock, cfg.Logger = c, slog.New(slog.DiscardHandler)
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, c
}

func apply(t *testing.T, b *Balancer, services ...Service) {
	t.Helper()
	if err := b.Apply(t.Context(), Table{services}); err != nil {
		t.Fatal(err)
	}
}

// service is one on the VIP, with the backends of these indices in.
func service(proto Proto, six bool, how Balance, port uint16, members ...int) Service {
	s := Service{Key: "tag", VIP: vip4, Port: port, Proto: proto, Balance: how, Masquerade: true}
	if six {
		s.VIP = vip6
	}
	for _, i := range members {
		s.Backends = append(s.Backends, Backend{Addr: backendAddr(i, six), Port: port + 1000, State: In})
	}
	return s
}

func (s Service) at() netip.AddrPort { return netip.AddrPortFrom(s.VIP, s.Port) }

func (s Service) drain(i int) Service {
	s.Backends = slices.Clone(s.Backends)
	s.Backends[i].State = Draining
	return s
}
