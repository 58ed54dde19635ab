package lease

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
)

// Times within which a peer must answer, or the message counts as lost.
const (
	// voteTimeout is that of votes, heartbeats and of being told to take over: raft's election timeout is the same, and an
	// answer to an election that is over serves nobody.
	voteTimeout = 500 * time.Millisecond
	// appendTimeout has room for a follower's disk that syncs slowly. Heartbeats go on meanwhile.
	appendTimeout = 2 * time.Second
	// snapshotTimeout carries MaxSnapshot over 10 Mbit/s, with the time to keep and restore it.
	snapshotTimeout = 30 * time.Second
)

// MaxSnapshot is the largest snapshot that goes to a follower, and about the largest append, in bytes: with what stands
// around it it fits a mesh.Config.MaxFrame of 16 MiB.
const MaxSnapshot = 12 << 20

var (
	// ErrOtherGroup says that the peer is in another group.
	ErrOtherGroup = errors.New("peer is in another lease group")
	// ErrOtherGeneration says that the peer is in another generation of the group.
	ErrOtherGeneration = errors.New("peer is in another generation of the lease group")
	// ErrOtherServer says that the peer has another raft id by now: its raft state was made anew.
	ErrOtherServer = errors.New("peer has another raft id")
	// ErrSilent says that this node, or the peer that was to take over, must win no election at present.
	ErrSilent = errors.New("takes part in no election")
	// ErrSnapshotTooLarge says that a snapshot is larger than MaxSnapshot.
	ErrSnapshotTooLarge = errors.New("snapshot is too large to be sent")
	// ErrTransportClosed says that the Transport is closed.
	ErrTransportClosed = errors.New("raft transport is closed")
)

// The codes with which those cross. That of another generation has the peer's own behind it, so that a node which is
// behind learns so from whom it asks.
const (
	codeGroup      = "lease_other_group"
	codeGeneration = "lease_generation_"
	codeServer     = "lease_other_server"
	codeSilent     = "lease_silent"
	codeMalformed  = "lease_malformed"
)

// Caller is what a Transport needs of the mesh. A *mesh.Mesh is one.
type Caller interface {
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
	CallUrgent(ctx context.Context, node, name string, req []byte) ([]byte, error)
	Handle(name string, h mesh.Handler)
}

// TransportConfig says who speaks, in which group.
type TransportConfig struct {
	Mesh Caller
	// NodeID is this node's id, and its raft.ServerAddress.
	NodeID string
	// ServerID is this node's raft id, <node id>.<16 lower-case hex digits>. Peers that mean another are refused.
	ServerID raft.ServerID
	// Group is the group's id, 32 lower-case hex digits, and Generation its generation. Who is in others is refused.
	Group      string
	Generation uint64
	// OnGeneration is called when a peer turns out to be in a higher generation of the same group, each time. It must be
	// quick, and safe for concurrent use. nil = nobody wants to know.
	OnGeneration func(node string, generation uint64)
	// Silent returns an error while this node must win no election, because its disk is sick say: no request for a vote
	// leaves it then, and it refuses to take over. It must be quick, and safe for concurrent use. nil = never.
	Silent func() error
	// Logger is told of peers that are refused. nil = slog.Default().
	Logger *slog.Logger
	// Now tells the time, for what is logged. nil = time.Now.
	Now func() time.Time
}

// TransportStats counts what a Transport turned away since it was opened.
type TransportStats struct {
	OtherGroup      uint64 `json:"other_group"`      // requests of peers in another group
	OtherGeneration uint64 `json:"other_generation"` // requests of peers in another generation
	OtherServer     uint64 `json:"other_server"`     // requests meant for a raft id that this node had before
	Malformed       uint64 `json:"malformed"`        // requests that could not be read
	Silenced        uint64 `json:"silenced"`         // requests for votes that did not leave, and refusals to take over
}

