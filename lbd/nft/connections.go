package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	inetDiagID       = 48 // bytes of struct inet_diag_sockid
	inetDiagMessage  = 72 // of struct inet_diag_msg, which attributes follow
	inetDiagMark     = 15 // INET_DIAG_MARK, which who has CAP_NET_ADMIN is told
)

// endConnections ends the TCP connections of this namespace that c cuts: the program here gets an error, and the other end a reset.
func endConnections(c Cutting) error {
	if c.empty() {
		return nil
	}
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
		for _, port := range c.Shut {
			errs = append(errs, endMatching(conn, c, fam, port, 0))
		}
		for _, deaf := range c.Deaf {
			errs = append(errs, endMatching(conn, c, fam, deaf.Port(), 0))
		}
		seen := map[uint16]bool{}
		for _, from := range c.From {
			if !seen[from.Port()] {
				seen[from.Port()] = true
				errs = append(errs, endMatching(conn, c, fam, 0, from.Port()))
			}
		}
	}
	return errors.Join(errs...)
}

// endMatching looks at those of a family with these ports; 0 = any.
func endMatching(conn *netlink.Conn, c Cutting, fam byte, local, remote uint16) error {
	const over = 1<<unix.BPF_TCP_LISTEN | 1<<unix.BPF_TCP_TIME_WAIT | 1<<unix.BPF_TCP_CLOSE // nothing flows in them
	id := make([]byte, inetDiagID)
	binary.BigEndian.PutUint16(id, local)
	binary.BigEndian.PutUint16(id[2:], remote)
	list, err := conn.Execute(diagRequest(sockDiagByFamily, netlink.Dump, fam, ^uint32(over), id))
	if err != nil {
		if fam == unix.AF_INET6 && errors.Is(err, unix.ENOENT) {
			return nil // a kernel without IPv6
		}
		return fmt.Errorf("list connections: %w", err)
	}
	for _, m := range list {
		if len(m.Data) < 4+inetDiagID {
			continue
		}
		id := m.Data[4 : 4+inetDiagID]
		here, there := ends(m.Data[0], id)
		if !c.cuts(here, there) || c.Spare != 0 && markOf(m.Data) == c.Spare {
			continue
		}
		_, err := conn.Execute(diagRequest(sockDestroy, netlink.Acknowledge, fam, ^uint32(0), id))
		switch {
		case err == nil || errors.Is(err, unix.ENOENT): // it ended meanwhile
		case errors.Is(err, unix.EOPNOTSUPP):
			return fmt.Errorf("connection %s to %s: this kernel cannot end connections of others (CONFIG_INET_DIAG_DESTROY): %w", here, there, err)
		default:
			return fmt.Errorf("connection %s to %s: %w", here, there, err)
		}
	}
	return nil
}

// markOf is the mark of the socket that a struct inet_diag_msg tells of; 0 = it has none.
func markOf(data []byte) uint32 {
	if len(data) <= inetDiagMessage {
		return 0
	}
	ad, err := netlink.NewAttributeDecoder(data[inetDiagMessage:])
	if err != nil {
		return 0
	}
	for ad.Next() {
		if ad.Type() == inetDiagMark {
			return ad.Uint32()
		}
	}
	return 0
}

func ends(fam byte, id []byte) (here, there netip.AddrPort) {
	addr := func(b []byte) netip.Addr {
		if fam == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16([16]byte(b[:16])).Unmap()
	}
	here = netip.AddrPortFrom(addr(id[4:20]), binary.BigEndian.Uint16(id))
	there = netip.AddrPortFrom(addr(id[20:36]), binary.BigEndian.Uint16(id[2:]))
	return here, there
}

// diagRequest is a struct inet_diag_req_v2.
func diagRequest(kind netlink.HeaderType, flags netlink.HeaderFlags, fam byte, states uint32, id []byte) netlink.Message {
	var b bytes.Buffer
	b.Write([]byte{fam, unix.IPPROTO_TCP, 0, 0})
	b.Write(binary.NativeEndian.AppendUint32(nil, states))
	b.Write(id)
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: b.Bytes()}
}
