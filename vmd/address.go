package vmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

// grantPool is the pool of lease.Grant that the blocks of a subnet are of.
func grantPool(tag string) string { return "subnet/" + tag }

// address chooses a machine's address and hardware address, and writes them down. It asks for another block where those of
// this box are used up. Errors wrap plan.ErrAddress and plan.ErrFull.
func (b *Box) address(ctx context.Context, uuid string, w plan.Wish) error {
	select { // nobody else may choose the same; asking for a block may take a while, and must hold up nothing else
	case b.choosing <- struct{}{}:
		defer func() { <-b.choosing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	e, ok := b.entry(uuid)
	if !ok {
		return errGone
	}
	mac := w.MAC
	if len(mac) == 0 {
		mac = plan.MAC(b.cfg.Mesh, uuid)
	}
	if err := b.checkMAC(e, w.Name, mac); err != nil {
		return err
	}
	ip, err := b.choose(ctx, e, w)
	if err != nil {
		return err
	}
	byHand := w.IP == ip && !w.Subnet.Pool.Contains(ip)
	if e.ByHand && (e.IP != ip || !byHand) {
		if err := b.freeAddress(ctx, e); err != nil {
			return err
		}
	}
	if byHand {
		if err := b.claimAddress(ctx, uuid, ip); err != nil {
			return err
		}
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	if e, ok = b.entry(uuid); !ok {
		return errGone
	}
	if e.IP.IsValid() && (e.Subnet != w.Subnet.Tag || e.IP != ip) { // HostDB changed its mind before it was made
		if err := b.release(e); err != nil {
			return err
		}
	}
	e.Subnet, e.IP, e.MAC, e.Seen = w.Subnet.Tag, ip, mac.String(), true
	e.ByHand = byHand
	return b.save(e)
}

// addrSpace is the space of lease names that addresses entered by hand are unique in. Those of a pool rest on the grant of their
// block; what HostDB says of the others is only what has come here, and the other side of a cut may say so of another machine.
const addrSpace = "addr"

func (b *Box) claimAddress(ctx context.Context, uuid string, ip netip.Addr) error {
	err := b.cfg.Records.ClaimName(ctx, addrSpace, ip.String(), uuid)
	if errors.Is(err, lease.ErrTaken) {
		return fmt.Errorf("%w: Network/IP %s: the lease log has it for another machine; enter another, or destroy that one: %w", plan.ErrAddress, ip, err)
	}
	return err
}

// claimByHand has another lease group, or a generation that may have lost it, know the addresses of this box's machines that were entered by
// hand. One that it has given to another machine stays with both, and people are told.
func (b *Box) claimByHand(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b.mu.Lock()
	entries := slices.Collect(maps.Values(b.entries))
	b.mu.Unlock()
	for _, e := range entries {
		if !e.ByHand || !e.IP.IsValid() || e.Stage != Held && e.Stage != Destroying {
			continue
		}
		err := b.claimAddress(ctx, e.UUID, e.IP)
		switch {
		case errors.Is(err, lease.ErrTaken):
			b.log.Error("two machines have one address that was entered by hand", "vm", e.Name, "uuid", e.UUID, "err", err)
		case err != nil:
			return err
		}
	}
	return nil
}

// freeAddress gives up the claim on an address that was entered by hand.
func (b *Box) freeAddress(ctx context.Context, e Entry) error {
	if !e.ByHand || !e.IP.IsValid() {
		return nil
	}
	return b.cfg.Records.FreeName(ctx, addrSpace, e.IP.String(), e.UUID)
}

// stillFree looks whether a machine that comes back may have the addresses that it had: while it was away, another may have
// been given them.
func (b *Box) stillFree(ctx context.Context, e Entry, w plan.Wish) error {
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		if err := b.checkMAC(e, w.Name, mac); err != nil {
			return err
		}
	}
	if !e.IP.IsValid() {
		return nil
	}
	if who := b.addressInput(e, w).InUse(e.IP); who != "" {
		return fmt.Errorf("%w: Network/IP %s: it is that of hosts/%s since this machine was deleted; take it from that host, or destroy this machine again", plan.ErrAddress, e.IP, who)
	}
	if e.ByHand {
		return b.claimAddress(ctx, e.UUID, e.IP)
	}
	return nil
}

func (b *Box) checkMAC(e Entry, name string, mac net.HardwareAddr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.planner.CheckMAC(name, mac); err != nil {
		return err
	}
	for _, other := range b.entries {
		if other.UUID != e.UUID && other.MAC == mac.String() {
			return fmt.Errorf("%w: %s on this box has %s", plan.ErrAddress, other.Name, mac)
		}
	}
	return nil
}

// choose finds an address; a caller holds choosing.
func (b *Box) choose(ctx context.Context, e Entry, w plan.Wish) (ip netip.Addr, err error) {
	if b.cfg.Records == nil {
		return netip.Addr{}, errNoRecords
	}
	// The lease group here does not know what that of another datacenter has granted.
	if d := w.Subnet.Datacenter; d != "" && d != b.cfg.Datacenter {
		return netip.Addr{}, fmt.Errorf("%w: the network tags/%s is of datacenter %q, this box of %q; correct Subnet/Datacenter, or labels.datacenter of the box",
			plan.ErrAddress, w.Subnet.Tag, d, b.cfg.Datacenter)
	}
	last := false
	for {
		in := b.addressInput(e, w)
		in.Last = last
		if in.Blocks, err = b.blocks(w.Subnet.Tag); err != nil {
			return netip.Addr{}, err
		}
		ip, err := plan.NextAddress(in)
		if !errors.Is(err, plan.ErrNeedBlock) {
			return ip, err
		}
		more, err := b.moreBlocks(ctx, w.Subnet)
		if err != nil {
			return netip.Addr{}, err
		}
		last = !more
	}
}

// blocks are those of a subnet that this box owns, in order.
func (b *Box) blocks(tag string) (list []netip.Prefix, err error) {
	granted, err := b.cfg.Records.Granted(grantPool(tag))
	for _, text := range granted {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list, err
}

// addressInput is what a choice follows from, at this moment, but for the blocks.
func (b *Box) addressInput(e Entry, w plan.Wish) plan.AddressInput {
	in := plan.AddressInput{Subnet: w.Subnet, Resting: map[netip.Addr]time.Time{}, Now: b.cfg.Clock.Now(), Want: w.IP}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.IP.IsValid() && e.IP == w.IP && e.Subnet == w.Subnet.Tag && !e.ByHand { // it is HostDB that repeats what this box said
		in.Want = netip.Addr{}
	}
	mine := map[netip.Addr]string{}
	for _, other := range b.entries {
		if other.UUID != e.UUID && other.IP.IsValid() {
			mine[other.IP] = other.Name
		}
	}
	hosts := plan.InUse(b.db, w.Name)
	in.InUse = func(ip netip.Addr) string {
		if name := mine[ip]; name != "" {
			return name
		}
		return hosts(ip)
	}
	for _, r := range b.around.Rests {
		if r.Subnet == w.Subnet.Tag {
			in.Resting[r.IP] = time.UnixMilli(r.At)
		}
	}
	return in
}

// moreBlocks asks for one more block; false when there is none left.
func (b *Box) moreBlocks(ctx context.Context, s plan.Subnet) (bool, error) {
	pool := grantPool(s.Tag)
	prefix := "grant/" + pool + "/"
	list, err := b.cfg.Records.List(ctx, prefix)
	if err != nil {
		return false, err
	}
	var taken []string
	for _, r := range list.Records {
		taken = append(taken, strings.TrimPrefix(r.Key, prefix))
	}
	for page := uint64(0); ; page++ {
		choices := plan.Choices(s, b.cfg.Node, taken, page)
		if choices == nil {
			return false, nil
		}
		if len(choices) == 0 {
			continue
		}
		got, err := b.cfg.Records.Grant(ctx, pool, choices)
		switch {
		case errors.Is(err, lease.ErrTaken):
			continue
		case err != nil:
			return false, err
		}
		clash, err := b.clash(ctx, prefix, got)
		if err != nil {
			return false, err
		}
		if clash == "" {
			b.log.Info("address block granted", "subnet", s.Tag, "block", got)
			return true, nil
		}
		// Blocks had another size when that was granted. It is theirs.
		if err := b.cfg.Records.GiveBack(ctx, pool, got); err != nil {
			return false, err
		}
		taken = append(taken, clash)
	}
}

// clash is a block of others that overlaps one that was just granted.
func (b *Box) clash(ctx context.Context, prefix, got string) (string, error) {
	list, err := b.cfg.Records.List(ctx, prefix)
	if err != nil {
		return "", err
	}
	var others []string
	for _, r := range list.Records {
		if text := strings.TrimPrefix(r.Key, prefix); string(r.Value) != b.cfg.Node {
			others = append(others, text)
		}
	}
	return plan.Clash(got, others), nil
}
