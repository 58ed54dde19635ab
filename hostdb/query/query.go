// Package query finds hosts, tags and keys of other namespaces by an expression over their documents.
//
// It owns what an expression may say: the language is expr-lang's, and this package gives it names (Network.IP, tags,
// effective, vms), functions (bytes, cidr, has) and what comparing means for values that people typed. It owns the
// columns of an answer and their forms (table, CSV, JSON, YAML), and the bounds on time and memory. It reads a View
// and nothing else. Who may ask, and by which way, is left to its callers.
package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/expr-lang/expr/vm"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// The bounds. They are far beyond what a person asks for, and keep a mistake from hurting the agent.
const (
	// MaxExpression is how long an expression, and a list of columns, may be, in bytes.
	MaxExpression = 4 << 10
	// MaxColumns is how many columns may be selected.
	MaxColumns = 64
	// DefaultLimit is how many rows an answer has when no limit is named: more than anybody reads.
	DefaultLimit = 1000
	// MaxLimit is the highest limit. Options.After fetches what comes behind it.
	MaxLimit = 100_000

	maxNodes = 500        // parts of an expression
	maxWork  = 20_000_000 // steps of a run: 100,000 hosts with a long expression take half of it
	maxMade  = 64 << 20   // bytes of text that a run makes, and bytes of its answer
	maxTold  = 8          // warnings of an answer
)

var (
	// ErrTooMuch is returned when a query needs more steps or memory than one may have.
	ErrTooMuch = errors.New("the query is too expensive")
	// ErrTooSlow is returned when the context ended before the query did. It wraps the context's error too.
	ErrTooSlow = errors.New("the query took too long")
)

// Options say what a query is about and what its answer shows.
type Options struct {
	// In is the namespace: hosts, tags or another. Empty = hosts.
	In string
	// Select are the columns, divided by commas: paths such as Network.IP or Physical Location/Rack Number, names such
	// as tags, or NAME=EXPRESSION. Empty = the name and what is most asked for.
	Select string
	// Sort is the column that orders the rows, with - before it for the highest first. Empty = by name.
	Sort string
	// Limit is the most rows of an answer. 0 = DefaultLimit; more than MaxLimit is refused.
	Limit int
	// After leaves out all names up to this one, for the next page of an answer in the order of names. Empty = none.
	After string
	// CountOnly leaves the rows out of the answer.
	CountOnly bool
	// Clock is what now() says. nil = time.Now.
	Clock func() time.Time
}

// Query is a compiled question. It does not change and is safe for concurrent use.
type Query struct {
	opts    Options
	where   *program // nil = everything
	columns []column
	sortBy  int // index of the column; -1 = by name
	reverse bool
	last    atomic.Pointer[index] // of the view that Match saw last
}

// column is one column of the answers.
type column struct {
	name string
	*program
}

// Result is the answer of a query.
type Result struct {
	// Columns are the names of the columns.
	Columns []string
	// Rows are in order, at most as many as the limit says.
	Rows []Row
	// Matched is how many keys there are that the expression holds for, whatever the limit.
	Matched int
	// More reports whether rows are missing because of the limit.
	More bool
	// CountOnly reports that rows were not asked for.
	CountOnly bool
	// Warnings are what may have made the answer other than it was meant, such as a tag that does not exist.
	Warnings []string
}

// Row is what one key says in the columns.
type Row struct {
	Key string
	// Cells are one for each column; one that does not exist is nothing, as a path that leads nowhere is.
	Cells []hostdb.Document
	order any // the value to sort by
}

