package nft

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Slots is how many places the backends of a service share: a new flow draws a slot, by turn or by a hash of its client, and a map says whose
// it is. The number never changes, so that a change of backends is a change of elements of a map and of nothing else. With it, three backends by
// source differ by some 5 % from a third, and ten by some 10 % from a tenth.
const Slots = 1024

// assign divides the slots: for each, the index of its backend in list. By source, by rendezvous: every backend bids for every slot, the highest bid has
// it. So the slots of one that leaves are divided among the others and no other slot moves, and whoever holds the service comes to the same
// division. In turn, as evenly as can be.
func assign(how Balance, list []Backend) []int {
	out := make([]int, Slots)
	if how == Source {
		seeds := make([]uint64, len(list))
		for i, b := range list {
			sum := sha256.Sum256([]byte(b.String()))
			seeds[i] = binary.BigEndian.Uint64(sum[:])
		}
		for slot := range out {
			best := math.Inf(-1)
			for i, b := range list {
				if bid := bid(seeds[i], slot, b.weight()); bid > best {
					out[slot], best = i, bid
				}
			}
		}
		return out
	}
	// Smooth weighted round-robin: every turn each earns its weight, the richest pays for all.
	credit, total := make([]int, len(list)), 0
	for _, b := range list {
		total += b.weight()
	}
	for slot := range out {
		rich := 0
		for i, b := range list {
			credit[i] += b.weight()
			if credit[i] > credit[rich] {
				rich = i
			}
		}
		credit[rich] -= total
		out[slot] = rich
	}
	return out
}

// bid is a backend's for a slot: -w / ln(u) with u uniform in (0, 1) makes its chance to be the highest its share of the weights.
func bid(seed uint64, slot, weight int) float64 {
	// splitmix64's finalizer.
	x := seed + uint64(slot+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	u := (float64(x>>11) + 0.5) / (1 << 53)
	return -float64(weight) / math.Log(u)
}
