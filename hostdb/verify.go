package hostdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// Finding is one thing that is wrong with what a Storage holds.
type Finding struct {
	What   string // what is wrong
	Where  string // the row: "operation ORIGIN/SEQ", "key NS/KEY", "index of ..."
	Remedy string // what a person does about it
}

// MaxFindings is how many findings a VerifyReport lists; the others are counted.
const MaxFindings = 100

// VerifyReport is what Verify found.
type VerifyReport struct {
	Rows, Bytes uint64 // all that was read: keys and values
	Operations  uint64
	Origins     uint64
	Keys        uint64 // with registers, deleted ones included
	Members     uint64 // member registers
	Rubbish     uint64 // rows that nothing refers to; a crash leaves some, and the next opening removes them
	Unknown     uint64 // rows of kinds that this build does not know: read, and not judged
	Late        uint64 // operations with effects that this build does not know
	Redo        uint64 // operations whose registers a crash left behind; the next opening makes them
	Forks       uint64 // operations kept aside, because they do not continue the chain that is held
	Kept        uint64 // rows that stand for dropped history, and those of restamps: read, and not judged
	Joining     bool   // a state is being taken from another replica, and is not all there yet
	// Whole says that the log holds every operation, so that the registers were compared with a fold of all of it. Without
	// it they were only read.
	Whole bool
	// Digests of what the log describes, by namespace; nil when it is not whole.
	Digests  map[string]string
	Findings []Finding
	More     uint64 // findings beyond those listed
}

// Damaged reports whether anything was found.
func (r *VerifyReport) Damaged() bool { return len(r.Findings) > 0 }

// Expectation is a state that a Storage must hold at least: what a View showed.
type Expectation struct {
	Heads   map[uint64]uint64 // the newest operation of each origin
	Digests map[string]string // of the fold of these operations and no others, by namespace
}

// Expectation is what a storage must hold that was read after v was.
func (v View) Expectation() Expectation {
	e := Expectation{Heads: map[uint64]uint64{}, Digests: map[string]string{}}
	for origin, h := range v.snap().vector.all() {
		e.Heads[origin] = h.seq
	}
	for ns := range v.snap().digests.all() {
		e.Digests[ns] = v.Digest(ns)
	}
	return e
}

// VerifyOptions say how to verify. The zero value is for a storage that nobody writes.
type VerifyOptions struct {
	Expect *Expectation // nil: nothing in particular
	// Progress is called now and then with the rows read; nil for not at all.
	Progress func(rows uint64)
}

// remedyLog and remedyRegisters are what a person does about damage. There is one cure for a replica: the others.
const (
	remedyReplica = "stop the agent, move its data directory aside, and let it join again with an empty one: the other members have all of it; " +
		"if there are none, restore a backup"
	remedyUpgrade = "install the newer hostmesh again, and verify with that"
)

// Verify reads every row of a storage once, over one snapshot, and holds them against each other: whether each operation can be read
// and continues the chain of its origin, whether the indexes name all operations and no others, and whether the registers are
// what the operations make. It changes nothing. It takes the memory of a second replica. The error is for a reading that was
// not possible at all; damage is in the report.
func Verify(ctx context.Context, st Storage, opt VerifyOptions) (VerifyReport, error) {
	v := &verifier{
		ctx: ctx, st: st, opt: opt,
		logs: map[uint64]logStart{}, heads: map[uint64]uint64{}, last: map[uint64]*chainEnd{}, tail: map[opID]*tailOp{},
		folds: map[string]*folding{}, keyRows: map[string][16]byte{}, memberRows: map[string]memberSum{},
		chunks: map[opID]uint64{}, late: map[opID]bool{},
	}
	if err := v.before(); err != nil {
		return v.report, fmt.Errorf("verify: %w", err)
	}
	if err := v.read(); err != nil {
		return v.report, fmt.Errorf("verify: %w", err)
	}
	if err := v.judge(); err != nil {
		return v.report, fmt.Errorf("verify: %w", err)
	}
	return v.report, nil
}

// Verify is Verify of what the replica holds while it goes on, and compares it with what View shows as well.
func (s *Store) Verify(ctx context.Context, progress func(rows uint64)) (VerifyReport, error) {
	r, err := s.reading()
	if err != nil {
		return VerifyReport{}, err
	}
	expect := r.view.Expectation()
	return Verify(ctx, r.st, VerifyOptions{Expect: &expect, Progress: progress})
}

// opID names an operation.
type opID struct{ origin, seq uint64 }

func (o opID) String() string { return fmt.Sprintf("operation %016x/%d", o.origin, o.seq) }

