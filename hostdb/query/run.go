package query

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// run is one evaluation of a query over a view.
type run struct {
	q       *Query
	ctx     context.Context
	view    hostdb.View
	ix      *index
	machine vm.VM
	row     row

	work, look int // steps done, and at which to look at ctx again
	made       int // bytes of text made, and of the answer
	members    map[string][]string
	parents    *hostdb.ParentFinder // of tags; nil until asked for
	warnings   []string
	odd        map[position]*oddity
}

// oddity is values at one place of the expression that are neither true nor false.
type oddity struct {
	hosts   int
	example string
}

func (q *Query) newRun(ctx context.Context, view hostdb.View, ix *index) *run {
	r := &run{q: q, ctx: ctx, view: view, ix: ix}
	r.row.run = r
	return r
}

// row is the key that is looked at. Expressions see it as their environment.
type row struct {
	run       *run
	key       string
	doc       hostdb.Document
	effective hostdb.Document
	combined  bool // whether effective was made
	tags      []string
	parents   bool // whether tags were looked up
}

// candidates are the keys that the expression may hold for, sorted, with their items: all of them, or the members of
// the smallest tag that it asks for.
func (q *Query) candidates(r *run) iter.Seq2[string, hostdb.Item] {
	if q.where == nil || len(q.where.need) == 0 {
		return r.view.Items(q.opts.In)
	}
	list := r.membersOf(q.where.need[0])
	for _, tag := range q.where.need[1:] {
		if other := r.membersOf(tag); len(other) < len(list) {
			list = other
		}
	}
	return func(yield func(string, hostdb.Item) bool) {
		for _, key := range list {
			if item, ok := r.view.Get(q.opts.In, key); ok && !yield(key, item) {
				return
			}
		}
	}
}

// required are the tags that an expression asks for whatever else it says.
func required(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.BinaryNode:
		if n.Operator == "and" || n.Operator == "&&" {
			return append(required(n.Left), required(n.Right)...)
		}
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok && callee.Value == "tag" {
			if name, ok := n.Arguments[1].(*ast.StringNode); ok {
				return []string{name.Value}
			}
		}
	}
	return nil
}

// match reports whether the expression holds for a key, which cells then shows.
func (r *run) match(key string, item hostdb.Item) (bool, error) {
	r.row = row{run: r, key: key, doc: item.Data()}
	if err := r.row.spend(5); err != nil {
		return false, err
	}
	if r.q.where == nil {
		return true, nil
	}
	v, err := r.eval(r.q.where)
	hit, _ := v.(bool)
	return hit, err
}

func (r *run) eval(p *program) (any, error) {
	v, err := r.machine.Run(p.code, &r.row)
	if err == nil {
		return v, nil
	}
	var f *file.Error
	switch {
	case errors.Is(err, ErrTooMuch), errors.Is(err, ErrTooSlow):
		if errors.As(err, &f) && f.Prev != nil {
			return nil, f.Prev
		}
		return nil, err
	case strings.HasPrefix(err.Error(), "memory budget exceeded"):
		return nil, fmt.Errorf("%w: a list of it grows beyond all bounds", ErrTooMuch)
	}
	at := position(0)
	if errors.As(err, &f) {
		at = position(f.From)
	}
	return nil, p.errorAt(at, "%s (for %s/%s)", firstLine(message(f, err)), r.q.opts.In, r.row.key)
}

func message(f *file.Error, err error) string {
	if f != nil {
		return f.Message
	}
	return err.Error()
}

// cells is the answer's row for the key that matched.
func (r *run) cells() (Row, error) {
	out := Row{Key: r.row.key, Cells: make([]hostdb.Document, len(r.q.columns))}
	for i, c := range r.q.columns {
		v, err := r.eval(c.program)
		if err != nil {
			return Row{}, err
		}
		if i == r.q.sortBy {
			out.order = v
		}
		r.made += weigh(v, maxMade-r.made)
		if r.made > maxMade {
			return Row{}, fmt.Errorf("%w: the answer is larger than %d MiB: select less of each, or set a limit", ErrTooMuch, maxMade>>20)
		}
		out.Cells[i] = documentOf(v)
	}
	return out, nil
}

// spend counts steps. It is called for every operation and, by what goes through a list, for each item.
func (w *row) spend(steps int) error {
	r := w.run
	r.work += steps
	if r.work < r.look {
		return nil
	}
	r.look = r.work + 1<<12
	if err := r.ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrTooSlow, context.Cause(r.ctx))
	}
	if r.work > maxWork {
		return fmt.Errorf("%w: it needs more than %d steps: ask for less, or for fewer hosts by a tag", ErrTooMuch, maxWork)
	}
	return nil
}

