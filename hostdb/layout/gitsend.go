package layout

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// GitSend says which commits to send.
type GitSend struct {
	Branch GitBranch
	After  string   // the commit whose state HostDB has; "" for all
	Marker string   // what HostDB has noted of this history
	Wait   []string // NAMESPACE/KEY of the lists that wait for what was not there
	// Progress is called with the number of commits read and of all; nil for none.
	Progress func(done, total int)
}

// Send writes the commits of a branch to w, oldest first along first parents, for GitReader. It returns how many.
func (r *GitRepo) Send(ctx context.Context, w io.Writer, s GitSend) (int, error) {
	args := []string{"rev-list", "--first-parent", "--reverse", s.Branch.Head}
	if s.After != "" {
		args = append(args, "^"+s.After)
	}
	list, err := r.run(ctx, nil, args...)
	if err != nil {
		return 0, err
	}
	ids := strings.Fields(list)
	objects, err := r.objects(ctx)
	if err != nil {
		return 0, err
	}
	defer objects.close()
	t := &gitTree{objects: objects, files: map[string]treeFile{}, lists: map[string][]string{}, holders: map[string]map[string]bool{}}
	if err := t.begin(ctx, r, s.After); err != nil {
		return 0, err
	}
	out := gitWriter{bufio.NewWriterSize(w, 256<<10)}
	start := GitStart{ID: s.Branch.ID(), After: s.After, Head: s.Branch.Head, Total: len(ids), Marker: s.Marker}
	for _, id := range s.Wait {
		k, ok, err := t.held(ctx, id)
		if err != nil {
			return 0, err
		}
		if ok {
			start.Waiting = append(start.Waiting, k)
		}
	}
	if err := out.item(start); err != nil {
		return 0, fmt.Errorf("send commits: %w", err)
	}
	for i, id := range ids {
		c, err := t.next(ctx, id)
		if err != nil {
			return i, err
		}
		if err := out.commit(c); err != nil {
			return i, fmt.Errorf("send commits: %w", err)
		}
		if s.Progress != nil {
			s.Progress(i+1, len(ids))
		}
	}
	if err := out.end(); err != nil {
		return len(ids), fmt.Errorf("send commits: %w", err)
	}
	return len(ids), nil
}

// gitTree is the tree at the last commit that was sent.
type gitTree struct {
	objects *gitObjects
	id      string
	files   map[string]treeFile        // by path; those of the layout only
	lists   map[string][]string        // path of a member list -> what it names, as holders has it
	holders map[string]map[string]bool // a host, or NAMESPACE/@KEY -> paths of the lists that name it
}

// treeFile is an entry of a tree; the zero one is none.
type treeFile struct{ mode, id string }

func (f treeFile) gitMode() string {
	if f.mode == "" {
		return modeNone
	}
	return f.mode
}

// place is what a path means.
type place struct {
	ns, key string
	what    hostdb.Resource
}

func (p place) file() string {
	switch p.what {
	case hostdb.Members:
		return path.Join(p.ns, membersDir, p.key)
	case hostdb.Perms:
		return path.Join(p.ns, permsDir, p.key)
	}
	return path.Join(p.ns, p.key)
}

func (p place) limit() int {
	if p.what == hostdb.Members {
		return maxMembersFile
	}
	return hostdb.MaxData
}

// placeOf is what a path of a tree means; problem is "" where it is no part of the layout at all.
func placeOf(name string) (p place, ok bool, problem string) {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || strings.HasPrefix(parts[0], ".") {
		return place{}, false, ""
	}
	p = place{ns: parts[0], key: parts[1], what: hostdb.Data}
	rest := parts[2:]
	switch {
	case parts[1] == membersDir && len(rest) > 0:
		p.what, p.key, rest = hostdb.Members, rest[0], rest[1:]
	case parts[1] == permsDir && len(rest) > 0:
		p.what, p.key, rest = hostdb.Perms, rest[0], rest[1:]
	}
	isDefault := p.what == hostdb.Perms && p.key == hostdb.DefaultKey
	switch {
	case strings.HasPrefix(p.key, ".") && !isDefault:
		return place{}, false, ""
	case len(rest) > 0:
		return place{}, false, "a directory stands where a file is expected"
	}
	if err := hostdb.CheckName(p.ns); err != nil {
		return place{}, false, err.Error()
	}
	if err := hostdb.CheckName(p.key); err != nil && !isDefault {
		return place{}, false, err.Error()
	}
	return p, true, ""
}

