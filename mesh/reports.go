package mesh

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"hostmesh/mesh/report"
)

// Bounds of a report.
const (
	maxReport        = 1 << 20 // bytes of all its entries: some thousand machines
	maxReportEntries = 20_000
	maxReportKey     = report.MaxCheckKey + 8 // the longest that there are
	// maxGone is how many dropped entries are remembered for those who missed that; they get the whole report beyond it.
	maxGone = 1024
	// maxBoot bounds what a peer may claim, so that there is always a higher one. It is a time in milliseconds, 285,000 years on.
	maxBoot = 1 << 53
	// bootAhead is how far ahead of this node's clock a former run of it can have begun: a clock without a battery starts in 1970.
	// It is far below maxBoot, so that no claim can use up the numbers.
	bootAhead = 100 * 365 * 24 * time.Hour
)

// errReport is wrapped by errors about reports that break the rules.
var errReport = errors.New("bad report")

// Report changes this node's own report: edit gets a copy, to do with as it likes, and what it left there is published, if it
// differs, and told to the others. Node, Boot and N are the mesh's: what edit does to them is ignored. The first call begins
// the report, also when it changes nothing; before it, this node has none. Calls run one after the other, and edit must not
// call Report. Texts that are too long are cut (report.Trim); a report of more than 1 MiB is not taken, logged and counted.
// It may be called before Run, and is safe for concurrent use.
func (m *Mesh) Report(edit func(*report.Report)) { m.reports.edit(edit) }

// openReports prepares the exchange. Nothing is sent before Run.
func (m *Mesh) openReports() {
	boot := bootAt(m.cfg.Clock.Now(), m.peers.boot)
	m.peers.setBoot(boot)
	m.reports = newReportSync(m.board, m.cfg.NodeID, boot, m.log, m.cfg.Clock)
	m.reports.boots = m.peers.setBoot
	m.reports.bytes = min(reportBytes, m.cfg.MaxFrame/2)
	m.reports.call = func(ctx context.Context, node string, req []byte) ([]byte, error) {
		return m.Call(ctx, node, callReports, req)
	}
	m.Handle(callReports, m.reports.handle)
}

// Report returns what a node reports, and whether it does. It is immutable. A node that failed keeps its last one: whoever
// acts on it looks at the member's state too. One that left or was removed has none.
func (v View) Report(nodeID string) (report.Report, bool) {
	if v.d == nil {
		return report.Report{}, false
	}
	i, ok := findReport(v.d.reports, nodeID)
	if !ok {
		return report.Report{}, false
	}
	return *v.d.reports[i], true
}

// Reports yields all reports, sorted by node id. See Report.
func (v View) Reports() iter.Seq[report.Report] {
	return func(yield func(report.Report) bool) {
		if v.d == nil {
			return
		}
		for _, r := range v.d.reports {
			if !yield(*r) {
				return
			}
		}
	}
}

// ReportChanges yields, sorted by node id, which reports v has otherwise than old: as they were and as they are. Of one that is
// not in a view the zero Report stands there, so now.Node is empty where a report went. Between views of which one followed
// the other it costs a look at each report at most, and nothing when there was no change.
func (v View) ReportChanges(old View) iter.Seq2[report.Report, report.Report] {
	var a, b []*report.Report
	if old.d != nil {
		a = old.d.reports
	}
	if v.d != nil {
		b = v.d.reports
	}
	return func(yield func(was, now report.Report) bool) {
		if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
			return
		}
		for len(a)+len(b) > 0 {
			var was, now *report.Report
			if len(b) == 0 || len(a) > 0 && a[0].Node <= b[0].Node {
				was = a[0]
			}
			if len(a) == 0 || len(b) > 0 && b[0].Node <= a[0].Node {
				now = b[0]
			}
			var none report.Report
			switch {
			case was == now:
				a, b = a[1:], b[1:]
			case was == nil:
				b = b[1:]
				if !yield(none, *now) {
					return
				}
			case now == nil:
				a = a[1:]
				if !yield(*was, none) {
					return
				}
			default:
				a, b = a[1:], b[1:]
				if !yield(*was, *now) {
					return
				}
			}
		}
	}
}

// WithReport returns a View in which r stands for its node, for planners that ask "what if", and for tests. r belongs to the
// View afterwards.
func (v View) WithReport(r report.Report) View {
	d := v.copy()
	d.reports = setReport(d.reports, &r)
	return View{d}
}

func findReport(list []*report.Report, node string) (int, bool) {
	return slices.BinarySearchFunc(list, node, func(r *report.Report, id string) int { return cmp.Compare(r.Node, id) })
}

// setReport returns a copy of list in which r stands for its node.
func setReport(list []*report.Report, r *report.Report) []*report.Report {
	i, ok := findReport(list, r.Node)
	if ok {
		list = slices.Clone(list)
		list[i] = r
		return list
	}
	return slices.Insert(slices.Clip(slices.Clone(list)), i, r)
}

// stamp says which state of a report it is. The zero stamp is before all.
type stamp struct{ boot, n uint64 }

func (a stamp) newer(b stamp) bool {
	if a.boot != b.boot {
		return a.boot > b.boot
	}
	return a.n > b.n
}

