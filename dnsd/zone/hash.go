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

// hasher hashes records in wire form. It keeps a buffer, for there are many.
type hasher struct{ buf []byte }

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
	for size := max(512, len(h.buf)); ; size = dns.MaxMsgSize {
		if len(h.buf) < size {
			h.buf = make([]byte, size)
		}
		end, err := dns.PackRR(rr, h.buf, 0, nil, false)
		if err == nil {
			return h.buf[:end], nil
		}
		if size == dns.MaxMsgSize {
			return nil, err
		}
	}
}
