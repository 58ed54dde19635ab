package nft

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openCuts(t *testing.T) *Cuts {
	t.Helper()
	x, err := OpenCuts("hostmesh_mysql_trial", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Apply(Cutting{}); err != nil {
			t.Error(err)
		}
	})
	return x
}

func mustCut(t *testing.T, x *Cuts, c Cutting) {
	t.Helper()
	if err := x.Apply(c); err != nil {
		t.Fatal(err)
	}
}

// ended waits until a connection is over, and returns how it ended; nothing is sent on it.
func ended(t *testing.T, c net.Conn) error {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection goes on: %v", err)
	}
	return err
}

func refused(t *testing.T, box string, to netip.AddrPort) {
	t.Helper()
	c, err := dial(box, TCP, netip.Addr{}, to)
	if err == nil {
		c.Close()
		t.Fatalf("%s is reached from %q", to, box)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%s from %q: %v, want a refusal at once", to, box, err)
	}
}

func reached(t *testing.T, box string, to netip.AddrPort) *call {
	t.Helper()
	c, err := dial(box, TCP, netip.Addr{}, to)
	if err != nil {
		t.Fatalf("%s from %q: %v", to, box, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serveHere is serve in this process's own box.
func serveHere(t *testing.T, port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "here %s\n", c.RemoteAddr())
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// TestCutFromSource: a silent connection to a source ends at once on both sides, new ones are refused, and nothing else is touched.
func TestCutFromSource(t *testing.T) {
	serve(t, 3310, "one", "two")
	serve(t, 3311, "one")
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint(six), func(t *testing.T) {
			source := netip.AddrPortFrom(backendAddr(0, six), 3310)
			other, port := netip.AddrPortFrom(backendAddr(1, six), 3310), netip.AddrPortFrom(backendAddr(0, six), 3311)
			established, beside, another := reached(t, "", source), reached(t, "", other), reached(t, "", port)
			x := openCuts(t)
			mustCut(t, x, Cutting{From: []netip.AddrPort{source}})
			if err := ended(t, established); errors.Is(err, io.EOF) {
				t.Errorf("it ends in order: %v", err)
			}
			refused(t, "", source)
			for _, c := range []*call{beside, another} {
				if err := c.echo(); err != nil {
					t.Errorf("a connection that is not cut: %v", err)
				}
			}
			mustCut(t, x, Cutting{From: []netip.AddrPort{source}})
			refused(t, "", source)
			mustCut(t, x, Cutting{})
			if err := reached(t, "", source).echo(); err != nil {
				t.Error(err)
			}
			if strings.Contains(nft(t, "list", "tables"), "hostmesh_mysql_trial") {
				t.Error("a table is left that says nothing")
			}
		})
	}
}

// TestSpared: a socket with the mark goes on, and comes through anew, where others of the box are cut, from a source and as what is served.
func TestSpared(t *testing.T) {
	const mark = 0x2d
	serve(t, 3312, "one")
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint(six), func(t *testing.T) {
			source := netip.AddrPortFrom(backendAddr(0, six), 3312)
			marked := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
				if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) }); cerr != nil {
					return cerr
				}
				return err
			}}
			open := func() net.Conn {
				t.Helper()
				c, err := marked.Dial("tcp", source.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			said := func(c net.Conn, what string) {
				t.Helper()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				if _, err := fmt.Fprintln(c, what); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if strings.TrimSpace(line) == what {
						return
					}
				}
			}
			before, other := open(), reached(t, "", source)
			x := openCuts(t)
			mustCut(t, x, Cutting{From: []netip.AddrPort{source}, Spare: mark})
			if err := ended(t, other); errors.Is(err, io.EOF) {
				t.Errorf("what is not marked ends in order: %v", err)
			}
			refused(t, "", source)
			said(before, "goes on")
			said(open(), "comes through")
			mustCut(t, x, Cutting{From: []netip.AddrPort{source}})
			if _, err := marked.Dial("tcp", source.String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("with nothing spared: %v, want a refusal", err)
			}
		})
	}
}

