package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel reads and writes nf_tables, in the network namespace of the thread that calls.
type kernel struct {
	table string // TableName, but in a trial
}

// errForeign is returned by read for a table of our name in which something is that we cannot have put there.
var errForeign = errors.New("the table has something in it that is not ours")

// elementsAtOnce bounds a message: its length must fit into 16 bits.
const elementsAtOnce = 512

func (k kernel) conn(buffer int) (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		if buffer == 0 {
			return nil
		}
		// A transaction is one message to the kernel, and has as many answers as it has steps.
		if err := c.SetWriteBuffer(buffer); err != nil {
			return err
		}
		if err := c.SetReadBuffer(buffer); err != nil {
			return err
		}
		// With the reason in the kernel's words, and without a copy of the message.
		_ = c.SetOption(netlink.ExtendedAcknowledge, true) // kernels before 4.12 do without
		return nil
	}))
}

// ask sends one request and returns what came, without the nfnetlink header.
func ask(kind uint16, flags netlink.HeaderFlags, fam byte, attrs []netlink.Attribute) ([]*netlink.AttributeDecoder, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	answer, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{fam, unix.NFNETLINK_V0, 0, 0}, b...),
	})
	if err != nil {
		return nil, err
	}
	var out []*netlink.AttributeDecoder
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return nil, err
		}
		ad.ByteOrder = binary.BigEndian
		out = append(out, ad)
	}
	return out, nil
}

// generation grows with every transaction of anybody.
func (k kernel) generation() (uint32, error) {
	answer, err := ask(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil)
	if err != nil {
		return 0, err
	}
	for _, ad := range answer {
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("the kernel tells no generation of its rules")
}

// rules reads all rules of a table as text, by chain. The library cannot read all that it writes.
func (k kernel) rules(f family) (map[string][]string, error) {
	return rulesOf(byte(f.layout().nat), k.table)
}

func rulesOf(fam byte, table string) (map[string][]string, error) {
	answer, err := ask(unix.NFT_MSG_GETRULE, netlink.Dump, fam, []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(table + "\x00")}})
	if err != nil {
		return nil, err
	}
	out := make(map[string][]string)
	for _, ad := range answer {
		var name, text string
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_CHAIN:
				name = ad.String()
			case unix.NFTA_RULE_EXPRESSIONS:
				ad.Nested(func(list *netlink.AttributeDecoder) error {
					for list.Next() {
						text += exprText(list.Bytes())
					}
					return nil
				})
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
		out[name] = append(out[name], text)
	}
	return out, nil
}

// exprText is an encoded expression in a form in which equal ones are equal. The kernel tells attributes in an order of its own, leaves out what is
// zero, or does not, and adds to a translation's flags what follows from the registers.
func exprText(raw []byte) string {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return "[?]"
	}
	name, data := "?", ""
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			data = attrText(name, ad.Bytes())
		}
	}
	return "[" + name + data + "]"
}

func attrText(name string, raw []byte) string {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return " ?"
	}
	var parts []string
	for ad.Next() {
		b, kind := ad.Bytes(), int(ad.Type())
		words := bytes.TrimRight(b, "\x00")
		switch {
		case len(words) == 0 || name == "nat" && kind == unix.NFTA_NAT_FLAGS:
		case name == "immediate" && kind == unix.NFTA_IMMEDIATE_DATA:
			parts = append(parts, attrText("data", b))
		case name == "data" && kind == unix.NFTA_DATA_VERDICT:
			parts = append(parts, verdictText(b))
		case len(words) > 4 && bytes.IndexFunc(words, func(r rune) bool { return r <= ' ' || r > '~' }) < 0:
			parts = append(parts, fmt.Sprintf("%d:%s", kind, words))
		default:
			parts = append(parts, fmt.Sprintf("%d:%x", kind, b))
		}
	}
	slices.Sort(parts)
	return " " + strings.Join(parts, " ")
}

