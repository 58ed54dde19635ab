package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/local"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/vmd"
)

// hostCalls implements local.Mesh: it reaches agents by the key of their host, which is the name of the node.
type hostCalls struct {
	net interface {
		View() mesh.View
		Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
		CallUrgent(ctx context.Context, node, name string, req []byte) ([]byte, error)
	}
}

func (c hostCalls) node(host string) (string, error) {
	m, ok := c.net.View().ByName(host)
	if !ok {
		return "", fmt.Errorf("no node of the mesh is named %s: an agent must run on the host, under the name of its key in hosts", host)
	}
	return m.ID, nil
}

// Call implements local.Mesh.
func (c hostCalls) Call(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	id, err := c.node(host)
	if err != nil {
		return nil, err
	}
	return c.net.Call(ctx, id, name, req)
}

// CallUrgent implements local.Mesh.
func (c hostCalls) CallUrgent(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	id, err := c.node(host)
	if err != nil {
		return nil, err
	}
	return c.net.CallUrgent(ctx, id, name, req)
}

// clusterRecords implements mysqlha.Records in the lease log. Without a grant it only reads.
type clusterRecords struct {
	log interface {
		Get(ctx context.Context, key string) (lease.Record, error)
		PutHeld(ctx context.Context, g *lease.Grant, key string, value []byte, version uint64) (uint64, error)
	}
	grant *lease.Grant
}

// maxClusterRecord is what a record may be encoded as: the lease log takes 64 KiB, and history must not lead there.
const maxClusterRecord = 48 << 10

// Load implements mysqlha.Records.
func (r clusterRecords) Load(ctx context.Context, tag string) (mysqlha.Record, uint64, error) {
	raw, err := r.log.Get(ctx, mysqlha.RecordKey(tag))
	switch {
	case errors.Is(err, lease.ErrNotFound):
		return mysqlha.Record{}, 0, mysqlha.ErrNoRecord
	case err != nil:
		return mysqlha.Record{}, 0, err
	}
	var rec mysqlha.Record
	if err := json.Unmarshal(raw.Value, &rec); err != nil {
		return mysqlha.Record{}, 0, fmt.Errorf("record of tags/%s: %w", tag, err)
	}
	if err := rec.Check(); err != nil {
		return mysqlha.Record{}, 0, fmt.Errorf("record of tags/%s: %w", tag, err)
	}
	return rec, raw.Version, nil
}

// Store implements mysqlha.Records.
func (r clusterRecords) Store(ctx context.Context, tag string, rec mysqlha.Record, version uint64) (uint64, error) {
	if r.grant == nil {
		return 0, fmt.Errorf("%w: this agent does not hold its duty", mysqlha.ErrOvertaken)
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return 0, err
	}
	for len(text) > maxClusterRecord && len(rec.History) > 1 {
		rec.History = rec.History[:len(rec.History)-1]
		if text, err = json.Marshal(rec); err != nil {
			return 0, err
		}
	}
	version, err = r.log.PutHeld(ctx, r.grant, mysqlha.RecordKey(tag), text, version)
	switch {
	case errors.Is(err, lease.ErrConflict):
		return 0, fmt.Errorf("%w: %w", mysqlha.ErrChanged, err)
	case errors.Is(err, lease.ErrLost):
		return 0, fmt.Errorf("%w: %w", mysqlha.ErrOvertaken, err)
	}
	return version, err
}

// clusterWorld implements mysqlha.World for one cluster: servers by SQL under its credentials, and agents by calls.
type clusterWorld struct {
	self  string // key of this node's host
	own   mysqlha.Local
	calls hostCalls
	file  func() (credentials.File, error) // reads it
	view  func() hostdb.View
	log   *slog.Logger
	ended chan struct{} // closed by Close
	wg    sync.WaitGroup

	mu      sync.Mutex // guards the fields below; not held while the disk works
	used    credentials.File
	read    time.Time // when file was read last
	reading bool
	wrong   string // why it could not be used then; "" = it could
	opened  map[netip.AddrPort]mysqlha.Server
	closed  bool
}

const (
	// credentialsLook is how often the file of a cluster's accounts is read: passwords are changed while somebody watches.
	credentialsLook = time.Second
	// credentialsGrace is for how long what has begun under the former accounts may go on.
	credentialsGrace = 5 * time.Second
)

// newClusterWorld reads the file of accounts, and fails where it cannot be used.
func newClusterWorld(self string, own mysqlha.Local, calls hostCalls, file func() (credentials.File, error), view func() hostdb.View, log *slog.Logger) (*clusterWorld, error) {
	used, err := file()
	if err != nil {
		return nil, err
	}
	return &clusterWorld{
		self: self, own: own, calls: calls, file: file, view: view, log: log, ended: make(chan struct{}), used: used, read: time.Now(), opened: map[netip.AddrPort]mysqlha.Server{},
	}, nil
}

