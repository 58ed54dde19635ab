package raftdisk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// A snapshot is one file: a line of JSON, the state as the state machine wrote it, and a footer of 24 bytes with the state's length, the
// CRC-64 of line and state, and a magic. It is written under another name, synced, renamed, and the directory synced.
const (
	snapshotDir     = "snapshots"
	snapshotPrefix  = "snapshot-" // term, index and a number, 16 hex digits each
	snapshotVersion = 1

	footerSize = 24
	maxMeta    = 1 << 20

	// keepSnapshots is how many there are: the newest, and one should it turn out to be bad.
	keepSnapshots = 2
)

var (
	footerMagic = []byte("HMRAFTSN")
	crc64Table  = crc64.MakeTable(crc64.ECMA)
)

type snapshotHead struct {
	Version int               `json:"version"`
	Meta    raft.SnapshotMeta `json:"meta"`
}

// snapshotStore is raft's SnapshotStore. See Disk.Snapshots.
type snapshotStore struct {
	fs  FS
	dir string
	log *slog.Logger

	mu     sync.Mutex // guards the fields below
	closed bool
	metas  []raft.SnapshotMeta // the newest first
	next   uint64              // number of the next file
	bad    uint64              // highest index of a snapshot that was there and cannot be read
}

func snapshotID(term, index, n uint64) string {
	return fmt.Sprintf("%s%016x-%016x-%016x", snapshotPrefix, term, index, n)
}

func parseSnapshotID(id string) (term, index, n uint64, ok bool) {
	rest, is := strings.CutPrefix(id, snapshotPrefix)
	if !is {
		return 0, 0, 0, false
	}
	_, err := fmt.Sscanf(rest, "%016x-%016x-%016x", &term, &index, &n)
	return term, index, n, err == nil && snapshotID(term, index, n) == id
}

// load looks through the snapshots, reads each whole, and removes what was not finished.
func (s *snapshotStore) load() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil {
				return err
			}
			continue
		}
		_, index, n, ok := parseSnapshotID(name)
		if !ok {
			continue // not ours
		}
		s.next = max(s.next, n+1)
		meta, _, err := s.read(name, true)
		if errors.Is(err, ErrFormat) {
			return err
		}
		if err != nil {
			s.log.Error("raft snapshot cannot be read", "file", filepath.Join(s.dir, name), "err", err)
			s.bad = max(s.bad, index)
			continue
		}
		s.metas = append(s.metas, meta)
	}
	s.sort()
	return nil
}

func (s *snapshotStore) sort() {
	slices.SortFunc(s.metas, func(a, b raft.SnapshotMeta) int {
		return strings.Compare(b.ID, a.ID) // fixed width: by term, index, number
	})
}

// newest is where the newest snapshot ends, 0 for none.
func (s *snapshotStore) newest() (index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.metas) == 0 {
		return 0, 0
	}
	return s.metas[0].Index, s.metas[0].Term
}

// read reads the description of a snapshot, and returns the state's reader; with check it reads all and returns none.
func (s *snapshotStore) read(id string, check bool) (meta raft.SnapshotMeta, _ io.ReadCloser, err error) {
	path := filepath.Join(s.dir, id)
	f, err := s.fs.Open(path)
	if err != nil {
		return meta, nil, err
	}
	defer func() {
		if err != nil || check {
			err = errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return meta, nil, err
	}
	if size < footerSize {
		return meta, nil, fmt.Errorf("%w: %s is cut off", ErrDamaged, path)
	}
	footer := make([]byte, footerSize)
	if _, err := f.ReadAt(footer, size-footerSize); err != nil && err != io.EOF {
		return meta, nil, err
	}
	sum := crc64.New(crc64Table)
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, size-footerSize)); err != nil {
		return meta, nil, err
	}
	state := int64(binary.LittleEndian.Uint64(footer))
	line := size - footerSize - state
	if !bytes.Equal(footer[16:], footerMagic) || binary.LittleEndian.Uint64(footer[8:]) != sum.Sum64() || state < 0 || line < 0 || line > maxMeta {
		return meta, nil, fmt.Errorf("%w: %s: its checksum is wrong", ErrDamaged, path)
	}
	text := make([]byte, line)
	if _, err := f.ReadAt(text, 0); err != nil && err != io.EOF {
		return meta, nil, err
	}
	var head snapshotHead
	if err := json.Unmarshal(text, &head); err != nil {
		return meta, nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if head.Version > snapshotVersion {
		return meta, nil, fmt.Errorf("%w: %s is of version %d, this build reads up to %d", ErrFormat, path, head.Version, snapshotVersion)
	}
	meta = head.Meta
	meta.ID, meta.Size = id, state
	return meta, &snapshotReader{bufio.NewReader(io.NewSectionReader(f, line, state)), f}, nil
}

