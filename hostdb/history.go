package hostdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Revision is one operation as people read it.
type Revision struct {
	ID     Stamp  // the same on every node
	Node   string // id of the node that accepted it; "" when its run's first operation is not held
	User   string
	Log    string
	At     time.Time // when it was written: by its stamp, or what Source says
	Source *Source   // nil for what was written here and not brought from elsewhere
	// Effects are what it did, in the order of keys. They are shared: callers must not change them. Those of System are
	// among them: callers that show effects to people leave that namespace out.
	Effects []Effect
}

// Scope is what a reader of history asks about. The zero Scope is everything but System.
type Scope struct {
	NS, Key string   // "" for all
	What    Resource // Data, Members or Perms; "" for all of the key
	Path    []string // with Data: at, above or below this path only
	Member  string   // with Members: this one only
}

// RevisionQuery asks for revisions, newest first.
type RevisionQuery struct {
	Scope
	Before Stamp // only older ones; zero for the newest
	Limit  int   // at most so many; 0 is DefaultRevisions
}

// DefaultRevisions is how many revisions are given when nobody says: upstream's number.
const DefaultRevisions = 50

// touches reports whether an effect is one that the scope asks about.
func (sc *Scope) touches(x *Effect) bool {
	switch {
	case sc.NS == "" && x.NS == System, sc.NS != "" && sc.NS != x.NS, sc.Key != "" && sc.Key != x.Key:
		return false
	case sc.What == "" || x.Kind == DeleteKey || x.Kind > SetPerms:
		return true
	}
	switch x.Kind {
	case CreateKey:
		return sc.What == Data || x.From != ""
	case SetLeaf, UnsetLeaf:
		return sc.What == Data && (len(sc.Path) == 0 || PathOf(sc.Path...).comparable(PathOf(x.Path...)))
	case PutMember, RemoveMember:
		return sc.What == Members && (sc.Member == "" || sc.Member == x.Member)
	default:
		return sc.What == Perms
	}
}

// Touches reports whether a revision did something that the scope asks about.
func (sc Scope) Touches(r Revision) bool {
	return slices.ContainsFunc(r.Effects, func(x Effect) bool { return sc.touches(&x) })
}

// renamedFrom is the name that key had before op created it by a rename.
func renamedFrom(effects []Effect, ns, key string) string {
	for i := range effects {
		if x := &effects[i]; x.Kind == CreateKey && x.NS == ns && x.Key == key {
			return x.From
		}
	}
	return ""
}

// reading is a storage and the view of what it holds, for one look into history. It shows what the view holds and nothing
// that arrived later: several scans of a storage would otherwise see a part of an operation.
type reading struct {
	st   Storage
	view View
}

func (s *Store) reading() (reading, error) {
	s.mu.Lock()
	st, missing := s.storage, s.fillingLocked()
	s.mu.Unlock()
	if st == nil {
		return reading{}, refuse(ErrUnavailable, "history cannot be read: %v", s.Failure())
	}
	if missing > 0 {
		return reading{}, refuse(ErrUnavailable, "this node joined a while ago and still fetches history: %d operations to go; ask another node, or again later", missing)
	}
	return reading{readStorage{st, s}, s.View()}, nil
}

// readStorage is a storage that may be given up while it is read: what fails then is unavailable, not broken.
type readStorage struct {
	Storage
	store *Store
}

func (r readStorage) Get(key []byte) (value []byte, found bool, err error) {
	value, found, err = r.Storage.Get(key)
	return value, found, r.explain(err)
}

func (r readStorage) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return r.explain(r.Storage.Scan(prefix, from, fn))
}

func (r readStorage) ScanBack(prefix, from []byte, fn func(key, value []byte) error) error {
	return r.explain(r.Storage.ScanBack(prefix, from, fn))
}

