package hostdb

import (
	"encoding/binary"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// Operations and rows are written and read by hand where they have the form that this build writes, because they are
// most of what an import, a start and a joiner do. Everything else, such as what a newer version added, is read by the
// library. Tests hold the two against each other.

// codec holds the CBOR modes of the operation format. Values may hold any bytes, so text is not checked for UTF-8;
// bounds keep a hostile message from taking memory or stack.
var codec = func() (c struct {
	enc cbor.EncMode
	dec cbor.DecMode
}) {
	enc := cbor.CoreDetEncOptions()
	enc.String = cbor.StringToByteString
	var err error
	if c.enc, err = enc.EncMode(); err != nil {
		panic(err)
	}
	dec := cbor.DecOptions{
		DupMapKey:          cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements:   4_000_000,
		MaxMapPairs:        64,
		MaxNestedLevels:    16,
		IndefLength:        cbor.IndefLengthForbidden,
		UTF8:               cbor.UTF8DecodeInvalid,
		ByteStringToString: cbor.ByteStringToStringAllowed,
	}
	if c.dec, err = dec.DecMode(); err != nil {
		panic(err)
	}
	return c
}()

// rowDecoder is bound only by the size of the row: rows are our own.
var rowDecoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: math.MaxInt32, ByteStringToString: cbor.ByteStringToStringAllowed, UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// Major types of CBOR items (RFC 8949, 3.1).
const (
	cborUint  = 0
	cborNint  = 1
	cborBytes = 2
	cborArray = 4
	cborMap   = 5
	cborTrue  = 0xf5 // a whole item
)

// appendHead appends an item's head in the shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, cborNint, uint64(-1-n))
	}
	return appendHead(b, cborUint, uint64(n))
}

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(appendHead(b, cborBytes, uint64(len(s))), s...)
}

// appendStamp appends a stamp as an array.
func appendStamp(b []byte, s Stamp) []byte {
	b = appendHead(b, cborArray, 2)
	b = appendHead(b, cborUint, uint64(s.Time))
	return appendHead(b, cborUint, s.Origin)
}

// fieldText appends a field of a map, unless it is empty.
func fieldText[T ~string | ~[]byte](b []byte, key uint64, s T) []byte {
	if len(s) == 0 {
		return b
	}
	return appendText(appendHead(b, cborUint, key), s)
}

// cborReader reads items of the form that appendHead writes. The first item of another form sets bad, and nothing that
// is read from then on means anything.
type cborReader struct {
	rest []byte
	bad  bool
}

// head reads the head of an item of the given major type.
func (r *cborReader) head(major byte) uint64 {
	if len(r.rest) == 0 || r.rest[0]>>5 != major {
		r.bad = true
		return 0
	}
	info := r.rest[0] & 0x1f
	if info < 24 {
		r.rest = r.rest[1:]
		return uint64(info)
	}
	n := 1 << (info - 24)
	if info > 27 || len(r.rest) < 1+n {
		r.bad = true
		return 0
	}
	var arg uint64
	for _, b := range r.rest[1 : 1+n] {
		arg = arg<<8 | uint64(b)
	}
	r.rest = r.rest[1+n:]
	return arg
}

func (r *cborReader) uint() uint64 { return r.head(cborUint) }

func (r *cborReader) int() int64 {
	if len(r.rest) > 0 && r.rest[0]>>5 == cborNint {
		n := r.head(cborNint)
		r.bad = r.bad || n > math.MaxInt64
		return -1 - int64(n)
	}
	n := r.uint()
	r.bad = r.bad || n > math.MaxInt64
	return int64(n)
}

// bytes reads a byte string. It is part of what is read.
func (r *cborReader) bytes() []byte {
	n := r.head(cborBytes)
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *cborReader) text() string { return string(r.bytes()) }

// count reads the head of an array or map. What follows has at least as many bytes, so that a slice may be made.
func (r *cborReader) count(major byte) int {
	n := r.head(major)
	if n > uint64(len(r.rest)) {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return int(n)
}

func (r *cborReader) stamp() Stamp {
	if r.count(cborArray) != 2 {
		r.bad = true
	}
	return Stamp{Time: Time(r.uint()), Origin: r.uint()}
}

func (r *cborReader) true() bool {
	if len(r.rest) == 0 || r.rest[0] != cborTrue {
		r.bad = true
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// fields calls fn for each field of a map with ascending keys. fn reads the value; it sets bad for a key it does not know.
func (r *cborReader) fields(fn func(key uint64)) {
	n := r.count(cborMap)
	last := uint64(0)
	for range n {
		key := r.uint()
		if r.bad || key <= last {
			r.bad = true
			return
		}
		last = key
		fn(key)
	}
}

// done reports whether everything was read and had the expected form.
func (r *cborReader) done() bool { return !r.bad && len(r.rest) == 0 }