// TestShutPort: those who are connected from elsewhere hear of it at once, new ones are refused, and loopback goes on.
func TestShutPort(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint(six), func(t *testing.T) {
			serveHere(t, 3320)
			at := netip.AddrPortFrom(addr("10.77.0.1"), 3320)
			if six {
				at = netip.AddrPortFrom(addr("fd77::1"), 3320)
			}
			client, own := reached(t, "near", at), reached(t, "", at)
			x := openCuts(t)
			mustCut(t, x, Cutting{Shut: []uint16{3320}})
			if err := ended(t, client); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a client sees %v, want a reset", err)
			}
			refused(t, "near", at)
			if err := own.echo(); err != nil {
				t.Errorf("loopback: %v", err)
			}
			reached(t, "", at)
			mustCut(t, x, Cutting{})
			reached(t, "near", at)
		})
	}
}

// TestDeafTo: who is connected to a port from one address hears of it at once, also one that is connected from a port that is served elsewhere, and is refused; others, and other ports, go on.
func TestDeafTo(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint(six), func(t *testing.T) {
			serveHere(t, 3325)
			serveHere(t, 3326)
			at, beside := netip.AddrPortFrom(addr("10.77.0.1"), 3325), netip.AddrPortFrom(addr("10.77.0.1"), 3326)
			if six {
				at, beside = netip.AddrPortFrom(addr("fd77::1"), 3325), netip.AddrPortFrom(addr("fd77::1"), 3326)
			}
			from := backendAddr(0, six)
			deaf, other, another, own := reached(t, "one", at), reached(t, "two", at), reached(t, "one", beside), reached(t, "", at)
			x := openCuts(t)
			mustCut(t, x, Cutting{Deaf: []netip.AddrPort{netip.AddrPortFrom(from, 3325)}})
			if err := ended(t, deaf); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("it sees %v, want a reset", err)
			}
			refused(t, "one", at)
			for what, c := range map[string]*call{"another box": other, "another port": another, "this box": own} {
				if err := c.echo(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			reached(t, "two", at)
			mustCut(t, openCuts(t), Cutting{Deaf: []netip.AddrPort{netip.AddrPortFrom(from, 3325)}})
			refused(t, "one", at)
			mustCut(t, x, Cutting{})
			if err := reached(t, "one", at).echo(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCutsOutlive: another process keeps what the one before has cut, others' rules stay, and what others flush comes back.
func TestCutsOutlive(t *testing.T) {
	serve(t, 3330, "one")
	source := netip.AddrPortFrom(backendAddr(0, false), 3330)
	nft(t, "add", "table", "inet", "others")
	nft(t, "add", "chain", "inet", "others", "input", "{ type filter hook input priority 0; policy accept; }")
	nft(t, "add", "rule", "inet", "others", "input", "tcp", "dport", "9", "counter", "drop")
	before := nft(t, "list", "table", "inet", "others")
	mustCut(t, openCuts(t), Cutting{From: []netip.AddrPort{source}})
	later := openCuts(t)
	refused(t, "", source)
	mustCut(t, later, Cutting{From: []netip.AddrPort{source}, Shut: []uint16{3331}})
	refused(t, "", source)
	if now := nft(t, "list", "table", "inet", "others"); now != before {
		t.Errorf("others' rules were\n%s\nand are\n%s", before, now)
	}
	nft(t, "delete", "table", "inet", "hostmesh_mysql_trial")
	c := reached(t, "", source)
	if err := later.Look(); err != nil {
		t.Fatal(err)
	}
	ended(t, c)
	refused(t, "", source)
	nft(t, "add", "rule", "inet", "others", "input", "tcp", "dport", "10", "drop") // the generation changes, the cut does not
	if err := later.Look(); err != nil || later.Repairs() != 1 {
		t.Errorf("repairs %d, want 1: %v", later.Repairs(), err)
	}
	nft(t, "delete", "table", "inet", "others")
}

func TestBadCuts(t *testing.T) {
	x := openCuts(t)
	for _, c := range []Cutting{
		{From: []netip.AddrPort{{}}}, {From: []netip.AddrPort{netip.AddrPortFrom(addr("10.0.0.1"), 0)}}, {Shut: []uint16{0}}, {Deaf: []netip.AddrPort{netip.AddrPortFrom(addr("10.0.0.1"), 0)}},
		{From: []netip.AddrPort{netip.MustParseAddrPort("224.0.0.1:3306")}}, {Shut: make([]uint16, MaxCuts+1)},
	} {
		if err := x.Apply(c); !errors.Is(err, ErrTable) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := OpenCuts(TableName, nil); err == nil {
		t.Error("the balancer's table can be taken")
	}
}
