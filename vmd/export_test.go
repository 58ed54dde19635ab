package vmd

// SetLedgerHooks has tests of crashes called around each write of the ledger.
func (b *Box) SetLedgerHooks(before, after func(what string) error) {
	b.ledger.before, b.ledger.after = before, after
}

// Entries is a copy of the ledger.
func (b *Box) Entries() map[string]Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]Entry{}
	for uuid, e := range b.entries {
		out[uuid] = e
	}
	return out
}

// Room is what the box gives, and what of it is used.
func (b *Box) Room() (cpus, usedCPUs int, memory, usedMemory int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	total, used := b.room("")
	return total.CPUs, used.CPUs, total.Memory, used.Memory
}
