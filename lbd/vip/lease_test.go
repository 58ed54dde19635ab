package vip_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/vip"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
)

// meshing is a holder's place in a mesh.
type meshing struct {
	ID, Name, KeyFile, Addr string
	Join                    []string
	Found                   bool
	Campaign                bool
}

const duty, meshID = "lb/vip", "00000000000000000000000000000abc"

// campaign holds the address whenever the group says so, until its standard input ends. A line there is a node that the duty is to move to.
func campaign(t *vip.Table, c holding) error {
	key, err := mesh.LoadKeyFile(c.Mesh.KeyFile)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	mc := mesh.DefaultConfig()
	mc.Addr, mc.NodeID, mc.Name, mc.MeshID, mc.Key, mc.Join = netip.MustParseAddr(c.Mesh.Addr), c.Mesh.ID, c.Mesh.Name, meshID, key, c.Mesh.Join
	mc.Datacenter, mc.Logger, mc.RedialMax = "dc1", quiet, time.Second
	lc := lease.DefaultConfig()
	lc.NodeID, lc.Name, lc.Datacenter, lc.Dir, lc.Founder, lc.Logger = c.Mesh.ID, c.Mesh.Name, "dc1", filepath.Join(c.Dir, "lease"), c.Mesh.Found, quiet
	if c.Mesh.Found {
		if err := lease.Found(lc.Dir, c.Mesh.ID, "dc1"); err != nil {
			return err
		}
	}
	m, err := mesh.Open(mc)
	if err != nil {
		return err
	}
	lc.Mesh = m
	l, err := lease.Open(lc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = m.Run(context.Background()) }()
	go func() { _ = l.Run(ctx) }()
	ended := make(chan error, 1)
	if c.Mesh.Campaign {
		go func() {
			ended <- l.Campaign(ctx, duty, func(ctx context.Context, g *lease.Grant) error { return hold(ctx, t, g, c) })
		}()
	} else {
		ended <- nil
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		move, stop := context.WithTimeout(ctx, 20*time.Second)
		for {
			_, err := l.Move(move, duty, lines.Text())
			if err == nil {
				break
			}
			if move.Err() != nil {
				fmt.Fprintln(os.Stderr, "move:", err)
				break
			}
			time.Sleep(100 * time.Millisecond) // it has only begun
		}
		stop()
	}
	cancel()
	return errors.Join(<-ended, l.Close(), t.Close(), m.Close())
}

// hold is how a duty is to use a Table.
func hold(ctx context.Context, t *vip.Table, g *lease.Grant, c holding) error {
	h, err := t.Claim(ctx, vip.Claim{Addr: c.Addr, Owner: duty, Lease: g})
	if err != nil {
		return err
	}
	<-ctx.Done()
	if errors.Is(context.Cause(g.Context()), lease.ErrHandOver) {
		h.HandOver()
		return nil
	}
	return h.Release(context.WithoutCancel(ctx))
}

// TestLeases has two agents hold an address under real leases of a third: the holder is killed, stopped and resumed, cut off, and asked to hand
// over. Somebody who asks all the time who has the address never hears two, but for the moments that the package comment names.
func TestLeases(t *testing.T) {
	key := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7, 9}, 16))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two := enter(t, "one"), enter(t, "two")
	id := func(i int) string { return fmt.Sprintf("%032x", i+1) }
	place := func(i int, name string, campaign bool) holding {
		addr, _, _ := strings.Cut(fmt.Sprintf("10.77.0.%d/24", i+1), "/")
		return holding{Addr: netip.MustParseAddr("10.77.0.150"), Mesh: &meshing{
			ID: id(i), Name: name, KeyFile: key, Addr: addr, Join: []string{"10.77.0.1", "10.77.0.2", "10.77.0.4"}, Found: i == 3, Campaign: campaign,
		}}
	}
	addr := place(0, "", false).Addr
	leader := start(t, "stranger", place(3, "leader", false))
	holders := map[string]child{"one": start(t, "one", place(0, "one", true))}
	here(t, "one", addr)
	holders["two"] = start(t, "two", place(1, "two", true))
	macs := map[string]net.HardwareAddr{"one": one.mac, "two": two.mac}
	ids := map[string]string{"one": id(0), "two": id(1)}
	other := map[string]string{"one": "two", "two": "one"}
	where := "one"
	// move moves it in order, and sees that the observer, who has a former holder in its memory and sends nothing, learns of the new one.
	move := func() {
		ip(t, "-n", "observer", "neigh", "replace", addr.String(), "lladdr", macs[where].String(), "dev", "eth0", "nud", "reachable")
		w := watch(t, addr)
		eventually(t, "the present holder answers", func() bool { return len(w.heard) > 0 })
		to := other[where]
		if _, err := io.WriteString(leader.in.(io.Writer), ids[to]+"\n"); err != nil {
			t.Fatal(err)
		}
		here(t, to, addr)
		gone(t, where, addr)
		eventually(t, "the observer learns it", func() bool {
			return strings.Contains(ip(t, "-n", "observer", "neigh", "show", addr.String()), macs[to].String())
		})
		both, gap, err := handOver(w.end(), macs[where], macs[to])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("moved from %s to %s: both answered for %s, none for %s", where, to, both, gap)
		if both > 2300*time.Millisecond {
			t.Errorf("both answered for %s", both)
		}
		where = to
	}
	for range 4 {
		move()
	}
	// take breaks the holder, and waits for the other.
	take := func(what string, fault func()) []answer {
		w := watch(t, addr)
		eventually(t, "the present holder answers", func() bool { return len(w.heard) > 0 })
		begin := time.Now()
		fault()
		here(t, other[where], addr)
		t.Logf("%s: the other has it after %s", what, time.Since(begin).Round(time.Millisecond))
		if has(t, where, addr) {
			t.Errorf("%s: both have it", what)
		}
		all := w.end()
		both, gap, err := handOver(all, macs[where], macs[other[where]])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: none answered for %s", what, gap.Round(time.Millisecond))
		if both > 0 {
			t.Errorf("%s: both answered for %s", what, both)
		}
		return all
	}
	stopped := where
	take("stopped", func() { holders[stopped].signal(t, syscall.SIGSTOP) })
	// The former holder may be given the duty again, in order; before that it must be silent.
	w := watch(t, addr)
	holders[stopped].signal(t, syscall.SIGCONT)
	time.Sleep(2 * time.Second)
	all := w.end()
	where = other[where]
	both, gap, err := handOver(all, macs[where], macs[stopped])
	switch i := slices.IndexFunc(all, func(a answer) bool { return bytes.Equal(a.from, macs[stopped]) }); {
	case i == 0:
		t.Error("it is resumed, and answers at once")
	case i < 0:
		t.Log("resumed: it is silent")
	case err != nil:
		t.Error(err)
	default:
		t.Logf("resumed: it was moved back; both answered for %s, none for %s", both, gap)
		where = stopped
	}
	cut := where
	take("cut off", func() { ip(t, "link", "set", "to-"+cut, "down") })
	ip(t, "link", "set", "to-"+cut, "up")
	where = other[where]
	killed := where
	take("killed", func() { holders[killed].signal(t, syscall.SIGKILL) })
}
