// Package section gives the documents of HostDB their meaning: every fact of a host and every section of a tag as a
// typed struct, with its default, its checks and an example, and how the tags of a host combine.
//
// It is pure. It owns what may be written (Validator), how it is read (HostOf, TagOf, DNSOf and their like), what a
// host gets from all its tags (Effective), and the manual of all that (Schema, WriteMarkdown). It leaves acting on it
// to the daemons, and what spans several keys (a VIP in two tags, a name in two zones) to doctor.
//
// Reading never fails: old data, data that was imported and data that a newer version wrote must not stop a daemon. A
// value that cannot be read leaves its field at the default, an entry of a list or mapping that cannot be read is left
// out, and a Problem says so. Null and an empty text are as good as absent.
package section

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// Severity is how much a Problem matters to a write.
type Severity int

const (
	// Warning is for a person to know. The write stands.
	Warning Severity = iota
	// Error refuses the write, unless it is lenient or the problem was there before.
	Error
)

// String is the severity as doctor and the API show it: warning or error.
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// MarshalText implements encoding.TextMarshaler with String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing that is wrong with a document.
type Problem struct {
	// Path leads to it inside the document, as in DNS/TTL.
	Path hostdb.Path
	// Value is the text that stands there, cut to a readable length; empty when something is missing or no scalar.
	Value string
	// Reason says what is wrong and what was expected; it begins after the path.
	Reason string
	// Severity is Warning for every host fact, and for what a tag may have without harm.
	Severity Severity
}

// String is the path and the reason, as in `DNS/TTL: "soon" is not a duration in seconds; expected ...`.
func (p Problem) String() string {
	if p.Path == "" {
		return p.Reason
	}
	return p.Path.String() + ": " + p.Reason
}

// InvalidError is returned by Validate when a document must not be written. It wraps hostdb.ErrInvalid.
type InvalidError struct {
	ID       string // namespace/key
	Problems []Problem
}

// shownProblems bounds how many problems an error's text tells: it becomes the reason phrase of an HTTP answer.
const shownProblems = 3

// Error names the key and the first problems, on one line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString(e.ID)
	for i, p := range e.Problems {
		if i == shownProblems {
			fmt.Fprintf(&b, "; and %d more", len(e.Problems)-i)
			break
		}
		sep := ": "
		if i > 0 {
			sep = "; "
		}
		b.WriteString(sep)
		b.WriteString(p.String())
	}
	return b.String()
}

// Unwrap makes errors.Is(err, hostdb.ErrInvalid) true.
func (e *InvalidError) Unwrap() error { return hostdb.ErrInvalid }

// Validator checks documents of hosts and tags before a local write. Its zero value is ready, and safe for concurrent
// use. hostdb.Request.Lenient turns what it refuses into warnings, as imports need.
type Validator struct{}

var _ hostdb.Validator = Validator{}

// Validate refuses a write that breaks a section of a tag, with an *InvalidError. Host facts only warn, and so does a
// problem that the document had before: who mends one line of an old document need not mend the others. Only the sections
// and facts that the write changes are looked at, so that a write costs what it changes; doctor looks at all. Namespaces
// other than hosts and tags are not looked at.
//
// A host that is Protected is neither deleted nor are its VM's processors, memory or disk made smaller: that is an error
// that wraps hostdb.ErrProtected.
func (Validator) Validate(ns, key string, before, after hostdb.Document) (warnings []string, err error) {
	if ns == hostdb.Hosts {
		if err := protected(key, before, after); err != nil {
			return nil, err
		}
	}
	if !after.Exists() {
		return nil, nil
	}
	problems := Check(ns, changed(before, after))
	var old []Problem
	if slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error }) {
		old = Check(ns, before)
	}
	id := ns + "/" + key
	var refused []Problem
	for _, p := range problems {
		if p.Severity == Error && !slices.Contains(old, p) {
			refused = append(refused, p)
		} else {
			warnings = append(warnings, id+": "+p.String())
		}
	}
	if len(refused) > 0 {
		return warnings, &InvalidError{ID: id, Problems: refused}
	}
	return warnings, nil
}

// changed is what stands under the top-level keys of after that before does not have alike; all of after when one of the
// two is no mapping.
func changed(before, after hostdb.Document) hostdb.Document {
	if !before.IsMapping() || !after.IsMapping() {
		return after
	}
	var leaves []hostdb.Leaf
	same := false
	for key, sub := range after.Keys() {
		if before.At(key).Equal(sub) {
			same = true
			continue
		}
		at := hostdb.PathOf(key)
		for p, v := range sub.Leaves() {
			path := at
			if p != "" {
				path += "\x00" + p
			}
			leaves = append(leaves, hostdb.Leaf{Path: path, Value: v})
		}
	}
	if !same {
		return after
	}
	return hostdb.NewDocument(leaves...)
}

// Check lists what is wrong with a document of a namespace, in the order of its paths; nothing outside hosts and tags.
func Check(ns string, doc hostdb.Document) []Problem {
	var problems []Problem
	switch ns {
	case hostdb.Hosts:
		_, problems = HostOf(doc)
	case hostdb.Tags:
		_, problems = TagOf(doc)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return problems
}
