package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fxamacker/cbor/v2"
)

// HandlerRead is the name of the handler that serves pieces of files to other nodes.
const HandlerRead = "image.read"

// HandlerHave is the name of the handler that says which files are here.
const HandlerHave = "image.have"

// MaxPiece is the most bytes of one piece.
const MaxPiece = 4 << 20

// ReadRequest asks for a piece of a file.
type ReadRequest struct {
	SHA256 string `cbor:"1,keyasint"`
	Offset int64  `cbor:"2,keyasint"`
	Length int64  `cbor:"3,keyasint"` // at most MaxPiece
}

// ReadAnswer is a piece of a file: shorter than what was asked for only at its end.
type ReadAnswer struct {
	Size int64  `cbor:"1,keyasint"` // of the whole file
	Data []byte `cbor:"2,keyasint"`
	// Missing says that the file is not there, or not verified.
	Missing bool `cbor:"3,keyasint,omitempty"`
}

// ServeRead answers a ReadRequest of another node: only complete, verified files are served.
func (s *Store) ServeRead(_ context.Context, req []byte) ([]byte, error) {
	var q ReadRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", HandlerRead, err)
	}
	if err := CheckSHA256(q.SHA256); err != nil {
		return nil, fmt.Errorf("%s: %w", HandlerRead, err)
	}
	if q.Offset < 0 || q.Length <= 0 || q.Length > MaxPiece {
		return nil, fmt.Errorf("%s: offset %d, length %d: want a length from 1 to %d", HandlerRead, q.Offset, q.Length, MaxPiece)
	}
	if !s.has(File{SHA256: q.SHA256}) {
		return cbor.Marshal(ReadAnswer{Missing: true})
	}
	f, err := os.Open(s.path(q.SHA256))
	if err != nil {
		return nil, fmt.Errorf("read an image: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a := ReadAnswer{Size: fi.Size()}
	if rest := fi.Size() - q.Offset; rest > 0 {
		a.Data = make([]byte, min(q.Length, rest))
		if _, err := f.ReadAt(a.Data, q.Offset); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read an image: %w", err)
		}
	}
	s.count.served.Add(int64(len(a.Data)))
	return cbor.Marshal(a)
}

// HaveRequest asks which files are here.
type HaveRequest struct {
	SHA256 []string `cbor:"1,keyasint"` // at most MaxHave
}

// MaxHave is the most files that are asked for at once.
const MaxHave = 10_000

// HaveAnswer says which of them are, in their order.
type HaveAnswer struct {
	Have []bool `cbor:"1,keyasint"`
}

// ServeHave answers a HaveRequest of another node.
func (s *Store) ServeHave(_ context.Context, req []byte) ([]byte, error) {
	var q HaveRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", HandlerHave, err)
	}
	if len(q.SHA256) > MaxHave {
		return nil, fmt.Errorf("%s: %d files; at most %d are asked for at once", HandlerHave, len(q.SHA256), MaxHave)
	}
	a := HaveAnswer{Have: make([]bool, len(q.SHA256))}
	for i, sha := range q.SHA256 {
		a.Have[i] = CheckSHA256(sha) == nil && s.has(File{SHA256: sha})
	}
	return cbor.Marshal(a)
}

// AskHave asks a node which images it has whole: their places in images.
func AskHave(ctx context.Context, p Peers, node string, images []Image) (has []int, err error) {
	var q HaveRequest
	for _, img := range images {
		for _, f := range img.Files() {
			q.SHA256 = append(q.SHA256, f.SHA256)
		}
	}
	if len(q.SHA256) > MaxHave {
		return nil, fmt.Errorf("%d files; at most %d are asked for at once", len(q.SHA256), MaxHave)
	}
	req, err := cbor.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := p.Call(ctx, node, HandlerHave, req)
	if err != nil {
		return nil, err
	}
	var a HaveAnswer
	if err := cbor.Unmarshal(answer, &a); err != nil {
		return nil, fmt.Errorf("answer to %s: %w", HandlerHave, err)
	}
	if len(a.Have) != len(q.SHA256) {
		return nil, fmt.Errorf("answer to %s: it speaks of %d files, not of %d", HandlerHave, len(a.Have), len(q.SHA256))
	}
	at := 0
	for i, img := range images {
		whole := true
		for range img.Files() {
			whole = whole && a.Have[at]
			at++
		}
		if whole {
			has = append(has, i)
		}
	}
	return has, nil
}

// peerSource is another node.
type peerSource struct {
	s    *Store
	node string
	file File
}

func (p *peerSource) name() string { return "node " + p.node }

func (p *peerSource) copy(ctx context.Context, to *part) error {
	for to.size < p.file.Size {
		a, err := p.piece(ctx, to.size)
		if err != nil {
			return err
		}
		switch {
		case a.Size != p.file.Size:
			return fmt.Errorf("%w: it has %d bytes of it, the catalogue says %d", ErrChecksum, a.Size, p.file.Size)
		case len(a.Data) == 0:
			return errors.New("it sends nothing")
		}
		n, err := to.Write(a.Data)
		p.s.count.peer.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

// peerTries is how often a piece is asked for, before the next source is.
const peerTries = 3

func (p *peerSource) piece(ctx context.Context, offset int64) (a ReadAnswer, err error) {
	req, err := cbor.Marshal(ReadRequest{SHA256: p.file.SHA256, Offset: offset, Length: min(MaxPiece, p.file.Size-offset)})
	if err != nil {
		return a, err
	}
	for try := 1; ; try++ {
		var answer []byte
		answer, err = p.ask(ctx, req)
		if err == nil {
			if err := cbor.Unmarshal(answer, &a); err != nil {
				return a, fmt.Errorf("its answer cannot be read: %w", err)
			}
			if a.Missing {
				return a, ErrNotHere
			}
			return a, nil
		}
		if try == peerTries || ctx.Err() != nil {
			return a, err
		}
		if err := p.s.pause(ctx, try); err != nil {
			return a, err
		}
	}
}

func (p *peerSource) ask(ctx context.Context, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.s.cfg.Stall, fmt.Errorf("it sends nothing for %s", p.s.cfg.Stall))
	defer cancel()
	return p.s.cfg.Peers.Call(ctx, p.node, HandlerRead, req)
}
