package vmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// History is what HostDB remembers. *hostdb.Store implements it.
type History interface {
	View() hostdb.View
	At(ctx context.Context, cut hostdb.Stamp) (hostdb.View, error)
	Revisions(ctx context.Context, q hostdb.RevisionQuery) (list []hostdb.Revision, more bool, err error)
}

// Deletion is how a machine's entry went.
type Deletion struct {
	Name, UUID string
	Revision   hostdb.Revision // which deleted it
	// Before is the state that the deletion found.
	Before hostdb.View
}

// deletionPage is how many revisions of a key are read at once: the deletion is mostly the newest.
const deletionPage = 20

// FindDeletion looks up how the entry of a machine that is gone was deleted last. Errors are for people: hostdb.ErrExists
// when the entry is there, hostdb.ErrNotFound when there never was one, hostdb.ErrInvalid when what was deleted was no
// machine, and hostdb.ErrDropped when history does not reach back that far.
func FindDeletion(ctx context.Context, db History, name string) (Deletion, error) {
	if host, ok := db.View().Get(hostdb.Hosts, name); ok {
		if host.Data().At("VM").Exists() {
			return Deletion{}, wrong(hostdb.ErrExists, "hosts/%s is there: nothing was deleted", name)
		}
		return Deletion{}, wrong(hostdb.ErrExists, "hosts/%s is there, without a VM: see what changed with hostmesh db log hosts/%s, and go back with hostmesh db rollback", name, name)
	}
	q := hostdb.RevisionQuery{Scope: hostdb.Scope{NS: hostdb.Hosts, Key: name}, Limit: deletionPage}
	for more := true; more; {
		var list []hostdb.Revision
		var err error
		if list, more, err = db.Revisions(ctx, q); err != nil {
			return Deletion{}, fmt.Errorf("look for the deletion of hosts/%s: %w", name, err)
		}
		for _, rev := range list {
			q.Before = rev.ID
			switch gone, to := wentBy(rev, name); {
			case to != "":
				return Deletion{}, wrong(hostdb.ErrNotFound, "hosts/%s was not deleted: it is called %s since revision %s", name, to, rev.ID)
			case gone:
				return deletionBy(ctx, db, rev, name)
			}
		}
	}
	return Deletion{}, wrong(hostdb.ErrNotFound, "there was no machine %s: history knows of no hosts/%s that was deleted", name, name)
}

// wentBy reports whether a revision deleted a host, or what it renamed it to.
func wentBy(rev hostdb.Revision, name string) (deleted bool, renamed string) {
	for _, x := range rev.Effects {
		switch {
		case x.NS != hostdb.Hosts:
		case x.Kind == hostdb.DeleteKey && x.Key == name:
			deleted = true
		case x.Kind == hostdb.CreateKey && x.From == name:
			renamed = x.Key
		}
	}
	return deleted, renamed
}

func deletionBy(ctx context.Context, db History, rev hostdb.Revision, name string) (Deletion, error) {
	before, err := db.At(ctx, rev.ID.Before())
	if err != nil {
		return Deletion{}, fmt.Errorf("look at hosts/%s before its deletion: %w", name, err)
	}
	host, _ := section.HostOf(before.Data(hostdb.Hosts, name))
	if host.VM == nil {
		return Deletion{}, wrong(hostdb.ErrInvalid, "hosts/%s was no virtual machine; its entry comes back with hostmesh db undo %s", name, rev.ID)
	}
	return Deletion{Name: name, UUID: host.VM.UUID, Revision: rev, Before: before}, nil
}

// Undelete brings the entry of a machine back as it was before its deletion: data, access list, and its place in the
// lists of all tags that still exist. left are the lists that it was in and that are gone, as namespace/key. It is
// refused with hostdb.ErrExists when somebody has used the name, the UUID or the address since.
func Undelete(tx *hostdb.Tx, d Deletion) (left []string, err error) {
	v := tx.View()
	if tx.Exists(hostdb.Hosts, d.Name) {
		return nil, wrong(hostdb.ErrExists, "hosts/%s is there again: it was made anew meanwhile", d.Name)
	}
	doc := d.Before.Data(hostdb.Hosts, d.Name)
	if net, _ := section.NetworkOf(doc); net.IP.IsValid() {
		if hosts := v.HostsByAddr(net.IP.String()); len(hosts) > 0 {
			return nil, wrong(hostdb.ErrExists, "the address of %s, %s, is that of hosts/%s by now: change that first", d.Name, net.IP, hosts[0])
		}
	}
	for name, item := range v.Items(hostdb.Hosts) {
		if d.UUID != "" && strings.EqualFold(item.Data().Text("VM", "UUID"), d.UUID) {
			return nil, wrong(hostdb.ErrExists, "the machine of %s is that of hosts/%s by now: its VM/UUID is the same", d.Name, name)
		}
	}
	if err := tx.Restore(d.Before, hostdb.Hosts, d.Name, ""); err != nil {
		return nil, err
	}
	for _, ns := range d.Before.Namespaces() {
		for _, key := range d.Before.Holders(ns, d.Name) {
			if !v.Exists(ns, key) {
				left = append(left, ns+"/"+key)
				continue
			}
			if err := tx.SetMembers(ns, key, relisted(d.Before.DirectMembers(ns, key), v.DirectMembers(ns, key), d.Name)); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// relisted is the list now with a member in its place of before: behind the nearest one that stood before it then. A
// comment that the deletion left to the next member is taken back.
func relisted(before, now []hostdb.Member, name string) []hostdb.Member {
	at := func(list []hostdb.Member, name string) int {
		return slices.IndexFunc(list, func(m hostdb.Member) bool { return m.Name == name })
	}
	if at(now, name) >= 0 {
		return now
	}
	was := at(before, name)
	place := 0
	for i := was - 1; i >= 0; i-- {
		if j := at(now, before[i].Name); j >= 0 {
			place = j + 1
			break
		}
	}
	out := slices.Insert(slices.Clone(now), place, before[was])
	if text := before[was].Text; place+1 < len(out) {
		next := &out[place+1]
		rest, moved := strings.CutPrefix(next.Text, text)
		moved = moved && text != ""
		if i := at(before, next.Name); moved && (i < 0 || before[i].Text == rest) {
			next.Text = rest
			if next.Name == "" && rest == "" {
				out = slices.Delete(out, place+1, place+2)
			}
		} else {
			out[place].Text = "" // it has gone another way
		}
	} else {
		out[place].Text = ""
	}
	return out
}
