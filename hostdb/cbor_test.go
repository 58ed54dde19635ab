package hostdb

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func drawStamp(t *rapid.T) Stamp {
	n := rapid.SampledFrom([]uint64{0, 1, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<64 - 1})
	return Stamp{Time: Time(n.Draw(t, "time")), Origin: n.Draw(t, "origin")}
}

func drawText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "hosts", "\x00\xff", string(bytes.Repeat([]byte{'x'}, 300))}).Draw(t, "text")
}

func drawOperation(t *rapid.T) *Operation {
	o := &Operation{
		Version: rapid.IntRange(1, 3).Draw(t, "version"), Origin: rapid.Uint64Min(1).Draw(t, "origin"), Seq: rapid.Uint64Min(1).Draw(t, "seq"),
		Time: Time(rapid.Uint64Min(1).Draw(t, "time")), User: drawText(t), Log: drawText(t), Node: drawText(t), Effects: []Effect{},
	}
	if rapid.Bool().Draw(t, "after") {
		h := sha256.Sum256([]byte(o.User))
		o.After = h[:]
	}
	if rapid.Bool().Draw(t, "prev") {
		o.Prev = &Link{Origin: o.Origin, Seq: 3}
	}
	if rapid.Bool().Draw(t, "source") {
		o.Source = &Source{Seconds: rapid.Int64().Draw(t, "seconds"), Zone: rapid.IntRange(-720, 720).Draw(t, "zone"), Email: drawText(t), Ref: drawText(t)}
	}
	for range rapid.IntRange(0, 5).Draw(t, "effects") {
		e := Effect{Kind: Kind(rapid.IntRange(0, 255).Draw(t, "kind")), NS: drawText(t), Key: drawText(t), Value: Value(drawText(t)),
			Member: drawText(t), Order: drawText(t), Text: drawText(t), From: drawText(t)}
		if n := rapid.IntRange(0, 3).Draw(t, "steps"); n > 0 {
			for range n {
				e.Path = append(e.Path, drawText(t))
			}
		}
		if rapid.Bool().Draw(t, "base") {
			s := drawStamp(t)
			e.Base = &s
		}
		if rapid.Bool().Draw(t, "replaces") {
			s := drawStamp(t)
			e.Replaces = &s
		}
		o.Effects = append(o.Effects, e)
	}
	return o
}

// What is written by hand is what the library writes, and both read it alike.
func TestOperationsByHandAndByLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOperation(t)
		want, err := codec.enc.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		got := appendOperation(nil, o)
		if !bytes.Equal(got, want) {
			t.Fatalf("by hand\n%x\nby the library\n%x", got, want)
		}
		back, ok := readOperation(got)
		if !ok || !reflect.DeepEqual(back, o) {
			t.Fatalf("read back %v as\n%+v\nwant\n%+v", ok, back, o)
		}
		// Cut or changed bytes are read as the library reads them, or left to it.
		cut := rapid.IntRange(0, len(got)-1).Draw(t, "cut")
		if _, ok := readOperation(got[:cut]); ok {
			t.Fatalf("%x is read as an operation", got[:cut])
		}
		changed := bytes.Clone(got)
		changed[cut] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		sameAsLibrary(t, changed)
	})
}

func sameAsLibrary(t interface{ Fatalf(string, ...any) }, raw []byte) {
	back, ok := readOperation(raw)
	if !ok {
		return
	}
	var want Operation
	if err := codec.dec.Unmarshal(raw, &want); err != nil {
		t.Fatalf("%x is read by hand and refused by the library: %v", raw, err)
	}
	if !reflect.DeepEqual(*back, want) {
		t.Fatalf("%x is read as\n%+v\nby hand and\n%+v\nby the library", raw, *back, want)
	}
}

func FuzzReadOperation(f *testing.F) {
	o := &Operation{Version: 1, Origin: 1, Seq: 1, Time: 1, Source: &Source{Seconds: -1, Zone: 60}, Effects: []Effect{
		{Kind: SetLeaf, NS: "hosts", Key: "a", Path: []string{"x"}, Value: "l\x01s", Base: &Stamp{Time: 3, Origin: 4}}}}
	f.Add(appendOperation(nil, o))
	f.Fuzz(func(t *testing.T, raw []byte) { sameAsLibrary(t, raw) })
}

func TestRowsByHandAndByLibrary(t *testing.T) {
	drawRegister := func(t *rapid.T) register {
		return register{stamp: drawStamp(t), replaces: drawStamp(t), second: drawStamp(t)}
	}
	row := func(r register) registerRow {
		return registerRow{Stamp: r.stamp, Replaces: r.replaces, Second: r.second}
	}
	rapid.Check(t, func(t *rapid.T) {
		e := &entry{ns: drawText(t), key: drawText(t), deleted: drawStamp(t), deleteSaw: drawStamp(t), deleteKnown: rapid.Bool().Draw(t, "known"),
			lateEdit: drawStamp(t), created: drawRegister(t), from: drawText(t), perms: permsRegister{drawRegister(t), Value(drawText(t))}}
		want := entryRow{NS: e.ns, Key: e.key, Deleted: e.deleted, DeleteSaw: e.deleteSaw, DeleteKnown: e.deleteKnown, LateEdit: e.lateEdit,
			Created: row(e.created), From: e.from, Perms: row(e.perms.register), PermsValue: e.perms.value}
		for range rapid.IntRange(0, 3).Draw(t, "leaves") {
			r := drawRegister(t)
			e.leaves, e.leafRegs = append(e.leaves, Leaf{Path(drawText(t)), Value(drawText(t))}), append(e.leafRegs, &r)
			want.Leaves = append(want.Leaves, leafRow{Path: string(e.leaves[len(e.leaves)-1].Path), Value: e.leaves[len(e.leaves)-1].Value, R: row(r)})
		}
		m := memberRegister{drawRegister(t), rapid.Bool().Draw(t, "member"), drawText(t), drawText(t)}
		name := drawText(t)
		wantMember := memberRow{NS: e.ns, Key: e.key, Name: name, Base: e.deleted, R: row(m.register), Member: m.member, Order: m.order, Text: m.text}
		head := headRow{Seq: uint64(drawStamp(t).Time), Time: drawStamp(t).Time, Hash: []byte(drawText(t)), Node: drawText(t)}
		for _, c := range []struct {
			name string
			got  []byte
			want any
		}{
			{"entry", appendEntry(nil, e), want}, {"member", appendMember(nil, e, name, &m), wantMember}, {"head", appendHeadRow(nil, head), head},
		} {
			bytesWant, err := codec.enc.Marshal(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(c.got, bytesWant) {
				t.Fatalf("%s by hand\n%x\nby the library\n%x", c.name, c.got, bytesWant)
			}
		}
		var backEntry entryRow
		if !readEntryRow(appendEntry(nil, e), &backEntry) || !reflect.DeepEqual(backEntry, want) {
			t.Fatalf("entry read as\n%+v\nwant\n%+v", backEntry, want)
		}
		var backMember memberRow
		if !readMemberRow(appendMember(nil, e, name, &m), &backMember) || !reflect.DeepEqual(backMember, wantMember) {
			t.Fatalf("member read as\n%+v\nwant\n%+v", backMember, wantMember)
		}
	})
}