// begin reads the tree that the first commit goes on.
func (t *gitTree) begin(ctx context.Context, r *GitRepo, after string) error {
	if after == "" {
		empty, err := r.run(ctx, strings.NewReader(""), "hash-object", "-t", "tree", "--stdin")
		t.id = strings.TrimSpace(empty)
		return err
	}
	_, tree, err := t.objects.commit(ctx, after)
	if err != nil {
		return err
	}
	t.id = tree
	return r.eachFile(ctx, tree, func(name string, f treeFile) error {
		p, ok, _ := placeOf(name)
		if !ok {
			return nil
		}
		t.files[name] = f
		if p.what != hostdb.Members {
			return nil
		}
		b, err := t.objects.blob(ctx, f.mode, f.id, p.limit())
		if err == nil {
			t.index(name, p, b)
		}
		return err
	})
}

// eachFile lists a tree.
func (r *GitRepo) eachFile(ctx context.Context, tree string, fn func(name string, f treeFile) error) error {
	out, err := r.run(ctx, nil, "ls-tree", "-r", "-z", "--full-tree", tree)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 3 {
			continue // an empty tree
		}
		if err := fn(name, treeFile{f[0], f[2]}); err != nil {
			return err
		}
	}
	return nil
}

// index notes whom a list names.
func (t *gitTree) index(file string, p place, b GitBlob) {
	for _, name := range t.lists[file] {
		if delete(t.holders[name], file); len(t.holders[name]) == 0 {
			delete(t.holders, name)
		}
	}
	delete(t.lists, file)
	if !b.There || b.Bad != "" {
		return
	}
	var k Key
	k.parseMembers(file, b.Text, &Problems{})
	names := make([]string, 0, len(k.Members))
	for _, m := range k.Members {
		if m.Name != "" {
			names = append(names, memberID(p.ns, m.Name))
		}
	}
	t.lists[file] = names
	for _, name := range names {
		if t.holders[name] == nil {
			t.holders[name] = map[string]bool{}
		}
		t.holders[name][file] = true
	}
}

// memberID names whom a list of ns means by a member: a host, or NAMESPACE/@KEY.
func memberID(ns, name string) string {
	if strings.HasPrefix(name, "@") {
		return ns + "/" + name
	}
	return name
}

// keyID is memberID for a key that lists may name.
func keyID(ns, key string) string {
	if ns == hostdb.Hosts {
		return key
	}
	return ns + "/@" + key
}

// held is a member list as it stands, for a commit that does not change the file.
func (t *gitTree) held(ctx context.Context, id string) (GitKey, bool, error) {
	ns, key, _ := strings.Cut(id, "/")
	p := place{ns, key, hostdb.Members}
	f, ok := t.files[p.file()]
	if !ok {
		return GitKey{}, false, nil
	}
	b, err := t.objects.blob(ctx, f.mode, f.id, p.limit())
	return GitKey{NS: ns, Key: key, Members: GitFile{Changed: true, Old: b, New: b}}, true, err
}

// touchedKey are the files of one key that a commit changes.
type touchedKey struct {
	ns, key string
	changes map[hostdb.Resource]rawDiff
	from    *touchedKey // of a rename
	renamed bool        // it is the from of another
}

