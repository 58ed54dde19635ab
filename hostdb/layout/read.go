package layout

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"hostmesh/hostdb"
)

// Options say how to read a directory. The zero value reads one that stands alone, and refuses it whole when anything
// is wrong.
type Options struct {
	// KeepGoing leaves out what is bad: a key with all its files when its data is, one file, one line of a member list.
	KeepGoing bool
	// Into is what the Store holds that the directory goes into: member lists may name what is there. The zero View:
	// they may name only what the directory has.
	Into hostdb.View
	// Progress is called now and then, by one goroutine at a time, with the number of keys read and of all; nil for none.
	Progress func(done, total int)
}

// Read parses and checks a whole directory. Plain files in the root and entries that begin with a dot, such as .git,
// are no part of it. Without KeepGoing anything bad makes a *BadInventoryError that lists all of it, and no
// Inventory; with it the Inventory's Problems say what was left out. Other errors are ctx's, or come from a root that
// cannot be listed.
func Read(ctx context.Context, fsys fs.FS, opts Options) (*Inventory, error) {
	root, err := readDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	r := reading{fsys: fsys, opts: opts, inv: &Inventory{}}
	for _, e := range root {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		r.namespace(e)
	}
	if len(r.inv.Namespaces) == 0 && r.inv.Problems.Fatal == 0 {
		r.inv.Problems.fatal(".", 0, "%s", noNamespace)
	}
	slices.SortFunc(r.inv.Namespaces, func(a, b Namespace) int { return compareNamespaces(a.Name, b.Name) })
	if err := r.parse(ctx); err != nil {
		return nil, fmt.Errorf("read inventory: %w", err)
	}
	r.inv.checkMembers(opts.Into, r.left, &r.inv.Problems)
	r.inv.Problems.sort()
	if !opts.KeepGoing {
		if err := r.inv.Problems.err(); err != nil {
			return nil, err
		}
	}
	return r.inv, nil
}

// noNamespace is what is wrong with a root in which there is no namespace.
const noNamespace = "no namespace here: the directory to import is the one that holds hosts and tags"

// progressEvery is how many keys are read between two calls of Progress.
const progressEvery = 256

type reading struct {
	fsys  fs.FS
	opts  Options
	inv   *Inventory
	files []*keyFiles
	left  map[string]bool // namespace/key of the keys that were left out
}

// keyFiles are the files of one key, or of a namespace's .default, and what was found in them.
type keyFiles struct {
	space                string
	key                  Key
	data, members, perms *listed // nil: there is none; .default has no data
	left                 bool
	problems             Problems
}

// namespace lists a directory of the root. What is listed is read later.
func (r *reading) namespace(e listed) {
	ps, name := &r.inv.Problems, e.Name()
	isDir, err := leadsToDir(r.fsys, e)
	if err != nil {
		ps.fatal(name, 0, "%s", reason(err))
		return
	}
	if !isDir {
		return
	}
	if err := hostdb.CheckName(name); err != nil {
		ps.fatal(name, 0, "%s", err)
		return
	}
	entries, err := readDir(r.fsys, name)
	if err != nil {
		ps.fatal(name, 0, "%s", reason(err))
		return
	}
	r.inv.Namespaces = append(r.inv.Namespaces, Namespace{Name: name})
	keys := map[string]*keyFiles{}
	var beside []string
	for i, e := range entries {
		switch key := e.Name(); {
		case key == membersDir || key == permsDir:
			beside = append(beside, key)
		case strings.HasPrefix(key, "."):
		default:
			if err := hostdb.CheckName(key); err != nil {
				ps.fatal(path.Join(name, key), 0, "%s", err)
				continue
			}
			f := &keyFiles{space: name, key: Key{Name: key}, data: &entries[i]}
			keys[key] = f
			r.files = append(r.files, f)
		}
	}
	for _, dir := range beside {
		r.beside(name, path.Join(name, dir), keys)
	}
}

// beside lists .members or .perms of a namespace.
func (r *reading) beside(space, dir string, keys map[string]*keyFiles) {
	ps := &r.inv.Problems
	entries, err := readDir(r.fsys, dir)
	if err != nil {
		ps.fatal(dir, 0, "%s", reason(err))
		return
	}
	isPerms := path.Base(dir) == permsDir
	for i, e := range entries {
		f := keys[e.Name()]
		switch {
		case isPerms && e.Name() == hostdb.DefaultKey:
			r.files = append(r.files, &keyFiles{space: space, key: Key{Name: hostdb.DefaultKey}, perms: &entries[i]})
		case strings.HasPrefix(e.Name(), "."):
		case f == nil:
			ps.warn(path.Join(dir, e.Name()), 0, "ignored: there is no key %s/%s", space, e.Name())
		case isPerms:
			f.perms = &entries[i]
		default:
			f.members = &entries[i]
		}
	}
}

