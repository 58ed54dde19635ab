package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Identity is who makes a request.
type Identity struct {
	User   string   // as history shows it
	Groups []string // as access lists name them
	Admin  bool     // may do everything
}

// Config is where the answers come from. A nil area leaves its endpoints out.
type Config struct {
	// Build is what the agent was made from.
	Build Build

	Membership Membership
	Status     StatusReporter
	Importer   Importer
	Digester   Digester
	Zones      Zones
	Schemas    Schemas
	Namespaces Namespaces

	// Identify tells who makes a request; ok is false when nobody is known to. An error is for proof that was given
	// and is not good: the request is refused with its text. nil = nobody is ever known, so all writes are refused.
	Identify func(r *http.Request) (who Identity, ok bool, err error)
	// ReplicaVersion is the version that is put on every answer. nil = none.
	ReplicaVersion func() string
	// MaxImport is the most bytes an import may have. 0 = DefaultMaxImport.
	MaxImport int64
}

// DefaultMaxImport bounds the body of an import: 100,000 hosts of a few kilobytes fit in many times.
const DefaultMaxImport = 1 << 30

type bodyOf[T any] struct{ Body T }

// NewHandler serves /api/v1 and /openapi.json.
func NewHandler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	a := humago.New(mux, huma.DefaultConfig("hostmesh", "1"))
	registerBuild(a, cfg.Build)
	if cfg.Membership != nil {
		registerMembers(a, cfg.Membership)
	}
	if cfg.Status != nil {
		registerStatus(a, cfg.Status)
	}
	if cfg.Digester != nil {
		registerDigest(a, cfg.Digester)
	}
	return mux
}

var _ = context.Background
