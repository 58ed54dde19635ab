package hostdb

import "slices"

// appendEntry appends an entry's row, but for its members.
func appendEntry(b []byte, e *entry) []byte {
	fields := uint64(6)
	for _, has := range [...]bool{e.key != "", e.deleteKnown, e.from != "", len(e.leaves) > 0, e.perms.value != ""} {
		if has {
			fields++
		}
	}
	b = appendHead(b, cborMap, fields)
	b = appendText(append(b, 1), e.ns)
	b = fieldText(b, 2, e.key)
	b = appendStamp(append(b, 3), e.deleted)
	b = appendStamp(append(b, 4), e.deleteSaw)
	if e.deleteKnown {
		b = append(b, 5, cborTrue)
	}
	b = appendStamp(append(b, 6), e.lateEdit)
	b = appendRegister(append(b, 7), &e.created)
	b = fieldText(b, 8, e.from)
	if len(e.leaves) > 0 {
		b = appendHead(append(b, 9), cborArray, uint64(len(e.leaves)))
		for i := range e.leaves {
			b = appendHead(b, cborArray, 3)
			b = appendText(b, e.leaves[i].Path)
			b = appendText(b, e.leaves[i].Value)
			b = appendRegister(b, e.leafRegs[i])
		}
	}
	b = appendRegister(append(b, 10), &e.perms.register)
	return fieldText(b, 11, e.perms.value)
}

func appendRegister(b []byte, r *register) []byte {
	b = appendHead(b, cborArray, 3)
	return appendStamp(appendStamp(appendStamp(b, r.stamp), r.replaces), r.second)
}

// readEntryRow reads what appendEntry writes; ok is false for anything else, be it a row of another build.
func readEntryRow(b []byte, row *entryRow) (ok bool) {
	var d entryReader
	ok = d.read(b, row)
	row.Key = string(d.key)
	return ok
}

// entryReader reads many rows. What rows have in common is one copy, and a row's values are one piece of memory: what
// a replica holds is mostly short texts.
type entryReader struct {
	ns     string
	paths  map[string]string
	values []byte
	ends   []int
	key    []byte   // of the last row
	row    entryRow // the last row, but for its key; its leaves are void at the next

	reg            *register   // made last
	regs, lastRegs []*register // memory to use again; made last
}

func (d *entryReader) read(b []byte, row *entryRow) (ok bool) {
	r := cborReader{rest: b}
	d.key = nil
	r.fields(func(key uint64) {
		switch key {
		case 1:
			d.ns = r.same(d.ns)
			row.NS = d.ns
		case 2:
			d.key = r.bytes()
		case 3:
			row.Deleted = r.stamp()
		case 4:
			row.DeleteSaw = r.stamp()
		case 5:
			row.DeleteKnown = r.true()
		case 6:
			row.LateEdit = r.stamp()
		case 7:
			row.Created = r.register()
		case 8:
			row.From = r.text()
		case 9:
			row.Leaves = d.leaves(&r, row.Leaves[:0])
		case 10:
			row.Perms = r.register()
		case 11:
			row.PermsValue = Value(r.text())
		default:
			r.bad = true
		}
	})
	return r.done()
}

// leaves reads the leaves into the memory of a row that is not needed any more.
func (d *entryReader) leaves(r *cborReader, into []leafRow) []leafRow {
	n := r.count(cborArray)
	into = slices.Grow(into, n)[:n]
	d.values, d.ends = d.values[:0], d.ends[:0]
	for i := range into {
		if r.count(cborArray) != 3 {
			r.bad = true
		}
		if r.bad {
			return nil
		}
		l := &into[i]
		l.Path = d.path(r.bytes())
		d.values = append(d.values, r.bytes()...)
		d.ends = append(d.ends, len(d.values))
		l.R = r.register()
	}
	values, begin := Value(d.values), 0
	for i, end := range d.ends {
		into[i].Value = values[begin:end]
		begin = end
	}
	return into
}

const maxSharedPaths = 1 << 14 // of one reader: documents have a few hundred among them, unless their keys are names

func (d *entryReader) path(b []byte) string {
	if p, ok := d.paths[string(b)]; ok {
		return p
	}
	if d.paths == nil || len(d.paths) >= maxSharedPaths {
		d.paths = map[string]string{}
	}
	p := string(shared(Path(b)))
	d.paths[p] = p
	return p
}

func (r *cborReader) register() registerRow {
	if r.count(cborArray) != 3 {
		r.bad = true
	}
	return registerRow{Stamp: r.stamp(), Replaces: r.stamp(), Second: r.stamp()}
}

// appendMember appends the row of one member register.
func appendMember(b []byte, e *entry, name string, m *memberRegister) []byte {
	fields := uint64(4)
	for _, has := range [...]bool{name != "", m.member, m.order != "", m.text != ""} {
		if has {
			fields++
		}
	}
	b = appendHead(b, cborMap, fields)
	b = appendText(append(b, 1), e.ns)
	b = appendText(append(b, 2), e.key)
	b = fieldText(b, 3, name)
	b = appendStamp(append(b, 4), e.deleted)
	b = appendRegister(append(b, 5), &m.register)
	if m.member {
		b = append(b, 6, cborTrue)
	}
	b = fieldText(b, 7, m.order)
	return fieldText(b, 8, m.text)
}

// readMemberRow reads what appendMember writes; ok is false for anything else. Names that the row before had, which is in
// row, are not made again.
func readMemberRow(b []byte, row *memberRow) (ok bool) {
	r, last := cborReader{rest: b}, *row
	*row = memberRow{}
	r.fields(func(key uint64) {
		switch key {
		case 1:
			row.NS = r.same(last.NS)
		case 2:
			row.Key = r.same(last.Key)
		case 3:
			row.Name = r.text()
		case 4:
			row.Base = r.stamp()
		case 5:
			row.R = r.register()
		case 6:
			row.Member = r.true()
		case 7:
			row.Order = r.text()
		case 8:
			row.Text = r.text()
		default:
			r.bad = true
		}
	})
	return r.done()
}

// appendHeadRow appends the row of an origin's newest operation.
func appendHeadRow(b []byte, row headRow) []byte {
	fields := uint64(3)
	if row.Node != "" {
		fields++
	}
	b = appendHead(b, cborMap, fields)
	b = appendHead(append(b, 1), cborUint, row.Seq)
	b = appendHead(append(b, 2), cborUint, uint64(row.Time))
	b = appendText(append(b, 3), row.Hash)
	return fieldText(b, 4, row.Node)
}
