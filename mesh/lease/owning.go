package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ownings are what was granted to this node for good, kept here as well: when a group is recovered from a copy that lacks the
// newest grants, their owners bring them in again (opClaim).
type ownings struct {
	path string

	mu      sync.Mutex // guards the fields below
	owned   map[string]string
	asked   map[string]string // perhaps: it was asked for, and no answer came
	group   Group             // last known; zero = none
	claimed uint64            // the generation that has heard of them
	refused string            // what another node owns too, by the leader's word
	next    time.Time
}

// ownFile is the file's form.
type ownFile struct {
	Version int               `json:"version"`
	Claimed uint64            `json:"claimed"`
	Owned   map[string]string `json:"owned"`
	Asked   map[string]string `json:"asked,omitempty"`
	// Group is the group that this node was in last, also when what raft had written was discarded.
	Group *Group `json:"group,omitempty"`
}

const ownName = "owned.json"

func openOwnings(dir string) (*ownings, error) {
	o := &ownings{path: filepath.Join(dir, ownName), owned: map[string]string{}, asked: map[string]string{}}
	b, err := os.ReadFile(o.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case err != nil:
		return nil, err
	}
	var f ownFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s: %w; what this node was granted for good stands in it: restore it, or remove it if this node owns nothing", o.path, err)
	}
	if f.Version > formatVersion {
		return nil, fmt.Errorf("%s: version %d: %w", o.path, f.Version, errNewer)
	}
	maps.Copy(o.owned, f.Owned)
	maps.Copy(o.asked, f.Asked)
	if f.Group != nil {
		o.group = *f.Group
	}
	o.claimed = f.Claimed
	return o, nil
}

// saveLocked writes the file so that it is there, whole, after a crash.
func (o *ownings) saveLocked() error {
	form := ownFile{Version: formatVersion, Claimed: o.claimed, Owned: o.owned, Asked: o.asked}
	if o.group.ID != "" {
		form.Group = &o.group
	}
	b := must(json.MarshalIndent(form, "", "  "))
	f, err := os.CreateTemp(filepath.Dir(o.path), ownName+".*")
	if err != nil {
		return fmt.Errorf("keep what this node owns: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), o.path)
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(o.path)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep what this node owns: %w", err)
	}
	return nil
}

// belong notes the group that this node is in.
func (o *ownings) belong(g Group) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.group == g {
		return nil
	}
	o.group = g
	return o.saveLocked()
}

// add notes what is asked for, or what was granted. Only that is claimed after a recovery, and used.
func (o *ownings) add(key, owner string, granted bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.owned[key] == owner:
		return nil
	case granted:
		delete(o.asked, key)
		o.owned[key] = owner
	default:
		o.asked[key] = owner
	}
	return o.saveLocked()
}

func (o *ownings) drop(key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, owned := o.owned[key]
	if _, asked := o.asked[key]; !owned && !asked {
		return nil
	}
	delete(o.owned, key)
	delete(o.asked, key)
	return o.saveLocked()
}

func (o *ownings) list(prefix string) (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.owned {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			list = append(list, rest)
		}
	}
	slices.Sort(list)
	return list
}

// owes reports whether the group's generation has not heard of them.
func (o *ownings) owes(g Group) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.Generation > 1 && o.claimed < g.Generation && time.Now().After(o.next)
}

// claim brings them in.
func (l *Lease) claim(ctx context.Context) {
	g := l.group()
	o := l.own
	o.mu.Lock()
	var claims []claimOp
	for _, key := range slices.Sorted(maps.Keys(o.owned)) {
		claims = append(claims, claimOp{key, []byte(o.owned[key])})
	}
	o.next = time.Now().Add(l.times.Renew)
	o.mu.Unlock()
	var err error
	for first := true; err == nil && (first || len(claims) > 0); first = false {
		n, size := 0, 0
		for n < len(claims) && size < maxEntry/2 {
			size += len(claims[n].Key) + len(claims[n].Value) + 16
			n++
		}
		_, err = l.client.ask(ctx, &asking{Op: op{Kind: opClaim, Claims: claims[:n], Count: uint64(len(claims) - n)}.encode()}, once)
		claims = claims[n:]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var remote *remoteError
	switch {
	case errors.Is(err, ErrTaken):
		o.refused = err.Error()
		l.log.Error("something is owned twice", "err", err, "remedy", "find out who uses it, and give it back on the other node")
	case errors.As(err, &remote):
		l.log.Error("the lease group does not take what this node owns", "err", err)
		return
	case err != nil:
		return
	}
	o.claimed = g.Generation
	if err := o.saveLocked(); err != nil {
		l.log.Warn("it will be claimed again", "err", err)
	}
}
