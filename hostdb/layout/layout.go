// Package layout reads and writes HostDB as the directory that Flipkart's HostDB keeps: one directory per namespace,
// one file per key, member lists and access lists beside them.
//
//	NAMESPACE/KEY             the data of a key, YAML
//	NAMESPACE/.members/KEY    its member list, a host or @key a line
//	NAMESPACE/.perms/KEY      its access list, YAML
//	NAMESPACE/.perms/.default the access list of the namespace
//
// It owns what such a directory means, what may be wrong with one, how it enters a Store, and how it travels as a tar
// stream. Anything from an fs.FS may be hostile: nothing in it leads outside it, and every size is bounded.
//
// It leaves what documents mean to hostdb/section (an import only warns), who may import to its caller, and the wire
// and the terminal to node/api and cmd.
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hostmesh/hostdb"
)

// Names of the layout.
const (
	membersDir = ".members"
	permsDir   = ".perms"
)

// maxMembersFile bounds a member list file: every member that a list may have, at full length, with some comment.
const maxMembersFile = hostdb.MaxMembers * 320

// ErrBadInventory is wrapped by Read and WriteTar when a directory has problems that stop an import.
var ErrBadInventory = errors.New("directory cannot be imported")

// Inventory is what a directory holds, parsed and checked: importing it meets no surprise of its own.
type Inventory struct {
	Namespaces []Namespace // hosts, tags, then the others by name
	Problems   Problems    // warnings, and what was left out under Options.KeepGoing
}

// Namespace is one directory of the root.
type Namespace struct {
	Name    string
	Default *hostdb.ACL // of .perms/.default; nil: there is no such file
	Keys    []Key       // by name
}

// Key is one key with the files that belong to it.
type Key struct {
	Name       string
	Data       hostdb.Document
	HasMembers bool            // whether there is a member list, maybe an empty one
	Members    []hostdb.Member // as hostdb.ParseMembers gives them
	Perms      *hostdb.ACL     // nil: there is no file

	lines []int // line of each of Members, while reading
}

// namespace is the namespace of that name, nil when there is none.
func (inv *Inventory) namespace(name string) *Namespace {
	for i := range inv.Namespaces {
		if inv.Namespaces[i].Name == name {
			return &inv.Namespaces[i]
		}
	}
	return nil
}

// key is the key of that name, nil when there is none.
func (ns *Namespace) key(name string) *Key {
	if ns == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(ns.Keys, name, func(k Key, name string) int { return cmp.Compare(k.Name, name) })
	if !found {
		return nil
	}
	return &ns.Keys[i]
}

// compareNamespaces sorts hosts before tags before all others: what lists refer to comes before the lists.
func compareNamespaces(a, b string) int {
	rank := func(name string) int {
		switch name {
		case hostdb.Hosts:
			return 0
		case hostdb.Tags:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// Problem is one thing wrong with a directory.
type Problem struct {
	File    string // slash-separated, from the root; "." is the root
	Line    int    // from 1; 0 when it is about the whole file
	Message string
	// Fatal problems stop an import, or have something left out under KeepGoing. The others are warnings.
	Fatal bool
}

// String is the problem in one line, in the form of compilers: "tags/web:3: message". A file name that a terminal
// should not see raw is quoted.
func (p Problem) String() string {
	file := p.File
	if strings.ContainsFunc(file, func(r rune) bool { return !strconv.IsPrint(r) }) {
		file = strconv.Quote(file)
	}
	if p.Line > 0 {
		return file + ":" + strconv.Itoa(p.Line) + ": " + p.Message
	}
	return file + ": " + p.Message
}

// maxProblems bounds what is kept of one directory's problems.
const maxProblems = 10_000

// Problems are what is wrong with a directory, by file and line.
type Problems struct {
	List  []Problem // at most 10,000
	Fatal int       // how many are fatal, those not in List included
	Total int       // how many there are
}

func (ps *Problems) add(p Problem) {
	ps.Total++
	if p.Fatal {
		ps.Fatal++
	}
	if len(ps.List) < maxProblems {
		ps.List = append(ps.List, p)
	}
}

// fatal adds a problem that stops an import.
func (ps *Problems) fatal(file string, line int, format string, args ...any) {
	ps.add(Problem{file, line, fmt.Sprintf(format, args...), true})
}

// warn adds a problem that a person should know of.
func (ps *Problems) warn(file string, line int, format string, args ...any) {
	ps.add(Problem{file, line, fmt.Sprintf(format, args...), false})
}

// merge adds what another part of the same reading found.
func (ps *Problems) merge(o Problems) {
	for _, p := range o.List {
		if len(ps.List) == maxProblems {
			break
		}
		ps.List = append(ps.List, p)
	}
	ps.Fatal += o.Fatal
	ps.Total += o.Total
}

func (ps *Problems) sort() {
	slices.SortStableFunc(ps.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

// err is nil when nothing is fatal.
func (ps Problems) err() error {
	if ps.Fatal == 0 {
		return nil
	}
	return &BadInventoryError{ps}
}

// NoNamespace reports whether there is nothing to import because the root holds no namespace: most likely it is another
// directory that was meant. Leaving out what is wrong leaves nothing then.
func (ps Problems) NoNamespace() bool {
	return len(ps.List) == 1 && ps.List[0].File == "." && ps.List[0].Message == noNamespace
}

// shownProblems is how many problems an error message lists.
const shownProblems = 20

// BadInventoryError tells why nothing of a directory was imported. It wraps ErrBadInventory.
type BadInventoryError struct{ Problems Problems }

// Error lists the first fatal problems, one a line, and counts the others.
func (e *BadInventoryError) Error() string {
	if e.Problems.NoNamespace() {
		return "nothing was imported: " + noNamespace
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems; nothing was imported: correct them, or import the rest with --keep-going", e.Problems.Fatal)
	if e.Problems.Fatal == 1 {
		b.Reset()
		b.WriteString("1 problem; nothing was imported: correct it, or import the rest with --keep-going")
	}
	shown := 0
	for _, p := range e.Problems.List {
		if p.Fatal && shown < shownProblems {
			b.WriteString("\n  " + p.String())
			shown++
		}
	}
	if more := e.Problems.Fatal - shown; more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

// Unwrap makes errors.Is find ErrBadInventory.
func (e *BadInventoryError) Unwrap() error { return ErrBadInventory }