// Transport carries raft's messages over the mesh's peer streams: it is a raft.Transport, raft.WithPreVote and
// raft.WithClose. There is one at a time on a mesh: close the old one before the next is opened. All methods are safe for
// concurrent use.
//
// Small messages are urgent (mesh.CallUrgent); snapshots, and appends that are longer than mesh.MaxUrgent, are not.
type Transport struct {
	cfg     TransportConfig
	log     *slog.Logger
	said    repeats
	head    head // of requests, without kind, to and protocol
	rpcs    chan raft.RPC
	beat    atomic.Pointer[func(raft.RPC)]
	beats   beats
	buffers sync.Pool // of *[]byte

	ctx   context.Context // ends with Close
	close context.CancelFunc

	otherGroup, otherGeneration, otherServer, malformed, silenced atomic.Uint64
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// OpenTransport begins to take messages. Requests wait, for as long as who sent them does, until somebody reads Consumer.
func OpenTransport(cfg TransportConfig) (*Transport, error) {
	from, err := incarnation(cfg.ServerID, cfg.NodeID)
	if err != nil {
		return nil, fmt.Errorf("open raft transport: %w", err)
	}
	group, err := hex.DecodeString(cfg.Group)
	if err != nil || len(group) != groupSize || strings.ToLower(cfg.Group) != cfg.Group {
		return nil, fmt.Errorf("open raft transport: group %q: want 32 lower-case hex digits", clip(cfg.Group))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Silent == nil {
		cfg.Silent = func() error { return nil }
	}
	if cfg.OnGeneration == nil {
		cfg.OnGeneration = func(string, uint64) {}
	}
	t := &Transport{
		cfg: cfg, log: cfg.Logger, said: repeats{now: cfg.Now}, rpcs: make(chan raft.RPC),
		head: head{group: [groupSize]byte(group), generation: cfg.Generation, from: from},
	}
	t.buffers.New = func() any { return new([]byte) }
	t.ctx, t.close = context.WithCancel(context.Background())
	cfg.Mesh.Handle(callName, t.serve)
	return t, nil
}

// Close ends all calls, its own and those it serves, and takes no more. It is idempotent.
func (t *Transport) Close() error {
	if t.ctx.Err() == nil {
		t.cfg.Mesh.Handle(callName, nil)
	}
	t.close()
	return nil
}

// Stats returns what was turned away.
func (t *Transport) Stats() TransportStats {
	return TransportStats{
		OtherGroup: t.otherGroup.Load(), OtherGeneration: t.otherGeneration.Load(), OtherServer: t.otherServer.Load(),
		Malformed: t.malformed.Load(), Silenced: t.silenced.Load(),
	}
}

// Consumer returns the channel of requests.
func (t *Transport) Consumer() <-chan raft.RPC { return t.rpcs }

// LocalAddr returns the node id.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.cfg.NodeID) }

// EncodePeer returns the address as it is.
func (t *Transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer returns the address as it is.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler takes the function that heartbeats go to instead of Consumer, so that they do not wait behind an
// append that waits for the disk.
func (t *Transport) SetHeartbeatHandler(f func(raft.RPC)) {
	if f == nil {
		t.beat.Store(nil)
		return
	}
	t.beat.Store(&f)
}

// AppendEntriesPipeline returns raft.ErrPipelineReplicationNotSupported: duties are few entries, and raft sends many in one
// append when they come close together.
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries sends entries, or a heartbeat.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	// Raft's heartbeats go on while its main loop hangs in a write: such a leader would never be followed.
	if err := t.maySpeak(); err != nil {
		return err
	}
	buf, err := t.begin(appendKind, id, target, &args.RPCHeader, requestSize(args))
	if err != nil {
		return err
	}
	defer t.buffers.Put(buf)
	*buf = appendAppendRequest(*buf, args)
	if !isHeartbeat(args) {
		return t.send(appendKind, id, target, *buf, appendTimeout, resp)
	}
	sent := time.Now()
	if t.beats.fresh(id, args.Term, sent) {
		resp.RPCHeader, resp.Term, resp.Success = args.RPCHeader, args.Term, true
		return nil
	}
	err = t.send(appendKind, id, target, *buf, voteTimeout, resp)
	t.beats.note(id, args.Term, sent, err == nil && resp.Success && resp.Term == args.Term)
	return err
}

// beatEvery is how often a follower hears of its leader when nothing is written. Raft sends ten heartbeats within its timeout, which for
// a quiet agent is most of what it does; four are enough to lose one. The leader takes an answer for so much younger than it is:
// its lease of half the timeout is then over before anybody votes for another, as it was.
const beatEvery = voteTimeout / 4

// beats are the heartbeats that were answered last.
type beats struct {
	mu   sync.Mutex // guards last
	last map[raft.ServerID]beat
}

type beat struct {
	term uint64
	sent time.Time
}

// fresh reports whether a server answered a heartbeat of this term a moment ago.
func (b *beats) fresh(id raft.ServerID, term uint64, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.last[id]
	return was.term == term && now.Sub(was.sent) < beatEvery
}

func (b *beats) note(id raft.ServerID, term uint64, sent time.Time, good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !good:
		delete(b.last, id)
	case b.last == nil:
		b.last = map[raft.ServerID]beat{}
		fallthrough
	default:
		b.last[id] = beat{term, sent}
	}
}

// RequestVote asks for a vote, unless this node is silent.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.maySpeak(); err != nil {
		return fmt.Errorf("vote of node %s is not asked for: %w", target, err)
	}
	buf, err := t.begin(voteKind, id, target, &args.RPCHeader, headSize+32)
	if err != nil {
		return err
	}
	defer t.buffers.Put(buf)
	*buf = appendVoteRequest(*buf, args)
	return t.send(voteKind, id, target, *buf, voteTimeout, resp)
}

