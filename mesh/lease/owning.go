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
// newest grants, or this node comes to another group, their owners bring them in again (opClaim). What a group has not heard
// of, or has given to another, is not used.
type ownings struct {
	path string

	mu      sync.Mutex // guards the fields below
	owned   map[string]string
	asked   map[string]string // perhaps: it was asked for, and no answer came
	refused map[string]string // of owned: what another node owns by the group's word, and which
	group   Group             // last known; zero = none
	heard   heardBy
	next    time.Time // when they may be claimed again
}

// heardBy is the group, and its generation, that has heard of all that is owned here; zero = none has.
type heardBy struct {
	group      string
	generation uint64
}

func heardOf(g Group) heardBy { return heardBy{g.ID, g.Generation} }

// ownFile is the file's form.
type ownFile struct {
	Version int               `json:"version"`
	Claimed uint64            `json:"claimed"` // the generation
	By      string            `json:"claimed_by,omitempty"`
	Owned   map[string]string `json:"owned"`
	Refused map[string]string `json:"refused,omitempty"`
	Asked   map[string]string `json:"asked,omitempty"`
	// Group is the group that this node was in last, also when what raft had written was discarded.
	Group *Group `json:"group,omitempty"`
}

const ownName = "owned.json"

func openOwnings(dir string) (*ownings, error) {
	o := &ownings{path: filepath.Join(dir, ownName), owned: map[string]string{}, asked: map[string]string{}, refused: map[string]string{}}
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
	maps.Copy(o.refused, f.Refused)
	if f.Group != nil {
		o.group = *f.Group
	}
	o.heard = heardBy{f.By, f.Claimed} // an earlier build did not write which group: then it is told once more
	return o, nil
}

// saveLocked writes the file so that it is there, whole, after a crash.
func (o *ownings) saveLocked() error {
	form := ownFile{Version: formatVersion, Claimed: o.heard.generation, By: o.heard.group, Owned: o.owned, Refused: o.refused, Asked: o.asked}
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

// add notes what is asked for, or what was granted. Only that is claimed of a group, and used.
func (o *ownings) add(key, owner string, granted bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, refused := o.refused[key]
	switch {
	case o.owned[key] == owner && !(granted && refused):
		return nil
	case granted:
		delete(o.asked, key)
		delete(o.refused, key)
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
	delete(o.refused, key)
	return o.saveLocked()
}

// list are those that may be used in the group.
func (o *ownings) list(g Group, prefix string) (list []string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.owned {
		_, refused := o.refused[key]
		if rest, ok := strings.CutPrefix(key, prefix); ok && !refused {
			list = append(list, rest)
		}
	}
	if len(list) > 0 && !o.knownTo(g) {
		return nil, toldNothing()
	}
	slices.Sort(list)
	return list, nil
}

func toldNothing() error {
	return fmt.Errorf("%w: the lease group has not heard yet what this node owns; it is told as soon as a leader answers", ErrRecovering)
}

// knownTo reports whether the group has heard of them; a caller holds mu. A later generation than was heard of has not.
func (o *ownings) knownTo(g Group) bool {
	return o.heard.group == g.ID && o.heard.generation >= g.Generation
}

// owing reports whether the group has not heard of them.
func (o *ownings) owing(g Group) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.ID != "" && !o.knownTo(g)
}

// owes reports whether it is to be told now.
func (o *ownings) owes(g Group) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return g.ID != "" && !o.knownTo(g) && time.Now().After(o.next)
}

// forget has all claimed once more: what was granted last may have been granted by another group.
func (o *ownings) forget() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard, o.next = heardBy{}, time.Time{}
	return o.saveLocked()
}

func (o *ownings) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.owned) > 0
}

// twice says what another node owns as well, for people; "" = nothing.
func (o *ownings) twice() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for _, key := range slices.Sorted(maps.Keys(o.refused)) {
		list = append(list, fmt.Sprintf("%s is node %s's", strings.TrimPrefix(key, grantPrefix), shortID(o.refused[key])))
	}
	if n := len(list); n > 3 {
		list = append(list[:3], fmt.Sprintf("and %d more", n-3))
	}
	return strings.Join(list, ", ")
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
	var remote *remoteError
	refused := map[string]string{}
	switch {
	case errors.Is(err, ErrTaken): // the answer names one; there may be more
		list, lerr := l.List(ctx, grantPrefix)
		if lerr != nil {
			return
		}
		o.mu.Lock()
		for _, r := range list.Records {
			if owner, mine := o.owned[r.Key]; mine && owner != string(r.Value) {
				refused[r.Key] = string(r.Value)
			}
		}
		o.mu.Unlock()
		l.log.Error("something was granted to two nodes, by two lease groups or generations; this one uses it no more", "err", err)
	case errors.As(err, &remote):
		l.log.Error("the lease group does not take what this node owns", "err", err)
		return
	case err != nil:
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard, o.refused = heardOf(g), refused
	if err := o.saveLocked(); err != nil {
		l.log.Warn("it will be claimed again", "err", err)
	}
}
