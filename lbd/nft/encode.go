package nft

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is what our tables are called, in the families ip and ip6.
const TableName = "hostmesh"

// Names in a table.
const (
	chainIn     = "prerouting"  // what comes in
	chainOwn    = "output"      // what this box itself sends
	chainBack   = "postrouting" // counts new flows, and masquerades
	chainHere   = "arriving"    // counts new flows to backends on this box: they do not go out
	chainRefuse = "input"       // what was not sent on ends here
	mapServices = "services"
	setRefuse   = "refused"
	counterNo   = "refused"
)

// seed of the hash of clients. It is the same on every box, so that the next holder sends a client where the former did.
const seed = 0x686f7374

// Priorities are those that nft calls dstnat and srcnat; refusal comes just before other filters, so that none of them turns it into a wait.
const (
	dstNAT = -100
	srcNAT = 100
	refuse = -10
)

// reg is the register that begins i words into the kernel's registers, named as the kernel names it.
func reg(i int) uint32 {
	if i%4 == 0 {
		return uint32(unix.NFT_REG_1 + i/4)
	}
	return uint32(unix.NFT_REG32_00 + i)
}

// layout is where a family's headers have what, and how long its addresses are.
type layout struct {
	src, dst, len uint32 // bytes
	nat           uint32
	unreachable   uint8 // ICMP's code for a port
}

func (f family) layout() layout {
	if f == ip4 {
		return layout{12, 16, 4, unix.NFPROTO_IPV4, 3}
	}
	return layout{8, 24, 16, unix.NFPROTO_IPV6, 4}
}

func (l layout) words() int { return int(l.len) / 4 }

// encode makes of a Table, which is normal, what the kernel should have of one family. nil when it has no service of it.
func encode(t Table, f family) *ruleset { return divisions{}.encode(t, f) }

// divisions remember how slots were divided, by the service's name: that is nearly all that encoding costs, and one change is of one service.
type divisions map[string]division

type division struct {
	how Balance
	in  []Backend
	set *set
}

func (d divisions) of(s Service, in []Backend) *set {
	if was, ok := d[s.name()]; ok && was.how == s.Balance && slices.Equal(was.in, in) {
		return was.set
	}
	slots := &set{targets, make(map[string]string, Slots)}
	for slot, i := range assign(s.Balance, in) {
		slots.elems[string(binary.NativeEndian.AppendUint32(nil, uint32(slot)))] = target(in[i])
	}
	d[s.name()] = division{s.Balance, in, slots}
	return slots
}

// forget drops what no service of t needs.
func (d divisions) forget(t Table) {
	stay := make(map[string]bool, len(t.Services))
	for _, s := range t.Services {
		stay[s.name()] = true
	}
	maps.DeleteFunc(d, func(name string, _ division) bool { return !stay[name] })
}

func (d divisions) encode(t Table, f family) *ruleset {
	l := f.layout()
	r := &ruleset{f, map[string]*chain{}, map[string]*set{}, map[string]count{counterNo: {}}}
	for name, kind := range map[string]setKind{mapServices: verdicts, setRefuse: places} {
		r.maps[name] = &set{kind, map[string]string{}}
	}
	const accept = 1
	r.chains[chainIn] = &chain{hook: &hook{"nat", unix.NF_INET_PRE_ROUTING, dstNAT, accept}, rules: []rule{dispatch(l)}}
	r.chains[chainOwn] = &chain{hook: &hook{"nat", unix.NF_INET_LOCAL_OUT, dstNAT, accept}, rules: []rule{dispatch(l)}}
	out := &chain{hook: &hook{"nat", unix.NF_INET_POST_ROUTING, srcNAT, accept}, rules: []rule{untouched()}}
	r.chains[chainBack] = out
	here := &chain{hook: &hook{"nat", unix.NF_INET_LOCAL_IN, srcNAT, accept}, rules: []rule{untouched()}}
	r.chains[chainHere] = here
	r.chains[chainRefuse] = &chain{hook: &hook{"filter", unix.NF_INET_LOCAL_IN, refuse, accept}, rules: refusal(l)}
	any := false
	for _, s := range t.Services {
		if s.VIP.Is4() != (f == ip4) {
			continue
		}
		any = true
		at, name := s.place(), s.name()
		r.maps[setRefuse].elems[at] = ""
		counted := &chain{}
		for _, b := range s.Backends {
			r.counters[s.counter(b)] = count{}
			if b.State == In {
				counted.rules = append(counted.rules, countRule(l, s, b))
			}
		}
		in := s.in()
		if len(in) == 0 {
			continue // it ends in chainRefuse
		}
		back, arrived := r.chains["back_"+plain(s.VIP)], r.chains["here_"+plain(s.VIP)]
		if back == nil {
			back, arrived = &chain{}, &chain{}
			r.chains["back_"+plain(s.VIP)], r.chains["here_"+plain(s.VIP)] = back, arrived
			// Rules and no map: nft cannot list a map that is asked for the original destination.
			to := func(name string) rule {
				return rule{
					&expr.Ct{Key: expr.CtKeyDST, Register: reg(0)}, // of the original direction, which is 0
					&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: s.VIP.AsSlice()},
					&expr.Verdict{Kind: expr.VerdictGoto, Chain: name},
				}
			}
			out.rules, here.rules = append(out.rules, to("back_"+plain(s.VIP))), append(here.rules, to("here_"+plain(s.VIP)))
		}
		r.chains["count_"+name] = counted
		back.rules = append(back.rules, was(s, &expr.Verdict{Kind: expr.VerdictJump, Chain: "count_" + name}))
		arrived.rules = append(arrived.rules, was(s, &expr.Verdict{Kind: expr.VerdictJump, Chain: "count_" + name}))
		if s.Masquerade {
			back.rules = append(back.rules, was(s, &expr.Masq{}))
		}
		r.chains["to_"+name] = &chain{rules: []rule{choose(l, s)}}
		r.maps[mapServices].elems[at] = "goto to_" + name
		r.maps["slots_"+name] = d.of(s, in)
	}
	if !any {
		return nil
	}
	return r
}

