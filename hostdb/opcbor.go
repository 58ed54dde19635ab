package hostdb

import "crypto/sha256"

// appendOperation appends an operation's bytes: what the library's deterministic encoding gives.
func appendOperation(b []byte, o *Operation) []byte {
	fields := uint64(5)
	for _, has := range [...]bool{len(o.After) > 0, o.Prev != nil, o.User != "", o.Log != "", o.Node != "", o.Source != nil} {
		if has {
			fields++
		}
	}
	b = appendHead(b, cborMap, fields)
	b = appendInt(append(b, 1), int64(o.Version))
	b = appendHead(append(b, 2), cborUint, o.Origin)
	b = appendHead(append(b, 3), cborUint, o.Seq)
	b = fieldText(b, 4, o.After)
	if o.Prev != nil {
		b = appendHead(append(b, 5), cborArray, 2)
		b = appendHead(b, cborUint, o.Prev.Origin)
		b = appendHead(b, cborUint, o.Prev.Seq)
	}
	b = appendHead(append(b, 6), cborUint, uint64(o.Time))
	b = fieldText(b, 7, o.User)
	b = fieldText(b, 8, o.Log)
	b = appendHead(append(b, 9), cborArray, uint64(len(o.Effects)))
	for i := range o.Effects {
		b = appendEffect(b, &o.Effects[i])
	}
	b = fieldText(b, 10, o.Node)
	if s := o.Source; s != nil {
		fields := uint64(1)
		for _, has := range [...]bool{s.Zone != 0, s.Email != "", s.Ref != ""} {
			if has {
				fields++
			}
		}
		b = appendHead(append(b, 11), cborMap, fields)
		b = appendInt(append(b, 1), s.Seconds)
		if s.Zone != 0 {
			b = appendInt(append(b, 2), int64(s.Zone))
		}
		b = fieldText(b, 3, s.Email)
		b = fieldText(b, 4, s.Ref)
	}
	return b
}

func appendEffect(b []byte, e *Effect) []byte {
	fields := uint64(2)
	for _, has := range [...]bool{e.Key != "", len(e.Path) > 0, e.Value != "", e.Member != "", e.Order != "", e.Text != "",
		e.Base != nil, e.Replaces != nil, e.From != ""} {
		if has {
			fields++
		}
	}
	b = appendHead(b, cborMap, fields)
	b = appendHead(append(b, 1), cborUint, uint64(e.Kind))
	b = appendText(append(b, 2), e.NS)
	b = fieldText(b, 3, e.Key)
	if len(e.Path) > 0 {
		b = appendHead(append(b, 4), cborArray, uint64(len(e.Path)))
		for _, s := range e.Path {
			b = appendText(b, s)
		}
	}
	b = fieldText(b, 5, e.Value)
	b = fieldText(b, 6, e.Member)
	b = fieldText(b, 7, e.Order)
	b = fieldText(b, 8, e.Text)
	if e.Base != nil {
		b = appendStamp(append(b, 9), *e.Base)
	}
	if e.Replaces != nil {
		b = appendStamp(append(b, 10), *e.Replaces)
	}
	return fieldText(b, 11, e.From)
}

// readOperation reads what appendOperation writes; ok is false for anything else, be it a valid operation.
func readOperation(raw []byte) (o *Operation, ok bool) {
	r := cborReader{rest: raw}
	o = &Operation{}
	r.fields(func(key uint64) {
		switch key {
		case 1:
			o.Version = int(r.int())
		case 2:
			o.Origin = r.uint()
		case 3:
			o.Seq = r.uint()
		case 4:
			o.After = r.bytes()
			r.bad = r.bad || len(o.After) != sha256.Size
		case 5:
			if r.count(cborArray) != 2 {
				r.bad = true
			}
			o.Prev = &Link{Origin: r.uint(), Seq: r.uint()}
		case 6:
			o.Time = Time(r.uint())
		case 7:
			o.User = r.text()
		case 8:
			o.Log = r.text()
		case 9:
			o.Effects = r.effects()
		case 10:
			o.Node = r.text()
		case 11:
			o.Source = r.source()
		default:
			r.bad = true
		}
	})
	return o, r.done()
}

// effects reads the effects. Names and stamps that follow each other are mostly the same, and so are paths: they share their memory.
func (r *cborReader) effects() []Effect {
	n := r.count(cborArray)
	// An effect has at least six bytes, so that a short message cannot ask for much.
	if n > len(r.rest)/6+1 {
		r.bad = true
		return nil
	}
	out := make([]Effect, n)
	var last Effect
	paths := map[string][]string{} // by their bytes
	for i := range out {
		if r.bad {
			return nil
		}
		e := &out[i]
		r.fields(func(key uint64) {
			switch key {
			case 1:
				kind := r.uint()
				r.bad = r.bad || kind > 255
				e.Kind = Kind(kind)
			case 2:
				e.NS = r.same(last.NS)
			case 3:
				e.Key = r.same(last.Key)
			case 4:
				e.Path = r.path(paths)
			case 5:
				e.Value = Value(r.text())
			case 6:
				e.Member = r.text()
			case 7:
				e.Order = r.text()
			case 8:
				e.Text = r.text()
			case 9:
				e.Base = sameStamp(r.stamp(), last.Base)
			case 10:
				e.Replaces = sameStamp(r.stamp(), last.Replaces)
			case 11:
				e.From = r.text()
			default:
				r.bad = true
			}
		})
		last = *e
	}
	return out
}

// path reads the steps of a path; of equal ones those that were read first.
func (r *cborReader) path(known map[string][]string) []string {
	begin := r.rest
	n := r.count(cborArray)
	for range n {
		r.bytes()
	}
	if r.bad {
		return nil
	}
	item := begin[:len(begin)-len(r.rest)]
	path, ok := known[string(item)]
	if !ok {
		path = make([]string, n)
		again := cborReader{rest: item}
		again.count(cborArray)
		for i := range path {
			path[i] = again.text()
		}
		known[string(item)] = path
	}
	return path
}

// same reads a text; last if it is the same.
func (r *cborReader) same(last string) string {
	if b := r.bytes(); string(b) != last {
		return string(b)
	}
	return last
}

func sameStamp(s Stamp, last *Stamp) *Stamp {
	if last != nil && *last == s {
		return last
	}
	return &s
}

func (r *cborReader) source() *Source {
	var s Source
	r.fields(func(key uint64) {
		switch key {
		case 1:
			s.Seconds = r.int()
		case 2:
			s.Zone = int(r.int())
		case 3:
			s.Email = r.text()
		case 4:
			s.Ref = r.text()
		default:
			r.bad = true
		}
	})
	return &s
}
