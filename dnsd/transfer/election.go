package transfer

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/mesh"
)

// Peers is what a Service needs of the mesh to learn who tells secondaries. *mesh.Mesh satisfies it.
type Peers interface {
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	Handle(name string, h mesh.Handler)
}

const (
	// callTells is answered by agents that tell secondaries of changes. One that only observes, serves no DNS or is of a
	// build that does not tell anybody has no such handler.
	callTells = "dns.tells.1"

	askTimeout = 5 * time.Second
	tellsFor   = 5 * time.Minute // after that it is asked again; the answer of before holds meanwhile
	silentFor  = time.Minute     // the same of one that did not say so: it may have been busy, or be upgraded
)

// election decides which of the live members tells the secondaries of a zone: of those that do tell secondaries the one with
// the highest hash of zone and id (rendezvous hashing), so that a member that comes or goes moves only its own zones.
//
// Only members that would be chosen are asked whether they tell: mostly one for each zone. Until one has answered nobody is
// chosen here. Agents of 0.1.0 tell nobody. Two members may choose differently while they know differently: then both tell,
// which costs a datagram.
//
// It belongs to the goroutine of the notifier, but for what mu guards.
type election struct {
	peers Peers  // nil: all tell
	poke  func() // somebody answered

	candidates []string          // live members that are not known as silent, sorted
	winners    map[string]string // by zone, of these candidates

	mu    sync.Mutex // guards known and what it points at
	known map[string]*voter
}

// voter is what is known of a member.
type voter struct {
	said  bool // it answered, or failed to
	tells bool
	again time.Time // when to ask again
	busy  bool      // it is being asked
}

func newElection(peers Peers, poke func()) *election {
	return &election{peers: peers, poke: poke, winners: map[string]string{}, known: map[string]*voter{}}
}

// begin takes in who is alive, and asks those again that did not say that they tell. It must be called before mine, and again
// when time has passed.
func (e *election) begin(ctx context.Context, under *sync.WaitGroup, view mesh.View) {
	var live []string
	for m := range view.Alive() {
		live = append(live, m.ID)
	}
	slices.Sort(live)
	self := view.Self().ID
	e.mu.Lock()
	for id := range e.known {
		if _, there := slices.BinarySearch(live, id); !there {
			delete(e.known, id) // when it comes back it may be another build
		}
	}
	var silent []string
	candidates := slices.DeleteFunc(live, func(id string) bool {
		v := e.known[id]
		if id == self || v == nil || !v.said || v.tells {
			return false
		}
		silent = append(silent, id)
		return true
	})
	e.mu.Unlock()
	for _, id := range silent {
		e.ask(ctx, under, id)
	}
	if !slices.Equal(candidates, e.candidates) {
		e.candidates = candidates
		clear(e.winners)
	}
}

// mine reports whether this node tells the secondaries of a zone. It begins to ask whom it must know more of.
func (e *election) mine(ctx context.Context, under *sync.WaitGroup, origin, self string) bool {
	winner, ok := e.winners[origin]
	if !ok {
		winner = chosen(origin, e.candidates)
		e.winners[origin] = winner
	}
	if winner == "" || winner == self {
		return true
	}
	if e.peers != nil {
		e.ask(ctx, under, winner)
	}
	return false
}

// ask asks a member whether it tells secondaries, if that is not known or was long ago.
func (e *election) ask(ctx context.Context, under *sync.WaitGroup, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.known[id]
	if v == nil {
		v = &voter{}
		e.known[id] = v
	}
	if v.busy || time.Now().Before(v.again) {
		return
	}
	v.busy = true
	under.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		_, err := e.peers.Call(ctx, id, callTells, nil)
		e.mu.Lock()
		was := *v
		v.busy, v.said, v.tells, v.again = false, true, err == nil, time.Now().Add(tellsFor)
		if err != nil {
			v.again = time.Now().Add(silentFor)
		}
		now := *v
		e.mu.Unlock()
		if was.said != now.said || was.tells != now.tells {
			e.poke()
		}
	})
}

// serveTells answers others that ask whether this node tells secondaries: it does.
func serveTells(context.Context, mesh.Caller, []byte) ([]byte, error) { return nil, nil }

// chosen is the member with the highest hash of zone and id; empty when there is none. Builds of before this one hash the
// same.
func chosen(origin string, members []string) string {
	best, most := "", uint64(0)
	origin = strings.ToLower(origin)
	for _, id := range members {
		if w := weight(origin, id); best == "" || w > most || w == most && id > best {
			best, most = id, w
		}
	}
	return best
}

// weight is the FNV-1a hash of the id, a zero byte and the zone, mixed.
func weight(origin, id string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * prime
	}
	h *= prime // of the zero byte
	for i := range len(origin) {
		h = (h ^ uint64(origin[i])) * prime
	}
	return mix(h)
}

// mix spreads the bits of a hash whose last bytes moved only its low ones (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
