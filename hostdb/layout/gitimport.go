package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"hostmesh/hostdb"
)

// ErrGitMoved is wrapped by ImportGit when what HostDB has noted of a history is not what the stream goes on: another
// import has run meanwhile, or the store lost a write. Nothing is done twice: import again.
var ErrGitMoved = errors.New("the import does not go on where HostDB is")

// gitMarkerKey is the key of hostdb.System that notes how far each Git history was imported:
// HISTORY: {commit: ID, waiting: {NAMESPACE/KEY: ""}}.
const gitMarkerKey = "git-import"

const (
	markerCommit  = "commit"
	markerWaiting = "waiting"
)

// maxWaiting bounds the lists that are noted as waiting for what they name.
const maxWaiting = 2000

// gitInFlight is how many operations of an import of commits wait at once for the disk, which they share, and for other
// boxes.
const gitInFlight = 32

// GitMarker is how far one history was imported.
type GitMarker struct {
	ID      string   // GitBranch.ID
	Commit  string   // the last one
	Waiting []string // NAMESPACE/KEY of lists that name what was not there
}

// GitMarkers are the histories that were imported, by id.
func GitMarkers(v hostdb.View) []GitMarker {
	var out []GitMarker
	for id, doc := range v.Data(hostdb.System, gitMarkerKey).Keys() {
		m := GitMarker{ID: id, Commit: doc.Text(markerCommit)}
		for list := range doc.At(markerWaiting).Keys() {
			m.Waiting = append(m.Waiting, list)
		}
		out = append(out, m)
	}
	return out
}

func marked(v hostdb.View, id string) string {
	return v.Data(hostdb.System, gitMarkerKey).Text(id, markerCommit)
}

// GitProblem is one thing that could not be taken of a commit. The key keeps what it had.
type GitProblem struct {
	Commit string
	Problem
}

// String is the problem in one line.
func (p GitProblem) String() string {
	return "commit " + p.Commit[:min(12, len(p.Commit))] + ": " + p.Problem.String()
}

// GitReport tells what an import of commits did.
type GitReport struct {
	Commits    int // read
	Operations int // made: one for each commit that changed something
	Merges     int // commits with several parents; what they change is told against the first
	// Acks is the fewest boxes that held one of the operations when it was answered; 0 when none was made.
	Acks    int
	Last    string // the commit up to which HostDB notes that it has the history
	Version hostdb.Version
	// Problems are what could not be taken when it came; at most 10,000. What later commits have mended is among them.
	Problems []GitProblem
	More     int // problems beyond those
}

// ImportGit takes a stream of commits into a Store. Each commit that changes something becomes one operation, in order,
// by its author and with his message; Source keeps his address, time and zone, and the commit's id. Only what a commit
// changes is written, so what others have written here meanwhile stays. In the same operation stands how far the import
// has come: stopped at any moment it goes on there.
//
// by makes the operation that notes the end when the last commits change nothing. Permission is its caller's matter.
// progress is called with the number of commits that are done, by one goroutine; nil for none. The report is valid with
// an error, too.
func ImportGit(ctx context.Context, store *hostdb.Store, in *GitReader, by hostdb.Request, progress func(done, total int)) (GitReport, error) {
	g := &gitImport{
		store: store, start: in.Start, marker: in.Start.Marker, done: in.Start.After,
		lists: map[string]*waitingList{}, missing: map[string]map[string]bool{},
	}
	if now := marked(store.View(), g.start.ID); now != g.marker {
		return g.report, g.moved(now)
	}
	for _, k := range in.Start.Waiting {
		g.wait(k.NS, k.Key, newGitWrite(k, func(string, Problems) {}).list.is, nil, true)
	}
	err := g.run(ctx, in, progress)
	if err == nil && g.done != g.marker {
		err = g.finish(ctx, by)
	}
	view := store.View()
	g.report.Last, g.report.Version = marked(view, g.start.ID), view.Version()
	return g.report, err
}

// gitImport is one import under way. Its fields belong to whoever runs the function of an Update, one after the other;
// the counts of report to the goroutine that collects.
type gitImport struct {
	store  *hostdb.Store
	start  GitStart
	marker string // what HostDB notes, or is about to
	done   string // the last commit that was looked at

	// What lists name and is not there: hosts, keys, and what would make a cycle. It is taken in when it comes.
	lists   map[string]*waitingList    // by NAMESPACE/KEY
	missing map[string]map[string]bool // whom lists wait for, as keyID names it -> NAMESPACE/KEY of the lists

	report GitReport
}

// waitingList is a member list that names what is not there.
type waitingList struct {
	ns, key string
	full    *Key            // the list as the repository has it
	left    map[string]bool // members that were left out
}

func (g *gitImport) moved(now string) error {
	at := "has none of it"
	if now != "" {
		at = "is at commit " + now
	}
	return fmt.Errorf("%w: HostDB %s of %s, the import begins after %s: another import runs or has run; import again", ErrGitMoved, at, g.start.ID, orNone(g.marker))
}

