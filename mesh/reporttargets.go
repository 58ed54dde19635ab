package mesh

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

func (s *reportSync) members() []Member { return View{s.board.view.Load()}.Members() }

func (s *reportSync) others(members []Member) []string {
	var out []string
	for _, m := range members {
		if m.State == StateAlive && m.ID != s.self {
			out = append(out, m.ID)
		}
	}
	return out
}

func (s *reportSync) resting(id string, now time.Time) bool {
	p := s.peers[id]
	return p != nil && now.Before(p.rest)
}

func (s *reportSync) peer(id string) *reportPeer {
	p := s.peers[id]
	if p == nil {
		p = &reportPeer{news: make(map[string]stamp), want: make(map[string]bool)}
		s.peers[id] = p
	}
	return p
}

// targets are the members this node tells: the next one by id, so that everybody is told by somebody, and others by the hash
// of both ids, so that the whole is tightly woven and the same streams serve again and again. mu is held.
func (s *reportSync) targets(members []Member, n int) []string {
	if len(members) == 0 {
		return nil
	}
	if s.orderOf != &members[0] {
		s.order, s.orderOf = tellOrder(s.self, s.others(members)), &members[0]
	}
	now := s.clock.Now()
	var out []string
	for _, id := range s.order {
		if len(out) < n && !s.resting(id, now) {
			out = append(out, id)
		}
	}
	return out
}

// tellOrder sorts the others, who are sorted by id, by how much self is the one to tell them.
func tellOrder(self string, others []string) []string {
	if len(others) == 0 {
		return nil
	}
	i, _ := slices.BinarySearch(others, self)
	next := others[i%len(others)]
	type ranked struct {
		id   string
		rank uint64
	}
	list := make([]ranked, len(others))
	for i, id := range others {
		h := fnv.New64a()
		h.Write([]byte(self))
		h.Write([]byte(id))
		list[i] = ranked{id, mix(h.Sum64())}
		if id == next {
			list[i].rank = 0
		}
	}
	slices.SortFunc(list, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id)) })
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.id
	}
	return out
}

// mix spreads the bits of a hash over all of it: FNV leaves the high ones alike for texts with like endings (the finisher of
// MurmurHash3).
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