// entry is one part of a report as it travels. Parts that this build does not know are kept and passed on: what a later
// build says reaches others of its kind through this one.
type entry struct {
	raw []byte
	n   uint64 // when it came, at the latest
	sum uint64
}

// held is what this node has of one report.
type held struct {
	at      stamp
	content uint64 // sum of its entries
	sum     uint64 // its share in the sum of all
	floor   uint64 // changes from this n on are known one by one
	entries map[string]entry
	gone    map[string]uint64 // dropped entries, and when
	size    int               // bytes of entries
	rep     *report.Report    // nil: the member left, and only at is remembered
}

// reportDelta is a change of a report, from the state Since of the same boot, or the whole when that is 0. It may be applied
// to any state in between as well. Entries are boxKey, vmKey and a UUID, checkKey and a check's key, and those of later builds.
type reportDelta struct {
	node  string
	at    stamp
	since uint64
	set   map[string][]byte
	gone  []string
}

func (d *reportDelta) bytes() int {
	n := 48
	for k, raw := range d.set {
		n += len(k) + len(raw) + 8
	}
	for _, k := range d.gone {
		n += len(k) + 2
	}
	return n
}

// reportStore holds all reports. It is guarded by the lock of its board.
type reportStore struct {
	held map[string]*held
	list []*report.Report // by node id
	mine bool             // no View has list yet
	sum  uint64           // of all that are in list
}

// stampSum is the share of one report in the sum by which nodes compare what they have. The content is in it, so that two
// that differ under one stamp are found: a box without a clock that lost its directory, or a peer that lies.
func stampSum(node string, at stamp, content uint64) uint64 {
	b := make([]byte, 0, 64)
	b = append(b, node...)
	b = binary.BigEndian.AppendUint64(b, at.boot)
	b = binary.BigEndian.AppendUint64(b, at.n)
	b = binary.BigEndian.AppendUint64(b, content)
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}

func entrySum(key string, raw []byte) uint64 {
	b := make([]byte, 0, 512)
	b = append(append(append(b, key...), 0), raw...)
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}

// at returns which state of a report is here; the zero stamp for none.
func (s *reportStore) at(node string) stamp {
	if h := s.held[node]; h != nil && h.rep != nil {
		return h.at
	}
	return stamp{}
}

// wire returns which state of a report is here, as it travels.
func (s *reportStore) wire(node string) wireStamp {
	w := wireStamp{Node: nodeBytes(node)}
	if h := s.held[node]; h != nil && h.rep != nil {
		w.Boot, w.N, w.Sum = h.at.boot, h.at.n, h.content
	}
	return w
}

// put enters what became of a report.
func (s *reportStore) put(node string, h *held) {
	if was := s.held[node]; was != nil {
		s.sum -= was.sum
	}
	h.sum = stampSum(node, h.at, h.content)
	s.sum += h.sum
	s.held[node] = h
	if !s.mine {
		s.list, s.mine = slices.Clone(s.list), true
	}
	if i, ok := findReport(s.list, node); ok {
		s.list[i] = h.rep
	} else {
		s.list = slices.Insert(s.list, i, h.rep)
	}
}

// forView gives the list away.
func (s *reportStore) forView() []*report.Report {
	s.mine = false
	return s.list
}

// prune drops the reports of those who are members no more, and reports whether there were any.
func (s *reportStore) prune(self string, members map[string]Member) bool {
	var gone []string
	for id, h := range s.held {
		m, known := members[id]
		if id == self || known && m.State != StateLeft {
			continue
		}
		if h.rep != nil {
			gone = append(gone, id)
			s.sum -= h.sum
		}
		if known {
			// Somebody who has not heard of the goodbye may tell of an earlier state.
			s.held[id] = &held{at: h.at}
		} else {
			delete(s.held, id)
		}
	}
	if len(gone) == 0 {
		return false
	}
	s.list = slices.DeleteFunc(slices.Clone(s.list), func(r *report.Report) bool { return slices.Contains(gone, r.Node) })
	s.mine = true
	return true
}

// delta makes what somebody lacks who has a report as of since; false when there is nothing newer.
func (s *reportStore) delta(node string, since stamp) (reportDelta, bool) {
	h := s.held[node]
	if h == nil || h.rep == nil || !h.at.newer(since) {
		return reportDelta{}, false
	}
	d := reportDelta{node: node, at: h.at}
	if since.boot == h.at.boot && since.n >= h.floor && since.n > 0 {
		d.since, d.set = since.n, make(map[string][]byte)
		size := 0
		for k, e := range h.entries {
			if e.n > since.n {
				d.set[k] = e.raw
				size += len(k) + len(e.raw)
			}
		}
		for k, n := range h.gone {
			if n > since.n {
				d.gone = append(d.gone, k)
				size += len(k)
			}
		}
		if size <= h.size {
			slices.Sort(d.gone)
			return d, true
		}
	}
	// The whole, which may be smaller when most went.
	d.since, d.gone, d.set = 0, nil, make(map[string][]byte, len(h.entries))
	for k, e := range h.entries {
		d.set[k] = e.raw
	}
	return d, true
}