// next is the next commit with what it changes, and goes on to its tree.
func (t *gitTree) next(ctx context.Context, id string) (GitCommit, error) {
	c, tree, err := t.objects.commit(ctx, id)
	if err != nil {
		return GitCommit{}, err
	}
	diffs, err := t.objects.compare(ctx, t.id, tree)
	if err != nil {
		return GitCommit{}, err
	}
	t.id = tree
	keys := map[string]*touchedKey{}
	var order []*touchedKey
	for _, d := range diffs {
		p, ok, problem := placeOf(d.path)
		if !ok {
			if problem != "" && d.newMode != modeNone {
				c.Problems = append(c.Problems, Problem{File: strings.ToValidUTF8(d.path, "\ufffd"), Message: problem})
			}
			continue
		}
		k := keys[p.ns+"/"+p.key]
		if k == nil {
			k = &touchedKey{ns: p.ns, key: p.key, changes: map[hostdb.Resource]rawDiff{}}
			keys[p.ns+"/"+p.key] = k
			order = append(order, k)
		}
		k.changes[p.what] = d
	}
	renames(order)
	for _, k := range order {
		if k.renamed {
			continue
		}
		one, err := t.key(ctx, k)
		if err != nil {
			return GitCommit{}, err
		}
		c.Keys = append(c.Keys, one)
	}
	for _, k := range order { // the tree is now that of the commit
		for what, d := range k.changes {
			if d.newMode == modeNone {
				delete(t.files, d.path)
				if what == hostdb.Members {
					t.index(d.path, place{}, GitBlob{})
				}
			} else {
				t.files[d.path] = treeFile{d.newMode, d.newID}
			}
		}
	}
	for _, one := range c.Keys {
		if _, is := keys[one.NS+"/"+one.Key].changes[hostdb.Members]; is && one.Members.New.There {
			p := place{one.NS, one.Key, hostdb.Members}
			t.index(p.file(), p, one.Members.New)
		}
	}
	return c, t.dangling(ctx, &c, order, keys)
}

func (k *touchedKey) gone() bool {
	d, ok := k.changes[hostdb.Data]
	return ok && d.newMode == modeNone
}

func (k *touchedKey) created() bool {
	d, ok := k.changes[hostdb.Data]
	return ok && d.oldMode == modeNone
}

// renames pairs keys that go with keys of the same namespace that come with the same files. Where several could be
// meant none is.
func renames(list []*touchedKey) {
	pair := func(same func(*touchedKey, bool) string) {
		gone, come := map[string][]*touchedKey{}, map[string][]*touchedKey{}
		for _, k := range list {
			switch {
			case k.gone() && !k.renamed:
				id := same(k, false)
				gone[id] = append(gone[id], k)
			case k.created() && k.from == nil:
				id := same(k, true)
				come[id] = append(come[id], k)
			}
		}
		for id, to := range come {
			if from := gone[id]; id != "" && len(to) == 1 && len(from) == 1 {
				to[0].from, from[0].renamed = from[0], true
			}
		}
	}
	blob := func(k *touchedKey, what hostdb.Resource, after bool) string {
		if after {
			return k.changes[what].newID
		}
		return k.changes[what].oldID
	}
	pair(func(k *touchedKey, after bool) string {
		return k.ns + " " + blob(k, hostdb.Data, after) + " " + blob(k, hostdb.Members, after) + " " + blob(k, hostdb.Perms, after)
	})
	pair(func(k *touchedKey, after bool) string { return k.ns + " " + blob(k, hostdb.Data, after) })
}

