package lease

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// A request begins with a head of fixed size, all numbers big endian:
//
//	kind        1 byte
//	group      16 bytes
//	generation  8 bytes
//	from        8 bytes, what stands behind the dot of the sender's raft id
//	to          8 bytes, the same of the receiver's
//	protocol    1 byte, of raft
//
// An answer begins with its kind and raft's protocol. Then come the fields of the kind in the order of the functions below:
// numbers are uvarints, texts and bytes have their length before them. What stands behind the last field is skipped, so
// that later builds may add to a message; a change that is more than that takes another callName.
//
// Node ids do not cross. The sender's is the one that its certificate proves, so that a member cannot speak for another,
// and the receiver's is the one that was called.
const callName = "lease.raft.1"

const headSize = 1 + groupSize + 8 + 8 + 8 + 1

const (
	groupSize    = 16
	nodeIDSize   = 32
	serverIDSize = nodeIDSize + 1 + 16
)

// maxEntries bounds what an append may make us hold beside its bytes: raft itself takes no more than this many.
const maxEntries = 1024

type rpcKind byte

const (
	appendKind rpcKind = iota + 1
	voteKind
	preVoteKind
	snapshotKind
	timeoutNowKind
)

func (k rpcKind) String() string {
	names := [...]string{appendKind: "append", voteKind: "vote", preVoteKind: "pre-vote", snapshotKind: "snapshot", timeoutNowKind: "timeout-now"}
	if k == 0 || int(k) >= len(names) {
		return "kind " + strconv.Itoa(int(k))
	}
	return names[k]
}

var errMalformed = errors.New("malformed raft message")

// head is what every request begins with.
type head struct {
	kind       rpcKind
	group      [groupSize]byte
	generation uint64
	from, to   uint64
	protocol   raft.ProtocolVersion
}

func (h *head) append(b []byte) []byte {
	b = append(b, byte(h.kind))
	b = append(b, h.group[:]...)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.from)
	b = binary.BigEndian.AppendUint64(b, h.to)
	return append(b, byte(h.protocol))
}

func parseHead(b []byte) (head, reader, error) {
	if len(b) < headSize {
		return head{}, reader{}, fmt.Errorf("%w: %d bytes, at least %d are needed", errMalformed, len(b), headSize)
	}
	h := head{kind: rpcKind(b[0]), protocol: raft.ProtocolVersion(b[headSize-1])}
	copy(h.group[:], b[1:])
	h.generation = binary.BigEndian.Uint64(b[1+groupSize:])
	h.from = binary.BigEndian.Uint64(b[1+groupSize+8:])
	h.to = binary.BigEndian.Uint64(b[1+groupSize+16:])
	return h, reader{b: b[headSize:]}, nil
}

// incarnation is what stands behind the dot of a raft id: <node id>.<16 hex digits>.
func incarnation(id raft.ServerID, node string) (uint64, error) {
	if len(id) != serverIDSize || id[nodeIDSize] != '.' || string(id[:nodeIDSize]) != node {
		return 0, fmt.Errorf("raft id %q: want <node id>.<16 hex digits>, of node %q", clip(string(id)), clip(node))
	}
	for _, c := range []byte(id[nodeIDSize+1:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return 0, fmt.Errorf("raft id %q: want 16 lower-case hex digits behind the dot", string(id))
		}
	}
	return strconv.ParseUint(string(id[nodeIDSize+1:]), 16, 64)
}

// serverHeader is raft's header of a server; both fields share memory.
func serverHeader(protocol raft.ProtocolVersion, node string, incarnation uint64) raft.RPCHeader {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], incarnation)
	id := make([]byte, 0, serverIDSize)
	id = append(id, node...)
	id = append(id, '.')
	id = hex.AppendEncode(id, n[:])
	return raft.RPCHeader{ProtocolVersion: protocol, ID: id, Addr: id[:len(node):len(node)]}
}

func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}

func appendBytes(b, data []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reader takes fields off a message. bad is set when one is not whole; what is read then is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) bool() bool { return r.byte() == 1 }

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns a part of the message, nil when it is empty.
func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	if n == 0 {
		return nil
	}
	return v
}

func (r *reader) err(what any) error {
	if r.bad {
		return fmt.Errorf("%w: %v is cut short", errMalformed, what)
	}
	return nil
}

