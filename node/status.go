package node

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// Status implements api.StatusReporter.
func (a *Agent) Status() api.Status {
	view, mv := a.store.View(), a.mesh.View()
	s := api.Status{
		Time:      a.clock.Now(),
		Node:      a.nodeStatus(),
		Mesh:      a.meshStatus(mv),
		HostDB:    a.hostdbStatus(view, mv),
		Duties:    a.dutiesStatus(mv),
		Listeners: a.listeners(),
	}
	now := time.Now()
	for _, d := range a.loop.states() {
		x := api.DaemonStatus{
			Name: d.Name, Version: d.Version, Reconciled: d.Reconciled, LagMS: d.lag(now).Milliseconds(),
			Failures: d.Failures, Error: d.Error, Stuck: d.Stuck,
		}
		if a.lb.daemon != nil && d.Name == a.lb.daemon.Name() {
			x.Note, x.Idle = a.lbNote()
		}
		if a.mysql.daemon != nil && d.Name == a.mysql.daemon.Name() {
			x.Note, x.Idle = a.mysqlNote()
		}
		if a.mysql.beside != nil && d.Name == a.mysql.beside.Name() {
			x.Note, x.Idle = a.besideNote()
		}
		s.Daemons = append(s.Daemons, x)
	}
	if a.mirror != nil {
		s.Daemons = append(s.Daemons, a.mirror.status())
	}
	if h := a.hypervisor.Load(); h != nil {
		s.Hypervisor = h.status(a.cfg.Libvirt)
	}
	s.Problems = append(s.Problems, a.dnsProblems()...)
	s.Problems = append(s.Problems, a.images.problems()...)
	s.Problems = append(s.Problems, a.addressProblems()...)
	s.Problems = append(s.Problems, a.lbProblems()...)
	s.Problems = append(s.Problems, a.mysqlProblems()...)
	s.Problems = append(s.Problems, a.vmProblems()...)
	s.Problems = append(s.Problems, a.removals().problems()...)
	s.Problems = append(s.Problems, lostProblems(a.replica.Status().Lost)...)
	s.Problems = append(s.Problems, a.crowds()...)
	return s
}

func (h *hypervisor) status(uri string) *api.HypervisorStatus {
	s := &api.HypervisorStatus{
		URI: uri, Driver: h.info.Driver, Version: h.info.Version, Library: h.info.Library, KVM: h.info.KVM, DomainType: h.info.DomainType(),
	}
	if h.err != nil {
		s.Error = h.err.Error()
	}
	return s
}

func (a *Agent) nodeStatus() api.NodeStatus {
	self := a.mesh.View().Self()
	a.mu.Lock()
	started := a.started
	a.mu.Unlock()
	n := api.NodeStatus{
		ID: self.ID, Name: self.Name, Addr: self.Addr.String(), Datacenter: self.Datacenter, Rack: self.Rack,
		Started: started, Build: a.build(), Observe: a.cfg.Observe, Dev: a.cfg.Dev, DataDir: a.dir.path,
	}
	var err error
	if n.DiskFree, n.DiskFloor, err = freeSpace(a.dir.path); err != nil {
		n.DiskFree = -1
	}
	return n
}

func (a *Agent) meshStatus(v mesh.View) api.MeshStatus {
	st := a.mesh.Stats()
	return api.MeshStatus{
		ID: st.MeshID, Members: st.Members, Alive: st.Alive, Failed: st.Failed, Left: st.Left, Unknown: st.Unknown,
		Health: st.Health, MassSuspicion: v.MassSuspicion(), RefusedKey: st.RefusedKey, RefusedMesh: st.RefusedMesh,
		IDConflicts: st.IDConflicts, ConflictAddrs: strings.Join(st.ConflictAddrs, " and "),
		Reports: api.ReportsStatus{
			Nodes: st.Reports.Nodes, LagMS: st.Reports.Lag.Milliseconds(), SentPerSec: math.Round(st.Reports.Rate), Refused: st.Reports.Refused,
		},
	}
}

func (a *Agent) hostdbStatus(v hostdb.View, mv mesh.View) api.HostDBStatus {
	counts := a.store.Counts()
	s := api.HostDBStatus{
		Version: v.Version().String(), Applied: v.Applied(), Hosts: v.Len(hostdb.Hosts), Tags: v.Len(hostdb.Tags),
		ClockLeadMS: a.store.ClockLead().Milliseconds(), HeldAside: counts.HeldAside, Forks: counts.Forks, Unfolded: v.Unfolded(),
	}
	if ro := a.history().ReadOnly(); ro.On {
		s.ReadOnly = &ro
	}
	if err := a.store.Failure(); err != nil {
		s.Failure = err.Error()
	}
	st := a.replica.Status()
	s.Replication = a.replicationStatus(st, mv)
	for _, p := range st.Peers {
		m, known := mv.Get(p.Node)
		if !known {
			continue // removed
		}
		r := api.ReplicaStatus{ID: p.Node, Name: m.Name, Heard: p.LastOK, Missing: p.Missing, Ahead: p.Ahead, Differs: p.Differs}
		if m.State == mesh.StateAlive {
			r.Error = p.Err
		}
		s.Peers = append(s.Peers, r)
	}
	slices.SortFunc(s.Peers, func(x, y api.ReplicaStatus) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	return s
}

// listeners are what the agent listens on.
func (a *Agent) listeners() []api.ListenerStatus {
	self := a.mesh.View().Self()
	list := []api.ListenerStatus{
		{Name: "gossip", Addr: self.Gossip().String()},
		{Name: "streams", Addr: self.Stream().String()},
	}
	for _, w := range a.web {
		list = append(list, api.ListenerStatus{Name: w.name, Addr: w.ln.Addr().String()})
	}
	return append(list, a.dnsListeners()...)
}

// Members implements api.Membership.
func (a *Agent) Members() []api.Member {
	var list []api.Member
	for _, m := range a.mesh.View().Members() {
		list = append(list, api.Member{
			ID: m.ID, Name: m.Name, Addr: m.Addr.String(), GossipPort: m.GossipPort, StreamPort: m.StreamPort,
			Datacenter: m.Datacenter, Rack: m.Rack, Protocol: m.Protocol, State: m.State.String(), Since: m.Since,
			Self: m.Self, RTTMillis: float64(m.RTT) / float64(time.Millisecond),
		})
	}
	slices.SortFunc(list, func(x, y api.Member) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return list
}

// Digests implements api.Digester.
func (a *Agent) Digests() api.Digests {
	v := a.store.View()
	d := api.Digests{Version: v.Version().String(), Algorithm: hostdb.DigestAlgorithm, Namespaces: map[string]string{}}
	for _, ns := range v.Namespaces() {
		d.Namespaces[ns] = v.Digest(ns)
	}
	return d
}