// produce counts bytes of text that an expression makes.
func (w *row) produce(bytes int) error {
	w.run.made += bytes
	if w.run.made > maxMade {
		return fmt.Errorf("%w: it makes more than %d MiB of text", ErrTooMuch, maxMade>>20)
	}
	return w.spend(bytes >> 6)
}

// warn counts values that are neither true nor false.
func (w *row) warn(at position, text string) {
	r := w.run
	if r.odd == nil {
		r.odd = map[position]*oddity{}
	}
	if r.odd[at] == nil {
		r.odd[at] = &oddity{example: fmt.Sprintf("%.40q of %s", text, w.key)}
	}
	r.odd[at].hosts++
}

// told are the warnings of a run.
func (r *run) told(q *Query) []string {
	out := r.warnings
	say := func(p *program, at position, format string, args ...any) {
		if len(out) < maxTold {
			out = append(out, p.errorAt(at, format, args...).Error())
		}
	}
	programs := make([]*program, 0, 1+len(q.columns))
	if q.where != nil {
		programs = append(programs, q.where)
		for at, odd := range r.odd {
			say(q.where, at, "for %d in %s the value is neither true nor false, such as %s, and was taken for false; has(...) asks whether something is there",
				odd.hosts, q.opts.In, odd.example)
		}
		slices.Sort(out)
	}
	for _, c := range q.columns {
		programs = append(programs, c.program)
	}
	for _, p := range programs {
		for _, u := range p.tags {
			if !r.view.Exists(hostdb.Tags, u.name) {
				say(p, u.at, "there is no tag %q%s", u.name, didYouMean(section.Nearest(u.name, slices.Collect(r.view.Keys(hostdb.Tags)))))
			}
		}
		for _, u := range p.free {
			if !r.anywhere(u.name) {
				say(p, u.at, "no document in %s has a key %q", q.opts.In, u.name)
			}
		}
	}
	return out
}

func (r *run) anywhere(key string) bool {
	for _, item := range r.view.Items(r.q.opts.In) {
		if item.Data().At(key).Exists() {
			return true
		}
	}
	return false
}

// membersOf are the hosts of a tag, sorted.
func (r *run) membersOf(tag string) []string {
	list, ok := r.members[tag]
	if !ok {
		if r.members == nil {
			r.members = map[string][]string{}
		}
		list = r.view.Members(hostdb.Tags, tag)
		r.members[tag] = list
	}
	return list
}

func (w *row) in(tag string) bool {
	_, ok := slices.BinarySearch(w.run.membersOf(tag), w.key)
	return ok
}

func (w *row) allTags() ([]string, error) {
	if !w.parents {
		w.parents = true
		if w.run.parents == nil {
			w.run.parents = w.run.view.ParentFinder(hostdb.Tags)
		}
		w.tags = w.run.parents.Of(w.key)
	}
	return w.tags, w.spend(20 + len(w.tags))
}

// base is the document that a path begins in.
func (w *row) base(name string) (hostdb.Document, error) {
	if name != "effective" {
		return w.doc, nil
	}
	if !w.combined {
		w.combined = true
		w.effective = section.Effective(w.run.view, w.key).Document
		return w.effective, w.spend(500)
	}
	return w.effective, nil
}

// index is what of a view is asked for from the other side. It is made once for a view, when first needed.
type index struct {
	view  hostdb.View
	vms   lazy
	zones lazy
}

type lazy struct {
	once sync.Once
	of   map[string][]string
}

// vmsOn are the hosts whose VM.Box is box, sorted.
func (x *index) vmsOn(box string) []string {
	x.vms.once.Do(func() {
		x.vms.of = map[string][]string{}
		for host, item := range x.view.Items(hostdb.Hosts) {
			if box := item.Data().Text("VM", "Box"); box != "" {
				x.vms.of[box] = append(x.vms.of[box], host)
			}
		}
	})
	return x.vms.of[box]
}

// zonesOf are the names of the zones that a host is in: those of the tags with a DNS section that it is a member of. A
// retired host is in none.
func (x *index) zonesOf(host string) []string {
	x.zones.once.Do(func() {
		x.zones.of = map[string][]string{}
		for tag, item := range x.view.Items(hostdb.Tags) {
			doc := item.Data()
			if !doc.At("DNS").Exists() {
				continue
			}
			dns, _ := section.DNSOf(doc)
			if dns == nil || dns.Zone == "" {
				continue
			}
			for _, host := range x.view.Members(hostdb.Tags, tag) {
				x.zones.of[host] = append(x.zones.of[host], dns.Zone)
			}
		}
		for host, list := range x.zones.of {
			if section.StatusOf(x.view.Data(hostdb.Hosts, host)) == section.Retired {
				delete(x.zones.of, host)
				continue
			}
			slices.Sort(list)
			x.zones.of[host] = slices.Compact(list)
		}
	})
	return x.zones.of[host]
}