// chainEnd is how far an origin's chain was read.
type chainEnd struct {
	first, seq uint64
	time       Time
	hash       Hash
	node       string
	prev       *Link
	after      []byte // of the first operation
}

// tailOp is an operation whose registers may not be stored yet.
type tailOp struct {
	number     uint64 // in the apply log
	seen, want sum256 // of its h rows
	keys       []string
}

type memberSum struct {
	ns, key string
	base    Stamp
	sum     [16]byte
}

// verifier is one Verify. What a row must match that comes later is kept as sums: equal sums are equal sets of rows.
type verifier struct {
	ctx    context.Context
	st     Storage
	opt    VerifyOptions
	report VerifyReport

	base   uint64 // operations up to this number of the apply log have their registers for sure
	logs   map[uint64]logStart
	heads  map[uint64]uint64 // as v rows name them
	whole  bool
	joined bool // the apply log begins with a state that was taken as a whole
	last   map[uint64]*chainEnd
	tail   map[opID]*tailOp
	later  []*Operation // not among those that are expected

	applied    uint64 // in the snapshot
	number     uint64 // of the apply log's newest line
	folds      map[string]*folding
	keyRows    map[string][16]byte
	memberRows map[string]memberSum
	chunks     map[opID]uint64
	named      sync.Map // parts that rows use
	late       map[opID]bool
	hasFormat  bool

	seenA, wantA, seenH, wantH, seenT, wantT sum256
}

// find notes a finding.
func (v *verifier) find(where, remedy, format string, args ...any) {
	if len(v.report.Findings) >= MaxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{What: fmt.Sprintf(format, args...), Where: where, Remedy: remedy})
}

// low is the newest operation of an origin that need not be held.
func (v *verifier) low(origin uint64) uint64 { return v.logs[origin].low }

// before reads what must be known before the rows pass by: where each origin's log begins.
func (v *verifier) before() error {
	if b, found, err := v.st.Get(textKey('m', "applied")); err != nil {
		return err
	} else if found && len(b) == 8 {
		v.base = binary.BigEndian.Uint64(b)
	}
	_, found, err := v.st.Get(joinKey)
	if err != nil {
		return err
	}
	v.report.Joining = found
	v.whole = !found
	return v.st.Scan([]byte{'l'}, nil, func(key, value []byte) error {
		if len(key) != 9 || len(value) != logRowSize || value[0] != rowPlain {
			v.find(fmt.Sprintf("row %q", key), remedyReplica, "it does not say where the log of an origin begins")
			return nil
		}
		l := logStart{low: binary.BigEndian.Uint64(value[1:]), filling: value[logRowSize-1] == 1}
		copy(l.hash[:], value[9:])
		v.logs[binary.BigEndian.Uint64(key[1:])] = l
		v.whole = v.whole && l.low == 0
		return nil
	})
}

// read looks at every row. Kinds come in the order of their letters: a c e f h k l m o p t u v.
func (v *verifier) read() error {
	return v.st.Scan(nil, nil, func(key, value []byte) error {
		v.report.Rows++
		v.report.Bytes += uint64(len(key) + len(value))
		if v.report.Rows%1024 == 0 {
			if err := v.ctx.Err(); err != nil {
				return err
			}
			if v.opt.Progress != nil {
				v.opt.Progress(v.report.Rows)
			}
		}
		if len(key) == 0 {
			v.report.Unknown++
			return nil
		}
		switch key[0] {
		case 'a':
			v.applyLine(key, value)
		case 'c':
			if len(key) != 25 {
				v.find(fmt.Sprintf("row %q", key), remedyReplica, "it is no chunk of an operation")
			} else {
				v.chunks[opID{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:])}]++
			}
		case 'e':
			v.memberRow(key, value)
		case 'h':
			v.historyRow(key, value)
		case 'k':
			return v.keyRow(key, value)
		case 'm':
			v.metaRow(key, value)
		case 'o':
			return v.operation(key, value)
		case 'f':
			v.report.Forks++
		case 'l': // read before
		case 'b', 'd', 'q', 'w', 'x': // what retention folded, plans and records of restamps: nothing else says what they should be
			v.report.Kept++
		case 'p':
			if len(key) < 17 {
				v.find(fmt.Sprintf("row %q", key), remedyReplica, "it is no part of a row")
			} else if _, used := v.named.Load(string(key[:17])); !used {
				v.report.Rubbish++
			}
		case 't':
			v.stampRow(key, value)
		case 'u':
			v.lateRow(key)
		case 'v':
			v.headRow(key, value)
		default:
			v.report.Unknown++
		}
		return nil
	})
}

// errStopped ends a search when enough is found.
var errStopped = errors.New("enough findings")