func (r readStorage) explain(err error) error {
	if err == nil || errors.Is(err, errEnough) || errors.Is(err, errRare) || errors.Is(err, ErrUnavailable) {
		return err
	}
	r.store.mu.Lock()
	given := r.store.storage != r.Storage
	r.store.mu.Unlock()
	if given {
		return fmt.Errorf("%w: the storage was closed while it was read: %w", ErrUnavailable, err)
	}
	return err
}

// revision makes an operation readable.
func (r reading) revision(op *Operation) Revision {
	rev := Revision{ID: op.Stamp(), Node: r.view.OriginNode(op.Origin), User: op.User, Log: op.Log,
		At: op.Time.Wall(), Source: op.Source, Effects: legible(op.Effects)}
	if op.Source != nil {
		rev.Source = op.Source.plausible()
		rev.At = time.Unix(rev.Source.Seconds, 0).In(time.FixedZone("", rev.Source.Zone*60))
	}
	return rev
}

// unreadable stands for the Kind of an effect that means nothing: readers take it for one of a newer version.
const unreadable Kind = 255

// legible are effects without the paths and values of those that mean nothing, which nobody could write out.
func legible(effects []Effect) []Effect {
	odd := func(x Effect) bool { return x.Kind >= CreateKey && x.Kind <= SetPerms && !x.foldable() }
	if !slices.ContainsFunc(effects, odd) {
		return effects
	}
	out := slices.Clone(effects)
	for i, x := range out {
		if odd(x) {
			out[i] = Effect{Kind: unreadable, NS: x.NS, Key: x.Key}
		}
	}
	return out
}

// Bounds of a Source that every form of a time can show: the years 0 to 9999, and zones of less than a day.
const (
	minSourceSeconds = -62167219200
	maxSourceSeconds = 253402214400 // a day less, for the zone
	maxSourceZone    = 24*60 - 1
)

// plausible is the source, or one with a time that can be written down: a replica takes from others what it would not
// write itself, and one odd time must not keep people from the rest of a history.
func (s *Source) plausible() *Source {
	sound := *s
	sound.Seconds = min(max(s.Seconds, minSourceSeconds+24*3600), maxSourceSeconds)
	if s.Zone < -maxSourceZone || s.Zone > maxSourceZone {
		sound.Zone = 0
	}
	if sound == *s {
		return s
	}
	return &sound
}

// operation reads an operation by its stamp; nil when it is not held.
func (r reading) operation(id Stamp) (*Operation, error) {
	row, found, err := r.st.Get(stampKey(id))
	if err != nil || !found {
		return nil, err
	}
	return r.readStamp(id, row)
}

// Revision is the operation with an id; ErrNotFound when this replica does not hold it, ErrDropped when it does not any more.
func (s *Store) Revision(id Stamp) (Revision, error) {
	r, err := s.reading()
	if err != nil {
		return Revision{}, err
	}
	op, err := r.operation(id)
	switch {
	case err != nil:
		return Revision{}, fmt.Errorf("read revision %s: %w", id, err)
	case op == nil:
		return Revision{}, r.missing(id)
	}
	return r.revision(op), nil
}

// Revisions are those that a query asks for, newest first; more says that there are older ones. The history of a key
// follows its renames: before a key had its name, it is that of the former name.
func (s *Store) Revisions(ctx context.Context, q RevisionQuery) (list []Revision, more bool, err error) {
	if q.Limit <= 0 {
		q.Limit = DefaultRevisions
	}
	if q.Before.IsZero() {
		q.Before = Stamp{Time: math.MaxUint64, Origin: math.MaxUint64}
	}
	r, err := s.reading()
	if err != nil {
		return nil, false, err
	}
	take := func(op *Operation) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		rev := r.revision(op)
		switch {
		case !q.Scope.Touches(rev):
			return nil
		case len(list) == q.Limit:
			more = true
			return errEnough
		}
		list = append(list, rev)
		return nil
	}
	if q.Key == "" {
		err = r.newestOf(ctx, q, take)
	} else {
		err = r.newestOfKey(ctx, q, &q.Key, take)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, fmt.Errorf("read revisions: %w", err)
	}
	return list, more, nil
}

