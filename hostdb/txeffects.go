package hostdb

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// maxRegisters bounds the bytes of a key's leaf registers, those of removed values included.
const maxRegisters = 4 << 20

// changed are the drafts in the order of their keys.
func (tx *Tx) changed() []*draft {
	out := make([]*draft, 0, len(tx.drafts))
	for _, k := range slices.Sorted(maps.Keys(tx.drafts)) {
		out = append(out, tx.drafts[k])
	}
	return out
}

// check holds the drafts against the limits and the validator.
func (tx *Tx) check(v Validator) error {
	for _, d := range tx.changed() {
		var before Document
		if d.base.exists() {
			before = Item{d.base}.Data()
		}
		if v != nil && d.deleted && !d.renamed && before.Exists() && (!d.exists || d.from != "") {
			if err := tx.validate(v, d, before, Document{}); err != nil {
				return err
			}
		}
		if !d.exists || len(d.touched) == 0 {
			continue
		}
		if before = tx.formerData(d, before); d.doc.Equal(before) {
			continue
		}
		if d.doc.couldExceed(MaxData) {
			if n := len(d.doc.YAML()); n > MaxData {
				return refuse(ErrTooLarge, "%s/%s would have %d bytes of data: at most %d are allowed", d.ns, d.key, n, MaxData)
			}
		}
		size := 0
		for _, l := range d.doc.leaves {
			size += len(l.Path) + len(l.Value) + 64
			if depth := strings.Count(string(l.Path), "\x00") + 1; depth > MaxDepth {
				return refuse(ErrInvalid, "%s/%s: %s is nested deeper than %d levels", d.ns, d.key, l.Path, MaxDepth)
			}
		}
		if d.base != nil && !d.deleted {
			for _, l := range d.base.leaves {
				if l.Value == "" {
					size += len(l.Path) + 64
				}
			}
		}
		if size > maxRegisters {
			return refuse(ErrTooLarge, "%s/%s would have too many values, those removed in its life included; "+
				"delete and create the key anew, or put the data into fewer values", d.ns, d.key)
		}
		if v != nil {
			if err := tx.validate(v, d, before, d.doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// formerData is what the data of a draft is a change of: not of what went elsewhere by a rename, but of what came by one. A
// rename that changes nothing is looked at as a creation.
func (tx *Tx) formerData(d *draft, before Document) Document {
	switch {
	case d.from != "":
		var came Document
		if base := tx.draft(d.ns, d.from).base; base.exists() {
			came = Item{base}.Data()
		}
		if d.from == d.key || !d.doc.Equal(came) {
			return came
		}
		return Document{}
	case d.renamed:
		return Document{}
	}
	return before
}

// validate asks the validator, and lifts what the request lifts.
func (tx *Tx) validate(v Validator, d *draft, before, after Document) error {
	warnings, err := v.Validate(d.ns, d.key, before, after)
	tx.warnings = append(tx.warnings, warnings...)
	switch {
	case err == nil:
	case tx.req.Lenient:
		tx.warnings = append(tx.warnings, err.Error())
	case errors.Is(err, ErrProtected) && strings.TrimSpace(tx.req.Override) != "":
		tx.lifted = true
	default:
		return err
	}
	return nil
}

// effects are what turns the state into the drafts; none when they are the same.
func (tx *Tx) effects(stamp Stamp) []Effect {
	drafts, n := tx.changed(), 0
	for _, d := range drafts {
		n += 2 + len(d.members)
		if len(d.touched) > 0 {
			n += len(d.doc.leaves)
		}
	}
	out := make([]Effect, 0, n)
	for _, d := range drafts {
		out = d.effects(out, stamp)
	}
	return out
}

func ref(s Stamp) *Stamp {
	if s.IsZero() {
		return nil
	}
	return &s
}

func (d *draft) effects(out []Effect, stamp Stamp) []Effect {
	none := entry{ns: d.ns, key: d.key}
	base := d.base
	if base == nil {
		base = &none
	}
	gen := base.deleted
	if d.deleted && base.exists() {
		out = append(out, Effect{Kind: DeleteKey, NS: d.ns, Key: d.key, Replaces: ref(maxStamp(base.newest(), base.lateEdit))})
		base, gen = &none, stamp
	}
	if !d.exists && d.key != DefaultKey {
		return out
	}
	add := func(e Effect, replaces Stamp) {
		e.NS, e.Key, e.Base, e.Replaces = d.ns, d.key, ref(gen), ref(replaces)
		out = append(out, e)
	}
	if d.exists && !base.exists() {
		add(Effect{Kind: CreateKey, From: d.from}, base.lateEdit) // who makes it anew has seen what was lost with the old one
	}
	if len(d.touched) > 0 {
		d.leafEffects(base, add)
	}
	for _, name := range slices.Sorted(maps.Keys(d.members)) {
		m := d.members[name]
		r, _ := base.members.get(name)
		switch {
		case m.in && (!r.member || r.order != m.order || r.text != m.text):
			add(Effect{Kind: PutMember, Member: name, Order: m.order, Text: m.text}, r.stamp)
		case !m.in && r.member:
			add(Effect{Kind: RemoveMember, Member: name}, r.stamp)
		}
	}
	if d.perms != nil && *d.perms != base.perms.value && !(d.perms.IsNull() && base.perms.value == "") {
		add(Effect{Kind: SetPerms, Value: *d.perms}, base.perms.stamp)
	}
	return out
}

// leafEffects writes the leaves that differ. A write also clears the values that it contradicts but that other writes
// hide: its writer has spoken about that place.
func (d *draft) leafEffects(base *entry, add func(Effect, Stamp)) {
	want := make(map[Path]Value, len(d.doc.leaves))
	for _, l := range d.doc.leaves {
		want[l.Path] = l.Value
	}
	shown := make(map[Path]bool, len(base.doc.leaves))
	for _, l := range base.doc.leaves {
		shown[l.Path] = true
	}
	wrote := false
	have := make(map[Path]int, len(base.leaves))
	for i, l := range base.leaves {
		have[l.Path] = i
		if _, keep := want[l.Path]; !keep && shown[l.Path] {
			add(Effect{Kind: UnsetLeaf, Path: l.Path.Segments()}, base.leafRegs[i].stamp)
			wrote = true
		}
	}
	for _, l := range d.doc.leaves {
		i, known := have[l.Path]
		switch {
		case !known:
			// A new key with nothing in it needs no leaf to say so.
			if l.Path == "" && l.Value == Null && len(base.leaves) == 0 {
				continue
			}
			add(Effect{Kind: SetLeaf, Path: l.Path.Segments(), Value: l.Value}, Stamp{})
			wrote = true
		case base.leaves[i].Value != l.Value || !shown[l.Path]:
			add(Effect{Kind: SetLeaf, Path: l.Path.Segments(), Value: l.Value}, base.leafRegs[i].stamp)
			wrote = true
		}
	}
	if !wrote {
		return
	}
	for i, l := range base.leaves {
		if _, keep := want[l.Path]; keep || shown[l.Path] || l.Value == "" {
			continue
		}
		for _, p := range d.touched {
			if p.comparable(l.Path) {
				add(Effect{Kind: UnsetLeaf, Path: l.Path.Segments()}, base.leafRegs[i].stamp)
				break
			}
		}
	}
}