// RequestPreVote asks whether a vote would be given, unless this node is silent.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.maySpeak(); err != nil {
		return fmt.Errorf("pre-vote of node %s is not asked for: %w", target, err)
	}
	buf, err := t.begin(preVoteKind, id, target, &args.RPCHeader, headSize+32)
	if err != nil {
		return err
	}
	defer t.buffers.Put(buf)
	*buf = appendPreVoteRequest(*buf, args)
	err = t.send(preVoteKind, id, target, *buf, voteTimeout, resp)
	// raft takes a text with these words for the error of a peer that knows no pre-votes, and counts it as a yes.
	if err != nil && strings.Contains(err.Error(), "unexpected command") {
		return fmt.Errorf("pre-vote of node %s: %w: it refused the request", target, mesh.ErrNoHandler)
	}
	return err
}

// TimeoutNow tells a peer to stand for election at once. One that is silent refuses with ErrSilent.
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	buf, err := t.begin(timeoutNowKind, id, target, &args.RPCHeader, headSize)
	if err != nil {
		return err
	}
	defer t.buffers.Put(buf)
	return t.send(timeoutNowKind, id, target, *buf, voteTimeout, resp)
}

// InstallSnapshot sends a whole snapshot in one request.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if args.Size < 0 || args.Size > MaxSnapshot {
		return fmt.Errorf("snapshot for node %s: %w: %d bytes, at most %d are possible: remove duties or records that nobody uses", target, ErrSnapshotTooLarge, args.Size, MaxSnapshot)
	}
	// Not from the pool: it would keep the megabytes.
	b, err := t.appendHead(make([]byte, 0, headSize+64+len(args.Configuration)+int(args.Size)), snapshotKind, id, target, &args.RPCHeader)
	if err != nil {
		return err
	}
	b = appendSnapshotRequest(b, args)
	start := len(b)
	b = append(b, make([]byte, args.Size)...)
	if _, err := io.ReadFull(data, b[start:]); err != nil {
		return fmt.Errorf("snapshot for node %s: read %d bytes: %w", target, args.Size, err)
	}
	return t.send(snapshotKind, id, target, b, snapshotTimeout, resp)
}

// maySpeak refuses while this node must win no election.
func (t *Transport) maySpeak() error {
	if err := t.cfg.Silent(); err != nil {
		t.silenced.Add(1)
		return fmt.Errorf("this node %w: %w", ErrSilent, err)
	}
	return nil
}

// begin takes a buffer with the head in it.
func (t *Transport) begin(kind rpcKind, id raft.ServerID, target raft.ServerAddress, from *raft.RPCHeader, size int) (*[]byte, error) {
	buf := t.buffers.Get().(*[]byte)
	b := (*buf)[:0]
	// A buffer that once held much is not kept for ever.
	if cap(b) < size || cap(b) > 64<<10 && size < 4<<10 {
		b = make([]byte, 0, size)
	}
	b, err := t.appendHead(b, kind, id, target, from)
	*buf = b
	if err != nil {
		t.buffers.Put(buf)
		return nil, err
	}
	return buf, nil
}

func (t *Transport) appendHead(b []byte, kind rpcKind, id raft.ServerID, target raft.ServerAddress, from *raft.RPCHeader) ([]byte, error) {
	// A request of another than this node cannot even be said.
	if string(from.ID) != string(t.cfg.ServerID) || string(from.Addr) != t.cfg.NodeID {
		return b, fmt.Errorf("%v for node %s: it is of server %q at %q, but this is %s", kind, target, clip(string(from.ID)), clip(string(from.Addr)), t.cfg.ServerID)
	}
	to, err := incarnation(id, string(target))
	if err != nil {
		return b, fmt.Errorf("%v for node %s: %w", kind, target, err)
	}
	h := t.head
	h.kind, h.to, h.protocol = kind, to, from.ProtocolVersion
	return h.append(b), nil
}