// parse reads all listed files, on all processors, and puts the keys in their place. What it finds does not depend
// on who comes first.
func (r *reading) parse(ctx context.Context) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex // guards read, and makes one call of Progress at a time
	read := 0
	for range min(runtime.GOMAXPROCS(0), len(r.files)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(r.files) {
					return
				}
				r.parseKey(r.files[i])
				mu.Lock()
				if read++; r.opts.Progress != nil && read%progressEvery == 0 {
					r.opts.Progress(read, len(r.files))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.opts.Progress != nil {
		r.opts.Progress(len(r.files), len(r.files))
	}
	r.left = map[string]bool{}
	for _, f := range r.files {
		ns := r.inv.namespace(f.space)
		r.inv.Problems.merge(f.problems)
		switch {
		case f.left:
			r.left[ns.Name+"/"+f.key.Name] = true
		case f.data != nil:
			ns.Keys = append(ns.Keys, f.key)
		default:
			ns.Default = f.key.Perms
		}
	}
	for i := range r.inv.Namespaces {
		slices.SortFunc(r.inv.Namespaces[i].Keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	}
	return nil
}

// parseKey reads the files of one key.
func (r *reading) parseKey(f *keyFiles) {
	k, ps := &f.key, &f.problems
	if f.data != nil {
		file := path.Join(f.space, k.Name)
		text, err := readFile(r.fsys, *f.data, hostdb.MaxData)
		if err != nil {
			ps.fatal(file, 0, "%s", reason(err))
			f.left = true
			return
		}
		if k.Data, err = hostdb.ParseDocument(text); err == nil {
			err = checkSize(k.Data, text)
		}
		if err != nil {
			yamlProblem(ps, file, text, err)
			f.left = true
			return
		}
	}
	if f.members != nil {
		file := path.Join(f.space, membersDir, k.Name)
		if text, err := readFile(r.fsys, *f.members, maxMembersFile); err != nil {
			ps.fatal(file, 0, "%s", reason(err))
		} else if !k.parseMembers(file, text, ps) {
			k.Members, k.lines = nil, nil
		}
	}
	if f.perms != nil {
		file := path.Join(f.space, permsDir, k.Name)
		text, err := readFile(r.fsys, *f.perms, hostdb.MaxData)
		if err != nil {
			ps.fatal(file, 0, "%s", reason(err))
			return
		}
		k.Perms = parsePerms(file, text, ps)
	}
}

// parsePerms reads an access list. HostDB took one that is no mapping, and let nobody in by it: it is left out, and
// the namespace's list decides.
func parsePerms(file string, text []byte, ps *Problems) *hostdb.ACL {
	doc, err := hostdb.ParseDocument(text)
	if err == nil && !doc.IsMapping() && !doc.IsNull() {
		ps.warn(file, 0, "ignored: an access list must be a mapping, for example {ops: {data: RW, members: RW}}")
		return nil
	}
	acl, err := hostdb.ParseACL(text)
	if err != nil {
		yamlProblem(ps, file, text, err)
		return nil
	}
	return &acl
}

// maxGrowth is how many times longer canonical YAML can be than what was written without aliases: an item of two
// bytes in a flow sequence gets a line of its own, indented by twice hostdb.MaxDepth.
const maxGrowth = 2 + hostdb.MaxDepth

// checkSize reports a document that would be too large once it is in canonical form.
func checkSize(doc hostdb.Document, text []byte) error {
	if len(text) < hostdb.MaxData/maxGrowth && !bytes.ContainsRune(text, '*') {
		return nil // most are, and the canonical form costs as much as reading
	}
	if n := len(doc.YAML()); n > hostdb.MaxData {
		return fmt.Errorf("%d bytes of data in canonical YAML: at most %d are allowed", n, hostdb.MaxData)
	}
	return nil
}

// yamlLine finds the line in a message of hostdb.ParseDocument.
var yamlLine = regexp.MustCompile(`^invalid YAML: line (\d+): `)

// yamlProblem reports what is wrong with a YAML file, and where.
func yamlProblem(ps *Problems, file string, text []byte, err error) {
	if line := badUTF8(text); line > 0 {
		ps.fatal(file, line, "the text is not UTF-8")
		return
	}
	message := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = "invalid YAML: " + message[len(m[0]):]
	} else if i := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f }); i >= 0 {
		// The reader of characters tells no line.
		line = 1 + bytes.Count(text[:i], []byte("\n"))
	}
	ps.fatal(file, line, "%s", message)
}
