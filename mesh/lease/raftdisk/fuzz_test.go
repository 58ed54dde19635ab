package raftdisk

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

func seedSegment(batches ...[]record) []byte {
	b := encodeHeader(header{Seq: 1, Salt: 7, Inode: 3, Head: 1})
	for _, batch := range batches {
		start := int64(len(b))
		for i := range batch {
			b = appendRecord(b, &batch[i], 7, int64(len(b)), start)
		}
	}
	return append(b, make([]byte, 256)...)
}

func rec(kind byte, index uint64) record {
	return record{kind, raft.Log{Index: index, Term: 2, Data: []byte("data"), Extensions: []byte("e")}}
}

// FuzzReplay: no bytes make the reader of the log panic, and what it takes is in order and ends where it says.
func FuzzReplay(f *testing.F) {
	f.Add(seedSegment([]record{rec(kindEntry, 1), rec(kindEntry, 2)}, []record{rec(kindCut, 2)}, []record{rec(kindEntry, 2)}), uint32(0), byte(0), []byte{})
	f.Add(seedSegment([]record{rec(kindEntry, 1)}, []record{rec(kindHead, 2)}, []record{rec(kindEntry, 2)}), uint32(90), byte(1), seedSegment())
	f.Add(seedSegment([]record{rec(kindHead, 9), rec(kindEntry, 9)}), uint32(64), byte(0x80), []byte("HMRAFTLG"))
	f.Fuzz(func(t *testing.T, one []byte, at uint32, flip byte, two []byte) {
		one = bytes.Clone(one)
		if len(one) > 0 {
			one[int(at)%len(one)] ^= flip
		}
		segments := []segment{{"one", 1, 3, one}}
		if len(two) > 0 {
			segments = append(segments, segment{"two", 2, 4, two})
		}
		got, err := replay(segments)
		if err != nil {
			return
		}
		active := segments[got.Active].Data
		if got.End < headerSize || got.End > int64(len(active)) || got.Start > got.End || got.Start < headerSize {
			t.Fatalf("records from %d to %d of %d bytes", got.Start, got.End, len(active))
		}
		for i, e := range got.Entries {
			if e.Index != got.Entries[0].Index+uint64(i) || e.Index < got.Head {
				t.Fatalf("entry %d is %d, head %d", i, e.Index, got.Head)
			}
		}
		// What was read and is written again is read again.
		again, err := replay([]segment{{"one", 1, 3, seedSegment(records(got))}})
		if err != nil || len(again.Entries) != len(got.Entries) {
			t.Fatalf("written again: %d of %d entries, %v", len(again.Entries), len(got.Entries), err)
		}
		for i := range again.Entries {
			if logText([]raft.Log{again.Entries[i].Log}) != logText([]raft.Log{got.Entries[i].Log}) {
				t.Fatalf("entry %+v became %+v", got.Entries[i], again.Entries[i])
			}
		}
	})
}

func records(r replayed) []record {
	out := []record{{kindHead, raft.Log{Index: r.Head}}}
	for _, e := range r.Entries {
		out = append(out, record{kindEntry, e.Log})
	}
	return out
}

// FuzzSlot: no bytes make the reader of votes panic, and what it takes it would write as well.
func FuzzSlot(f *testing.F) {
	f.Add(encodeSlot(3, map[string][]byte{"CurrentTerm": {1, 2}, "LastVoteCand": []byte("x")}), uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint32, flip byte) {
		b = append(bytes.Clone(b), make([]byte, slotSize)...)[:slotSize]
		b[at%slotSize] ^= flip
		seq, values, ok, err := decodeSlot(b)
		if err != nil || !ok {
			return
		}
		seq2, values2, ok, err := decodeSlot(encodeSlot(seq, values))
		if seq2 != seq || len(values2) != len(values) || !ok || err != nil {
			t.Fatalf("%d %q became %d %q, %v, %v", seq, values, seq2, values2, ok, err)
		}
	})
}