func appendAppendRequest(b []byte, q *raft.AppendEntriesRequest) []byte {
	for _, v := range [...]uint64{q.Term, q.PrevLogEntry, q.PrevLogTerm, q.LeaderCommitIndex, uint64(len(q.Entries))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, e := range q.Entries {
		b = binary.AppendUvarint(b, e.Index)
		b = binary.AppendUvarint(b, e.Term)
		b = append(b, byte(e.Type))
		var at uint64
		if !e.AppendedAt.IsZero() {
			at = uint64(e.AppendedAt.UnixNano())
		}
		b = binary.BigEndian.AppendUint64(b, at)
		b = appendBytes(b, e.Data)
		b = appendBytes(b, e.Extensions)
	}
	return b
}

func parseAppendRequest(r reader, from raft.RPCHeader) (*raft.AppendEntriesRequest, error) {
	q := &raft.AppendEntriesRequest{
		RPCHeader: from, Leader: from.Addr,
		Term: r.uint(), PrevLogEntry: r.uint(), PrevLogTerm: r.uint(), LeaderCommitIndex: r.uint(),
	}
	n := r.uint()
	if n > maxEntries {
		return nil, fmt.Errorf("%w: append of %d entries, at most %d are possible", errMalformed, n, maxEntries)
	}
	const entryMin = 3 + 8 + 2
	if n > uint64(len(r.b))/entryMin {
		r.bad = true
	}
	if n > 0 && !r.bad {
		entries := make([]raft.Log, n)
		q.Entries = make([]*raft.Log, n)
		for i := range entries {
			e := &entries[i]
			e.Index, e.Term, e.Type = r.uint(), r.uint(), raft.LogType(r.byte())
			if len(r.b) < 8 {
				r.bad = true
				break
			}
			if at := binary.BigEndian.Uint64(r.b); at != 0 {
				e.AppendedAt = time.Unix(0, int64(at))
			}
			r.b = r.b[8:]
			e.Data, e.Extensions = r.bytes(), r.bytes()
			q.Entries[i] = e
		}
	}
	if err := r.err("append"); err != nil {
		return nil, err
	}
	for _, e := range q.Entries {
		if err := checkEntry(e); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// isHeartbeat tells the appends that may pass raft's main loop, as raft's own transport does.
func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return q.Term != 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}

func appendVoteRequest(b []byte, q *raft.RequestVoteRequest) []byte {
	b = binary.AppendUvarint(b, q.Term)
	b = binary.AppendUvarint(b, q.LastLogIndex)
	b = binary.AppendUvarint(b, q.LastLogTerm)
	return appendBool(b, q.LeadershipTransfer)
}

func parseVoteRequest(r reader, from raft.RPCHeader) (*raft.RequestVoteRequest, error) {
	q := &raft.RequestVoteRequest{
		RPCHeader: from, Candidate: from.Addr,
		Term: r.uint(), LastLogIndex: r.uint(), LastLogTerm: r.uint(), LeadershipTransfer: r.bool(),
	}
	return q, r.err("request for a vote")
}

func appendPreVoteRequest(b []byte, q *raft.RequestPreVoteRequest) []byte {
	b = binary.AppendUvarint(b, q.Term)
	b = binary.AppendUvarint(b, q.LastLogIndex)
	return binary.AppendUvarint(b, q.LastLogTerm)
}

func parsePreVoteRequest(r reader, from raft.RPCHeader) (*raft.RequestPreVoteRequest, error) {
	q := &raft.RequestPreVoteRequest{RPCHeader: from, Term: r.uint(), LastLogIndex: r.uint(), LastLogTerm: r.uint()}
	return q, r.err("request for a pre-vote")
}

// appendSnapshotRequest leaves out the snapshot, which is the last field.
func appendSnapshotRequest(b []byte, q *raft.InstallSnapshotRequest) []byte {
	b = append(b, byte(q.SnapshotVersion))
	b = binary.AppendUvarint(b, q.Term)
	b = binary.AppendUvarint(b, q.LastLogIndex)
	b = binary.AppendUvarint(b, q.LastLogTerm)
	b = appendBytes(b, q.Configuration)
	b = binary.AppendUvarint(b, q.ConfigurationIndex)
	return binary.AppendUvarint(b, uint64(q.Size))
}

func parseSnapshotRequest(r reader, from raft.RPCHeader) (*raft.InstallSnapshotRequest, []byte, error) {
	q := &raft.InstallSnapshotRequest{
		RPCHeader: from, Leader: from.Addr, SnapshotVersion: raft.SnapshotVersion(r.byte()),
		Term: r.uint(), LastLogIndex: r.uint(), LastLogTerm: r.uint(),
		Configuration: r.bytes(), ConfigurationIndex: r.uint(),
	}
	data := r.bytes()
	q.Size = int64(len(data))
	if err := r.err("snapshot"); err != nil {
		return nil, nil, err
	}
	if q.SnapshotVersion != raft.SnapshotVersionMax { // the one before names servers by addresses alone
		return nil, nil, fmt.Errorf("%w: snapshot of version %d, want %d", errMalformed, q.SnapshotVersion, raft.SnapshotVersionMax)
	}
	if err := checkConfiguration(q.Configuration); err != nil {
		return nil, nil, err
	}
	return q, data, nil
}

// checkEntry refuses what raft would panic on, now or when it applies the entry.
func checkEntry(e *raft.Log) error {
	switch e.Type {
	case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		return nil
	case raft.LogConfiguration:
		return checkConfiguration(e.Data)
	}
	return fmt.Errorf("%w: log entry of type %d", errMalformed, e.Type)
}

// checkConfiguration refuses a configuration on which raft would panic.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: configuration of voters: %v", errMalformed, p)
		}
	}()
	raft.DecodeConfiguration(b)
	return nil
}