// key reads what a commit does to one key, while t is still the tree before it.
func (t *gitTree) key(ctx context.Context, k *touchedKey) (GitKey, error) {
	out := GitKey{NS: k.ns, Key: k.key}
	if k.from != nil {
		out.From = k.from.key
	}
	_, data := k.changes[hostdb.Data]
	for _, x := range []struct {
		what hostdb.Resource
		file *GitFile
	}{{hostdb.Data, &out.Data}, {hostdb.Members, &out.Members}, {hostdb.Perms, &out.Perms}} {
		d, changed := k.changes[x.what]
		if !changed && !data {
			continue
		}
		p := place{k.ns, k.key, x.what}
		was := t.files[p.file()]
		is := was
		if changed {
			is = treeFile{d.newMode, d.newID}
			if d.newMode == modeNone {
				is = treeFile{}
			}
		}
		if k.from != nil {
			was = t.files[place{k.ns, k.from.key, x.what}.file()]
		}
		x.file.Changed = was != is
		var err error
		if x.file.New, err = t.objects.blob(ctx, is.gitMode(), is.id, p.limit()); err != nil {
			return GitKey{}, err
		}
		x.file.Old = x.file.New
		if x.file.Changed {
			if x.file.Old, err = t.objects.blob(ctx, was.gitMode(), was.id, p.limit()); err != nil {
				return GitKey{}, err
			}
		}
	}
	return out, nil
}

// dangling looks after keys that went and that a list, which the commit leaves alone, still names: HostDB takes them out
// of it, so the list is told, and has them again when they come back. What a list still names was not renamed.
func (t *gitTree) dangling(ctx context.Context, c *GitCommit, order []*touchedKey, keys map[string]*touchedKey) error {
	told := map[string]bool{}
	for _, k := range order {
		if !k.gone() {
			continue
		}
		holders := t.holders[keyID(k.ns, k.key)]
		if len(holders) == 0 {
			continue
		}
		for i := range c.Keys {
			if to := &c.Keys[i]; k.renamed && to.NS == k.ns && to.From == k.key {
				c.Keys = append(c.Keys, split(k, to))
				break
			}
		}
		for file := range holders {
			p, _, _ := placeOf(file)
			id := p.ns + "/" + p.key
			if _, changed := keys[id]; told[id] || changed && keys[id].changes[hostdb.Members].path != "" {
				continue
			}
			told[id] = true
			held, ok, err := t.held(ctx, id)
			if err != nil {
				return err
			}
			if ok {
				c.Keys = append(c.Keys, held)
			}
		}
	}
	return nil
}

// split makes two of a rename: what goes, and what comes.
func split(k *touchedKey, to *GitKey) GitKey {
	gone := GitKey{NS: k.ns, Key: k.key}
	for _, x := range []struct{ from, to *GitFile }{{&gone.Data, &to.Data}, {&gone.Members, &to.Members}, {&gone.Perms, &to.Perms}} {
		x.from.Changed, x.from.Old = x.to.Old.There, x.to.Old
		x.to.Old = GitBlob{}
		x.to.Changed = x.to.New.There
	}
	to.From = ""
	return gone
}

// Checkout is the tree of a commit as a directory, in memory, with the problems of entries that are no files.
func (r *GitRepo) Checkout(ctx context.Context, tree string) (fs.FS, Problems, error) {
	objects, err := r.objects(ctx)
	if err != nil {
		return nil, Problems{}, err
	}
	defer objects.close()
	t, ps := newTree(), Problems{}
	err = r.eachFile(ctx, tree, func(name string, f treeFile) error {
		p, ok, problem := placeOf(name)
		if !ok && problem == "" {
			return nil
		}
		if !ok { // Read says what is wrong with it, unless its name cannot even be written down
			if !fs.ValidPath(name) {
				ps.fatal(strings.ToValidUTF8(name, "\ufffd"), 0, "%s", problem)
				return nil
			}
			return t.add(name, "", time.Time{})
		}
		b, err := objects.blob(ctx, f.mode, f.id, p.limit())
		if err != nil {
			return err
		}
		if b.Bad != "" {
			ps.fatal(name, 0, "%s", b.Bad)
			return nil
		}
		return t.add(name, string(b.Text), time.Time{})
	})
	if err != nil {
		return nil, Problems{}, err
	}
	return t.seal(), ps, nil
}
