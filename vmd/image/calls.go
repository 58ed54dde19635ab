package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// HandlerFetch is the name of the handler by which a node is told to fetch an image now.
const HandlerFetch = "image.fetch"

// FetchRequest tells a node to have an image of the catalogue. It is sent again and again, until the answer says Here or
// Failed: a node fetches as long as somebody asks.
type FetchRequest struct {
	Name string `cbor:"1,keyasint"`
	// ID is what the asking node means by the name. A node whose catalogue is older waits for the newer.
	ID string `cbor:"2,keyasint"`
}

// FetchAnswer says how far it is.
type FetchAnswer struct {
	Here   bool   `cbor:"1,keyasint,omitempty"`
	Failed string `cbor:"2,keyasint,omitempty"` // why it cannot be had
	Done   int64  `cbor:"3,keyasint,omitempty"` // bytes
	Total  int64  `cbor:"4,keyasint,omitempty"`
	From   string `cbor:"5,keyasint,omitempty"`
}

const (
	// fetchAnswer is how long a node works on a fetch before it tells how far it is.
	fetchAnswer = time.Second
	// fetchLinger is how long it goes on when nobody has asked again.
	fetchLinger = 10 * time.Second
)

// ServeFetch answers a FetchRequest. view is the present HostDB.
func (s *Store) ServeFetch(ctx context.Context, req []byte, view hostdb.View) ([]byte, error) {
	var q FetchRequest
	if err := cbor.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("%s: %w", HandlerFetch, err)
	}
	img, err := Get(view, q.Name)
	switch {
	case errors.Is(err, hostdb.ErrNotFound) || err == nil && img.ID() != q.ID:
		// The write is on its way here, or another one has replaced it.
		return cbor.Marshal(FetchAnswer{From: "waits for the catalogue"})
	case err != nil:
		return cbor.Marshal(FetchAnswer{Failed: err.Error()})
	}
	return cbor.Marshal(s.fetchFor(ctx, img, fetchAnswer))
}

// fetchFor works on a fetch for a while and tells how far it is. It goes on in the background, until nobody has asked for
// fetchLinger.
func (s *Store) fetchFor(ctx context.Context, img Image, d time.Duration) FetchAnswer {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	f, err := s.join(img)
	if err != nil {
		return FetchAnswer{Failed: err.Error()}
	}
	time.AfterFunc(fetchLinger, func() { s.leave(f) })
	select {
	case <-f.done:
		if f.err != nil {
			return FetchAnswer{Failed: f.err.Error()}
		}
		return FetchAnswer{Here: true, Done: img.Size(), Total: img.Size()}
	case <-short.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return FetchAnswer{Done: f.progress.Done, Total: f.progress.Total, From: f.progress.From}
	}
}

// AskFetch tells a node to fetch an image, and how far it is. Ask again until the answer says Here or Failed.
func AskFetch(ctx context.Context, p Peers, node string, img Image) (a FetchAnswer, err error) {
	req, err := cbor.Marshal(FetchRequest{Name: img.Name, ID: img.ID()})
	if err != nil {
		return a, err
	}
	answer, err := p.Call(ctx, node, HandlerFetch, req)
	if err != nil {
		return a, err
	}
	if err := cbor.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("answer to %s: %w", HandlerFetch, err)
	}
	return a, nil
}
