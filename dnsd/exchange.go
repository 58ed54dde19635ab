package dnsd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"hostmesh/mesh"
)

// Peers is what dnsd needs of the mesh to agree on serials. *mesh.Mesh satisfies it.
type Peers interface {
	View() mesh.View
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	Handle(name string, h mesh.Handler)
}

const (
	callSerials      = "dns.serials"
	exchangeVersion  = 1
	exchangeEvery    = 10 * time.Second // with one random peer; a quarter more or less
	exchangeDelay    = 100 * time.Millisecond
	exchangeAtOnce   = 3 // peers told of a change; the rest hears of it from them
	exchangeTimeout  = 5 * time.Second
	settleAfter      = 5 * time.Second // without a change of any serial
	maxExchangeZones = 10_000
)

type exchangeMessage struct {
	Version int      `json:"version"`
	Zones   []Serial `json:"zones"`
}

func (s *Server) exchangeMessage() ([]byte, error) {
	return json.Marshal(exchangeMessage{exchangeVersion, s.serials.Own()})
}

// serveExchange answers a peer that tells its serials with ours.
func (s *Server) serveExchange(_ context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
	if err := s.hear(req); err != nil {
		return nil, err
	}
	return s.exchangeMessage()
}

// hear takes in what a peer serves.
func (s *Server) hear(text []byte) error {
	var msg exchangeMessage
	if err := json.Unmarshal(text, &msg); err != nil {
		return fmt.Errorf("read a peer's zone serials: %w", err)
	}
	if len(msg.Zones) > maxExchangeZones {
		return fmt.Errorf("read a peer's zone serials: %d zones, at most %d are taken", len(msg.Zones), maxExchangeZones)
	}
	adopted := false
	for _, z := range msg.Zones {
		adopted = s.serials.Heard(z.Zone, z.Hash, z.Serial) || adopted
	}
	if adopted {
		s.mu.Lock()
		defer s.mu.Unlock()
		if z := s.zones.Load(); z != nil {
			s.publish(z)
		}
	}
	return nil
}

// exchange tells up to n random live peers our serials and hears theirs.
func (s *Server) exchange(ctx context.Context, n int) {
	view := s.cfg.Peers.View()
	self := view.Self().ID
	var ids []string
	for m := range view.Alive() {
		if m.ID != self {
			ids = append(ids, m.ID)
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for _, id := range ids[:min(n, len(ids))] {
		if err := s.exchangeWith(ctx, id); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("exchange of zone serials failed", slog.String("node", id), slog.Any("error", err))
		}
	}
}

func (s *Server) exchangeWith(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	req, err := s.exchangeMessage()
	if err != nil {
		return err
	}
	answer, err := s.cfg.Peers.Call(ctx, id, callSerials, req)
	if err != nil {
		return err
	}
	return s.hear(answer)
}

// agree keeps serials equal among nodes, and the file exact, until ctx ends.
func (s *Server) agree(ctx context.Context) {
	settle := time.NewTimer(settleAfter)
	defer settle.Stop()
	regular := time.NewTimer(rand.N(exchangeEvery))
	defer regular.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
			settle.Reset(settleAfter)
			if s.cfg.Peers == nil {
				continue
			}
			select { // not all nodes at once: most changes come to all of them at the same moment
			case <-ctx.Done():
				return
			case <-time.After(rand.N(exchangeDelay)):
			}
			s.exchange(ctx, exchangeAtOnce)
		case <-settle.C:
			s.keepSerials(s.file.settle(s.serials))
		case <-regular.C:
			regular.Reset(exchangeEvery*3/4 + rand.N(exchangeEvery/2))
			if s.cfg.Peers != nil {
				s.exchange(ctx, 1)
			}
		}
	}
}