// follow reads the file of accounts: when it has changed, servers are spoken to anew. One that cannot be used, as while somebody writes it, changes nothing.
func (w *clusterWorld) follow() {
	next, err := w.file()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read, w.reading = time.Now(), false
	was := w.wrong
	w.wrong = ""
	switch {
	case w.closed:
		return
	case err != nil:
		if w.wrong = err.Error(); w.wrong != was {
			w.log.Warn("the accounts of a database cluster cannot be read anew; those that were read before are used", "err", err)
		}
		return
	case reflect.DeepEqual(next, w.used):
		return
	}
	w.log.Info("the accounts of a database cluster have changed: its servers are connected to anew")
	old := w.opened
	w.used, w.opened = next, map[netip.AddrPort]mysqlha.Server{}
	w.wg.Go(func() {
		select {
		case <-time.After(credentialsGrace):
		case <-w.ended:
		}
		for _, s := range old {
			if err := s.Close(); err != nil {
				w.log.Debug("connections to a database server do not end in order", "err", err)
			}
		}
	})
}

// Server implements mysqlha.World.
func (w *clusterWorld) Server(m mysqlha.Member) mysqlha.Server {
	at := netip.AddrPortFrom(m.Addr, uint16(m.Port))
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && !w.reading && time.Since(w.read) >= credentialsLook {
		w.reading = true
		w.wg.Go(w.follow) // a disk that hangs holds up nobody
	}
	if s := w.opened[at]; s != nil {
		return s
	}
	if w.closed {
		return mysqlha.Broken(fmt.Errorf("%s: this agent does not watch over the cluster any more", m.Host))
	}
	s, err := mariadb.Open(mariadb.DefaultConfig(m.Addr, m.Port, w.used))
	if err != nil {
		return mysqlha.Broken(fmt.Errorf("%s: %w", m.Host, err)) // asked for again with the next question
	}
	w.opened[at] = s
	return s
}

// Local implements mysqlha.World.
func (w *clusterWorld) Local(m mysqlha.Member) mysqlha.Local {
	if m.Host == w.self && w.own != nil {
		return w.own
	}
	return local.NewRemote(w.calls, m.Host)
}

// callFence has a box cut the power of a machine: a fenceRequest, in JSON.
const callFence = "mysql.fence.1"

// fenceRequest names the machine whose power is cut, and under which order.
type fenceRequest struct {
	UUID  string        `json:"uuid"`
	Host  string        `json:"host"`
	Order mysqlha.Order `json:"order"`
}

// fenceTime bounds how long a box is waited for.
const fenceTime = 5 * time.Second

// DestroyVM implements mysqlha.World: the power of the machine is cut. Its box starts it again, as it is meant to run; its database starts read-only,
// when it is started at all.
func (w *clusterWorld) DestroyVM(ctx context.Context, host string, o mysqlha.Order) error {
	doc := w.view().Data(hostdb.Hosts, host)
	uuid, box := doc.Text("VM", "UUID"), doc.Text("VM", "Box")
	if uuid == "" || box == "" {
		return fmt.Errorf("hosts/%s: %w", host, mysqlha.ErrNoVM)
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTime)
	defer cancel()
	req, err := json.Marshal(fenceRequest{uuid, host, o})
	if err != nil {
		return err
	}
	if _, err = w.calls.CallUrgent(ctx, box, callFence, req); err == nil {
		return nil
	}
	var remote *mesh.RemoteError
	if errors.As(err, &remote) {
		return fmt.Errorf("cut the power of hosts/%s on %s: %w", host, box, err)
	}
	return fmt.Errorf("cut the power of hosts/%s on %s: %w: %w", host, box, mysqlha.ErrSilent, err)
}

// Close ends all connections. It is idempotent.
func (w *clusterWorld) Close() error {
	w.mu.Lock()
	list := w.opened
	if !w.closed {
		close(w.ended)
	}
	w.opened, w.closed = map[netip.AddrPort]mysqlha.Server{}, true
	w.mu.Unlock()
	var errs []error
	for _, s := range list {
		errs = append(errs, s.Close())
	}
	w.wg.Wait()
	return errors.Join(errs...)
}

// fencer cuts the power of machines on this box: vmd's Hypervisor.
type fencer interface {
	Destroy(ctx context.Context, uuid string) error
}

// fence answers callFence. Whoever asks must be the one who decides about the cluster now: its record says that this host's server is being replaced, or was.
func fence(ctx context.Context, db hostdb.View, records mysqlha.Records, h fencer, text []byte) error {
	var req fenceRequest
	if err := json.Unmarshal(text, &req); err != nil {
		return fmt.Errorf("%s: the request cannot be read: %w", callFence, err)
	}
	if h == nil {
		return errors.New("this agent carries no virtual machines")
	}
	if got := db.Data(hostdb.Hosts, req.Host).Text("VM", "UUID"); got == "" || got != req.UUID {
		return fmt.Errorf("hosts/%s is the machine %q here, and not %q", req.Host, got, req.UUID)
	}
	rec, _, err := records.Load(ctx, req.Order.Tag)
	if err != nil {
		return fmt.Errorf("whether the power of hosts/%s may be cut is not known: %w", req.Host, err)
	}
	replaced := rec.Fenced[req.Host] != "" || rec.Intent != nil && rec.Intent.Kind == mysqlha.Failover && rec.Intent.Old == req.Host
	if rec.Epoch != req.Order.Epoch || !replaced {
		return fmt.Errorf("%w: it is at epoch %d and does not replace hosts/%s", mysqlha.ErrOvertaken, rec.Epoch, req.Host)
	}
	if err := h.Destroy(ctx, req.UUID); err != nil && !errors.Is(err, vmd.ErrNoDomain) {
		return err
	}
	return nil
}
