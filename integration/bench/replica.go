package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"hostmesh/hostdb"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/hostdb/section"
)

// replicaSize says how much a replica holds: hosts, a tenth as many tags, and so many operations that changed something
// again.
type replicaSize struct{ hosts, history int }

func (s replicaSize) String() string {
	text := fmt.Sprintf("%dk hosts", s.hosts/1000)
	if s.history > 0 {
		text += fmt.Sprintf(" + %dk operations", s.history/1000)
	}
	return text
}

// writeReplica fills the directory of a replica as the node that has the id: what an import and years of writes leave
// behind, without their clients.
func writeReplica(ctx context.Context, dir, id string, size replicaSize) (err error) {
	s, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return badgerdb.Open(badgerdb.Config{Dir: dir}) },
		NodeID:      id, Validator: section.Validator{},
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Close())
		debug.FreeOSMemory() // what is measured next needs it
	}()
	w := replicaWriter{ctx, s, size}
	if err := w.inventory(); err != nil {
		return err
	}
	return w.past()
}

type replicaWriter struct {
	ctx   context.Context
	store *hostdb.Store
	replicaSize
}

func (w replicaWriter) update(log string, fn func(*hostdb.Tx) error) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	_, err := w.store.Update(w.ctx, hostdb.Request{User: user, Log: log, Lenient: true}, fn)
	return err
}

// inventory writes the generated site, many keys to an operation.
func (w replicaWriter) inventory() error {
	const chunk, tell = 1000, 25_000
	acl, err := hostdb.ParseACL([]byte(access))
	if err != nil {
		return err
	}
	for first := 0; first < w.hosts; first += chunk {
		err := w.update("load", func(tx *hostdb.Tx) error {
			for i := first; i < min(first+chunk, w.hosts); i++ {
				if err := putText(tx, hostdb.Hosts, hostName(i), hostText(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if done := min(first+chunk, w.hosts); done%tell == 0 || done == w.hosts {
			progress("%s: %d hosts written", w.replicaSize, done)
		}
	}
	all := tags(w.hosts)
	for first := 0; first < len(all); first += chunk {
		some := all[first:min(first+chunk, len(all))]
		err := w.update("load", func(tx *hostdb.Tx) error {
			for _, t := range some {
				if err := putText(tx, hostdb.Tags, t.name, t.data); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, t := range all {
		var list []hostdb.Member
		for _, name := range t.members {
			list = append(list, hostdb.Member{Name: name})
		}
		if err := w.update("load", func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, t.name, list) }); err != nil {
			return err
		}
	}
	return w.update("load", func(tx *hostdb.Tx) error {
		return errors.Join(tx.SetPerms(hostdb.Hosts, hostdb.DefaultKey, acl), tx.SetPerms(hostdb.Tags, hostdb.DefaultKey, acl))
	})
}

func putText(tx *hostdb.Tx, ns, key, text string) error {
	doc, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		return err
	}
	return tx.Put(ns, key, doc)
}

// past adds operations of one effect each, on the tags of images: their rows are short, so that most of what is written is
// the history. Many write at a time and share the commits.
func (w replicaWriter) past() error {
	const images, tell = 10, 100_000
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range errs {
		wg.Go(func() {
			for n := done.Add(1); n <= int64(w.history) && errs[i] == nil; n = done.Add(1) {
				doc, err := hostdb.ParseDocument(fmt.Appendf(nil, "debian-12.%d", n))
				if err != nil {
					errs[i] = err
					return
				}
				errs[i] = w.update("new image", func(tx *hostdb.Tx) error {
					return tx.PutPath(hostdb.Tags, fmt.Sprintf("image-%02d", n%images), []string{"Puppet", "Parameters", "image"}, doc)
				})
				if n%tell == 0 {
					progress("%s: %d operations written", w.replicaSize, n)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