func (k kernel) of(f family) *nftables.Table {
	return &nftables.Table{Name: k.table, Family: nftables.TableFamily(f.layout().nat)}
}

// read returns what the kernel has of a family; nil when it has no table. See errForeign.
func (k kernel) read(f family) (*ruleset, error) {
	c, err := k.conn(0)
	if err != nil {
		return nil, err
	}
	t := k.of(f)
	list, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(x *nftables.Table) bool { return x.Name == t.Name && x.Family == t.Family }) {
		return nil, nil
	}
	r := &ruleset{f, map[string]*chain{}, map[string]*set{}, map[string]count{}}
	all, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, err
	}
	rules, err := k.rules(f)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if x.Table.Name != t.Name {
			continue
		}
		one := &chain{}
		if x.Hooknum != nil && x.Priority != nil {
			one.hook = &hook{kind: string(x.Type), num: uint32(*x.Hooknum), priority: int32(*x.Priority), policy: 1}
			if x.Policy != nil {
				one.hook.policy = uint32(*x.Policy)
			}
		}
		one.text = rules[x.Name]
		r.chains[x.Name] = one
	}
	if r.counters, err = k.counters(c, t); err != nil { // somebody's quota, for one
		return r, fmt.Errorf("%w: counters: %w", errForeign, err)
	}
	sets, err := c.GetSets(t)
	if err != nil {
		return r, fmt.Errorf("%w: sets: %w", errForeign, err)
	}
	for _, x := range sets {
		one := &set{kind: kindOf(x), elems: map[string]string{}}
		elems, err := c.GetSetElements(x)
		if err != nil {
			return r, fmt.Errorf("%w: set %s: %w", errForeign, x.Name, err)
		}
		for _, e := range elems {
			v := string(e.Val)
			if one.kind == verdicts {
				v = verdictText(e.Val)
			}
			one.elems[string(e.Key)] = v
		}
		r.maps[x.Name] = one
	}
	return r, nil
}

func (k kernel) counters(c *nftables.Conn, t *nftables.Table) (map[string]count, error) {
	objs, err := c.GetObjects(t)
	if err != nil {
		return nil, err
	}
	out := make(map[string]count, len(objs))
	for _, o := range objs {
		x, ok := o.(*nftables.CounterObj)
		if !ok {
			return out, fmt.Errorf("%w: an object that is no counter", errForeign)
		}
		out[x.Name] = count{x.Packets, x.Bytes}
	}
	return out, nil
}

// count reads the counters alone; nil when there is no table.
func (k kernel) count(f family) (map[string]count, error) {
	c, err := k.conn(0)
	if err != nil {
		return nil, err
	}
	out, err := k.counters(c, k.of(f))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return out, err
}

func kindOf(s *nftables.Set) setKind {
	switch {
	case s.KeyType.Name == nftables.TypeVerdict.Name || s.DataType.Name == nftables.TypeVerdict.Name:
		return verdicts // the library says it of the key
	case s.IsMap:
		return targets
	}
	return places
}

// verdictText reads a verdict as a map has it: goto x, jump x, or a number.
func verdictText(raw []byte) string {
	ad, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return "?"
	}
	ad.ByteOrder = binary.BigEndian
	kind, name := "?", ""
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			switch v := int32(ad.Uint32()); expr.VerdictKind(v) {
			case expr.VerdictGoto:
				kind = "goto"
			case expr.VerdictJump:
				kind = "jump"
			default:
				kind = fmt.Sprint(v)
			}
		case unix.NFTA_VERDICT_CHAIN:
			name = " " + ad.String()
		}
	}
	return kind + name
}