// send sends a request and reads the answer into resp.
func (t *Transport) send(kind rpcKind, id raft.ServerID, target raft.ServerAddress, req []byte, timeout time.Duration, resp any) error {
	if t.ctx.Err() != nil {
		return ErrTransportClosed
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	call := t.cfg.Mesh.CallUrgent
	if kind == snapshotKind || len(req) > mesh.MaxUrgent {
		call = t.cfg.Mesh.Call
	}
	answer, err := call(ctx, string(target), callName, req)
	if err != nil {
		if t.ctx.Err() != nil {
			return ErrTransportClosed
		}
		return fmt.Errorf("raft %v: %w", kind, t.explain(string(target), err))
	}
	header := raft.RPCHeader{ID: []byte(id)}
	header.Addr = header.ID[:nodeIDSize:nodeIDSize]
	if err := parseAnswer(answer, resp, header); err != nil {
		return fmt.Errorf("raft %v: answer of node %s: %w", kind, target, err)
	}
	return nil
}

// explain makes errors of peers match the sentinels here.
func (t *Transport) explain(node string, err error) error {
	var remote *mesh.RemoteError
	if !errors.As(err, &remote) {
		return err
	}
	var is error
	switch {
	case remote.Code == codeGroup:
		is = ErrOtherGroup
	case remote.Code == codeServer:
		is = ErrOtherServer
	case remote.Code == codeSilent:
		is = ErrSilent
	case strings.HasPrefix(remote.Code, codeGeneration):
		is = ErrOtherGeneration
		if g, perr := strconv.ParseUint(remote.Code[len(codeGeneration):], 10, 64); perr == nil && g > t.cfg.Generation {
			t.cfg.OnGeneration(node, g)
		}
	default:
		return err
	}
	return fmt.Errorf("%w: %w", is, err)
}

// refusal is an error that crosses with a code.
type refusal struct {
	code string
	err  error
}

func (r *refusal) Error() string     { return r.err.Error() }
func (r *refusal) Unwrap() error     { return r.err }
func (r *refusal) ErrorCode() string { return r.code }

// refuse counts and logs a request that is turned away.
func (t *Transport) refuse(from mesh.Caller, count *atomic.Uint64, code string, err error) error {
	count.Add(1)
	if n, loud := t.said.repeat(code+from.ID, 1); loud {
		t.log.Warn("raft request is refused", "peer", from.ID, "name", from.Name, "err", err, "unlogged", n)
	}
	return &refusal{code, err}
}

// serve is the handler of requests.
func (t *Transport) serve(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
	if t.ctx.Err() != nil {
		return nil, ErrTransportClosed
	}
	h, rest, err := parseHead(req)
	switch {
	case err != nil:
		return nil, t.refuse(from, &t.malformed, codeMalformed, err)
	case h.group != t.head.group:
		return nil, t.refuse(from, &t.otherGroup, codeGroup, fmt.Errorf("%w: this is group %s, not %x", ErrOtherGroup, t.cfg.Group, h.group))
	case h.generation != t.cfg.Generation:
		if h.generation > t.cfg.Generation {
			t.cfg.OnGeneration(from.ID, h.generation)
		}
		return nil, t.refuse(from, &t.otherGeneration, codeGeneration+strconv.FormatUint(t.cfg.Generation, 10),
			fmt.Errorf("%w: this is generation %d, not %d", ErrOtherGeneration, t.cfg.Generation, h.generation))
	case h.to != t.head.from:
		return nil, t.refuse(from, &t.otherServer, codeServer, fmt.Errorf("%w: this is %s, not that with %016x", ErrOtherServer, t.cfg.ServerID, h.to))
	}
	command, snapshot, err := parseRequest(h.kind, rest, serverHeader(h.protocol, from.ID, h.from))
	if err != nil {
		return nil, t.refuse(from, &t.malformed, codeMalformed, err)
	}
	if h.kind == timeoutNowKind {
		if err := t.maySpeak(); err != nil {
			return nil, &refusal{codeSilent, err}
		}
	}
	answers := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: command, RespChan: answers}
	if h.kind == snapshotKind {
		rpc.Reader = bytes.NewReader(snapshot)
	}
	if a, ok := command.(*raft.AppendEntriesRequest); ok && isHeartbeat(a) {
		if f := t.beat.Load(); f != nil {
			(*f)(rpc)
			select {
			case a := <-answers:
				return t.answer(a)
			default: // raft says nothing once it is shut down
				return nil, ErrTransportClosed
			}
		}
	}
	select {
	case t.rpcs <- rpc:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.ctx.Done():
		return nil, ErrTransportClosed
	}
	select {
	case a := <-answers:
		return t.answer(a)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.ctx.Done():
		return nil, ErrTransportClosed
	}
}

func (t *Transport) answer(a raft.RPCResponse) ([]byte, error) {
	if a.Error != nil {
		return nil, a.Error
	}
	return appendAnswer(a.Response)
}
