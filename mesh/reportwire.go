package mesh

import (
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/mesh/report"
)

// callReports is the call by which nodes tell each other of reports, and compare what they have.
const callReports = "report.sync.1"

// Keys of a report's entries.
const (
	boxKey   = "box"
	vmKey    = "vm/"
	checkKey = "check/"
	lbKey    = "lb"
	mysqlKey = "mysql/"
)

// reportMessage is what crosses, both ways. Numbers are a format: add, never change.
type reportMessage struct {
	// News are changes that the other side may lack.
	News []wireDelta `cbor:"1,keyasint,omitempty"`
	// Want asks for what is newer than these states.
	Want []wireStamp `cbor:"2,keyasint,omitempty"`
	// Have, in an answer, is what the other side has of reports whose news it could not use; or of all, when the sums differ.
	Have []wireStamp `cbor:"3,keyasint,omitempty"`
	// Compare asks whether the other side's reports have the sum Sum, and for Have if they have not.
	Compare bool   `cbor:"4,keyasint,omitempty"`
	Sum     uint64 `cbor:"5,keyasint,omitempty"`
	// Same answers Compare.
	Same bool `cbor:"6,keyasint,omitempty"`
}

type wireStamp struct {
	_    struct{} `cbor:",toarray"`
	Node []byte   // 16 bytes
	Boot uint64
	N    uint64 // both 0: nothing
	Sum  uint64 // of the content
}

type wireDelta struct {
	Node  []byte                     `cbor:"1,keyasint"`
	Boot  uint64                     `cbor:"2,keyasint"`
	N     uint64                     `cbor:"3,keyasint"`
	Since uint64                     `cbor:"4,keyasint,omitempty"` // 0 = the whole report
	Set   map[string]cbor.RawMessage `cbor:"5,keyasint,omitempty"`
	Gone  []string                   `cbor:"6,keyasint,omitempty"`
}

var (
	// reportEnc writes the same bytes for the same entry: that is how changes are found.
	reportEnc = mustMode(cbor.CoreDetEncOptions().EncMode())
	reportDec = mustMode(cbor.DecOptions{
		MaxArrayElements: maxReportEntries, MaxMapPairs: maxReportEntries, MaxNestedLevels: 8,
		IndefLength: cbor.IndefLengthForbidden, DupMapKey: cbor.DupMapKeyEnforcedAPF, TagsMd: cbor.TagsForbidden,
	}.DecMode())
)

func mustMode[T any](mode T, err error) T {
	if err != nil {
		panic(err) // options that are wrong are a programmer's error
	}
	return mode
}

func (m *reportMessage) encode() []byte {
	b, err := reportEnc.Marshal(m)
	if err != nil {
		panic(err) // all of it came from encode or decode
	}
	return b
}

// decodeReports reads a message and checks all that can be checked without knowing the members.
func decodeReports(b []byte) (m reportMessage, err error) {
	if err := reportDec.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errReport, err)
	}
	for i := range m.News {
		d := &m.News[i]
		switch {
		case len(d.Node) != 16:
			return m, fmt.Errorf("%w: a node id of %d bytes", errReport, len(d.Node))
		case d.Boot == 0 || d.Boot > maxBoot || d.N == 0 || d.Since >= d.N:
			return m, fmt.Errorf("%w: numbers %d, %d to %d are none", errReport, d.Boot, d.Since, d.N)
		case d.Since == 0 && len(d.Gone) > 0:
			return m, fmt.Errorf("%w: a whole one that drops entries", errReport)
		}
		for k, raw := range d.Set {
			if k == "" || len(k) > maxReportKey || len(raw) == 0 {
				return m, fmt.Errorf("%w: an entry's key has %d bytes, its value %d", errReport, len(k), len(raw))
			}
		}
		for _, k := range d.Gone {
			if k == "" || len(k) > maxReportKey {
				return m, fmt.Errorf("%w: an entry's key has %d bytes", errReport, len(k))
			}
		}
	}
	for _, list := range [][]wireStamp{m.Want, m.Have} {
		for _, s := range list {
			if len(s.Node) != 16 || s.Boot > maxBoot {
				return m, fmt.Errorf("%w: boot %d of a node id of %d bytes", errReport, s.Boot, len(s.Node))
			}
		}
	}
	return m, nil
}

