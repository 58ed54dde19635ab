// Package mesh owns who is in the mesh and how nodes talk.

package mesh

import (
	"context"
	"errors"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// Caller is who sent a request.
type Caller struct {
	ID   string         // node id, proved by its certificate
	Name string         // host name it gave
	Addr netip.AddrPort // where the connection comes from
}

// Handler serves requests of one name. It runs in a goroutine of its own; ctx ends at the caller's deadline, when the
// caller gives up, or when its connection breaks. A panic is recovered, logged, and returned to the caller as an error.
// req is the handler's to keep.
type Handler func(ctx context.Context, from Caller, req []byte) ([]byte, error)

// Stats is a snapshot for status pages.
type Stats struct {
	MeshID       string `json:"mesh_id"`       // empty while a joiner does not know it
	Health       int    `json:"health"`        // Lifeguard's score: 0 = well; higher = this node itself is slow or cut off
	Members      int    `json:"members"`       // known, whatever their state
	Alive        int    `json:"alive"`         // this node included
	Failed       int    `json:"failed"`        //
	CallsOut     uint64 `json:"calls_out"`     // requests sent
	CallsIn      uint64 `json:"calls_in"`      // requests served
	ErrorsOut    uint64 `json:"errors_out"`    // requests sent that ended in an error
	ErrorsIn     uint64 `json:"errors_in"`     // requests served that ended in an error
	BytesOut     uint64 `json:"bytes_out"`     // on peer streams, without TLS
	BytesIn      uint64 `json:"bytes_in"`      //
	ConnsOut     int    `json:"conns_out"`     // open now
	ConnsIn      int    `json:"conns_in"`      //
	RefusedKey   uint64 `json:"refused_key"`   // peers with another key
	RefusedMesh  uint64 `json:"refused_mesh"`  // peers of another mesh
	RefusedOther uint64 `json:"refused_other"` // removed nodes, wrong ids, unknown protocol versions
	Garbage      uint64 `json:"garbage"`       // connections that did not speak the protocol, or were too slow
	Overload     uint64 `json:"overload"`      // connections and requests turned away
}

var errNotImplemented = errors.New("not implemented yet")

// Mesh is this node's part in the mesh. All methods are safe for concurrent use.
type Mesh struct{ cfg Config }

// Open checks the configuration and binds the ports. Nothing is sent before Run.
func Open(cfg Config) (*Mesh, error) { return nil, errNotImplemented }

// Run takes part in the mesh until ctx ends or Close is called, and leaves in order; then it returns nil.
func (m *Mesh) Run(ctx context.Context) error { return errNotImplemented }

// Close leaves the mesh in order, within Config.LeaveTimeout, and frees everything. It is idempotent, and waits.
func (m *Mesh) Close() error { return nil }

// View returns what is known now. It takes no lock and allocates nothing.
func (m *Mesh) View() View { return View{} }

// Watch returns a channel that gets a value after the View changed: one slot, so that many changes may be one poke, and
// the latest View is the one to read. It holds a poke at the start. stop ends it, and may be called more than once.
func (m *Mesh) Watch() (changed <-chan struct{}, stop func()) { return nil, func() {} }

// Handle registers the handler of a name; nil removes it. Register before Run.
func (m *Mesh) Handle(name string, h Handler) {}

// Call sends a request to the member with this id (this node itself, too) and waits for the answer, or until ctx ends.
func (m *Mesh) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	return nil, errNotImplemented
}

// Remove takes a member off the mesh for good, everywhere: it leaves the peer list, is no longer dialled, and its id is
// not accepted again. It does not revoke the mesh key. A member that is alive is refused with ErrAlive.
func (m *Mesh) Remove(nodeID string) error { return errNotImplemented }

// Stats returns counters for status pages.
func (m *Mesh) Stats() Stats { return Stats{} }

// Collectors returns the metrics, to be registered once.
func (m *Mesh) Collectors() []prometheus.Collector { return nil }
