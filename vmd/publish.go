package vmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/vmd/plan"
)

// publish writes into HostDB where a machine is. What a person entered is left.
func (b *Box) publish(ctx context.Context, e Entry, w plan.Wish) error {
	if !e.Seen {
		if err := b.note(e.UUID, func(e *Entry) { e.Seen = true }); err != nil {
			return err
		}
	}
	mine := false // whatever HostDB says
	if w.Box != "" && w.Box != b.cfg.Name {
		r, _, err := readRecord(ctx, b.cfg.Records, e.UUID)
		if err != nil {
			return err
		}
		if mine = r.Node == b.cfg.Node && r.State == Taken; !mine {
			return fmt.Errorf("HostDB says that %s is on %s, and the lease log does not say that it is here: it is not written over", w.Name, w.Box)
		}
	}
	req := hostdb.Request{User: "vmd", Log: fmt.Sprintf("vm: %s carries it", b.cfg.Name)}
	_, err := b.cfg.DB.Update(ctx, req, func(tx *hostdb.Tx) error {
		doc := tx.View().Data(hostdb.Hosts, w.Name)
		if !strings.EqualFold(doc.Text("VM", "UUID"), e.UUID) {
			return hostdb.ErrNotFound // deleted meanwhile
		}
		if is := doc.Text("VM", "Box"); is != b.cfg.Name {
			if is != "" && !mine {
				return hostdb.ErrNotFound // another box wrote it meanwhile
			}
			if err := putText(tx, w.Name, b.cfg.Name, "VM", "Box"); err != nil {
				return err
			}
		}
		if !doc.At("Network").IsMapping() && (e.IP.IsValid() || e.MAC != "") {
			if err := tx.PutPath(hostdb.Hosts, w.Name, []string{"Network"}, emptyMapping); err != nil {
				return err
			}
		}
		if e.IP.IsValid() && doc.Text("Network", "IP") == "" {
			if err := putText(tx, w.Name, e.IP.String(), "Network", "IP"); err != nil {
				return err
			}
		}
		if e.MAC != "" && doc.Text("Network", "MAC") == "" {
			return putText(tx, w.Name, e.MAC, "Network", "MAC")
		}
		return nil
	})
	if errors.Is(err, hostdb.ErrNotFound) {
		return errAgain
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.follow(b.cfg.DB.View()) // the worker goes on with what it wrote
	b.mu.Unlock()
	return nil
}

// unsaid reports whether publish would write something. What a person entered counts as said, whether it can be understood or
// not: the box does not write over it.
func unsaid(doc hostdb.Document, box string, e Entry) bool {
	return doc.Text("VM", "Box") != box || e.IP.IsValid() && doc.Text("Network", "IP") == "" || e.MAC != "" && doc.Text("Network", "MAC") == ""
}

var emptyMapping = func() hostdb.Document {
	d, err := hostdb.ParseDocument([]byte("{}"))
	if err != nil {
		panic(err) // a constant
	}
	return d
}()

func putText(tx *hostdb.Tx, key, text string, path ...string) error {
	return tx.PutPath(hostdb.Hosts, key, path, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(text)}))
}

// withdraw takes out of HostDB what publish wrote there.
func (b *Box) withdraw(ctx context.Context, e Entry) error {
	req := hostdb.Request{User: "vmd", Log: fmt.Sprintf("vm: %s cannot carry it: %s", b.cfg.Name, e.Reason)}
	if len(req.Log) > 1024 {
		req.Log = req.Log[:1024]
	}
	_, err := b.cfg.DB.Update(ctx, req, func(tx *hostdb.Tx) error {
		for _, name := range b.hostsOf(e) {
			doc := tx.View().Data(hostdb.Hosts, name)
			if !strings.EqualFold(doc.Text("VM", "UUID"), e.UUID) || doc.Text("VM", "Box") != b.cfg.Name {
				continue
			}
			paths := [][]string{{"VM", "Box"}}
			if doc.Text("Network", "IP") == e.IP.String() && !e.ByHand {
				paths = append(paths, []string{"Network", "IP"})
			}
			if doc.Text("Network", "MAC") == plan.MAC(b.cfg.Mesh, e.UUID).String() {
				paths = append(paths, []string{"Network", "MAC"})
			}
			if n := len(maps.Collect(doc.At("Network").Keys())); n > 0 && n == len(paths)-1 { // nothing else is in it
				paths = [][]string{{"VM", "Box"}, {"Network"}}
			}
			for _, p := range paths {
				if err := tx.DeletePath(hostdb.Hosts, name, p); err != nil && !errors.Is(err, hostdb.ErrNotFound) {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.follow(b.cfg.DB.View())
	b.mu.Unlock()
	return nil
}

func (b *Box) hostsOf(e Entry) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.follow(b.cfg.DB.View())
	return b.planner.ByUUID(e.UUID)
}