// apply takes a change of another's report. took is false when it is no news, or when what it builds on is not here.
func (s *reportStore) apply(d *reportDelta) (took bool, err error) {
	h := s.held[d.node]
	var now stamp
	if h != nil {
		now = h.at
	}
	// A report that was dropped with its member's goodbye may come again as it was.
	again := h != nil && h.rep == nil && h.at == d.at
	if !d.at.newer(now) && !again {
		return false, nil
	}
	next := &held{at: d.at, floor: d.at.n, entries: make(map[string]entry), gone: make(map[string]uint64)}
	rep := report.Report{Node: d.node, Boot: d.at.boot, N: d.at.n}
	if d.since > 0 {
		if h == nil || h.rep == nil || now.boot != d.at.boot || now.n < d.since {
			return false, nil
		}
		next.floor, next.size, next.content = h.floor, h.size, h.content
		next.entries, next.gone = maps.Clone(h.entries), maps.Clone(h.gone)
		rep.Box, rep.VMs, rep.Checks, rep.LB, rep.MySQL = h.rep.Box, maps.Clone(h.rep.VMs), maps.Clone(h.rep.Checks), h.rep.LB, maps.Clone(h.rep.MySQL)
	}
	for _, k := range d.gone {
		next.drop(k)
		setEntry(&rep, k, nil)
	}
	for k, raw := range d.set {
		if err := setEntry(&rep, k, raw); err != nil {
			return false, err
		}
		next.set(k, raw)
	}
	if err := next.check(); err != nil {
		return false, err
	}
	next.rep = &rep
	s.put(d.node, next)
	return true, nil
}

// set and drop change one entry as of at.
func (h *held) set(key string, raw []byte) {
	if was, ok := h.entries[key]; ok {
		h.size -= len(key) + len(was.raw)
		h.content -= was.sum
	}
	e := entry{raw, h.at.n, entrySum(key, raw)}
	h.entries[key] = e
	h.size += len(key) + len(raw)
	h.content += e.sum
	delete(h.gone, key)
}

func (h *held) drop(key string) {
	was, ok := h.entries[key]
	if !ok {
		return
	}
	h.size -= len(key) + len(was.raw)
	h.content -= was.sum
	delete(h.entries, key)
	h.gone[key] = h.at.n
	if len(h.gone) > maxGone {
		clear(h.gone)
		h.floor = h.at.n
	}
}

func (h *held) check() error {
	switch {
	case h.size > maxReport:
		return fmt.Errorf("%w: it has %d bytes, at most %d are taken", errReport, h.size, maxReport)
	case len(h.entries) > maxReportEntries:
		return fmt.Errorf("%w: it has %d entries, at most %d are taken", errReport, len(h.entries), maxReportEntries)
	}
	return nil
}

// own makes of next, which is this node's report as it should be, what is held of it, in the run boot. It returns nil when
// that says the same as before.
func (s *reportStore) own(self string, boot uint64, next report.Report) (*held, error) {
	entries, err := encodeEntries(next)
	if err != nil {
		return nil, err
	}
	was := s.held[self]
	h := &held{at: stamp{boot, 1}, floor: 1, entries: make(map[string]entry), gone: make(map[string]uint64)}
	if was != nil && was.at.boot == boot {
		h.at.n, h.floor, h.size, h.content = was.at.n+1, was.floor, was.size, was.content
		h.entries, h.gone = maps.Clone(was.entries), maps.Clone(was.gone)
	}
	changed := was == nil || was.at.boot != boot
	for k := range h.entries {
		if _, stays := entries[k]; !stays {
			changed = true
			h.drop(k)
		}
	}
	for k, raw := range entries {
		if e, ok := h.entries[k]; !ok || string(e.raw) != string(raw) {
			changed = true
			h.set(k, raw)
		}
	}
	if !changed {
		return nil, nil
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	next.Node, next.Boot, next.N = self, h.at.boot, h.at.n
	h.rep = &next
	return h, nil
}

// takesReport reports whether a report of a node may be here at all.
func (b *board) takesReport(node string) bool {
	m, known := b.members[node]
	return known && m.State != StateLeft && node != b.self
}

// publishReports makes the View that follows from changed reports. mu is held.
func (b *board) publishReports() {
	d := *b.view.Load()
	d.reports = b.reports.forView()
	b.revision++
	d.revision = b.revision
	b.view.Store(&d)
	for ch, all := range b.watchers {
		if all {
			poke(ch)
		}
	}
}

// bootAt is a run's number: the time it began, or more where a former run was known to have that or a later one.
func bootAt(now time.Time, after uint64) uint64 {
	return max(uint64(max(now.UnixMilli(), 1)), after+1)
}

// nodeBytes and nodeOf turn ids into what travels, and back.
func nodeBytes(id string) []byte {
	b, _ := hex.DecodeString(id) // ids were checked when they came in
	return b
}

func nodeOf(b []byte) (string, error) {
	if len(b) != 16 {
		return "", fmt.Errorf("%w: a node id of %d bytes", errReport, len(b))
	}
	return hex.EncodeToString(b), nil
}