// errEnough ends a scan that has found what it looked for.
var errEnough = errors.New("enough")

// namespaceScan is how many operations are looked at, newest first, before the rows of a namespace are: most namespaces
// are a part of everything, and a rare one must not cost a look at all.
const namespaceScan = 2000

// newestOf calls take for operations below q.Before, newest first: all, or those that touch a namespace and maybe others.
func (r reading) newestOf(ctx context.Context, q RevisionQuery, take func(*Operation) error) error {
	from := stampKey(q.Before.Before())
	looked, last := 0, q.Before
	err := r.st.ScanBack([]byte{'t'}, from, func(key, value []byte) error {
		if looked++; q.NS != "" && looked > namespaceScan {
			return errRare
		}
		last = stampOf(key)
		return r.takeRow(last, value, take)
	})
	if !errors.Is(err, errRare) {
		return err
	}
	stamps := map[Stamp]bool{}
	err = r.st.Scan(textKey('h', q.NS+"\x00"), nil, func(key, _ []byte) error {
		if s := stampOf(key); s.Less(last) {
			stamps[s] = true
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	sorted := make([]Stamp, 0, len(stamps))
	for s := range stamps {
		sorted = append(sorted, s)
	}
	slices.SortFunc(sorted, func(a, b Stamp) int { return b.Compare(a) })
	for _, s := range sorted {
		if err := r.takeStamp(s, take); err != nil {
			return err
		}
	}
	return nil
}

var errRare = errors.New("rare")

// newestOfKey calls take for the operations that touch a key, newest first, and goes on under its former names; *key is
// the name at the time.
func (r reading) newestOfKey(ctx context.Context, q RevisionQuery, key *string, take func(*Operation) error) error {
	until := Stamp{Time: math.MaxUint64, Origin: math.MaxUint64} // *key has been the name until then
	for {
		former := ""
		prefix := textKey('h', id(q.NS, *key)+"\x00")
		err := r.st.ScanBack(prefix, nil, func(row, value []byte) error {
			if len(row) != len(prefix)+16 {
				return nil // of a key whose name begins with ours and NUL
			}
			s := stampOf(row)
			if !s.Less(until) {
				return ctx.Err()
			}
			op, err := r.readStamp(s, value)
			if err != nil || op == nil {
				return err
			}
			if s.Less(q.Before) { // newer ones are read for the renames among them
				if err := take(op); err != nil {
					return err
				}
			} else if err := ctx.Err(); err != nil {
				return err
			}
			if former = renamedFrom(op.Effects, q.NS, *key); former != "" {
				until = s
				return errEnough
			}
			return nil
		})
		if former == "" || !errors.Is(err, errEnough) {
			return err
		}
		*key = former
	}
}

// readStamp reads the operation with a stamp and the seq of a row; nil when it is not held.
func (r reading) readStamp(s Stamp, seq []byte) (*Operation, error) {
	if !r.holds(s, seq) {
		return nil, nil
	}
	raw, err := readOp(r.st, s.Origin, binary.BigEndian.Uint64(seq))
	if err != nil || raw == nil {
		return nil, err
	}
	return ParseOperation(bytes.Clone(raw))
}

// holds reports whether the view holds the operation with a stamp and the seq of a row.
func (r reading) holds(s Stamp, seq []byte) bool {
	return binary.BigEndian.Uint64(seq) <= r.view.Seq(s.Origin)
}

func (r reading) takeRow(s Stamp, seq []byte, take func(*Operation) error) error {
	op, err := r.readStamp(s, seq)
	if err != nil || op == nil {
		return err
	}
	return take(op)
}

func (r reading) takeStamp(s Stamp, take func(*Operation) error) error {
	op, err := r.operation(s)
	if err != nil || op == nil {
		return err
	}
	return take(op)
}

// EachRevision calls fn for each revision after a stamp, oldest first, those of System included. It stops at fn's error.
func (s *Store) EachRevision(ctx context.Context, after Stamp, fn func(Revision) error) error {
	r, err := s.reading()
	if err != nil {
		return err
	}
	return r.each(ctx, after, func(op *Operation) error { return fn(r.revision(op)) })
}

// each calls fn for the operations after a stamp, oldest first.
func (r reading) each(ctx context.Context, after Stamp, fn func(*Operation) error) error {
	return r.st.Scan([]byte{'t'}, append(stampKey(after), 0), func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.takeRow(stampOf(key), value, fn)
	})
}

// Before is the newest stamp below s: At(ctx, id.Before()) is the state that an operation found, as far as is known now.
func (s Stamp) Before() Stamp {
	switch {
	case s.Origin > 0:
		return Stamp{Time: s.Time, Origin: s.Origin - 1}
	case s.Time > 0:
		return Stamp{Time: s.Time - 1, Origin: math.MaxUint64}
	}
	return Stamp{}
}

// EndOf is the last stamp of the time until t, that moment included to the millisecond.
func EndOf(t time.Time) Stamp {
	return Stamp{Time: TimeOf(t.Add(time.Millisecond)), Origin: 0}.Before()
}

// moments are the forms in which people write a time, and how much of it each names.
var moments = []struct {
	layout string
	long   time.Duration
}{
	{"2006-01-02T15:04:05.999999999Z07:00", time.Millisecond},
	{"2006-01-02 15:04:05 -0700", time.Second},
	{"2006-01-02 15:04:05", time.Second},
	{"2006-01-02T15:04:05", time.Second},
	{"2006-01-02 15:04", time.Minute},
	{"2006-01-02", 24 * time.Hour},
}

// Cut understands what people give for a moment and returns the stamp for At: a revision that this replica holds; a time,
// as RFC 3339, "2026-01-31 12:00:05 +0100", "2026-01-31 12:00:05", "2026-01-31 12:00" or "2026-01-31", in UTC where no
// zone is named, to its end; or how long ago it is, as "90m" or "36h".
//
// A time before anything was written here is looked up in what operations of an import say of their source, so that
// a history that came from elsewhere can be asked for its own times.
func (s *Store) Cut(ctx context.Context, text string) (Stamp, error) {
	text = strings.TrimSpace(text)
	if id, err := ParseStamp(text); err == nil {
		_, err := s.Revision(id)
		return id, err
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return s.cutAt(ctx, s.cfg.Clock.Now().Add(-ago))
	}
	for _, m := range moments {
		t, err := time.Parse(m.layout, text)
		if err != nil {
			continue
		}
		if m.long > time.Millisecond {
			t = t.Add(m.long - time.Millisecond)
		}
		return s.cutAt(ctx, t)
	}
	return Stamp{}, refuse(ErrInvalid, "%q is neither a revision nor a time: expected an id as in a list of revisions, "+
		`a time as "2026-01-31 12:00:05" or 2026-01-31T12:00:05Z, or how long ago it is, as 90m`, text)
}

func (s *Store) cutAt(ctx context.Context, t time.Time) (Stamp, error) {
	r, err := s.reading()
	if err != nil {
		return Stamp{}, err
	}
	cut := EndOf(t)
	written := false
	err = r.st.Scan([]byte{'t'}, nil, func(key, _ []byte) error {
		written = !cut.Less(stampOf(key))
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Stamp{}, err
	}
	h, failed := loadHorizon(r.st)
	if failed != nil {
		return Stamp{}, failed
	}
	if h.at.IsZero() && (written || err == nil) || !h.at.IsZero() && !cut.Less(h.at) {
		return cut, nil
	}
	var last Stamp
	err = r.each(ctx, Stamp{}, func(op *Operation) error {
		if r.revision(op).At.After(t) {
			return errEnough
		}
		last = op.Stamp()
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Stamp{}, err
	}
	if last.Less(h.at) {
		return Stamp{}, h.dropped("nothing is known as of " + t.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return last, nil
}
