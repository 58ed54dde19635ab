package api

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hostmesh/hostdb/auth"
)

// HeaderVersion names the version of the replica that gave an answer.
const HeaderVersion = "Hostmesh-Version"

// SessionCookie is the cookie that carries a session token, as upstream's clients send it.
const SessionCookie = "HostDB"

// DefaultMaxImport bounds the body of an import: 100,000 hosts of a few kilobytes fit in it several times.
const DefaultMaxImport = 1 << 30

// Identity is who makes a request.
type Identity = auth.Identity

// Config is where the answers come from. A nil area leaves its endpoints out.
type Config struct {
	// Build is what the agent was made from.
	Build Build

	Membership Membership
	Status     StatusReporter
	Importer   Importer
	Digester   Digester
	Zones      Zones
	DNSKeys    DNSKeys
	DNSDesk    DNSDesk
	DNSQueries DNSQueries
	Namespaces Namespaces
	Users      Users
	Query      Views
	Doctor     Doctor
	Explainer  Explainer
	History    History
	Restorer   Restorer
	Conflicts  Conflicts
	ReadOnly   ReadOnlySwitch
	Objects    Objects   // also transactions
	Watchers   *Watchers // the caller closes them
	Git        GitHistories
	Keeper     Keeper
	Mender     Mender
	Nodes      Nodes
	Duties     Duties
	VMs        VMs // watched through Watchers
	VMCommands VMCommands
	VMPlanner  VMPlanner
	LB         LB
	MySQL      MySQL
	Images     Images

	// Identify tells who makes a request; ok is false when nobody is known to. An error is for proof that was given
	// and is not good: the request is refused with its text. nil = nobody is ever known, so all writes are refused.
	Identify func(r *http.Request) (who Identity, ok bool, err error)
	// ReplicaVersion is the version that is put on every answer. nil = none.
	ReplicaVersion func() string
	// MaxImport is the most bytes an import may have. 0 = DefaultMaxImport.
	MaxImport int64
}

