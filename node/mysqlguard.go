package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
)

// guardTime bounds how long the lease group is asked for the records of clusters: a person waits.
const guardTime = 2 * time.Second

// clusterGuard tells which machines must not go because they are the primary of a database cluster.
type clusterGuard struct {
	db   func() hostdb.View
	mesh func() mesh.View
	// list reads the records whose keys begin with a prefix; an error says why they cannot be had.
	list func(ctx context.Context, prefix string) (lease.Changes, error)
}

func (a *Agent) clusterGuard() clusterGuard {
	return clusterGuard{db: a.store.View, mesh: a.mesh.View, list: func(ctx context.Context, prefix string) (lease.Changes, error) {
		if a.lease == nil {
			return lease.Changes{}, errors.New("this node takes no part in duties")
		}
		return a.lease.List(ctx, prefix)
	}}
}

// leads tells why the machine of a host must not be rebooted, stopped or destroyed, and what to do; "" = nothing speaks against it. What it costs is one question to
// the lease group, and nothing where HostDB has no cluster and the host an entry.
func (g clusterGuard) leads(ctx context.Context, host string) string {
	db := g.db()
	s := mysqlha.Standing{Tags: map[string]bool{}, Said: map[string]string{}, Records: map[string]mysqlha.Record{}, Deleted: !db.Exists(hostdb.Hosts, host)}
	for tag := range db.Keys(hostdb.Tags) {
		if my, _ := section.MySQLOf(db.Data(hostdb.Tags, tag)); my != nil {
			s.Tags[tag] = false
		}
	}
	for _, tag := range db.Parents(host, hostdb.Tags) {
		if _, cluster := s.Tags[tag]; cluster {
			s.Tags[tag] = true
		}
	}
	mv := g.mesh()
	if m, ok := mv.ByName(host); ok {
		r, _ := mv.Report(m.ID)
		for tag, x := range r.MySQL {
			s.Said[tag] = x.Role
		}
	}
	if len(s.Tags) == 0 && len(s.Said) == 0 && !s.Deleted {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, guardTime)
	defer cancel()
	all, err := g.list(ctx, mysqlha.RecordKey(""))
	if err != nil {
		s.Error = err.Error()
	}
	for _, raw := range all.Records {
		tag := strings.TrimPrefix(raw.Key, mysqlha.RecordKey(""))
		var r mysqlha.Record
		if err := json.Unmarshal(raw.Value, &r); err != nil {
			s.Error = fmt.Sprintf("record of tags/%s: %v", tag, err)
			continue
		}
		s.Records[tag] = r // of a later format as well: who is the primary stands where it stood, or nowhere
	}
	return mysqlha.Guard(host, s)
}
