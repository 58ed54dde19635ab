package raftdisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// The vote file holds all keys in one of two slots, which are written in turn with a growing number: a torn write leaves the other.
// A third block is written to see whether the disk can be. The file never grows, so a full disk does not hinder it.
const (
	voteFile    = "vote"
	voteVersion = 1

	slotSize = 4096
	probeAt  = 2 * slotSize
	voteSize = 3 * slotSize

	slotHead = 32 // magic, version, checksum, number, length
)

var voteMagic = []byte("HMRAFTVT")

// retryEvery is how long a failed write waits for the next try.
const retryEvery = 250 * time.Millisecond

// stableStore is raft's StableStore. See Disk.Stable.
type stableStore struct {
	path   string
	health *health
	closed chan struct{}

	write sync.Mutex // guards the two below; held while a write is tried
	file  File
	seq   uint64

	mu     sync.RWMutex // guards the field below
	values map[string][]byte
}

// encodeSlot is nil when the values have no room.
func encodeSlot(seq uint64, values map[string][]byte) []byte {
	var body []byte
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if len(k) > slotSize || len(values[k]) > slotSize {
			return nil
		}
		body = binary.LittleEndian.AppendUint16(body, uint16(len(k)))
		body = append(body, k...)
		body = binary.LittleEndian.AppendUint16(body, uint16(len(values[k])))
		body = append(body, values[k]...)
	}
	if slotHead+len(body) > slotSize {
		return nil
	}
	b := make([]byte, slotHead, slotSize)
	copy(b, voteMagic)
	binary.LittleEndian.PutUint32(b[8:], voteVersion)
	binary.LittleEndian.PutUint64(b[16:], seq)
	binary.LittleEndian.PutUint64(b[24:], uint64(len(body)))
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b[:slotSize]
}

// decodeSlot reads a slot. ok is false for one that was not written whole. The error is ErrFormat.
func decodeSlot(b []byte) (seq uint64, values map[string][]byte, ok bool, err error) {
	if len(b) != slotSize || !bytes.Equal(b[:8], voteMagic) {
		return 0, nil, false, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > voteVersion {
		return 0, nil, false, fmt.Errorf("%w: a vote file of version %d, this build reads up to %d", ErrFormat, v, voteVersion)
	}
	n := binary.LittleEndian.Uint64(b[24:])
	if n > slotSize-slotHead || binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[16:slotHead+n], castagnoli) {
		return 0, nil, false, nil
	}
	values = map[string][]byte{}
	body := b[slotHead : slotHead+n]
	next := func() ([]byte, bool) {
		if len(body) < 2 {
			return nil, false
		}
		n := int(binary.LittleEndian.Uint16(body))
		if len(body) < 2+n {
			return nil, false
		}
		part := body[2 : 2+n]
		body = body[2+n:]
		return part, true
	}
	for len(body) > 0 {
		k, ok1 := next()
		v, ok2 := next()
		if !ok1 || !ok2 {
			return 0, nil, false, nil
		}
		values[string(k)] = bytes.Clone(v)
	}
	return binary.LittleEndian.Uint64(b[16:]), values, true, nil
}

// createVotes makes the file of new state.
func createVotes(fsys FS, path string) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := zeroFill(f, voteSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(encodeSlot(2, nil), 0); err != nil {
		return err
	}
	return f.Sync()
}

func openVotes(fsys FS, path string, h *health) (s *stableStore, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	s = &stableStore{path: path, health: h, file: f, closed: make(chan struct{})}
	data = append(data, make([]byte, max(0, voteSize-len(data)))...)
	found := 0
	for i := range 2 {
		seq, values, ok, err := decodeSlot(data[i*slotSize : (i+1)*slotSize])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if ok && int(seq%2) == i {
			found++
			if seq > s.seq {
				s.seq, s.values = seq, values
			}
		}
	}
	if found == 0 {
		return nil, damaged(path, 0, "neither slot can be read")
	}
	// What was read may have been written by a process that was killed before it was synced. From here on raft acts on it.
	if err := s.put(s.seq, s.values); err != nil {
		return nil, err
	}
	return s, nil
}

// put writes the slot of a number.
func (s *stableStore) put(seq uint64, values map[string][]byte) error {
	b := encodeSlot(seq, values)
	if b == nil {
		return fmt.Errorf("%w: the vote file takes %d bytes", ErrTooLarge, slotSize-slotHead)
	}
	if _, err := s.file.WriteAt(b, int64(seq%2)*slotSize); err != nil {
		return err
	}
	return s.file.Sync()
}

// probe writes what means nothing, to see whether writing works. It does not wait behind a write that is being retried.
func (s *stableStore) probe() error {
	if !s.write.TryLock() {
		return s.health.err()
	}
	defer s.write.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	if _, err := s.file.WriteAt(fmt.Appendf(nil, "%-32d", time.Now().UnixNano()), probeAt); err != nil {
		return err
	}
	return s.file.Sync()
}

func (s *stableStore) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, val []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	if s.isClosed() {
		runtime.Goexit()
	}
	s.mu.RLock()
	old, has := s.values[string(key)]
	values := maps.Clone(s.values)
	s.mu.RUnlock()
	if has && bytes.Equal(old, val) {
		return nil
	}
	if values == nil {
		values = map[string][]byte{}
	}
	values[string(key)] = bytes.Clone(val)
	if encodeSlot(s.seq+1, values) == nil {
		return fmt.Errorf("%s: %w: key %q with %d bytes", s.path, ErrTooLarge, key, len(val))
	}
	for {
		err := s.put(s.seq+1, values)
		if err == nil {
			break
		}
		s.health.set(sickVote, err)
		again := time.NewTimer(retryEvery)
		select {
		case <-again.C:
		case <-s.closed:
			again.Stop()
			// To return nil would be a lie, and an error makes raft panic. Its goroutines end well with this: their deferred calls
			// answer a pending request with a refusal.
			runtime.Goexit()
		}
	}
	s.health.clear(sickVote)
	s.seq++
	s.mu.Lock()
	s.values = values
	s.mu.Unlock()
	return nil
}

// Get implements raft.StableStore.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return bytes.Clone(s.values[string(key)]), nil
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 implements raft.StableStore.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	val, err := s.Get(key)
	if err != nil || len(val) == 0 {
		return 0, err
	}
	if len(val) != 8 {
		return 0, fmt.Errorf("%s: key %q holds %d bytes, not a number", s.path, key, len(val))
	}
	return binary.BigEndian.Uint64(val), nil
}

// close releases who waits in Set, and waits for them.
func (s *stableStore) close() error {
	if s.isClosed() {
		return nil
	}
	close(s.closed)
	s.write.Lock()
	defer s.write.Unlock()
	return s.file.Close()
}