func (d *wireDelta) delta() reportDelta {
	node, _ := nodeOf(d.Node) // decodeReports saw to that
	out := reportDelta{node: node, at: stamp{d.Boot, d.N}, since: d.Since, set: make(map[string][]byte, len(d.Set)), gone: d.Gone}
	for k, raw := range d.Set {
		out.set[k] = raw
	}
	return out
}

func (d *reportDelta) wire() wireDelta {
	out := wireDelta{Node: nodeBytes(d.node), Boot: d.at.boot, N: d.at.n, Since: d.since, Gone: d.gone}
	if len(d.set) > 0 {
		out.Set = make(map[string]cbor.RawMessage, len(d.set))
		for k, raw := range d.set {
			out.Set[k] = raw
		}
	}
	return out
}

// encodeEntries cuts a report into what travels.
func encodeEntries(r report.Report) (map[string][]byte, error) {
	out := make(map[string][]byte, len(r.VMs)+len(r.Checks)+1)
	add := func(key string, v any) error {
		raw, err := reportEnc.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode %s of a report: %w", key, err)
		}
		out[key] = raw
		return nil
	}
	if r.Box != nil {
		if err := add(boxKey, r.Box); err != nil {
			return nil, err
		}
	}
	for id, vm := range r.VMs {
		if err := add(vmKey+id, vm); err != nil {
			return nil, err
		}
	}
	if r.LB != nil {
		if err := add(lbKey, r.LB); err != nil {
			return nil, err
		}
	}
	for key, c := range r.Checks {
		if err := add(checkKey+key, c); err != nil {
			return nil, err
		}
	}
	for tag, m := range r.MySQL {
		if err := add(mysqlKey+tag, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// setEntry changes r, whose VMs, Checks and MySQL are its own, by an entry; nil drops it. Entries of later builds are left alone.
func setEntry(r *report.Report, key string, raw []byte) error {
	id, isVM := strings.CutPrefix(key, vmKey)
	of, isCheck := strings.CutPrefix(key, checkKey)
	tag, isMySQL := strings.CutPrefix(key, mysqlKey)
	switch {
	case raw == nil && key == boxKey:
		r.Box = nil
	case raw == nil && isVM:
		delete(r.VMs, id)
		if len(r.VMs) == 0 {
			r.VMs = nil
		}
	case raw == nil && isCheck:
		delete(r.Checks, of)
		if len(r.Checks) == 0 {
			r.Checks = nil
		}
	case raw == nil && isMySQL:
		delete(r.MySQL, tag)
		if len(r.MySQL) == 0 {
			r.MySQL = nil
		}
	case raw == nil && key == lbKey:
		r.LB = nil
	case raw == nil:
	case key == lbKey:
		var l report.LB
		if err := reportDec.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("%w: virtual addresses: %w", errReport, err)
		}
		if !l.Fits() {
			return fmt.Errorf("%w: a virtual address or a text of it is too long, or not what it may be", errReport)
		}
		r.LB = &l
	case key == boxKey:
		var b report.Box
		if err := reportDec.Unmarshal(raw, &b); err != nil {
			return fmt.Errorf("%w: box: %w", errReport, err)
		}
		if !b.Fits() {
			return fmt.Errorf("%w: box has a text that is too long, or not UTF-8", errReport)
		}
		r.Box = &b
	case isVM:
		var v report.VM
		if err := reportDec.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("%w: machine: %w", errReport, err)
		}
		if !v.Fits(id) {
			return fmt.Errorf("%w: a machine's key or text is too long, or not what it may be", errReport)
		}
		if r.VMs == nil {
			r.VMs = make(map[string]report.VM)
		}
		r.VMs[id] = v
	case isCheck:
		var c report.Check
		if err := reportDec.Unmarshal(raw, &c); err != nil {
			return fmt.Errorf("%w: check: %w", errReport, err)
		}
		if !c.Fits(of) {
			return fmt.Errorf("%w: a check's key or text is too long, or not what it may be", errReport)
		}
		if r.Checks == nil {
			r.Checks = make(map[string]report.Check)
		}
		r.Checks[of] = c
	case isMySQL:
		var m report.MySQL
		if err := reportDec.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("%w: database server: %w", errReport, err)
		}
		if !m.Fits(tag) {
			return fmt.Errorf("%w: a database server's tag or text is too long, or not what it may be", errReport)
		}
		if r.MySQL == nil {
			r.MySQL = make(map[string]report.MySQL)
		}
		r.MySQL[tag] = m
	}
	return nil
}
