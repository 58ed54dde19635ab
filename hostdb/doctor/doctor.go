// Package doctor finds what is wrong with what people wrote into HostDB: members that are not there, addresses that two
// hosts claim, names that lead nowhere, tags that disagree, sections that cannot be read.
//
// It is pure: a function of a view, the same on every node that holds the same version. It owns what spans several keys,
// and repeats what hostdb/section finds in each. What is wrong with a node (its disk, its clock, its daemons, members
// that do not answer) is not HostDB's matter, and is left to the node's status. It mends nothing.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// ErrUnknownCheck is returned when Options name a check that does not exist. It wraps hostdb.ErrInvalid.
var ErrUnknownCheck = fmt.Errorf("%w: no such check", hostdb.ErrInvalid)

// DefaultDomain is the domain of the mesh when Options name none.
const DefaultDomain = "mesh.internal"

// maxRelated bounds the keys that one finding names: a disagreement of tags concerns every host there is.
const maxRelated = 20

// Finding is one thing that is wrong.
type Finding struct {
	// Check is the name of the check that found it.
	Check string
	// Severity is Error for what cannot be done as it is written, or is not safe to rely on, and Warning for what is
	// probably not as meant.
	Severity section.Severity
	// ID is where to look first: hosts/x, tags/y, tags/y/members, tags/y/perms; hostdb for the whole.
	ID string
	// Path leads into the data of ID, or is the member or the user in question; empty for all of it.
	Path string
	// Message says what is wrong, without ID and Path.
	Message string
	// Remedy says what to do.
	Remedy string
	// Related are other keys that have a part in it, sorted, hosts last; at most 20.
	Related []string
	// More is how many related keys were left out.
	More int
}

// Count is how much a check found, whatever the limit.
type Count struct {
	Check    string
	Errors   int
	Warnings int
}

// Report is what Examine found.
type Report struct {
	// Version is that of the view.
	Version string
	// Findings are in the order of Checks; within a check errors first, then by ID, path and message.
	Findings []Finding
	// Counts has an entry for each check that ran, in the order of Checks.
	Counts []Count
	// Incomplete is set when the context ended first: what is there is true, and more may be wrong.
	Incomplete bool
}

// Totals are the sums of Counts.
func (r Report) Totals() (failures, warnings int) {
	for _, c := range r.Counts {
		failures += c.Errors
		warnings += c.Warnings
	}
	return failures, warnings
}

// Options narrow an examination. The zero value is all of it.
type Options struct {
	// Only are the names of the checks to run. Empty = all.
	Only []string
	// Skip are the names of checks not to run.
	Skip []string
	// Host keeps only what concerns the host of that name: what its document, its names and addresses, its tags'
	// combination and lists that name it have wrong. Empty = everything.
	Host string
	// Limit is the most findings that are kept of each check. 0 = all.
	Limit int
	// Domain is the domain of the mesh, whose names tags and VIPs have. Empty = DefaultDomain.
	Domain string
}

// Check is one kind of examination.
type Check struct {
	Name string // lower case, with hyphens
	Doc  string // what it looks for, in one line without a full stop

	run func(*exam)
}

// Checks are all there are, in the order in which they report.
func Checks() []Check {
	return slices.Concat(memberChecks(), claimChecks(), networkChecks(), dnsChecks(), sectionChecks(), replicaChecks())
}

// Examine looks at a view. It costs time in proportion to the size of the view, ten thousand hosts some tenths of a
// second, and stops when ctx ends. The error is of the options alone and wraps ErrUnknownCheck.
func Examine(ctx context.Context, view hostdb.View, opts Options) (Report, error) {
	list, err := choose(opts)
	if err != nil {
		return Report{}, err
	}
	if opts.Domain == "" {
		opts.Domain = DefaultDomain
	}
	r := Report{Version: view.Version().String()}
	e := gather(ctx, view, opts)
	for _, c := range list {
		e.check, e.found = c.Name, nil
		if !e.over() {
			c.run(e)
		}
		e.finish(&r)
	}
	r.Incomplete = e.over()
	return r, nil
}

func choose(opts Options) ([]Check, error) {
	all := Checks()
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	for _, name := range slices.Concat(opts.Only, opts.Skip) {
		if slices.Contains(names, name) {
			continue
		}
		if near := section.Nearest(name, names); near != "" {
			return nil, fmt.Errorf("%w: %q; did you mean %s?", ErrUnknownCheck, name, near)
		}
		return nil, fmt.Errorf("%w: %q; there are %s", ErrUnknownCheck, name, strings.Join(names, ", "))
	}
	return slices.DeleteFunc(all, func(c Check) bool {
		return len(opts.Only) > 0 && !slices.Contains(opts.Only, c.Name) || slices.Contains(opts.Skip, c.Name)
	}), nil
}

// finish sorts what the present check found, counts it, and adds what the options keep to the report.
func (e *exam) finish(r *Report) {
	list := e.found
	if e.opts.Host != "" {
		list = slices.DeleteFunc(list, func(f Finding) bool { return !f.concerns(hostdb.Hosts + "/" + e.opts.Host) })
	}
	slices.SortFunc(list, compare)
	list = slices.CompactFunc(list, func(a, b Finding) bool { return compare(a, b) == 0 })
	count := Count{Check: e.check}
	for _, f := range list {
		if f.Severity == section.Error {
			count.Errors++
		} else {
			count.Warnings++
		}
	}
	r.Counts = append(r.Counts, count)
	if n := e.opts.Limit; n > 0 && len(list) > n {
		list = list[:n]
	}
	for _, f := range list {
		if n := len(f.Related) - maxRelated; n > 0 {
			f.Related, f.More = slices.Clone(f.Related[:maxRelated]), f.More+n
		}
		r.Findings = append(r.Findings, f)
	}
}

func (f Finding) concerns(id string) bool {
	return f.ID == id || strings.HasPrefix(f.ID, id+"/") || slices.Contains(f.Related, id)
}

func compare(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID), strings.Compare(a.Path, b.Path),
		strings.Compare(a.Message, b.Message), slices.Compare(a.Related, b.Related))
}
