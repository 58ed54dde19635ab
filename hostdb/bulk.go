package hostdb

import (
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Loading makes a whole state at once. What fold and reindex make key by key, in trees that are copied at each step, is
// made here of sorted rows in one pass: a start makes little that it throws away, and what it keeps lies together.

// rowBatch is some rows in one piece of memory, which the next batch uses again.
type rowBatch struct {
	buf  []byte
	rows []storedRow
	ends [][2]int // of each key and value in buf
}

// scanBatches calls fn for batches of the rows of one kind, in order. The rows are void when fn returns.
func scanBatches(st Storage, kind byte, fn func([]storedRow) error) error {
	const maxRows, maxBytes = 4096, 4 << 20
	var b rowBatch
	flush := func() error {
		b.rows = b.rows[:0]
		begin := 0
		for _, e := range b.ends {
			b.rows = append(b.rows, storedRow{b.buf[begin:e[0]:e[0]], b.buf[e[0]:e[1]:e[1]]})
			begin = e[1]
		}
		err := fn(b.rows)
		b.buf, b.ends = b.buf[:0], b.ends[:0]
		return err
	}
	err := st.Scan([]byte{kind}, nil, func(key, value []byte) error {
		b.buf = append(b.buf, key...)
		middle := len(b.buf)
		b.buf = append(b.buf, value...)
		b.ends = append(b.ends, [2]int{middle, len(b.buf)})
		if len(b.ends) < maxRows && len(b.buf) < maxBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// inShares calls fn for consecutive shares of n things on all processors, and returns the first error.
func inShares(n int, fn func(share, from, to int) error) error {
	var g sync.WaitGroup
	workers := max(1, min(runtime.GOMAXPROCS(0), n))
	errs := make([]error, workers)
	for w := range workers {
		g.Go(func() { errs[w] = fn(w, n*w/workers, n*(w+1)/workers) })
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// entry makes an entry of its row; its members come from rows of their own. named collects the parts it uses.
func (d *entryReader) entry(st Storage, r storedRow, named *sync.Map, f *folding) error {
	value := r.value
	if len(value) > 0 && value[0] == rowInParts {
		var err error
		if st == nil {
			return refuse(ErrInvalid, "row %q is in parts", r.key)
		}
		if value, err = joinParts(st, r.key, value, named); err != nil {
			return err
		}
	}
	row := &d.row
	if err := d.decode(r.key, value); err != nil {
		return err
	}
	e := &entry{ns: row.NS, key: row.Key}
	f.entry, f.lastReg = e, d.reg
	e.deleted, e.deleteSaw, e.deleteKnown, e.lateEdit = row.Deleted, row.DeleteSaw, row.DeleteKnown, row.LateEdit
	e.created, e.from = row.Created.register(), row.From
	e.perms = permsRegister{row.Perms.register(), row.PermsValue}
	e.dataStamp = e.created.stamp
	e.leaves = make([]Leaf, len(row.Leaves))
	regs := d.regs[:0]
	for i, l := range row.Leaves {
		e.leaves[i] = Leaf{Path(l.Path), l.Value}
		regs = append(regs, f.share(l.R.register()))
		e.dataStamp = maxStamp(e.dataStamp, l.R.Stamp)
	}
	e.leafRegs = d.shareRegs(regs)
	d.reg, f.lastReg = f.lastReg, nil
	f.dataTouched, f.permsTouched = true, true
	return nil
}

// decode reads a row into d.row.
func (d *entryReader) decode(key, value []byte) error {
	leaves := d.row.Leaves
	d.row = entryRow{Leaves: leaves[:0]}
	if len(value) > 0 && value[0] == rowPlain && d.read(value[1:], &d.row) {
		d.row.Key = string(d.key)
		return nil
	}
	d.row = entryRow{}
	return decodeRow(key, value, &d.row) // one that is deflated, or of another build
}

// shareRegs is a copy of regs: the last one made, if it is equal, which it is for hosts that were imported together.
func (d *entryReader) shareRegs(regs []*register) []*register {
	d.regs = regs[:0]
	if !slices.Equal(regs, d.lastRegs) {
		d.lastRegs = slices.Clone(regs)
	}
	return d.lastRegs
}

// loading is what was read of the keys, in the order of their rows.
type loading struct {
	order []*folding
	ids   []string // of each, by which the trees know it
}

// read makes the keys of their rows; their members come from rows of their own. named collects the parts that rows use.
func (l *loading) read(st Storage, named *sync.Map) error {
	readers := make([]entryReader, runtime.GOMAXPROCS(0))
	return scanBatches(st, 'k', func(rows []storedRow) error {
		folds, ids := make([]folding, len(rows)), make([]string, len(rows))
		err := inShares(len(rows), func(share, from, to int) error {
			for i := from; i < to; i++ {
				if err := readers[share].entry(st, rows[i], named, &folds[i]); err != nil {
					return err
				}
				ids[i] = string(rows[i].key[1:])
				if f := &folds[i]; len(ids[i]) == len(f.ns)+1+len(f.key) {
					f.key = ids[i][len(f.ns)+1:] // one copy of the name for both
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range folds {
			l.order = append(l.order, &folds[i])
		}
		l.ids = append(l.ids, ids...)
		return nil
	})
}

// memberLoader reads member rows, which come sorted by namespace, key and member, beside the sorted entries.
type memberLoader struct {
	loading
	at    int // where in order the last row's key is
	build treeBuilder[string, memberRegister]
	row   memberRow
	names map[string]string // the names of hosts, so that lists share them
}

// add takes a row; used is false when it belongs to no state of its key, and is rubbish of a crash.
func (m *memberLoader) add(key, value []byte) (used bool, err error) {
	if err := decodeRow(key, value, &m.row); err != nil {
		return false, err
	}
	row := &m.row
	for m.at < len(m.order) && compareNames(m.order[m.at], row.NS, row.Key) < 0 {
		m.finish()
		m.at++
	}
	if m.at == len(m.order) || compareNames(m.order[m.at], row.NS, row.Key) != 0 || m.order[m.at].deleted != row.Base {
		return false, nil
	}
	f := m.order[m.at]
	if name, ok := m.names[row.Name]; ok {
		row.Name = name
	}
	r := memberRegister{row.R.register(), row.Member, row.Order, row.Text}
	m.build.add(row.Name, r)
	f.membersStamp = maxStamp(f.membersStamp, r.stamp)
	if row.Name != "" {
		f.maxOrder = max(f.maxOrder, row.Order)
		if row.Member {
			f.memberCount++
		}
	}
	return true, nil
}

// finish gives the key that the last rows were of its members.
func (m *memberLoader) finish() {
	if m.at < len(m.order) && m.build.n > 0 {
		m.order[m.at].members = m.build.tree()
	}
}

// compareNames is the order of rows: by namespace, then by key. NUL, which stands between them, is in no name.
func compareNames(f *folding, ns, key string) int {
	if c := strings.Compare(f.ns, ns); c != 0 {
		return c
	}
	return strings.Compare(f.key, key)
}

// index makes the entries and their indexes of the foldings of all keys, in the order of their rows: what reindex would
// have made of them one by one. s holds nothing yet but its vector.
func (s *snapshot) index(order []*folding, ids []string) {
	var g sync.WaitGroup
	g.Go(func() {
		var entries treeBuilder[string, *entry]
		for i, f := range order {
			entries.add(ids[i], f.entry)
		}
		s.entries = entries.tree()
	})
	g.Go(func() { s.indexMembers(order, ids) })
	g.Go(func() { s.indexHosts(order) })
	s.count(order)
	g.Wait()
	for _, f := range order {
		if f.ns == System { // few, and with indexes of their own
			s.reindex(f)
		}
	}
}

// count makes what is known of each namespace.
func (s *snapshot) count(order []*folding) {
	for len(order) > 0 {
		ns := order[0].ns
		n := slices.IndexFunc(order, func(f *folding) bool { return f.ns != ns })
		if n < 0 {
			n = len(order)
		}
		if ns != System {
			s.countNamespace(ns, order[:n])
		}
		order = order[n:]
	}
}

func (s *snapshot) countNamespace(ns string, all []*folding) {
	var sum sum256
	var newest Time
	keys := 0
	for _, f := range all {
		e := f.entry
		sum.add(e.sumDoc)
		sum.add(e.sumMembers)
		newest = max(newest, e.dataStamp.Time, e.deleted.Time, e.lateEdit.Time)
		switch {
		case !e.exists():
		case e.key == "":
			s.namespaces = edit(s.namespaces, ns, true)
		default:
			keys++
		}
	}
	s.digests = s.digests.set(ns, sum)
	if keys > 0 {
		s.keys = s.keys.set(ns, keys)
	}
	if newest > 0 {
		s.modified = s.modified.set(ns, newest)
	}
}

// indexMembers makes holders and groups.
func (s *snapshot) indexMembers(order []*folding, ids []string) {
	type held struct{ ns, member, key string }
	var all []held
	groups := treeBuilder[string, *group]{}
	allTag := id(Tags, AllTag)
	pending := true // tags/all has yet to find its place
	for i, f := range order {
		if f.ns == System || f.members.len() == 0 {
			continue
		}
		if pending && ids[i] >= allTag {
			pending = false
			if ids[i] != allTag {
				groups.add(allTag, &group{})
			}
		}
		groups.add(ids[i], &group{})
		for name, r := range f.members.all() {
			if name != "" && r.member {
				all = append(all, held{f.ns, name, f.key})
			}
		}
	}
	if pending {
		groups.add(allTag, &group{})
	}
	s.groups = groups.tree()
	slices.SortFunc(all, func(a, b held) int {
		if c := strings.Compare(a.ns, b.ns); c != 0 {
			return c
		}
		if c := strings.Compare(a.member, b.member); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	var holders treeBuilder[string, []string]
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].member == all[0].member && all[n].ns == all[0].ns {
			n++
		}
		keys := make([]string, n)
		for i := range keys {
			keys[i] = all[i].key
		}
		holders.add(id(all[0].ns, all[0].member), keys)
		all = all[n:]
	}
	s.holders = holders.tree()
}

// indexHosts makes active, names and addrs.
func (s *snapshot) indexHosts(order []*folding) {
	first, _ := slices.BinarySearchFunc(order, Hosts, func(f *folding, ns string) int { return strings.Compare(f.ns, ns) })
	hosts := order[first:]
	if n := slices.IndexFunc(hosts, func(f *folding) bool { return f.ns != Hosts }); n >= 0 {
		hosts = hosts[:n]
	}
	var active, names, addrs []string
	for _, f := range hosts {
		e := f.entry
		if !e.exists() {
			continue
		}
		facts := factsOf(e.key, e.doc)
		if facts.active {
			active = append(active, e.key)
		}
		for _, c := range facts.names {
			names = append(names, id(c, e.key))
		}
		for _, c := range facts.addrs {
			addrs = append(addrs, id(c, e.key))
		}
	}
	s.active, s.names, s.addrs = treeOfSet(active), treeOfSet(names), treeOfSet(addrs)
}

// hostNames are the names of the entries of hosts, each the copy that its entry has.
func hostNames(order []*folding) map[string]string {
	names := make(map[string]string, len(order))
	for _, f := range order {
		if f.ns == Hosts {
			names[f.key] = f.key
		}
	}
	return names
}

// finish makes what readers see of all entries.
func (l *loading) finish() error {
	return inShares(len(l.order), func(_, from, to int) error {
		for _, f := range l.order[from:to] {
			f.finishLoaded()
		}
		return nil
	})
}

// finishLoaded makes what readers see of an entry and its digests.
func (f *folding) finishLoaded() {
	if f.ns == System {
		for name := range f.members.all() {
			f.rememberMember(name, memberRegister{}) // for reindex
		}
		f.finish()
		return
	}
	f.finish()
	var h hasher
	for name, r := range f.members.all() {
		if r.member {
			f.sumMembers.add(h.register(f.entry, 'm', name, r.stamp, r.order, r.text))
		}
	}
}
