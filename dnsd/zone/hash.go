package zone

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"github.com/miekg/dns"
)

// Hash is the content of a zone as a number: the sum, modulo 2^256, of the SHA-256 of each record, and of the SOA
// without its serial. Equal content has equal hashes on every node, whatever the way that led there, and a change of
// one record costs one addition.
type Hash [4]uint64

// String is the hash in hexadecimal.
func (h Hash) String() string {
	text, _ := h.MarshalText()
	return string(text)
}

// MarshalText is the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) {
	var b [32]byte
	for i, w := range h {
		binary.BigEndian.PutUint64(b[8*i:], w)
	}
	return hex.AppendEncode(nil, b[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	var b [32]byte
	if len(text) != hex.EncodedLen(len(b)) {
		return hex.ErrLength
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return err
	}
	*h = hashOf(b)
	return nil
}

func hashOf(b [32]byte) (h Hash) {
	for i := range h {
		h[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return h
}

func (h Hash) plus(o Hash) Hash {
	var c uint64
	for i := 3; i >= 0; i-- {
		h[i], c = bits.Add64(h[i], o[i], c)
	}
	return h
}

func (h Hash) minus(o Hash) Hash {
	var c uint64
	for i := 3; i >= 0; i-- {
		h[i], c = bits.Sub64(h[i], o[i], c)
	}
	return h
}

// packer packs records that others read meanwhile: dns.PackRR writes the size of the data into the record, which packing a
// message does not do.
type packer struct {
	msg dns.Msg
	one [1]dns.RR
}

// pack is a record in wire form, without compression, behind a header that says nothing. It is in buf if that has room.
func (p *packer) pack(rr dns.RR, buf []byte) ([]byte, error) {
	p.one[0] = rr
	p.msg.Answer = p.one[:]
	return p.msg.PackBuffer(buf)
}

// Wire is a record in wire form, without compression. It may be called for a record that is shared.
func Wire(rr dns.RR) ([]byte, error) { return new(hasher).pack(rr) }

// hasher hashes records in wire form. It keeps a buffer, for there are many.
type hasher struct {
	packer packer
	buf    []byte
}

// hash is the hash of a record. One that has none cannot be sent.
func (h *hasher) hash(rr dns.RR) (Hash, error) {
	wire, err := h.pack(rr)
	if err != nil {
		return Hash{}, err
	}
	return hashOf(sha256.Sum256(wire)), nil
}

// check reports why a record has no hash.
func (h *hasher) check(rr dns.RR) error {
	_, err := h.pack(rr)
	return err
}

// pack is the wire form, valid until the next call.
func (h *hasher) pack(rr dns.RR) ([]byte, error) {
	for size := max(512, len(h.buf)); ; size = headerSize + dns.MaxMsgSize {
		if len(h.buf) < size {
			h.buf = make([]byte, size)
		}
		wire, err := h.packer.pack(rr, h.buf)
		if err == nil {
			return wire[headerSize:], nil
		}
		if size >= dns.MaxMsgSize {
			return nil, err
		}
	}
}
