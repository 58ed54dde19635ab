package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// fakePeers are nodes that serve files from memory.
type fakePeers struct {
	order []string
	data  map[string]map[string][]byte                // by node and SHA-256
	lie   map[string]func(q ReadRequest, data []byte) // changes what a node sends
	// before is asked before each read; nil = nothing.
	before func(node string, q ReadRequest) error
	ended  chan struct{} // closed when the context of a call ends

	mu      sync.Mutex
	reads   map[string]int
	offsets map[string][]int64
}

// newFakePeers are nodes that have one file each.
func newFakePeers(has map[string][]byte) *fakePeers {
	p := &fakePeers{
		data: map[string]map[string][]byte{}, lie: map[string]func(ReadRequest, []byte){},
		reads: map[string]int{}, offsets: map[string][]int64{}, ended: make(chan struct{}),
	}
	for node, b := range has {
		p.order = append(p.order, node)
		p.data[node] = map[string][]byte{sum(b): b}
	}
	slices.Sort(p.order)
	return p
}

func (p *fakePeers) Holders(context.Context, Image) []string { return p.order }

func (p *fakePeers) Call(ctx context.Context, node, handler string, req []byte) ([]byte, error) {
	if handler != HandlerRead {
		return nil, fmt.Errorf("no handler %s", handler)
	}
	var q ReadRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.reads[node]++
	p.offsets[node] = append(p.offsets[node], q.Offset)
	p.mu.Unlock()
	if p.before != nil {
		stop := context.AfterFunc(ctx, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			select {
			case <-p.ended:
			default:
				close(p.ended)
			}
		})
		defer stop()
		if err := p.before(node, q); err != nil {
			return nil, err
		}
	}
	b, ok := p.data[node][q.SHA256]
	if !ok {
		return cbor.Marshal(ReadAnswer{Missing: true})
	}
	a := ReadAnswer{Size: int64(len(b)), Data: bytes.Clone(b[q.Offset:min(q.Offset+q.Length, int64(len(b)))])}
	if lie := p.lie[node]; lie != nil {
		lie(q, a.Data)
	}
	return cbor.Marshal(a)
}

func flip(_ ReadRequest, data []byte) { data[0] ^= 1 }

func TestFetchFromPeers(t *testing.T) {
	b := content(30, 2*MaxPiece+1000)
	other := content(31, 2*MaxPiece+999)
	broken := errors.New("connection broke")
	for _, c := range []struct {
		name   string
		set    func(p *fakePeers)
		nodes  map[string][]byte
		liars  []string
		fails  string // "" = it succeeds
		offset map[string][]int64
	}{
		{
			name: "one", nodes: map[string][]byte{"a": b},
			offset: map[string][]int64{"a": {0, MaxPiece, 2 * MaxPiece}},
		},
		{
			name: "breaks for good, the next goes on there", nodes: map[string][]byte{"a": b, "b": b},
			set: func(p *fakePeers) {
				p.before = func(node string, q ReadRequest) error {
					if node == "a" && q.Offset >= MaxPiece {
						return broken
					}
					return nil
				}
			},
			offset: map[string][]int64{"a": {0, MaxPiece, MaxPiece, MaxPiece}, "b": {MaxPiece, 2 * MaxPiece}},
		},
		{
			name: "lies, and is known for it", nodes: map[string][]byte{"a": b, "b": b},
			set:    func(p *fakePeers) { p.lie["a"] = flip },
			liars:  []string{"a"},
			offset: map[string][]int64{"b": {0, MaxPiece, 2 * MaxPiece}},
		},
		{
			name: "lies in its share", nodes: map[string][]byte{"a": b, "b": b},
			set: func(p *fakePeers) {
				p.lie["a"] = flip
				p.before = func(node string, q ReadRequest) error {
					if node == "a" && q.Offset >= MaxPiece && p.reads["a"] < 6 {
						return broken
					}
					return nil
				}
			},
			liars: []string{"a"},
		},
		{
			name: "has another file of that name", nodes: map[string][]byte{"a": b, "b": b},
			set:   func(p *fakePeers) { p.data["a"][sum(b)] = other },
			liars: []string{"a"},
		},
		{
			name: "has it no more", nodes: map[string][]byte{"a": other, "b": b},
			offset: map[string][]int64{"b": {0, MaxPiece, 2 * MaxPiece}},
		},
		{
			name: "all lie", nodes: map[string][]byte{"a": b, "b": b},
			set:   func(p *fakePeers) { p.lie["a"], p.lie["b"] = flip, flip },
			liars: []string{"a", "b"},
			fails: "node a: wrong checksum: expected " + sum(b) + ", got ",
		},
		{name: "none", nodes: map[string][]byte{}, fails: "hostmesh image add x FILE --replace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newFakePeers(c.nodes)
			if c.set != nil {
				c.set(p)
			}
			s := openStore(t, func(cfg *Config) { cfg.Peers = p })
			files, err := s.Ensure(t.Context(), rawImage("x", b, ""))
			if c.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkFile(t, files.Disk, b)
			} else {
				if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("got %v, want %q", err, c.fails)
				}
				if list := s.Progress(); len(list) != 1 || list[0].Err == nil {
					t.Errorf("the failure is not shown: %+v", list)
				}
			}
			for _, node := range p.order {
				if _, lied := s.liars[node]; lied != slices.Contains(c.liars, node) {
					t.Errorf("node %s: held for a liar: %v", node, lied)
				}
			}
			for node, want := range c.offset {
				if got := p.offsets[node]; !slices.Equal(got, want) {
					t.Errorf("node %s was read at %v, want %v", node, got, want)
				}
			}
		})
	}
}

func TestServeRead(t *testing.T) {
	b := content(32, MaxPiece+10)
	s := openStore(t, nil)
	if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw}); err != nil {
		t.Fatal(err)
	}
	read := func(q ReadRequest) (ReadAnswer, error) {
		req, err := cbor.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := s.ServeRead(t.Context(), req)
		if err != nil {
			return ReadAnswer{}, err
		}
		var a ReadAnswer
		return a, cbor.Unmarshal(answer, &a)
	}
	if a, err := read(ReadRequest{sum(b), MaxPiece, MaxPiece}); err != nil || !bytes.Equal(a.Data, b[MaxPiece:]) || a.Size != int64(len(b)) {
		t.Errorf("got %d bytes of %d, %v", len(a.Data), a.Size, err)
	}
	if a, err := read(ReadRequest{sum(b), 1 << 40, 1}); err != nil || len(a.Data) != 0 {
		t.Errorf("behind the end: %d bytes, %v", len(a.Data), err)
	}
	for _, q := range []ReadRequest{
		{sum(b), -1, 10}, {sum(b), 0, MaxPiece + 1}, {sum(b), 0, 0}, {"../../etc/passwd", 0, 10}, {sum(b) + noteSuffix, 0, 10},
	} {
		if _, err := read(q); err == nil {
			t.Errorf("%+v is served", q)
		}
	}
	if a, err := read(ReadRequest{sum([]byte("no")), 0, 10}); err != nil || !a.Missing {
		t.Errorf("what is not here is answered with %+v, %v", a, err)
	}
	if _, err := s.ServeRead(t.Context(), []byte("garbage")); err == nil {
		t.Error("garbage is served")
	}
}