func orNone(commit string) string {
	if commit == "" {
		return "none"
	}
	return commit
}

func (g *gitImport) problem(commit string, ps Problems) {
	for _, p := range ps.List {
		if len(g.report.Problems) == maxProblems {
			g.report.More++
			continue
		}
		p.Fatal = false
		g.report.Problems = append(g.report.Problems, GitProblem{commit, p})
	}
	g.report.More += ps.Total - len(ps.List)
}

// gitResult is what became of one commit.
type gitResult struct {
	id     string
	commit hostdb.Commit
	err    error
}

// run makes the operations in their order: each begins when the one before it has its place, and does not wait until
// that one is durable.
func (g *gitImport) run(ctx context.Context, in *GitReader, progress func(done, total int)) error {
	results := make(chan gitResult, gitInFlight)
	running, done := 0, 0
	var failed error
	take := func() {
		r := <-results
		running--
		if r.err != nil {
			failed = firstOf(failed, fmt.Errorf("commit %s: %w", r.id, r.err))
			return
		}
		if r.commit.Changed() {
			g.report.Operations++
			if g.report.Acks == 0 || r.commit.Acks < g.report.Acks {
				g.report.Acks = r.commit.Acks
			}
		}
		if done++; progress != nil {
			progress(done, g.start.Total)
		}
	}
	for {
		if running == gitInFlight {
			take()
		}
		for len(results) > 0 {
			take()
		}
		if failed = firstOf(failed, ctx.Err()); failed != nil {
			break
		}
		c, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			failed = err
			break
		}
		g.report.Commits++
		if c.Merge {
			g.report.Merges++
		}
		placed := make(chan struct{})
		running++
		go func() { results <- g.write(ctx, c, placed) }()
		<-placed
	}
	for running > 0 {
		take()
	}
	if failed != nil {
		return fmt.Errorf("import stopped: %w; what was imported stands, and importing again goes on after it", failed)
	}
	return nil
}

// write makes the operation of one commit. placed is closed when the next may begin.
func (g *gitImport) write(ctx context.Context, c GitCommit, placed chan struct{}) gitResult {
	release := sync.OnceFunc(func() { close(placed) })
	defer release()
	r := gitResult{id: c.ID}
	var bad Problems
	for _, p := range c.Problems {
		bad.add(p)
	}
	writes := make([]*gitWrite, len(c.Keys))
	for i, k := range c.Keys {
		writes[i] = newGitWrite(k, func(_ string, ps Problems) { bad.merge(ps) })
	}
	req := hostdb.Request{
		User: c.Author, Log: c.Log, Lenient: true,
		Source: &hostdb.Source{Seconds: c.Seconds, Zone: c.Zone, Email: c.Email, Ref: c.ID},
	}
	r.commit, r.err = g.store.Update(ctx, req, func(tx *hostdb.Tx) error {
		defer release()
		if now := marked(tx.View(), g.start.ID); now != g.marker {
			return g.moved(now)
		}
		w := gitTx{gitImport: g, tx: tx, view: tx.View(), writes: writes, problems: &bad}
		changed, err := w.apply()
		if err != nil {
			return err
		}
		g.done = c.ID
		g.problem(c.ID, bad)
		if !changed {
			return nil // the note goes with the next one that does
		}
		return g.note(tx, c.ID)
	})
	return r
}

// note writes how far the import has come.
func (g *gitImport) note(tx *hostdb.Tx, commit string) error {
	if !tx.Exists(hostdb.System, gitMarkerKey) {
		if err := tx.Put(hostdb.System, gitMarkerKey, hostdb.Document{}); err != nil {
			return err
		}
	}
	leaves := []hostdb.Leaf{{Path: markerCommit, Value: hostdb.Text(commit)}}
	for i, id := range slices.Sorted(maps.Keys(g.lists)) {
		if i == maxWaiting {
			break
		}
		leaves = append(leaves, hostdb.Leaf{Path: hostdb.PathOf(markerWaiting, id), Value: hostdb.Text("")})
	}
	g.marker = commit
	return tx.PutPath(hostdb.System, gitMarkerKey, []string{g.start.ID}, hostdb.NewDocument(leaves...))
}

// finish notes the last commits, which change nothing.
func (g *gitImport) finish(ctx context.Context, by hostdb.Request) error {
	by.Source = nil
	_, err := g.store.Update(ctx, by, func(tx *hostdb.Tx) error {
		if now := marked(tx.View(), g.start.ID); now != g.marker {
			return g.moved(now)
		}
		return g.note(tx, g.done)
	})
	if err != nil {
		return fmt.Errorf("note that commit %s was imported: %w", g.done, err)
	}
	return nil
}

