package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/lbd/mysqlha"
)

// CallClone is the name of the handler that gives a copy of a server, piece by piece.
const CallClone = "mysql.clone.1"

// pieceRequest begins a copy (no Session), asks for its piece at Offset, or ends it.
type pieceRequest struct {
	Tag     string   `cbor:"1,keyasint"`
	Epoch   uint64   `cbor:"2,keyasint"`
	Fence   uint64   `cbor:"3,keyasint"`
	Methods []string `cbor:"4,keyasint,omitempty"` // that the asking host can take in
	Session string   `cbor:"5,keyasint,omitempty"`
	Offset  int64    `cbor:"6,keyasint,omitempty"`
	Close   bool     `cbor:"7,keyasint,omitempty"`
}

// pieceAnswer is a piece, or the end.
type pieceAnswer struct {
	Session string `cbor:"1,keyasint,omitempty"`
	Method  string `cbor:"2,keyasint,omitempty"`
	Total   int64  `cbor:"3,keyasint,omitempty"`
	Data    []byte `cbor:"4,keyasint,omitempty"` // empty: there is none yet, ask again
	End     bool   `cbor:"5,keyasint,omitempty"` // the copy is complete
	// Code and Text are an error; see wire.
	Code string `cbor:"6,keyasint,omitempty"`
	Text string `cbor:"7,keyasint,omitempty"`
}

// pieceWait is how long a donor looks for a piece before it says that there is none yet, and pieceAsk how long one waits for its answer.
const (
	pieceWait = 5 * time.Second
	pieceAsk  = 20 * time.Second
	// copyStall is how long a copy may bring nothing: a replica that closes its temporary tables, or a lock for the end of a backup, takes a while.
	copyStall = 3 * time.Minute
	// pieceTries is how often a piece is asked for that did not come.
	pieceTries = 3
)

// ServeClone answers CallClone of a peer. Peers of the mesh alone reach it, and only under an order that is not overtaken.
func (h *Host) ServeClone(ctx context.Context, req []byte) ([]byte, error) {
	var q pieceRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", CallClone, err)
	}
	a, err := h.donor.serve(ctx, q)
	if err != nil {
		a = pieceAnswer{Code: codeOf(err), Text: err.Error()}
	}
	return cbor.Marshal(a)
}

func (d *donor) serve(ctx context.Context, q pieceRequest) (pieceAnswer, error) {
	o := mysqlha.Order{Tag: q.Tag, Epoch: q.Epoch, Fence: q.Fence}
	if q.Session == "" {
		x, err := d.begin(o, q.Methods)
		if err != nil {
			return pieceAnswer{}, err
		}
		return pieceAnswer{Session: x.id, Method: x.method, Total: x.total}, nil
	}
	x := d.current()
	if x == nil || x.id != q.Session {
		return pieceAnswer{}, errors.New("the donor has ended it")
	}
	if q.Close {
		d.end(x)
		return pieceAnswer{End: true}, nil
	}
	if err := x.s.store.admit(o); err != nil {
		d.end(x)
		return pieceAnswer{}, err
	}
	return x.piece(ctx, q.Offset)
}

// piece is the one at an offset: the next, or the one before again.
func (x *donation) piece(ctx context.Context, offset int64) (pieceAnswer, error) {
	x.mu.Lock()
	defer x.mu.Unlock() // one asks at a time
	x.asked = time.Now()
	defer func() { x.asked = time.Now() }()
	switch next := x.offset + int64(len(x.held)); offset {
	case x.offset:
		if len(x.held) > 0 {
			return pieceAnswer{Data: x.held}, nil
		}
	case next:
	default:
		return pieceAnswer{}, fmt.Errorf("piece at %d, and the donor is at %d", offset, next)
	}
	select {
	case piece, more := <-x.pieces:
		if !more {
			if x.err != nil {
				return pieceAnswer{}, x.err
			}
			return pieceAnswer{End: true}, nil
		}
		x.offset, x.held = offset, piece
		return pieceAnswer{Data: piece}, nil
	case <-time.After(pieceWait):
		return pieceAnswer{}, nil
	case <-ctx.Done():
		return pieceAnswer{}, ctx.Err()
	}
}

// PeerDonors are the agents of other hosts, as Donors.
type PeerDonors struct{ Mesh Mesh }

// OpenDonor implements Donors.
func (p PeerDonors) OpenDonor(ctx context.Context, host string, o mysqlha.Order, methods []string) (Copy, error) {
	c := &peerCopy{mesh: p.Mesh, host: host, q: pieceRequest{Tag: o.Tag, Epoch: o.Epoch, Fence: o.Fence, Methods: methods}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	a, err := c.ask(c.q)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.q.Methods, c.q.Session, c.method, c.total = nil, a.Session, a.Method, a.Total
	return c, nil
}

// peerCopy is a copy from a peer.
type peerCopy struct {
	mesh   Mesh
	host   string
	ctx    context.Context
	cancel context.CancelFunc
	q      pieceRequest
	method string
	total  int64
	data   []byte
	ended  bool
}

func (c *peerCopy) Method() string { return c.method }
func (c *peerCopy) Total() int64   { return c.total }

// Read implements io.Reader.
func (c *peerCopy) Read(p []byte) (int, error) {
	stalled := time.Now().Add(copyStall)
	for tries := 1; len(c.data) == 0; {
		if c.ended {
			return 0, io.EOF
		}
		a, err := c.ask(c.q)
		switch {
		case err != nil && errors.Is(err, mysqlha.ErrSilent) && tries < pieceTries && c.ctx.Err() == nil:
			tries++
			select {
			case <-time.After(time.Second):
			case <-c.ctx.Done():
			}
			continue
		case err != nil:
			return 0, fmt.Errorf("copy from %s, after %d bytes: %w", c.host, c.q.Offset, err)
		case a.End:
			c.ended = true
		case len(a.Data) == 0 && time.Now().After(stalled):
			return 0, fmt.Errorf("copy from %s, after %d bytes: nothing came for %s", c.host, c.q.Offset, copyStall)
		}
		c.data = a.Data
		c.q.Offset += int64(len(a.Data))
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

// Close implements io.Closer.
func (c *peerCopy) Close() error {
	c.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), pieceWait)
	defer cancel()
	q := c.q
	q.Close = true
	_, err := c.askIn(ctx, q) // the donor ends by itself, too
	return err
}

func (c *peerCopy) ask(q pieceRequest) (pieceAnswer, error) { return c.askIn(c.ctx, q) }

func (c *peerCopy) askIn(ctx context.Context, q pieceRequest) (a pieceAnswer, err error) {
	req, err := cbor.Marshal(q)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, pieceAsk)
	defer cancel()
	answer, err := c.mesh.Call(ctx, c.host, CallClone, req)
	if err != nil {
		return a, silent(c.host, err)
	}
	if err := cbor.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("answer of %s: %w", c.host, err)
	}
	if a.Code != "" {
		return a, errorOf(a.Code, a.Text)
	}
	return a, nil
}
