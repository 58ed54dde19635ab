package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// A peer stream carries frames: four bytes of length (big endian, of what follows), the version, the kind, eight bytes of
// request id, and what the kind adds. Strings have two bytes of length before them; a body takes the rest. The frames
// helloKind, welcomeKind and refuseKind open a stream and never change their beginning; what versions to come add stands
// behind it, and is skipped here.
//
// Behind the three strings of a hello may stand a fourth, the lane. Builds that do not know it skip it, and serve the stream
// as an ordinary one.
const (
	frameHead  = 4
	frameFixed = 10      // version, kind, id
	helloMax   = 4 << 10 // a stranger may not make us hold more
	frameSlack = 1 << 10 // name and text beside the body
	maxName    = 255     // of a handler
	maxText    = 512     // of an error
)

type frameKind byte

const (
	helloKind   frameKind = iota + 1 // dialler: who it is, what it wants
	welcomeKind                      // acceptor: who it is
	refuseKind                       // acceptor: code and text; it closes then
	requestKind                      // name, timeout, body
	answerKind                       // body
	errorKind                        // code and text
	cancelKind                       // the caller no longer waits
	pingKind                         // from the dialler
	pongKind                         //
	lastKind
)

var (
	errFrame   = errors.New("malformed frame")
	errVersion = errors.New("protocol version is not understood")
)

// frame is one message, of any kind.
type frame struct {
	version byte
	kind    frameKind
	id      uint64

	hello   hello         // helloKind, welcomeKind
	name    string        // requestKind
	timeout time.Duration // requestKind: what is left until the caller's deadline; 0 = none
	code    string        // errorKind, refuseKind
	text    string        // errorKind, refuseKind
	body    []byte        // requestKind, answerKind
}

// hello is how the sides introduce themselves. A dialler that does not know the mesh's id yet leaves it empty.
type hello struct {
	min, max byte // protocol versions
	meshID   string
	nodeID   string
	name     string
	lane     lane // helloKind, from a dialler that asks for another than the ordinary one
}

func (f *frame) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, f.version, byte(f.kind))
	b = binary.BigEndian.AppendUint64(b, f.id)
	switch f.kind {
	case helloKind, welcomeKind:
		b = append(b, f.hello.min, f.hello.max)
		b = appendString(b, f.hello.meshID)
		b = appendString(b, f.hello.nodeID)
		b = appendString(b, f.hello.name)
		if f.hello.lane != ordinary {
			b = appendString(b, string(f.hello.lane))
		}
	case requestKind:
		b = appendString(b, f.name)
		ms := (f.timeout + time.Millisecond - 1) / time.Millisecond
		b = binary.BigEndian.AppendUint32(b, uint32(min(ms, math.MaxUint32)))
		b = append(b, f.body...)
	case answerKind:
		b = append(b, f.body...)
	case errorKind, refuseKind:
		b = appendString(b, f.code)
		b = appendString(b, f.text)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-frameHead))
	return b
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// readFrame reads one frame of at most limit bytes. The body is the frame's own memory.
func readFrame(r io.Reader, limit int) (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < frameFixed || uint64(n) > uint64(limit) {
		return frame{}, fmt.Errorf("%w: length %d, want %d to %d", errFrame, n, frameFixed, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	return parseFrame(b)
}

// parseFrame reads what stands behind the length. The frame keeps b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameFixed {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	f := frame{version: b[0], kind: frameKind(b[1]), id: binary.BigEndian.Uint64(b[2:])}
	rest := b[frameFixed:]
	ok := true
	str := func() (s string) {
		if len(rest) < 2 {
			ok = false
			return ""
		}
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n {
			ok = false
			return ""
		}
		s, rest = string(rest[2:2+n]), rest[2+n:]
		return s
	}
	switch f.kind {
	case helloKind, welcomeKind:
		if len(rest) < 2 {
			ok = false
			break
		}
		f.hello.min, f.hello.max, rest = rest[0], rest[1], rest[2:]
		f.hello.meshID, f.hello.nodeID, f.hello.name = str(), str(), str()
		if ok {
			f.hello.lane = lane(str())
			ok = true // what is no lane is what a version to come has added
		}
	case requestKind:
		f.name = str()
		if !ok || len(rest) < 4 {
			ok = false
			break
		}
		f.timeout = time.Duration(binary.BigEndian.Uint32(rest)) * time.Millisecond
		f.body = rest[4:]
	case answerKind:
		f.body = rest
	case errorKind, refuseKind:
		f.code, f.text = str(), str()
	case cancelKind, pingKind, pongKind:
	default:
		return frame{}, fmt.Errorf("%w: kind %d", errFrame, f.kind)
	}
	if !ok {
		return frame{}, fmt.Errorf("%w: cut short, kind %d", errFrame, f.kind)
	}
	return f, nil
}

// agree returns the version that both sides speak.
func agree(h hello) (byte, error) {
	v := min(h.max, ProtocolMax)
	if v < h.min || v < ProtocolMin {
		return 0, fmt.Errorf("%w: the peer speaks %d to %d, this node %d to %d", errVersion, h.min, h.max, ProtocolMin, ProtocolMax)
	}
	return v, nil
}

// clip shortens an error's text so that it fits a frame.
func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}