// place is the key of a service in our sets: address, protocol, port, each in whole words.
func (s Service) place() string {
	b := append(s.VIP.AsSlice(), s.Proto.number(), 0, 0, 0)
	return string(append(binary.BigEndian.AppendUint16(b, s.Port), 0, 0))
}

func (p Proto) number() byte {
	if p == UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// target is where a slot leads: address and port.
func target(b Backend) string {
	return string(append(binary.BigEndian.AppendUint16(b.Addr.AsSlice(), b.Port), 0, 0))
}

// header reads a packet's destination as place has it.
func header(l layout) rule {
	w := l.words()
	return rule{
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseNetworkHeader, Offset: l.dst, Len: l.len},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(w)},
		&expr.Payload{DestRegister: reg(w + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// dispatch sends a flow to its service's chain. Only the first packet of a flow comes by; the kernel's table of flows knows the rest.
func dispatch(l layout) rule {
	return append(header(l), &expr.Lookup{SourceRegister: reg(0), SetName: mapServices, IsDestRegSet: true})
}

// choose draws a slot and rewrites the destination to what the slot leads to.
func choose(l layout, s Service) rule {
	var r rule
	if s.Balance == Source {
		r = rule{
			&expr.Payload{DestRegister: reg(4), Base: expr.PayloadBaseNetworkHeader, Offset: l.src, Len: l.len},
			&expr.Hash{SourceRegister: reg(4), DestRegister: reg(0), Length: l.len, Modulus: Slots, Seed: seed, Type: expr.HashTypeJenkins},
		}
	} else {
		r = rule{&expr.Numgen{Register: reg(0), Modulus: Slots, Type: unix.NFT_NG_INCREMENTAL}}
	}
	port := reg(l.words())
	return append(r,
		&expr.Lookup{SourceRegister: reg(0), DestRegister: reg(0), IsDestRegSet: true, SetName: "slots_" + s.name()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: l.nat, RegAddrMin: reg(0), RegAddrMax: reg(0), RegProtoMin: port, RegProtoMax: port, Specified: true},
	)
}

// untouched lets flows go whose destination was not rewritten.
func untouched() rule {
	const dstNATDone = 1 << 5 // IPS_DST_NAT of nf_conntrack_common.h
	return rule{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, dstNATDone), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// was is for flows that were sent to a service of the VIP at hand.
func was(s Service, then ...expr.Any) rule {
	return append(rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{s.Proto.number()}},
		&expr.Ct{Key: expr.CtKeyPROTODST, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binary.BigEndian.AppendUint16(nil, s.Port)},
	}, then...)
}

// countRule counts a new flow of a backend. It is after the rewriting: packets have the backend's address.
func countRule(l layout, s Service, b Backend) rule {
	return rule{
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseNetworkHeader, Offset: l.dst, Len: l.len},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: b.Addr.AsSlice()},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binary.BigEndian.AppendUint16(nil, b.Port)},
		&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: s.counter(b)},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// refusal ends what was addressed to a service and was sent to nobody: a service without backends. Whatever listens on all addresses of this box, such
// as its name server, must not answer in a service's place. What belongs to no flow, such as a packet that came too late, is dropped in silence: a reset for
// it would end a connection that lives.
func refusal(l layout) []rule {
	mine := func(then ...expr.Any) rule {
		return append(append(header(l), &expr.Lookup{SourceRegister: reg(0), SetName: setRefuse}), then...)
	}
	counted := &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counterNo}
	return []rule{
		mine(
			&expr.Ct{Key: expr.CtKeySTATE, Register: reg(0)},
			&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitINVALID), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: make([]byte, 4)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		),
		mine(
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{unix.IPPROTO_TCP}},
			counted, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		),
		mine(counted, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: l.unreachable}),
	}
}