// NewHandler serves /api/v1/... and /openapi.json. Reads are open to the socket and the loopback; from elsewhere, and
// for every write, somebody must be known to make the request.
func NewHandler(cfg Config) http.Handler {
	if cfg.MaxImport == 0 {
		cfg.MaxImport = DefaultMaxImport
	}
	mux := http.NewServeMux()
	a := humago.New(mux, humaConfig())
	a.UseMiddleware(access(a, cfg.Identify))

	registerBuild(a, cfg.Build)
	registerSchema(a)
	if cfg.Membership != nil {
		registerMembers(a, cfg.Membership)
	}
	if cfg.Status != nil {
		registerStatus(a, cfg.Status)
	}
	if cfg.Importer != nil {
		registerImport(a, cfg.Importer, cfg.MaxImport)
	}
	if cfg.Digester != nil {
		registerDigest(a, cfg.Digester)
	}
	if cfg.Zones != nil {
		registerZones(a, cfg.Zones)
	}
	if cfg.DNSDesk != nil {
		registerDNSDesk(a, cfg.DNSDesk)
	}
	if cfg.DNSKeys != nil {
		registerDNSKeys(a, cfg.DNSKeys)
	}
	if cfg.DNSQueries != nil {
		registerDNSTop(a, cfg.DNSQueries)
	}
	if cfg.Namespaces != nil {
		registerNamespaces(a, cfg.Namespaces)
	}
	if cfg.Users != nil {
		registerUsers(a, cfg.Users)
	}
	if cfg.Query != nil {
		registerQuery(a, cfg.Query)
	}
	if cfg.Doctor != nil {
		registerDoctor(a, cfg.Doctor)
	}
	if cfg.Explainer != nil {
		registerExplain(a, cfg.Explainer)
	}
	if cfg.History != nil {
		registerHistory(a, cfg.History)
	}
	if cfg.Restorer != nil {
		registerRestore(a, cfg.Restorer)
	}
	if cfg.Conflicts != nil {
		registerConflicts(a, cfg.Conflicts)
	}
	if cfg.Git != nil {
		registerGit(a, cfg.Git)
	}
	if cfg.Keeper != nil {
		registerKeep(a, cfg.Keeper)
	}
	if cfg.Mender != nil {
		registerMend(a, cfg.Mender)
	}
	if cfg.Nodes != nil {
		registerNodes(a, cfg.Nodes)
	}
	if cfg.Duties != nil {
		registerDuties(a, cfg.Duties)
	}
	if cfg.Images != nil {
		registerImages(a, cfg.Images)
	}
	if cfg.ReadOnly != nil {
		registerReadOnly(a, cfg.ReadOnly)
	}
	if cfg.Objects != nil {
		registerObjects(a, cfg.Objects)
		registerTxn(a, cfg.Objects)
	}
	if cfg.Watchers != nil {
		registerWatch(a, cfg.Watchers)
	}
	if cfg.VMs != nil {
		registerVMs(a, cfg.VMs)
	}
	if cfg.VMs != nil && cfg.Watchers != nil {
		registerVMEvents(a, cfg.VMs, cfg.Watchers)
	}
	if cfg.VMCommands != nil {
		registerVMCommands(a, cfg.VMCommands)
	}
	if cfg.VMPlanner != nil {
		registerVMPlanner(a, cfg.VMPlanner)
	}
	if cfg.LB != nil {
		registerLB(a, cfg.LB)
	}
	if cfg.MySQL != nil {
		registerMySQL(a, cfg.MySQL)
	}

	// A session is a cookie, so a page of another site could send writes with it.
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem(http.StatusForbidden, "the request comes from a page of another site"))
	}))
	h := foreign.Handler(plainErrors(mux))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cfg.ReplicaVersion != nil {
			w.Header().Set(HeaderVersion, cfg.ReplicaVersion())
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

func humaConfig() huma.Config {
	c := huma.DefaultConfig("hostmesh", "1")
	c.Info.Description = "What an agent of hostmesh tells and does, besides the host database itself, which is at /v1. " +
		"Every agent answers from its own replica. Reads are open on the agent's socket and on the loopback; " +
		"everything else needs a session or the socket's proof of who is asking."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "apiKey", In: "cookie", Name: SessionCookie, Description: "The token of POST /v1/auth/session"},
	}
	// No pages that load scripts from elsewhere, and no $schema in the answers.
	c.DocsPath = ""
	c.SchemasPath = ""
	c.CreateHooks = nil
	c.OnAddOperation = append(c.OnAddOperation, documentRefusals)
	c.Transformers = append(c.Transformers, withoutValues)
	return c
}

// secretive marks an operation that is sent secrets.
var secretive = map[string]any{"secretive": true}

// withoutValues takes what was sent to a secretive operation out of what is said of it: a secret that does not fit would come
// back, and stand in the logs of whoever writes down answers. The location says which one is meant.
func withoutValues(ctx huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok && ctx.Operation().Metadata["secretive"] != nil {
		for _, e := range m.Errors {
			e.Value = nil
		}
	}
	return v, nil
}

// writeSecurity marks an operation as one that is never anonymous.
var writeSecurity = []map[string][]string{{"session": {}}}

type bodyOf[T any] struct{ Body T }

type identityKey struct{}

// identityOf is who makes the request; the zero Identity when nobody is known to, which only reads allow.
func identityOf(ctx context.Context) Identity {
	who, _ := ctx.Value(identityKey{}).(Identity)
	return who
}

func access(a huma.API, identify func(*http.Request) (Identity, bool, error)) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		var who Identity
		var known bool
		if identify != nil {
			var err error
			if who, known, err = identify(r); err != nil {
				writeProblem(w, problem(http.StatusUnauthorized, err.Error()))
				return
			}
		}
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !known && !(read && isLocal(r)) {
			writeProblem(w, problem(http.StatusUnauthorized,
				"nobody is logged in: use the agent's socket on its own box, or send the token of a session"))
			return
		}
		if known {
			ctx = huma.WithValue(ctx, identityKey{}, who)
		}
		next(ctx)
	}
}

// isLocal reports whether a request came over the socket, whose peers have no address, or from the loopback.
func isLocal(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		addr, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ Network() string })
		return ok && addr.Network() == "unix"
	}
	return ap.Addr().Unmap().IsLoopback()
}