// Compile makes a query of an expression; the empty one holds for every key. The error is an *Error when the
// expression or the columns are to blame, and says where.
func Compile(where string, opts Options) (*Query, error) {
	opts.In = cmp.Or(opts.In, hostdb.Hosts)
	switch {
	case opts.Limit < 0 || opts.Limit > MaxLimit:
		return nil, fmt.Errorf("%w: a limit of %d: 1 to %d rows are given at once", hostdb.ErrInvalid, opts.Limit, MaxLimit)
	case opts.Limit == 0:
		opts.Limit = DefaultLimit
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	q := &Query{opts: opts, sortBy: -1}
	if strings.TrimSpace(where) != "" {
		p, err := compile("where", where, where, opts.In, true)
		if err != nil {
			return nil, err
		}
		q.where = p
	}
	var err error
	if q.columns, err = parseSelect(opts.Select, opts.In); err != nil {
		return nil, err
	}
	if err := q.parseSort(); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *Query) parseSort() error {
	name, reverse := strings.CutPrefix(q.opts.Sort, "-")
	q.reverse = reverse
	if name == "" || name == "name" {
		return nil
	}
	var known []string
	for i, c := range q.columns {
		if c.name == name {
			q.sortBy = i
			return nil
		}
		known = append(known, c.name)
	}
	return fmt.Errorf("%w: sort by %q: there is no such column%s; the columns are %s", hostdb.ErrInvalid, name,
		didYouMean(section.Nearest(name, known)), strings.Join(known, ", "))
}

// In is the namespace that the query is about.
func (q *Query) In() string { return q.opts.In }

// Run answers the query from a view. It ends soon after ctx does, with ErrTooSlow; other errors are ErrTooMuch,
// hostdb.ErrNoNamespace, and an *Error for what only a value could show.
func (q *Query) Run(ctx context.Context, view hostdb.View) (Result, error) {
	if err := visible(view, q.opts.In); err != nil {
		return Result{}, err
	}
	r := q.newRun(ctx, view, &index{view: view})
	out := Result{CountOnly: q.opts.CountOnly}
	for _, c := range q.columns {
		out.Columns = append(out.Columns, c.name)
	}
	byName := q.sortBy < 0 && !q.reverse
	for key, item := range q.candidates(r) {
		if key <= q.opts.After && q.opts.After != "" {
			continue
		}
		hit, err := r.match(key, item)
		if err != nil {
			return Result{}, err
		}
		if !hit {
			continue
		}
		out.Matched++
		if q.opts.CountOnly || byName && len(out.Rows) == q.opts.Limit {
			continue
		}
		row, err := r.cells()
		if err != nil {
			return Result{}, err
		}
		out.Rows = append(out.Rows, row)
	}
	if !byName {
		q.sort(out.Rows)
	}
	if len(out.Rows) > q.opts.Limit {
		out.Rows = slices.Clip(out.Rows[:q.opts.Limit])
	}
	out.More = !q.opts.CountOnly && out.Matched > len(out.Rows)
	out.Warnings = r.told(q)
	return out, nil
}

// Match reports whether the expression holds for one key. It is false for a key of another namespace than the query's
// and for one that does not exist.
func (q *Query) Match(view hostdb.View, ns, key string) (bool, error) {
	if ns != q.opts.In || visible(view, ns) != nil {
		return false, nil
	}
	item, ok := view.Get(ns, key)
	if !ok {
		return false, nil
	}
	ix := q.last.Load()
	if ix == nil || ix.view != view {
		ix = &index{view: view}
		q.last.Store(ix)
	}
	return q.newRun(context.Background(), view, ix).match(key, item)
}

// visible refuses what queries must never see, in the words for what is not there.
func visible(view hostdb.View, ns string) error {
	if strings.HasPrefix(ns, ".") || !view.HasNamespace(ns) && ns != hostdb.Hosts && ns != hostdb.Tags {
		return fmt.Errorf("%w: there is no namespace %q", hostdb.ErrNoNamespace, ns)
	}
	return nil
}

func (q *Query) sort(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int {
		c, names := 0, strings.Compare(a.Key, b.Key)
		if q.sortBy >= 0 {
			c = sortOrder(a.order, b.order)
		}
		switch {
		case !q.reverse, q.sortBy >= 0 && (a.order == nil || b.order == nil): // nothing comes last both ways
			return cmp.Or(c, names)
		}
		return -cmp.Or(c, names)
	})
}

// program is a compiled expression and what it was made of.
type program struct {
	code *vm.Program
	part string   // where or select
	text string   // what the person wrote, for errors
	free []use    // keys of documents that no schema knows
	tags []use    // tags that are named
	need []string // tags without which the expression never holds
}

// use is a name in an expression.
type use struct {
	name string
	at   position
}