type snapshotReader struct {
	io.Reader
	file File
}

func (r *snapshotReader) Close() error { return r.file.Close() }

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*raft.SnapshotMeta, len(s.metas))
	for i, m := range s.metas {
		out[i] = &m
	}
	return out, nil
}

// Open implements raft.SnapshotStore. The whole file is checked before the first byte is handed out.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if _, _, _, ok := parseSnapshotID(id); !ok {
		return nil, nil, fmt.Errorf("there is no raft snapshot %q", id)
	}
	meta, r, err := s.read(id, false)
	if err != nil {
		return nil, nil, fmt.Errorf("open raft snapshot: %w", err)
	}
	return &meta, r, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("create raft snapshot: version %d is not known", version)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("create raft snapshot: %w", ErrClosed)
	}
	id := snapshotID(term, index, s.next)
	s.next++
	head := snapshotHead{snapshotVersion, raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex}}
	text, err := json.Marshal(head)
	if err == nil && len(text)+1 > maxMeta {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("create raft snapshot: %w", err)
	}
	f, err := s.fs.Create(filepath.Join(s.dir, id+tmpSuffix))
	if err != nil {
		return nil, fmt.Errorf("create raft snapshot: %w", err)
	}
	sink := &snapshotSink{store: s, meta: head.Meta, file: f, sum: crc64.New(crc64Table)}
	sink.buf = bufio.NewWriterSize(&fileWriter{sink: sink}, 64<<10)
	if _, err := sink.buf.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("create raft snapshot: %w", errors.Join(err, sink.drop()))
	}
	return sink, nil
}

// snapshotSink is written by one goroutine.
type snapshotSink struct {
	store *snapshotStore
	meta  raft.SnapshotMeta
	file  File
	at    int64
	sum   hash.Hash64
	buf   *bufio.Writer
	done  bool
}

type fileWriter struct{ sink *snapshotSink }

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.sink.file.WriteAt(p, w.sink.at)
	w.sink.at += int64(n)
	w.sink.sum.Write(p[:n])
	return n, err
}

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string { return k.meta.ID }

// Write implements raft.SnapshotSink.
func (k *snapshotSink) Write(p []byte) (int, error) {
	n, err := k.buf.Write(p)
	k.meta.Size += int64(n)
	return n, err
}

// Close implements raft.SnapshotSink: the snapshot is durable when it returns nil, and is not there when it returns an error.
func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	s := k.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := k.finish(); err != nil {
		return fmt.Errorf("finish raft snapshot: %w", errors.Join(err, k.drop()))
	}
	k.done = true
	s.metas = append(s.metas, k.meta)
	s.sort()
	for len(s.metas) > keepSnapshots {
		old := filepath.Join(s.dir, s.metas[len(s.metas)-1].ID)
		if err := s.fs.Remove(old); err != nil {
			s.log.Warn("raft snapshots: remove an old one; it is tried again with the next", "file", old, "err", err)
			break
		}
		s.metas = s.metas[:len(s.metas)-1]
	}
	return nil
}

func (k *snapshotSink) finish() error {
	s := k.store
	if s.closed {
		return ErrClosed
	}
	if err := k.buf.Flush(); err != nil {
		return err
	}
	footer := binary.LittleEndian.AppendUint64(nil, uint64(k.meta.Size))
	footer = binary.LittleEndian.AppendUint64(footer, k.sum.Sum64())
	footer = append(footer, footerMagic...)
	if _, err := k.file.WriteAt(footer, k.at); err != nil {
		return err
	}
	if err := k.file.Sync(); err != nil {
		return err
	}
	path := filepath.Join(s.dir, k.meta.ID)
	if err := s.fs.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return errors.Join(err, s.fs.Remove(path))
	}
	return k.file.Close()
}

// drop removes what was written of a snapshot.
func (k *snapshotSink) drop() error {
	k.done = true
	err := k.file.Close()
	if !k.store.closed { // else the directory may be another's
		err = errors.Join(err, removeTree(k.store.fs, filepath.Join(k.store.dir, k.meta.ID+tmpSuffix)))
	}
	return err
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	return k.drop()
}

func (s *snapshotStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
