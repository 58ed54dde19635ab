package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Check says why this box cannot balance load: an ErrNotEligible with what would help, or nil. It tries everything that a table uses, and takes
// it back in the same transaction; no packet ever meets it.
func Check() error { return check(settings{"/proc/sys"}) }

func check(s settings) error {
	trial := kernel{TableName + "-trial"}
	a4, a6 := netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("2001:db8::1") // RFC 5737 and 3849: nobody's
	var t Table
	for _, a := range []netip.Addr{a4, a6} {
		for _, how := range []Balance{Source, RoundRobin} {
			one := Service{VIP: a, Port: 1, Proto: UDP, Balance: how, Masquerade: true, Backends: []Backend{{Addr: a.Next(), Port: 1, State: In}}}
			if how == RoundRobin {
				one.Proto = TCP
			}
			t.Services = append(t.Services, one)
		}
	}
	steps := map[family][]step{}
	for _, f := range []family{ip4, ip6} {
		steps[f] = append(diff(nil, encode(t, f)), step{verb: delTable})
	}
	if err := trial.commit(steps); err != nil {
		return fmt.Errorf("%w: %w", ErrNotEligible, explain(err))
	}
	for _, f := range []family{ip4, ip6} {
		if err := s.can(f); err != nil {
			return fmt.Errorf("%w: %s is not 1, and cannot be set (%w): set it in /etc/sysctl.d", ErrNotEligible, dotted(forwarding(f)), err)
		}
	}
	return nil
}

// explain adds what an operator can do about an error of the kernel.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("it needs CAP_NET_ADMIN: run the agent as root, or with AmbientCapabilities=CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("this kernel has no netfilter netlink: load nfnetlink and nf_tables: %w", err)
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("this kernel lacks a part of nf_tables or of address translation: load nf_tables, nft_chain_nat, nft_nat, nft_masq, nft_hash, nft_numgen, nft_reject, nf_conntrack_netlink: %w", err)
	case errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EMSGSIZE):
		return fmt.Errorf("the transaction is larger than the kernel takes at once: raise net.core.wmem_max, or spread services over more boxes: %w", err)
	}
	return err
}
