package mesh

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// peerListFile is the name of the peer list in Config.Dir.
const peerListFile = "peers.json"

// peerListVersion is the form of the file. A reader takes its own and the one before.
const peerListVersion = 1

// peerList is what survives a restart: all members that were ever seen, and those that were removed. serf's own snapshot
// forgets the members that are down, which after a power cut is everybody.
type peerList struct {
	path string // "" = in memory only
	log  *slog.Logger

	mu      sync.Mutex // guards the fields below
	mesh    string
	boot    uint64 // of this node's report
	peers   map[string]peer
	removed map[string]time.Time
	dirty   bool
	poke    chan struct{} // one slot: something is to be saved
}

type peer struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Addr       netip.Addr `json:"addr"`
	GossipPort uint16     `json:"gossip_port"`
	StreamPort uint16     `json:"stream_port"`
	Datacenter string     `json:"datacenter,omitempty"`
	Rack       string     `json:"rack,omitempty"`
	Protocol   int        `json:"protocol"`
}

type peerFile struct {
	Version int                  `json:"version"`
	Mesh    string               `json:"mesh"`
	Boot    uint64               `json:"report_boot,omitempty"`
	Peers   []peer               `json:"peers"`
	Removed map[string]time.Time `json:"removed,omitempty"`
}

// loadPeerList reads the list of a directory. A file that cannot be understood is set aside and an empty list returned:
// it can be learnt again, and an agent that does not start cannot.
func loadPeerList(dir string, log *slog.Logger) (*peerList, error) {
	l := &peerList{log: log, peers: make(map[string]peer), removed: make(map[string]time.Time), poke: make(chan struct{}, 1)}
	if dir == "" {
		return l, nil
	}
	l.path = filepath.Join(dir, peerListFile)
	text, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read peer list: %w", err)
	}
	var f peerFile
	err = json.Unmarshal(text, &f)
	if err == nil && (f.Version < 1 || f.Version > peerListVersion+1) {
		err = fmt.Errorf("version %d is not understood", f.Version)
	}
	if err != nil {
		aside := l.path + ".bad"
		log.Error("peer list is unreadable; starting without it", "file", l.path, "kept_as", aside, "err", err)
		if err := os.Rename(l.path, aside); err != nil {
			return nil, fmt.Errorf("set unreadable peer list aside: %w", err)
		}
		return l, nil
	}
	l.mesh = f.Mesh
	if f.Boot <= maxBoot {
		l.boot = f.Boot
	}
	for _, p := range f.Peers {
		if validID(p.ID) && p.Addr.IsValid() {
			l.peers[p.ID] = p
		}
	}
	for id, at := range f.Removed {
		l.removed[id] = at
	}
	return l, nil
}

// setMesh notes the mesh's id.
func (l *peerList) setMesh(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mesh != id {
		l.mesh = id
		l.touch()
	}
}

// setBoot notes the number of this run.
func (l *peerList) setBoot(boot uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boot = boot
	l.touch()
}

// see notes where a member is. Removed ones are not taken in again.
func (l *peerList) see(m Member) {
	p := peer{m.ID, m.Name, m.Addr, m.GossipPort, m.StreamPort, m.Datacenter, m.Rack, m.Protocol}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, gone := l.removed[m.ID]; gone || l.peers[m.ID] == p {
		return
	}
	l.peers[m.ID] = p
	l.touch()
}

// remove drops a member and bars its id.
func (l *peerList) remove(id string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, gone := l.removed[id]; gone {
		return
	}
	delete(l.peers, id)
	l.removed[id] = now.UTC().Truncate(time.Second)
	l.touch()
}

func (l *peerList) isRemoved(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, gone := l.removed[id]
	return gone
}

func (l *peerList) all() []peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]peer, 0, len(l.peers))
	for _, p := range l.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b peer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (l *peerList) touch() {
	l.dirty = true
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// save writes the list if it changed. The file is replaced whole, so that a crash leaves the old or the new one.
func (l *peerList) save() error {
	l.mu.Lock()
	if !l.dirty || l.path == "" {
		l.mu.Unlock()
		return nil
	}
	l.dirty = false
	f := peerFile{Version: peerListVersion, Mesh: l.mesh, Boot: l.boot, Removed: make(map[string]time.Time, len(l.removed))}
	for id, at := range l.removed {
		f.Removed[id] = at
	}
	l.mu.Unlock()
	f.Peers = l.all()

	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = writeFile(l.path, append(text, '\n'))
	}
	if err != nil {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
		return fmt.Errorf("write peer list: %w", err)
	}
	return nil
}

// writeFile replaces a file: a temporary one is written, synced and renamed, and the directory synced.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
