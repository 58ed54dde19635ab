package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Cutting is what a box is cut from. The zero Cutting is nothing.
type Cutting struct {
	// From are servers elsewhere that nothing of this box speaks with any more.
	From []netip.AddrPort
	// Shut are ports of this box that nobody elsewhere reaches any more; loopback does.
	Shut []uint16
	// Deaf are ports of this box (Port) that nobody at an address (Addr) reaches any more, from whatever port; all others do.
	Deaf []netip.AddrPort
	// Spare is the mark (SO_MARK) of sockets of this box that nothing of this holds for; 0 = there are none. A kernel that cannot tell whose a packet is that
	// comes in (CONFIG_NFT_SOCKET) cuts them, too.
	Spare uint32
}

// MaxCuts bounds a Cutting: packets meet its rules one by one.
const MaxCuts = 64

// Cuts keep the kernel as the last Cutting says, in a table of the family inet that is theirs alone, and end TCP connections that a Cutting forbids. Both
// ends hear of it at once (a reset), but for what is at the other end of a dead wire. The table outlives the process: what was cut stays cut. Cuts are safe for
// concurrent use, and work in the network namespace of the thread that calls.
type Cuts struct {
	table string
	log   *slog.Logger

	mu         sync.Mutex // guards what follows, and orders transactions
	want       Cutting
	applied    bool                // want was applied once
	text       map[string][]string // the rules as the kernel tells them
	generation uint32
	repairs    uint64
	strict     bool // it was said that nothing can be spared
}

// OpenCuts makes Cuts with a table of this name. The kernel is first touched by Apply: until then the table of a former process goes on.
func OpenCuts(table string, log *slog.Logger) (*Cuts, error) {
	if table == "" || len(table) > unix.NFT_TABLE_MAXNAMELEN/2 || table == TableName {
		return nil, fmt.Errorf("nft: a table for cuts cannot be called %q", table)
	}
	return &Cuts{table: table, log: log}, nil
}

// Apply makes the kernel cut what c says and nothing else, in one transaction, and then ends connections that are cut. The same again changes nothing. After an
// error it is safe to call again; rules stand before connections are touched, so what was cut does not come back.
func (x *Cuts) Apply(c Cutting) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.applied || !x.standsLocked(c) {
		if err := x.writeLocked(c); err != nil {
			return fmt.Errorf("cut in table inet %s: %w", x.table, explain(err))
		}
	}
	x.want, x.applied = c, true
	if err := endConnections(c); err != nil {
		return fmt.Errorf("connections that are cut do not end: %w", err)
	}
	return nil
}

func (c Cutting) normal() (Cutting, error) {
	out := Cutting{Shut: slices.Clone(c.Shut), Spare: c.Spare}
	if n := len(c.From) + len(c.Shut) + len(c.Deaf); n > MaxCuts {
		return out, fmt.Errorf("%w: %d cuts, at most %d fit", ErrTable, n, MaxCuts)
	}
	for _, list := range []struct{ from, to *[]netip.AddrPort }{{&c.From, &out.From}, {&c.Deaf, &out.Deaf}} {
		for _, x := range *list.from {
			x = netip.AddrPortFrom(x.Addr().Unmap(), x.Port())
			if !usable(x.Addr()) || x.Port() == 0 {
				return out, fmt.Errorf("%w: cut from %s: it is no unicast address with a port", ErrTable, x)
			}
			*list.to = append(*list.to, x)
		}
		slices.SortFunc(*list.to, netip.AddrPort.Compare)
		*list.to = slices.Compact(*list.to)
	}
	if slices.Contains(c.Shut, 0) {
		return out, fmt.Errorf("%w: port 0 cannot be shut", ErrTable)
	}
	slices.Sort(out.Shut)
	out.Shut = slices.Compact(out.Shut)
	return out, nil
}

func (c Cutting) same(d Cutting) bool {
	return slices.Equal(c.From, d.From) && slices.Equal(c.Shut, d.Shut) && slices.Equal(c.Deaf, d.Deaf) && (c.Spare == d.Spare || c.empty())
}

func (c Cutting) empty() bool { return len(c.From) == 0 && len(c.Shut) == 0 && len(c.Deaf) == 0 }

// cuts says whether a TCP connection between two ends is cut; remote is not this box.
func (c Cutting) cuts(local, remote netip.AddrPort) bool {
	return slices.Contains(c.From, remote) || slices.Contains(c.Deaf, netip.AddrPortFrom(remote.Addr(), local.Port())) ||
		slices.Contains(c.Shut, local.Port()) && !remote.Addr().IsLoopback() && remote.Addr() != local.Addr()
}

// standsLocked says whether the kernel has c already.
func (x *Cuts) standsLocked(c Cutting) bool {
	if !x.want.same(c) {
		return false
	}
	now, err := x.rules()
	return err == nil && sameRules(now, x.text)
}

