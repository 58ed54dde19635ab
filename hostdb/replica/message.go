package replica

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// Names of the requests. A change that an older node cannot understand gets a new name.
const (
	pushName = "hostdb.push.1"
	pullName = "hostdb.pull.1"
)

// pushRequest carries operations, in order within each origin.
type pushRequest struct {
	Ops [][]byte `cbor:"1,keyasint"`
}

// pushAnswer says what the receiver holds durably of the origins in the request.
type pushAnswer struct {
	Have   map[uint64]uint64 `cbor:"1,keyasint"`
	Reason string            `cbor:"2,keyasint,omitempty"` // why not everything was taken; for people
}

// pullRequest says what the asker holds.
type pullRequest struct {
	Vector map[uint64]uint64 `cbor:"1,keyasint"`
	Bytes  int               `cbor:"2,keyasint"`
}

// pullAnswer carries operations that the asker lacks, and what the answerer holds.
type pullAnswer struct {
	Ops       [][]byte          `cbor:"1,keyasint,omitempty"`
	More      bool              `cbor:"2,keyasint,omitempty"`
	Version   string            `cbor:"3,keyasint"`
	Algorithm int               `cbor:"4,keyasint"`
	Digests   map[string]string `cbor:"5,keyasint"`
	Vector    map[uint64]uint64 `cbor:"6,keyasint"`
	Busy      bool              `cbor:"7,keyasint,omitempty"` // nothing was looked at; try later
	Floor     hostdb.Time       `cbor:"8,keyasint,omitempty"` // the answerer will write nothing with a lower stamp from now on
}

// decoding bounds what a neighbour's message may ask of us.
var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      1 << 20,
		MaxNestedLevels:  8,
		IndefLength:      cbor.IndefLengthForbidden,
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func encode(v any) ([]byte, error) {
	b, err := cbor.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return b, nil
}

func decode(b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}
