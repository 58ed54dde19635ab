package node

import (
	"context"
	"net/http"
	"net/netip"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/hostdb/rest"
	"hostmesh/node/api"
)

// handler is what every listener serves.
func (a *Agent) handler() http.Handler {
	machines := a.vmDesk()
	return &routes{
		hostdb: rest.New(rest.Config{Store: a.store, Auth: a.auth, Settled: a.settled, Logger: a.log, Registerer: a.metrics}),
		api: api.NewHandler(api.Config{
			Build:      a.build(),
			Membership: a, Status: a, Digester: a,
			Importer: importer{a.store}, Namespaces: namespaces{a.store}, Git: gitHistories{a.store}, Users: users{a.auth},
			Keeper: a.keeper, Nodes: a.removals(), Duties: duties{a}, Mender: mender{a}, Images: a.images,
			Doctor: a.doctor(machines), Explainer: a.store,
			History: a.history(), Restorer: a.history(), Conflicts: a.history(), ReadOnly: a.history(),
			Zones: a.zones(), DNSKeys: dnsKeys{a.tsigKeys()}, DNSDesk: a.dnsDesk(), DNSQueries: a.dnsQueries(), Query: a.store,
			Objects: a.store, Watchers: a.watchers,
			VMs: machines, VMCommands: machines, VMPlanner: machines, LB: a.lbDesk(), MySQL: a.mysqlDesk(),
			Identify:       a.identify,
			ReplicaVersion: func() string { return a.store.View().Version().String() },
		}),
		metrics: metricsHandler(a.metrics, a.log),
		version: func() string { return a.store.View().Version().String() },
		ready:   a.notReady,
	}
}

// identify tells who makes a request of the JSON API: the socket's peer, else whoever a session token stands for.
func (a *Agent) identify(r *http.Request) (api.Identity, bool, error) {
	id, ok := auth.FromContext(r.Context())
	if !ok {
		cookie, err := r.Cookie(api.SessionCookie)
		if err != nil || cookie.Value == "" {
			return api.Identity{}, false, nil
		}
		var addr netip.Addr
		if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			addr = ap.Addr()
		}
		if id, err = a.auth.Identify(cookie.Value, addr); err != nil {
			return api.Identity{}, false, err
		}
	}
	return api.Identity{User: id.User, Groups: id.Groups, Admin: id.Admin}, true, nil
}

// request is a write of who.
func request(who api.Identity, log string) hostdb.Request {
	id := auth.Identity{User: who.User, Groups: who.Groups, Admin: who.Admin, Via: "api"}
	return hostdb.Request{User: who.User, Log: log, Allow: id.Allow, AllowData: id.AllowChange}
}

// namespaces implements api.Namespaces.
type namespaces struct{ store *hostdb.Store }

func (n namespaces) CreateNamespace(ctx context.Context, who api.Identity, name, log string) (bool, error) {
	c, err := n.store.Update(ctx, request(who, log), func(tx *hostdb.Tx) error { return tx.CreateNamespace(name) })
	return c.Changed(), err
}