func (x *Cuts) writeLocked(c Cutting) error {
	err := x.transactLocked(c)
	if err != nil && c.Spare != 0 && !c.empty() {
		// What is spared is a comfort, what is cut is not.
		without := c
		without.Spare = 0
		if x.transactLocked(without) == nil {
			if !x.strict {
				x.strict = true
				x.log.Warn("the kernel cannot tell whose a packet is: this agent's own connections are cut as well", "table", x.table, "err", explain(err))
			}
			return nil
		}
	}
	return err
}

func (x *Cuts) transactLocked(c Cutting) error {
	conn, err := kernel{}.conn(1 << 18)
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: x.table, Family: nftables.TableFamilyINet}
	conn.AddTable(t) // so that there is one to delete
	conn.DelTable(t)
	if !c.empty() {
		conn.AddTable(t)
		accept := nftables.ChainPolicyAccept
		for name, h := range map[string]*nftables.ChainHook{"input": nftables.ChainHookInput, "output": nftables.ChainHookOutput} {
			ch := conn.AddChain(&nftables.Chain{
				Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: h,
				Priority: nftables.ChainPriorityRef(cutPriority), Policy: &accept,
			})
			if c.Spare != 0 {
				conn.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: spareRule(c.Spare, name == "input")})
			}
			for _, from := range c.From {
				conn.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: cutRule(from, name == "input", false)})
			}
			for _, deaf := range c.Deaf {
				conn.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: cutRule(deaf, name == "input", true)})
			}
			for _, port := range c.Shut {
				conn.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: shutRule(port, name == "input")})
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	if x.text, err = x.rules(); err != nil {
		return err
	}
	x.generation, err = kernel{}.generation()
	return err
}

func (x *Cuts) rules() (map[string][]string, error) {
	list, err := rulesOf(unix.NFPROTO_INET, x.table)
	if errors.Is(err, unix.ENOENT) {
		return map[string][]string{}, nil
	}
	return list, err
}

func sameRules(a, b map[string][]string) bool {
	for _, chain := range []string{"input", "output"} {
		if !slices.Equal(a[chain], b[chain]) {
			return false
		}
	}
	return true
}

// cutPriority has cuts decided before filters that might make of a refusal a silence.
const cutPriority = nftables.ChainPriority(refuse - 10)

// spareRule lets go what a socket with a mark sends or gets. What comes in bears no mark: its socket is looked for.
func spareRule(mark uint32, in bool) rule {
	var of expr.Any = &expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}
	if in {
		of = &expr.Socket{Key: expr.SocketKeyMark, Register: reg(0)}
	}
	return rule{
		of,
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// plainTCP lets go what is no TCP, and resets: those are the answers that end a connection, also the ones that the kernel makes of our own rules.
func plainTCP() rule {
	const rst = 1 << 2 // of the 13th byte of the header, RFC 9293
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 1, Mask: []byte{rst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{0}},
	}
}

// cutRule refuses what goes to or comes from an address; the port is the other's, or this box's own.
func cutRule(from netip.AddrPort, in, own bool) rule {
	f := ip4
	if from.Addr().Is6() {
		f = ip6
	}
	l := f.layout()
	addr, port := l.dst, uint32(2) // what this box sends
	if in {
		addr = l.src
	}
	if in != own {
		port = 0 // that of who sent it
	}
	r := rule{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{byte(l.nat)}},
	}
	r = append(r, plainTCP()...)
	return append(r,
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: l.len},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: from.Addr().AsSlice()},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binaryutil.BigEndian.PutUint16(from.Port())},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	)
}

func shutRule(port uint16, in bool) rule {
	link, offset := expr.MetaKeyOIFNAME, uint32(0) // what this box sends
	if in {
		link, offset = expr.MetaKeyIIFNAME, 2
	}
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	r := rule{
		&expr.Meta{Key: link, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: lo},
	}
	r = append(r, plainTCP()...)
	return append(r,
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	)
}

// cutLook is how often Run looks: asking for the number of the kernel's generation costs some microseconds, and a cut that somebody took away must not stay away.
const cutLook = 100 * time.Millisecond

// Run puts back what others take away, as a firewall does that begins with flush ruleset. It returns when ctx ends; what is cut stays cut.
func (x *Cuts) Run(ctx context.Context) error {
	tick := time.NewTicker(cutLook)
	defer tick.Stop()
	complaint := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := x.Look()
		if err == nil {
			complaint = ""
		} else if err.Error() != complaint {
			complaint = err.Error()
			x.log.Error("cuts of the network cannot be kept", "table", x.table, "err", err)
		}
	}
}

// Look puts back what others took away since the last time.
func (x *Cuts) Look() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.applied {
		return nil
	}
	g, err := kernel{}.generation()
	if err != nil || g == x.generation {
		return err
	}
	if x.standsLocked(x.want) {
		x.generation = g
		return nil
	}
	if err := x.writeLocked(x.want); err != nil {
		return explain(err)
	}
	x.repairs++
	x.log.Error("somebody changed the cuts of the network: they are put back", "table", x.table)
	return endConnections(x.want)
}

// Repairs is how often others changed the table.
func (x *Cuts) Repairs() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.repairs
}
