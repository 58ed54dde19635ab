package raftdisk

import (
	"errors"
	"math"

	"github.com/hashicorp/raft"
)

// segment is a file of the log as it was found.
type segment struct {
	Name  string
	Seq   uint64 // from the name
	Inode uint64
	Data  []byte
}

// entry is an entry of the log, and the segment that it stands in.
type entry struct {
	raft.Log
	seq uint64
}

// replayed is what the segments of a log say.
type replayed struct {
	Entries []entry
	// Head is the least index that may be in the log: everything before was deleted, and must be in a snapshot.
	Head uint64
	// Active is the segment that is written to, Header its header, End where its records end, Start where the last batch before
	// that begins. Torn says that something follows that was never acknowledged.
	Active     int
	Header     header
	Start, End int64
	Torn       bool
	// Spare says that a segment without records follows.
	Spare bool
}

// errCopied is returned for a segment that is not the file it was written as.
var errCopied = errors.New("a log segment is a copy of the file that was written")

// replay reads a log. The segments are in order.
func replay(segments []segment) (replayed, error) {
	out := replayed{Head: 1}
	if len(segments) == 0 {
		return out, damaged("log", 0, "there are no segments")
	}
	headers := make([]header, len(segments))
	n := len(segments)
	for i, s := range segments {
		h, ok, err := decodeHeader(s.Data)
		switch {
		case err != nil:
			return out, err
		case !ok && i > 0 && i == len(segments)-1 && !laterBatch(s.Data, 0, nil):
			out.Spare = true
			n--
			continue
		case !ok:
			return out, damaged(s.Name, 0, "its header is bad")
		case h.Seq != s.Seq || i > 0 && s.Seq != segments[i-1].Seq+1:
			return out, damaged(s.Name, 0, "segment %d stands where %d should", h.Seq, segments[max(i-1, 0)].Seq+1)
		case h.Inode != s.Inode:
			return out, errCopied
		}
		headers[i] = h
	}
	for i, s := range segments[:n] {
		end := int64(math.MaxInt64)
		if i+1 < n {
			end = headers[i+1].PrevEnd
		}
		out.Active, out.Header = i, headers[i]
		if err := out.read(s, headers[i], end); err != nil {
			return out, err
		}
	}
	if first, _ := out.bounds(); first > out.Head {
		return out, damaged(segments[0].Name, headerSize, "the log begins with entry %d, and should with %d", first, out.Head)
	}
	return out, nil
}

// read applies the records of one segment. end is where they end, if the next one says so.
func (out *replayed) read(s segment, h header, end int64) error {
	out.trimHead(h.Head)
	at := int64(headerSize)
	out.Start, out.Torn = at, false
	for at < end {
		r, start, ok := decodeRecord(s.Data, at, h.Salt)
		if ok && start != at && start != out.Start {
			ok = false // of no batch that could be here
		}
		if !ok {
			if end != math.MaxInt64 || laterBatch(s.Data, at, &h.Salt) {
				return damaged(s.Name, at, "a record that was written is bad")
			}
			out.Torn = !allZero(s.Data[min(at, int64(len(s.Data))):])
			break
		}
		if !out.apply(&r, s.Seq) {
			return damaged(s.Name, at, "entry %d does not follow", r.Log.Index)
		}
		out.Start = start
		at += r.size()
	}
	if end != math.MaxInt64 && at != end {
		return damaged(s.Name, at, "its records end here, and should at %d", end)
	}
	out.End = at
	return nil
}

// apply does what a record says. It reports false for an entry that leaves a gap.
func (out *replayed) apply(r *record, seq uint64) bool {
	first, last := out.bounds()
	switch r.Kind {
	case kindHead:
		out.trimHead(r.Log.Index)
	case kindCut:
		if last >= r.Log.Index {
			out.Entries = out.Entries[:max(r.Log.Index, first)-first]
		}
	case kindEntry:
		switch {
		case r.Log.Index < out.Head:
			return false
		case len(out.Entries) == 0:
		case r.Log.Index > last+1:
			return false
		case r.Log.Index <= last:
			out.Entries = out.Entries[:r.Log.Index-first]
		}
		out.Entries = append(out.Entries, entry{r.Log, seq})
	}
	return true
}

func (out *replayed) bounds() (first, last uint64) {
	if n := len(out.Entries); n > 0 {
		return out.Entries[0].Index, out.Entries[n-1].Index
	}
	return 0, 0
}

func (out *replayed) trimHead(head uint64) {
	out.Head = max(out.Head, head)
	first, last := out.bounds()
	switch {
	case last < out.Head:
		out.Entries = nil
	case first < out.Head:
		out.Entries = out.Entries[out.Head-first:]
	}
}

// laterBatch reports whether behind offset at there is a good record of a batch that begins behind it. Without a salt, any record
// that is in order is taken for one of this segment.
func laterBatch(data []byte, at int64, salt *uint64) bool {
	for p := max(at+8, headerSize); p+recordSize <= int64(len(data)); p += 8 {
		want := saltOf(data, p)
		if salt != nil {
			want = *salt
		}
		if _, start, ok := decodeRecord(data, p, want); ok && start > max(at, headerSize) {
			return true
		}
	}
	return false
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