// commit does the steps of both families in one transaction: all of them, or none.
func (k kernel) commit(steps map[family][]step) error {
	n := 1 << 16
	for _, list := range steps {
		for _, s := range list {
			n += 2048 + 128*len(s.elems)
			if s.chain != nil {
				n += 1024 * len(s.chain.rules)
			}
		}
	}
	c, err := k.conn(n)
	if err != nil {
		return err
	}
	var id uint32
	for _, f := range []family{ip4, ip6} {
		for _, s := range steps[f] {
			id++
			if err := k.put(c, f, s, id); err != nil {
				return fmt.Errorf("%s in table %s %s: %w", s, f, k.table, err)
			}
		}
	}
	return c.Flush()
}

func (k kernel) put(c *nftables.Conn, f family, s step, id uint32) error {
	t := k.of(f)
	switch s.verb {
	case addTable:
		c.AddTable(t)
	case delTable:
		c.DelTable(t)
	case addCounter:
		c.AddObj(&nftables.CounterObj{Table: t, Name: s.name, Packets: s.count.packets, Bytes: s.count.bytes})
	case delCounter:
		c.DeleteObject(&nftables.CounterObj{Table: t, Name: s.name})
	case addSet:
		x, err := k.set(f, s.name, s.kind)
		if err != nil {
			return err
		}
		x.ID = id
		return c.AddSet(x, nil)
	case delSet:
		c.DelSet(&nftables.Set{Table: t, Name: s.name})
	case addChain:
		x := &nftables.Chain{Name: s.name, Table: t}
		if h := s.chain.hook; h != nil {
			x.Type, x.Hooknum, x.Priority = nftables.ChainType(h.kind), nftables.ChainHookRef(nftables.ChainHook(h.num)), nftables.ChainPriorityRef(nftables.ChainPriority(h.priority))
			policy := nftables.ChainPolicy(h.policy)
			x.Policy = &policy
		}
		c.AddChain(x)
	case delChain:
		c.DelChain(&nftables.Chain{Name: s.name, Table: t})
	case setRules:
		x := &nftables.Chain{Name: s.name, Table: t}
		c.FlushChain(x)
		for _, r := range s.chain.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: x, Exprs: r})
		}
	case addElements, delElements:
		x := &nftables.Set{Table: t, Name: s.name}
		keys := slices.Sorted(maps.Keys(s.elems))
		for part := range slices.Chunk(keys, elementsAtOnce) {
			var list []nftables.SetElement
			for _, key := range part {
				list = append(list, element(s.kind, key, s.elems[key]))
			}
			do := c.SetAddElements
			if s.verb == delElements {
				do = c.SetDeleteElements
			}
			if err := do(x, list); err != nil {
				return err
			}
		}
	}
	return nil
}

func element(kind setKind, key, value string) nftables.SetElement {
	e := nftables.SetElement{Key: []byte(key)}
	switch kind {
	case verdicts:
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto}
		how, name, _ := strings.Cut(value, " ")
		e.VerdictData.Chain = name
		if how == "jump" {
			e.VerdictData.Kind = expr.VerdictJump
		}
	case targets:
		e.Val = []byte(value)
	}
	return e
}

// set describes one to the kernel, with the types by which nft prints it.
func (k kernel) set(f family, name string, kind setKind) (*nftables.Set, error) {
	addr := nftables.TypeIPAddr
	if f == ip6 {
		addr = nftables.TypeIP6Addr
	}
	x := &nftables.Set{Table: k.of(f), Name: name, IsMap: kind != places}
	var err error
	switch kind {
	case targets:
		x.KeyType, x.KeyByteOrder = nftables.TypeMark, binaryutil.NativeEndian
		// A size makes the kernel choose the table that neither grows nor shrinks; twice, for a transaction that replaces all.
		x.Size = 2 * Slots
		x.DataType, err = nftables.ConcatSetType(addr, nftables.TypeInetService)
	default:
		x.KeyType, err = nftables.ConcatSetType(addr, nftables.TypeInetProto, nftables.TypeInetService)
		x.Concatenation = true
		if kind == verdicts {
			x.DataType = nftables.TypeVerdict
		}
	}
	return x, err
}
