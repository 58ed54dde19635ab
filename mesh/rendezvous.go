package mesh

// Weight is rendezvous hashing: each thing ranks members, or whatever else there is to choose from, in an order of its own, which
// those that come and go do not change. The same parts weigh the same on every node and in every version. It takes no lock and
// allocates nothing.
func Weight(parts ...string) uint64 {
	x := uint64(14695981039346656037) // FNV-1a, each part ended by a zero
	for _, p := range parts {
		for i := range len(p) {
			x = (x ^ uint64(p[i])) * 1099511628211
		}
		x *= 1099511628211
	}
	// FNV's high bits hardly depend on the last bytes; mix as splitmix64 does.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
