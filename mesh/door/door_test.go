package door

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// client is a connection of an address, as a listener would give it.
type client struct {
	net.Conn
	addr   net.Addr
	closed int
}

func (c *client) RemoteAddr() net.Addr { return c.addr }
func (c *client) Close() error         { c.closed++; return nil }

func from(addr string) *client {
	return &client{addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1000))}
}

func enter(d *Door, addr string, n int) (list []*client) {
	for range n {
		c := from(addr)
		d.Enter(c)
		list = append(list, c)
	}
	return list
}

func open(list []*client) (n int) {
	for _, c := range list {
		if c.closed == 0 {
			n++
		}
	}
	return n
}

func TestWhoHasMostLosesWhatWaitsLongest(t *testing.T) {
	d := New(Config{Max: 4})
	many, few := enter(d, "10.0.0.1", 3), enter(d, "10.0.0.2", 1)
	newest := enter(d, "10.0.0.3", 1)
	if many[0].closed != 1 || open(many) != 2 || open(few) != 1 || open(newest) != 1 {
		t.Errorf("left open: %d of the many, %d of the few, %d of the newest", open(many), open(few), open(newest))
	}
	if st := d.Stats(); st.Open != 4 || st.Crowded != 1 || st.Hoarded != 0 || st.Source != netip.MustParseAddr("10.0.0.1") || st.Last.IsZero() {
		t.Errorf("%+v", st)
	}
}

func TestSourcesAreBounded(t *testing.T) {
	d := New(Config{Max: 10, PerSource: 2})
	hoard := enter(d, "10.0.0.1", 5)
	if open(hoard) != 2 || hoard[4].closed != 0 || hoard[3].closed != 0 {
		t.Errorf("%d are open", open(hoard))
	}
	busy := make([]*Conn, 2)
	for i := range busy {
		busy[i] = d.Enter(from("10.0.0.2"))
		busy[i].Busy()
	}
	if c := from("10.0.0.2"); d.Enter(c) != nil || c.closed != 1 {
		t.Error("a third connection of a source whose two are busy")
	}
	busy[0].Waiting()
	if c := from("10.0.0.2"); d.Enter(c) == nil {
		t.Error("the one that waits makes no room")
	} else if busy[0].Leave() {
		t.Error("it does not know that it was closed")
	}
	// The addresses of one IPv6 network are one source; an IPv4 address is the same in both forms.
	if list := append(append(enter(d, "2001:db8::1", 1), enter(d, "2001:db8::2:1", 1)...), enter(d, "2001:db8::3", 1)...); open(list) != 2 {
		t.Errorf("%d of a network are open", open(list))
	}
	if list := append(enter(d, "10.0.0.9", 2), enter(d, "::ffff:10.0.0.9", 1)...); open(list) != 2 {
		t.Errorf("%d of an address in two forms are open", open(list))
	}
}

func TestTheTrustedGoLast(t *testing.T) {
	friend := netip.MustParseAddr("10.0.0.1")
	d := New(Config{Max: 3, Trusted: func(a netip.Addr) bool { return a == friend }})
	friends := enter(d, "10.0.0.1", 2)
	for i := range 50 {
		enter(d, netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String(), 1)
	}
	if open(friends) != 2 {
		t.Errorf("%d friends are left", open(friends))
	}
	if more := enter(d, "10.0.0.1", 2); open(more) != 2 {
		t.Error("a friend finds no place")
	}
	if open(friends) != 1 {
		t.Errorf("among friends the longest waiting goes: %d are left", open(friends))
	}
}

func TestBusyOnesKeepOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{Max: 2})
		a, b := d.Enter(from("10.0.0.1")), d.Enter(from("10.0.0.1"))
		a.Busy()
		b.Busy()
		entered := make(chan *Conn)
		try := func() {
			go func() { entered <- d.Enter(from("10.0.0.2")) }()
			synctest.Wait()
			select {
			case <-entered:
				t.Fatal("it is let in beside busy ones")
			default:
			}
		}
		try()
		a.Close()
		a.Close() // frees one place, not two
		c := <-entered
		if c == nil {
			t.Fatal("no place although one was freed")
		}
		c.Busy()
		try()
		b.Waiting()
		if <-entered == nil || b.Leave() {
			t.Error("the one that waits again must make room")
		}
		d.Enter(nameless()).Busy()
		go func() { entered <- d.Enter(from("10.0.0.3")) }()
		synctest.Wait()
		d.Shut()
		if <-entered != nil {
			t.Error("let in through a door that is shut")
		}
	})
}

// nameless is a connection without an address.
func nameless() *client { return &client{} }

func TestPlacesAreGivenBack(t *testing.T) {
	d := New(Config{Max: 100, PerSource: 3})
	for i := range 1000 {
		c := d.Enter(from("10.0.0.1"))
		switch i % 4 {
		case 0:
			c.Busy()
		case 1:
			c.Busy()
			c.Waiting()
		case 2:
			if !c.Leave() {
				t.Fatal("closed although there is room")
			}
			c.Waiting() // of no effect any more
		}
		c.Close()
		c.Close()
	}
	if st := d.Stats(); st.Open != 0 || len(d.sources) != 0 || st.Hoarded != 0 {
		t.Errorf("%+v, %d sources", st, len(d.sources))
	}
}

func TestWhatIsClosedIsSaidOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1000, 0)
	d := New(Config{Name: "https", Max: 1, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
	for range 100 {
		enter(d, "10.0.0.1", 1)
	}
	now = now.Add(time.Minute)
	enter(d, "10.0.0.7", 1)
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "listener=https addr=10.0.0.1") || !strings.Contains(log.String(), "unlogged=98") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

func TestListener(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(tcp, Config{Max: 1})
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if Of(served) != served || Of(first) != nil {
		t.Error("the door's connection is not found")
	}
	dial()
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if n, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes from a connection that made room", n)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
