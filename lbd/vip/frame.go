package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
	allNodes  = netip.MustParseAddr("ff02::1")
)

func ether(to, from net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 86)
	b = append(append(b, to...), from...)
	return binary.BigEndian.AppendUint16(b, kind)
}

func arp(from net.HardwareAddr, op uint16, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	b := ether(broadcast, from, etherARP)
	b = append(b, 0, 1, 0x08, 0, 6, 4) // Ethernet, IPv4
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, from...), sender.AsSlice()...)
	return append(append(b, targetMAC...), target.AsSlice()...)
}

// solicit asks for an IPv6 address as one does who wants it (RFC 4862, 5.4.2).
func solicit(from net.HardwareAddr, addr netip.Addr) ([]byte, error) {
	to, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, err
	}
	return neighbour(from, netip.IPv6Unspecified(), to, &ndp.NeighborSolicitation{TargetAddress: addr})
}

// advertise says where an IPv6 address is (RFC 4861, 7.2.6).
func advertise(from net.HardwareAddr, addr netip.Addr, router bool) ([]byte, error) {
	return neighbour(from, addr, allNodes, &ndp.NeighborAdvertisement{
		Router: router, Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: from}},
	})
}

func neighbour(from net.HardwareAddr, src, dst netip.Addr, m ndp.Message) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		return nil, err
	}
	to := dst.As16()
	b := ether(net.HardwareAddr{0x33, 0x33, to[12], to[13], to[14], to[15]}, from, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, 58, ndp.HopLimit)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, body...), nil
}

// probeFrames ask whether anybody has an address, in the name of nobody (RFC 5227, 2.1.1).
func probeFrames(from net.HardwareAddr, addr netip.Addr) ([][]byte, error) {
	if addr.Is4() {
		return [][]byte{arp(from, arpRequest, netip.IPv4Unspecified(), nobody, addr)}, nil
	}
	b, err := solicit(from, addr)
	return [][]byte{b}, err
}

// announceFrames say where an address is, to those who heed requests and those who heed replies. Somebody else who has it answers the request;
// that for IPv6 says nothing of where it is, and is answered by everybody who has it.
func announceFrames(from net.HardwareAddr, addr netip.Addr, router bool) ([][]byte, error) {
	if addr.Is4() {
		return [][]byte{arp(from, arpRequest, addr, nobody, addr), arp(from, arpReply, addr, from, addr)}, nil
	}
	tell, err := advertise(from, addr, router)
	if err != nil {
		return nil, err
	}
	ask, err := solicit(from, addr)
	return [][]byte{tell, ask}, err
}

var errOther = errors.New("another kind of frame")

// heard is what a frame says, and of which address.
func heard(b []byte) (netip.Addr, Sighting, error) {
	if len(b) < 14 {
		return netip.Addr{}, Sighting{}, errOther
	}
	from := net.HardwareAddr(bytes.Clone(b[6:12]))
	switch body := b[14:]; binary.BigEndian.Uint16(b[12:14]) {
	case etherARP:
		return heardARP(body)
	case etherIPv6:
		return heardND(from, body)
	}
	return netip.Addr{}, Sighting{}, errOther
}

func heardARP(b []byte) (netip.Addr, Sighting, error) {
	if len(b) < 28 || !bytes.Equal(b[:6], []byte{0, 1, 0x08, 0, 6, 4}) {
		return netip.Addr{}, Sighting{}, errOther
	}
	if op := binary.BigEndian.Uint16(b[6:8]); op != arpRequest && op != arpReply {
		return netip.Addr{}, Sighting{}, errOther
	}
	s := Sighting{From: bytes.Clone(b[8:14])}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	if sender.IsUnspecified() {
		s.Asks = true
		return target, s, nil
	}
	return sender, s, nil
}

// heardND reads a solicitation in the name of nobody, or an advertisement (RFC 4861, 7.1).
func heardND(from net.HardwareAddr, b []byte) (netip.Addr, Sighting, error) {
	if len(b) < 40+24 || b[0]>>4 != 6 || b[6] != 58 || b[7] != ndp.HopLimit {
		return netip.Addr{}, Sighting{}, errOther
	}
	n := int(binary.BigEndian.Uint16(b[4:6]))
	if n > len(b)-40 {
		return netip.Addr{}, Sighting{}, errOther
	}
	m, err := ndp.ParseMessage(b[40 : 40+n])
	if err != nil {
		return netip.Addr{}, Sighting{}, err
	}
	switch m := m.(type) {
	case *ndp.NeighborSolicitation:
		if netip.AddrFrom16([16]byte(b[8:24])).IsUnspecified() {
			return m.TargetAddress, Sighting{From: from, Asks: true}, nil
		}
	case *ndp.NeighborAdvertisement:
		for _, o := range m.Options {
			if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target && len(l.Addr) == 6 {
				from = l.Addr
			}
		}
		return m.TargetAddress, Sighting{From: from}, nil
	}
	return netip.Addr{}, Sighting{}, errOther
}