// wait notes what a list names and has to wait for; nothing when left is empty, unless the list is to be looked at.
func (g *gitImport) wait(ns, key string, full *Key, left map[string]bool, look bool) {
	id := ns + "/" + key
	if old := g.lists[id]; old != nil {
		for name := range old.left {
			if m := memberID(ns, name); g.missing[m] != nil {
				if delete(g.missing[m], id); len(g.missing[m]) == 0 {
					delete(g.missing, m)
				}
			}
		}
	}
	if full == nil || len(left) == 0 && !look {
		delete(g.lists, id)
		return
	}
	if look { // of an earlier import: whatever it names may be missing
		view := g.store.View()
		left = map[string]bool{}
		for _, m := range full.Members {
			if m.Name != "" && !view.HasMember(ns, key, m.Name) {
				left[m.Name] = true
			}
		}
	}
	g.lists[id] = &waitingList{ns: ns, key: key, full: full, left: left}
	for name := range left {
		m := memberID(ns, name)
		if g.missing[m] == nil {
			g.missing[m] = map[string]bool{}
		}
		g.missing[m][id] = true
	}
}

// gitWrite is a GitKey, read.
type gitWrite struct {
	ns, key, from string
	data          struct {
		changed, gone, bad bool
		unknown            bool // the file could not be read before the commit: it replaces what is there
		was, is            hostdb.Document
	}
	list struct {
		told, changed bool
		bad, unknown  bool
		was, is       *Key // nil: there is no file
	}
	perms struct {
		told, changed bool
		bad           bool
		is            hostdb.ACL
	}
}

// newGitWrite parses the files. report takes what is wrong with the new ones; what is wrong with the old ones was told
// when they were new.
func newGitWrite(k GitKey, report func(file string, ps Problems)) *gitWrite {
	w := &gitWrite{ns: k.NS, key: k.Key, from: k.From}
	file := func(what hostdb.Resource) string { return place{k.NS, k.Key, what}.file() }
	check := func(what hostdb.Resource, b GitBlob, parse func(ps *Problems) bool) (ok bool) {
		var ps Problems
		if b.Bad != "" {
			ps.fatal(file(what), 0, "%s", b.Bad)
		} else {
			ok = parse(&ps)
		}
		if ps.Total > 0 {
			report(file(what), ps)
		}
		return ok
	}
	if w.data.changed = k.Data.Changed || k.From != ""; w.data.changed {
		if w.data.gone = !k.Data.New.There; !w.data.gone {
			w.data.bad = !check(hostdb.Data, k.Data.New, func(ps *Problems) (ok bool) {
				w.data.is, ok = parseData(file(hostdb.Data), k.Data.New.Text, ps)
				return ok
			})
		}
		if k.Data.Old.There {
			ok := k.Data.Old.Bad == ""
			if ok {
				w.data.was, ok = parseData("", k.Data.Old.Text, &Problems{})
			}
			w.data.unknown = !ok
		}
	}
	all := k.Data.Changed || k.From != ""
	w.list.changed = k.Members.Changed
	if w.list.told = all || k.Members.Changed; w.list.told && k.Members.New.There {
		w.list.bad = !check(hostdb.Members, k.Members.New, func(ps *Problems) bool {
			w.list.is = parseList(file(hostdb.Members), k.Members.New.Text, ps)
			return w.list.is != nil
		})
	}
	if k.Members.Old.There {
		if k.Members.Old.Bad == "" {
			w.list.was = parseList("", k.Members.Old.Text, &Problems{})
		}
		w.list.unknown = w.list.was == nil
	}
	w.perms.changed = k.Perms.Changed
	if w.perms.told = all || k.Perms.Changed; w.perms.told && k.Perms.New.There {
		w.perms.bad = !check(hostdb.Perms, k.Perms.New, func(ps *Problems) bool {
			acl := parsePerms(file(hostdb.Perms), k.Perms.New.Text, ps)
			if acl != nil {
				w.perms.is = *acl
			}
			return ps.Fatal == 0 // one that is only ignored is none
		})
	}
	return w
}

func parseData(file string, text []byte, ps *Problems) (hostdb.Document, bool) {
	doc, err := hostdb.ParseDocument(text)
	if err == nil {
		err = checkSize(doc, text)
	}
	if err != nil {
		yamlProblem(ps, file, text, err)
		return hostdb.Document{}, false
	}
	return doc, true
}

func parseList(file string, text []byte, ps *Problems) *Key {
	var k Key
	if !k.parseMembers(file, text, ps) {
		return nil
	}
	return &k
}

// filtered is a copy of the list with the members that keep allows.
func (k *Key) filtered(keep func(name string) bool) []hostdb.Member {
	if k == nil {
		return nil
	}
	c := Key{Members: slices.Clone(k.Members), lines: slices.Clone(k.lines)}
	c.keepMembers(func(name string, _ int) bool { return keep(name) })
	return c.Members
}

// line is where the list names a member.
func (k *Key) line(name string) int {
	if i := slices.IndexFunc(k.Members, func(m hostdb.Member) bool { return m.Name == name }); i >= 0 {
		return k.lines[i]
	}
	return 0
}

// target is what a member of a list is: a key of a namespace.
func target(ns, name string) (inNS, key string) {
	if inherited, ok := strings.CutPrefix(name, "@"); ok {
		return ns, inherited
	}
	return hostdb.Hosts, name
}
