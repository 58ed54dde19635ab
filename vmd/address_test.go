package vmd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

// TestMACOfAnotherEntry: HostDB has not heard of a machine's hardware address yet, but this box's ledger has.
func TestMACOfAnotherEntry(t *testing.T) {
	const mac = "52:54:00:01:08:0b"
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{planner: plan.NewPlanner(hostdb.View{}), entries: map[string]Entry{"a": {UUID: "a", Name: "web1", MAC: mac}}}
	if err := b.checkMAC(Entry{UUID: "b"}, "web2", hw); !errors.Is(err, plan.ErrAddress) || !strings.Contains(err.Error(), "web1") {
		t.Errorf("another's: %v", err)
	}
	if err := b.checkMAC(Entry{UUID: "a"}, "web1", hw); err != nil {
		t.Errorf("its own: %v", err)
	}
}

// blockGroup is a lease group in which another node is granted a block of another size at the same moment.
type blockGroup struct {
	Records
	mine, given []string
	theirs      string
}

func (g *blockGroup) List(_ context.Context, prefix string) (out lease.Changes, err error) {
	for _, block := range g.mine {
		out.Records = append(out.Records, lease.Record{Key: prefix + block, Value: []byte("me")})
	}
	if len(g.mine)+len(g.given) > 0 {
		out.Records = append(out.Records, lease.Record{Key: prefix + g.theirs, Value: []byte("other")})
	}
	return out, nil
}

func (g *blockGroup) Grant(_ context.Context, _ string, choices []string) (string, error) {
	g.mine = append(g.mine, choices[0])
	if g.theirs == "" { // the larger block that it lies in
		p := netip.MustParsePrefix(choices[0])
		g.theirs = netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked().String()
	}
	return choices[0], nil
}

func (g *blockGroup) GiveBack(_ context.Context, _, choice string) error {
	g.mine = slices.DeleteFunc(g.mine, func(b string) bool { return b == choice })
	g.given = append(g.given, choice)
	return nil
}

// TestBlockThatOverlaps: the pool had another size when another node was granted a block that this one's overlaps. It is theirs.
func TestBlockThatOverlaps(t *testing.T) {
	g := &blockGroup{}
	b := &Box{cfg: Config{Node: "me", Records: g}, log: slog.New(slog.DiscardHandler)}
	s := plan.Subnet{Tag: "prod", CIDR: netip.MustParsePrefix("10.1.0.0/16"), Pool: netip.MustParsePrefix("10.1.128.0/20")}
	more, err := b.moreBlocks(t.Context(), s)
	if err != nil || !more {
		t.Fatal(more, err)
	}
	theirs := netip.MustParsePrefix(g.theirs)
	if len(g.given) != 1 || !theirs.Overlaps(netip.MustParsePrefix(g.given[0])) {
		t.Errorf("given back: %q, theirs is %s", g.given, theirs)
	}
	if len(g.mine) != 1 || theirs.Overlaps(netip.MustParsePrefix(g.mine[0])) {
		t.Errorf("kept: %q, theirs is %s", g.mine, theirs)
	}
}

// unheardGroup has not been told yet what this box owns.
type unheardGroup struct{ Records }

func (unheardGroup) Granted(string) ([]string, error) { return nil, lease.ErrRecovering }

// TestBlocksOfAnotherGroup: while the lease group has not heard of this box's blocks it waits, and takes nothing back of the machine; in a
// network of another datacenter, whose group grants its blocks, it gives no address.
func TestBlocksOfAnotherGroup(t *testing.T) {
	b := &Box{cfg: Config{Node: "me", Datacenter: "dc1", Records: unheardGroup{}, Clock: wallClock{}}, planner: plan.NewPlanner(hostdb.View{}), log: slog.New(slog.DiscardHandler)}
	w := plan.Wish{Name: "web1", Subnet: plan.Subnet{Tag: "prod", CIDR: netip.MustParsePrefix("10.1.0.0/16"), Pool: netip.MustParsePrefix("10.1.128.0/20"), Datacenter: "dc1"}}
	if ip, err := b.choose(t.Context(), Entry{UUID: "a"}, w); !noQuorum(err) {
		t.Errorf("%s, %v", ip, err)
	}
	w.IP = netip.MustParseAddr("10.1.128.7") // entered by hand, in the pool: it may be of a block of this box
	if ip, err := b.choose(t.Context(), Entry{UUID: "a"}, w); !noQuorum(err) {
		t.Errorf("%s, %v", ip, err)
	}
	w.IP, w.Subnet.Datacenter = netip.Addr{}, "dc2"
	if ip, err := b.choose(t.Context(), Entry{UUID: "a"}, w); !errors.Is(err, plan.ErrAddress) || !strings.Contains(err.Error(), "dc2") {
		t.Errorf("%s, %v", ip, err)
	}
}