// parseRequest reads what stands behind a head. The reader is the snapshot's, and of no other kind.
func parseRequest(kind rpcKind, r reader, from raft.RPCHeader) (command any, snapshot []byte, err error) {
	switch kind {
	case appendKind:
		command, err = parseAppendRequest(r, from)
	case voteKind:
		command, err = parseVoteRequest(r, from)
	case preVoteKind:
		command, err = parsePreVoteRequest(r, from)
	case snapshotKind:
		command, snapshot, err = parseSnapshotRequest(r, from)
	case timeoutNowKind:
		command = &raft.TimeoutNowRequest{RPCHeader: from}
	default:
		err = fmt.Errorf("%w: %v", errMalformed, kind)
	}
	if err != nil {
		return nil, nil, err
	}
	return command, snapshot, nil
}

// appendAnswer writes a response of raft.
func appendAnswer(response any) ([]byte, error) {
	b := make([]byte, 0, 2+2*binary.MaxVarintLen64+2)
	begin := func(kind rpcKind, h raft.RPCHeader) {
		b = append(b, byte(kind), byte(h.ProtocolVersion))
	}
	switch a := response.(type) {
	case *raft.AppendEntriesResponse:
		begin(appendKind, a.RPCHeader)
		b = binary.AppendUvarint(b, a.Term)
		b = binary.AppendUvarint(b, a.LastLog)
		b = appendBool(appendBool(b, a.Success), a.NoRetryBackoff)
	case *raft.RequestVoteResponse:
		begin(voteKind, a.RPCHeader)
		b = binary.AppendUvarint(b, a.Term)
		b = appendBool(b, a.Granted)
	case *raft.RequestPreVoteResponse:
		begin(preVoteKind, a.RPCHeader)
		b = binary.AppendUvarint(b, a.Term)
		b = appendBool(b, a.Granted)
	case *raft.InstallSnapshotResponse:
		begin(snapshotKind, a.RPCHeader)
		b = binary.AppendUvarint(b, a.Term)
		b = appendBool(b, a.Success)
	case *raft.TimeoutNowResponse:
		begin(timeoutNowKind, a.RPCHeader)
	default:
		return nil, fmt.Errorf("raft answered with %T", response)
	}
	return b, nil
}

// parseAnswer reads an answer into a response of raft's, which says what kind is wanted. Header is the answering server's.
func parseAnswer(b []byte, response any, header raft.RPCHeader) error {
	r := reader{b: b}
	kind := rpcKind(r.byte())
	header.ProtocolVersion = raft.ProtocolVersion(r.byte())
	var want rpcKind
	switch a := response.(type) {
	case *raft.AppendEntriesResponse:
		want = appendKind
		*a = raft.AppendEntriesResponse{RPCHeader: header, Term: r.uint(), LastLog: r.uint(), Success: r.bool(), NoRetryBackoff: r.bool()}
	case *raft.RequestVoteResponse:
		want = voteKind
		*a = raft.RequestVoteResponse{RPCHeader: header, Term: r.uint(), Granted: r.bool()}
	case *raft.RequestPreVoteResponse:
		want = preVoteKind
		*a = raft.RequestPreVoteResponse{RPCHeader: header, Term: r.uint(), Granted: r.bool()}
	case *raft.InstallSnapshotResponse:
		want = snapshotKind
		*a = raft.InstallSnapshotResponse{RPCHeader: header, Term: r.uint(), Success: r.bool()}
	case *raft.TimeoutNowResponse:
		want = timeoutNowKind
		*a = raft.TimeoutNowResponse{RPCHeader: header}
	default:
		panic(fmt.Sprintf("lease: answer into a %T", response))
	}
	if kind != want && !r.bad {
		return fmt.Errorf("%w: answer to %v where one to %v was due", errMalformed, kind, want)
	}
	return r.err("answer")
}

// requestSize is a bound of an append's size, so that its buffer need not grow.
func requestSize(q *raft.AppendEntriesRequest) int {
	n := headSize + 5*binary.MaxVarintLen64
	for _, e := range q.Entries {
		n += 4*binary.MaxVarintLen64 + 9 + len(e.Data) + len(e.Extensions)
	}
	return min(n, math.MaxInt32)
}
