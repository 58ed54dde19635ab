package hostdb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// Head is what a replica holds of one origin, which is one run of one node.
type Head struct {
	Origin uint64
	Seq    uint64 // the newest operation held
	Time   Time   // of that operation
	Hash   Hash   // of that operation
	Node   string // id of the node that made the run; "" when its first operation did not say
}

// Heads yields what v holds of each origin but of those that were retired and are held whole, by origin.
func (v View) Heads() iter.Seq[Head] {
	return func(yield func(Head) bool) {
		s := v.snap()
		for origin, h := range s.vector.all() {
			if r, ok := s.retired.get(origin); ok && r.seq == h.seq {
				continue
			}
			if !yield(h.head(origin)) {
				return
			}
		}
	}
}

// AllHeads yields what v holds of each origin, retired ones included, by origin.
func (v View) AllHeads() iter.Seq[Head] {
	return func(yield func(Head) bool) {
		for origin, h := range v.snap().vector.all() {
			if !yield(h.head(origin)) {
				return
			}
		}
	}
}

func (h head) head(origin uint64) Head {
	return Head{Origin: origin, Seq: h.seq, Time: h.time, Hash: h.hash, Node: h.node}
}

// Head is what v holds of an origin; ok is false when that is nothing.
func (v View) Head(origin uint64) (h Head, ok bool) {
	is, ok := v.snap().vector.get(origin)
	return is.head(origin), ok
}

// Retired is a digest of the runs that were retired and are held whole here: with equal texts two replicas need not name them to
// each other.
func (v View) Retired() string { return strconv.FormatUint(v.snap().retiredSum, 16) }

// retiredRun is a run that every member held when it was retired.
type retiredRun struct {
	seq uint64
	at  Stamp // of the operation that retired it
}

func (r retiredRun) sum(origin uint64) uint64 {
	var h Hash
	copy(h[:], "retired.")
	return elementHash(origin, r.seq, h)
}

// retirementPrefix begins the names of the keys of System that list retired runs: a mapping of origins to seqs. Each is written
// once, so that what it costs to retire a run does not grow with their number.
const retirementPrefix = "runs-"

func isRetirement(key string) bool { return strings.HasPrefix(key, retirementPrefix) }

// RetireRuns says to the whole mesh that runs are closed and held by every member, so that nobody need name them any more when
// replicas are compared. It is the caller's to know that; a run that goes on all the same is named again. It is one operation, which
// replicates as any other.
func (s *Store) RetireRuns(ctx context.Context, runs []Head) (Commit, error) {
	var leaves []Leaf
	for _, r := range runs {
		leaves = append(leaves, Leaf{PathOf(fmt.Sprintf("%016x", r.Origin)), Text(strconv.FormatUint(r.Seq, 10))})
	}
	if len(leaves) == 0 {
		return Commit{}, nil
	}
	c, err := s.Update(ctx, Request{User: systemUser, Log: fmt.Sprintf("%d closed runs retired", len(leaves))}, func(tx *Tx) error {
		return tx.Put(System, retirementPrefix+strings.ToLower(rand.Text()), NewDocument(leaves...))
	})
	if err != nil {
		return Commit{}, fmt.Errorf("retire runs: %w", err)
	}
	return c, nil
}

// systemUser is who writes what no person asked for.
const systemUser = "hostmesh"

// reindexRetired follows the change of a key that lists retired runs.
func (n *snapshot) reindexRetired(was, e *entry) {
	if was.exists() {
		for origin := range retirements(was.doc) {
			if r, ok := n.retired.get(origin); ok && r.at == was.created.stamp {
				n.unretire(origin, r)
			}
		}
	}
	if !e.exists() {
		return
	}
	for origin, seq := range retirements(e.doc) {
		r, ok := n.retired.get(origin)
		if ok && (r.seq > seq || r.seq == seq && r.at.Compare(e.created.stamp) <= 0) {
			continue
		}
		if ok {
			n.unretire(origin, r)
		}
		r = retiredRun{seq, e.created.stamp}
		n.retired = n.retired.set(origin, r)
		if h, _ := n.vector.get(origin); h.seq >= seq {
			n.retiredSum += r.sum(origin)
		}
	}
}

func (n *snapshot) unretire(origin uint64, r retiredRun) {
	n.retired = n.retired.delete(origin)
	if h, _ := n.vector.get(origin); h.seq >= r.seq {
		n.retiredSum -= r.sum(origin)
	}
}

// retirements are the runs that a document lists; what is none is left out.
func retirements(d Document) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for key, at := range d.Keys() {
			origin, err1 := strconv.ParseUint(key, 16, 64)
			seq, err2 := strconv.ParseUint(at.Text(), 10, 64)
			if err1 == nil && err2 == nil && origin != 0 && seq != 0 && !yield(origin, seq) {
				return
			}
		}
	}
}

// headsVersion is the first byte of EncodeHeads.
const headsVersion = 1

// EncodeHeads are v's heads, retired ones included, as bytes for BeginJoin and StateOf of another replica.
func (v View) EncodeHeads() []byte {
	b := []byte{headsVersion}
	for h := range v.AllHeads() {
		b = binary.BigEndian.AppendUint64(b, h.Origin)
		b = binary.BigEndian.AppendUint64(b, h.Seq)
		b = binary.BigEndian.AppendUint64(b, uint64(h.Time))
		b = append(b, h.Hash[:]...)
		b = binary.AppendUvarint(b, uint64(len(h.Node)))
		b = append(b, h.Node...)
	}
	return b
}

// maxNodeID bounds the node ids that are taken from others.
const maxNodeID = 256

// DecodeHeads reads what EncodeHeads wrote.
func DecodeHeads(b []byte) ([]Head, error) {
	bad := refuse(ErrInvalid, "not the heads of a replica, or of a version that this build does not know")
	if len(b) == 0 || b[0] != headsVersion {
		return nil, bad
	}
	var heads []Head
	const fixed = 3*8 + len(Hash{})
	last := uint64(0)
	for b = b[1:]; len(b) > 0; {
		if len(b) < fixed+1 {
			return nil, bad
		}
		h := Head{Origin: binary.BigEndian.Uint64(b), Seq: binary.BigEndian.Uint64(b[8:]), Time: Time(binary.BigEndian.Uint64(b[16:]))}
		copy(h.Hash[:], b[24:])
		size, n := binary.Uvarint(b[fixed:])
		if b = b[fixed:]; n <= 0 || size > maxNodeID || uint64(len(b)-n) < size || h.Origin <= last || h.Seq == 0 || h.Time == 0 {
			return nil, bad
		}
		h.Node, b = string(b[n:n+int(size)]), b[n+int(size):]
		last = h.Origin
		heads = append(heads, h)
	}
	return heads, nil
}
