package hostdb

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// DigestAlgorithm names how digests are made. Digests are compared only when it is the same on both sides.
const DigestAlgorithm = 1

// sum256 is a sum mod 2^256 of SHA-256 hashes: order does not matter, and one change costs one hash.
type sum256 [4]uint64 // least significant first

func (s *sum256) add(o sum256) {
	var c uint64
	for i := range s {
		s[i], c = bits.Add64(s[i], o[i], c)
	}
}

func (s *sum256) sub(o sum256) {
	var c uint64
	for i := range s {
		s[i], c = bits.Sub64(s[i], o[i], c)
	}
}

// String is the sum in hexadecimal, most significant first.
func (s sum256) String() string {
	var b [32]byte
	for i, w := range s {
		binary.BigEndian.PutUint64(b[24-8*i:], w)
	}
	return hex.EncodeToString(b[:])
}

// hasher hashes registers: each part with its length, so that no two registers give the same bytes.
type hasher struct{ b []byte }

func (h *hasher) register(e *entry, kind byte, path string, stamp Stamp, parts ...string) sum256 {
	h.b = append(h.b[:0], DigestAlgorithm, kind)
	h.b = appendPart(h.b, e.ns)
	h.b = appendPart(h.b, e.key)
	h.b = appendPart(h.b, path)
	h.b = binary.BigEndian.AppendUint64(h.b, uint64(stamp.Time))
	h.b = binary.BigEndian.AppendUint64(h.b, stamp.Origin)
	for _, p := range parts {
		h.b = appendPart(h.b, p)
	}
	sum := sha256.Sum256(h.b)
	var s sum256
	for i := range s {
		s[i] = binary.BigEndian.Uint64(sum[24-8*i:])
	}
	return s
}

// redigest brings the sums of f up to date: the document's as a whole, the members' by what changed.
func (f *folding) redigest() {
	var h hasher
	e := f.entry
	if f.dataTouched || f.permsTouched {
		e.sumDoc = sum256{}
		if e.exists() {
			e.sumDoc.add(h.register(e, 'c', "", e.created.stamp))
		}
		i := 0
		for _, l := range e.doc.leaves { // visible leaves are a subsequence of the registers
			for e.leaves[i].Path != l.Path {
				i++
			}
			e.sumDoc.add(h.register(e, 'd', string(l.Path), e.leafRegs[i].stamp, string(l.Value)))
		}
		if v := e.perms.value; v != "" && !v.IsNull() {
			e.sumDoc.add(h.register(e, 'p', "", e.perms.stamp, string(v)))
		}
	}
	for name, was := range f.memberBefore {
		if was.member {
			e.sumMembers.sub(h.register(e, 'm', name, was.stamp, was.order, was.text))
		}
		if is, _ := e.members.get(name); is.member {
			e.sumMembers.add(h.register(e, 'm', name, is.stamp, is.order, is.text))
		}
	}
}
