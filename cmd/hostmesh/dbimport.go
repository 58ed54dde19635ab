package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

func (a *app) dbImportCommand() *cobra.Command {
	var opts api.ImportOptions
	cmd := &cobra.Command{
		Use:   "import DIR",
		Short: "Take a directory into the host database",
		Long: `Takes a directory in the layout of Flipkart's HostDB into the host database:

  NAMESPACE/KEY              the data of a key, YAML
  NAMESPACE/.members/KEY     its members, one a line
  NAMESPACE/.perms/KEY       who may write it

A real one, usually /var/lib/hostdb/namespaces, is read in the same way. What
the directory has replaces what is there; what it has not stays as it is, and
nothing is deleted. What is equal is not written, so importing twice does no
harm.

All of it is checked first. If anything is wrong, every problem is listed with
file and line, and nothing is imported; --keep-going leaves out what is wrong
and takes the rest. Facts and sections that break the rules for them are only
warned of: old inventories do.

A large import is several changes. Should it stop half way, the report names
what is missing, and importing again completes it.`,
		Example: `  hostmesh db import examples/inventory
  hostmesh db import /var/lib/hostdb/namespaces --dry-run
  hostmesh db import /var/lib/hostdb/namespaces --keep-going -m "from the old HostDB"`,
		Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			opts.Log = orDefault(opts.Log, "hostmesh db import "+args[0])
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			im := importer{app: a, client: c, opts: opts}
			return im.run(ctx, args[0])
		}),
	}
	messageFlag(cmd, &opts.Log, "why, for those who read the history (default: the command)")
	cmd.Flags().BoolVar(&opts.KeepGoing, "keep-going", false, "leave out what is wrong and take the rest")
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "check everything and write nothing")
	a.outputFlag(cmd)
	return cmd
}

// importer is one import, seen from the box that has the directory.
type importer struct {
	*app
	client *api.Client
	opts   api.ImportOptions
}

func (im *importer) run(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer root.Close()
	fsys := root.FS()
	bar := newProgress(im.stderr)
	defer bar.end()

	// The agent checks all of it again, against what it holds. Here it is checked so that a large directory with a
	// mistake in it is not sent at all.
	if err := im.check(ctx, dir, fsys, bar); err != nil {
		return explain(err)
	}
	report, err := im.send(ctx, fsys, bar)
	bar.end()
	switch {
	case errors.Is(err, api.ErrBrokeOff):
		return fmt.Errorf("%w; what was written is not known. Import again: it writes only what is missing", err)
	case err != nil && report.Problems == nil: // it never began
		return explain(err)
	}
	im.printProblems(report)
	if err := im.print(report, func(w io.Writer) { reportText(w, report) }); err != nil {
		return err
	}
	if err != nil {
		return explain(im.unfinished(report, err))
	}
	return nil
}

// send packs the directory and has the agent import it. What could not be packed is among the problems of the report.
func (im *importer) send(ctx context.Context, fsys fs.FS, bar *progress) (api.ImportReport, error) {
	type packed struct {
		problems layout.Problems
		err      error
	}
	r, w := io.Pipe()
	done := make(chan packed, 1)
	go func() {
		problems, err := layout.WriteTar(w, fsys, im.opts.KeepGoing)
		w.CloseWithError(err) // nil is the end
		done <- packed{problems, err}
	}()
	report, err := im.client.Import(ctx, r, im.opts, func(p api.ImportProgress) { bar.show(p.Phase, p.Done, p.Total) })
	r.Close() // packing goes no further when the agent has answered early
	p := <-done
	if p.err != nil && !errors.Is(p.err, io.ErrClosedPipe) {
		return api.ImportReport{}, fmt.Errorf("pack the directory: %w", p.err)
	}
	for _, x := range p.problems.List {
		report.Problems = append(report.Problems, api.ImportProblem{File: x.File, Line: x.Line, Text: x.Message, Fatal: x.Fatal})
	}
	return report, err
}

// unfinished says what became of an import that failed.
func (im *importer) unfinished(r api.ImportReport, err error) error {
	switch {
	case fatal(r.Problems) > 0 && r.Operations == 0:
		return fmt.Errorf("%s: nothing was imported (--keep-going leaves out what is wrong and takes the rest)", plural(fatal(r.Problems), "problem", "problems"))
	case r.Operations == 0 && len(r.Missing) == 0:
		return fmt.Errorf("nothing was imported: %w", err)
	}
	return fmt.Errorf("the import stopped half way: %w; %s not there, all else is. Import again: it writes only what is missing",
		err, plural(len(r.Missing), "item is", "items are"))
}

func fatal(list []api.ImportProblem) int {
	n := 0
	for _, p := range list {
		if p.Fatal {
			n++
		}
	}
	return n
}

// check reads the directory as the agent will, and fails when it would refuse it for what is in the files. A member that
// the directory does not have may be known to the agent.
func (im *importer) check(ctx context.Context, dir string, fsys fs.FS, bar *progress) error {
	inv, err := layout.Read(ctx, fsys, layout.Options{
		KeepGoing: true,
		Progress:  func(done, total int) { bar.show("checking", done, total) },
	})
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	switch {
	case inv.Problems.NoNamespace():
		return fmt.Errorf("import %s: %s", dir, inv.Problems.List[0].Message)
	case inv.Problems.Fatal == 0 || im.opts.KeepGoing:
		return nil
	}
	known := knownElsewhere{ctx: ctx, client: im.client, fsys: fsys, lists: map[string]map[string]bool{}}
	var real []layout.Problem
	for _, p := range inv.Problems.List {
		if !p.Fatal {
			continue
		}
		ok, err := known.member(p)
		if err != nil {
			return err
		}
		if !ok {
			real = append(real, p)
		}
	}
	if len(real) == 0 {
		return nil
	}
	bar.end()
	for _, p := range real {
		fmt.Fprintln(im.stderr, p)
	}
	return fmt.Errorf("%s: nothing was sent (--keep-going leaves out what is wrong and takes the rest)", plural(len(real), "problem", "problems"))
}

// knownElsewhere finds members that the directory does not have and the agent does.
type knownElsewhere struct {
	ctx    context.Context
	client *api.Client
	fsys   fs.FS
	lists  map[string]map[string]bool // namespace to its keys at the agent
}

// member reports whether a problem is about a member that only the agent has.
func (k *knownElsewhere) member(p layout.Problem) (bool, error) {
	ns, file, ok := strings.Cut(p.File, "/.members/")
	if !ok || p.Line == 0 || file == "" {
		return false, nil
	}
	text, err := fs.ReadFile(k.fsys, p.File)
	if err != nil {
		return false, nil // it is a problem already
	}
	lines := strings.Split(string(text), "\n")
	if p.Line > len(lines) {
		return false, nil
	}
	name := strings.TrimSpace(lines[p.Line-1])
	if key, isKey := strings.CutPrefix(name, "@"); isKey {
		name = key
	} else {
		ns = hostdb.Hosts
	}
	if hostdb.CheckName(name) != nil {
		return false, nil
	}
	if _, err := fs.Stat(k.fsys, path.Join(ns, name)); err == nil {
		return false, nil // it is there, so something else is wrong: a cycle
	}
	if k.lists[ns] == nil {
		keys, err := k.client.List(k.ctx, ns)
		if err != nil && !errors.Is(err, api.ErrNotFound) && !errors.Is(err, api.ErrDenied) {
			return false, err
		}
		k.lists[ns] = map[string]bool{}
		for _, key := range keys {
			k.lists[ns][key] = true
		}
	}
	return k.lists[ns][name], nil
}

func (im *importer) printProblems(r api.ImportReport) {
	for _, p := range r.Problems {
		kind := "warning: "
		if p.Fatal {
			kind = ""
		}
		fmt.Fprintf(im.stderr, "%s%s\n", kind, visible(layout.Problem{File: p.File, Line: p.Line, Message: p.Text}.String()))
	}
	if r.More > 0 {
		fmt.Fprintf(im.stderr, "and %s\n", plural(r.More, "more problem", "more problems"))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(im.stderr, "warning: %s\n", visible(w))
	}
	for _, id := range r.Missing {
		fmt.Fprintf(im.stderr, "missing: %s\n", visible(id))
	}
}

func reportText(w io.Writer, r api.ImportReport) {
	took := (time.Duration(r.Millis) * time.Millisecond).Round(10 * time.Millisecond)
	if r.DryRun {
		if r.Complete {
			row(w, fmt.Sprintf("read %s in %s: all of it can be imported; nothing was written", plural(r.Read, "key", "keys"), took))
		}
		return
	}
	row(w, "", "NEW", "CHANGED", "EQUAL")
	for _, x := range []struct {
		name string
		api.ImportTally
	}{{"documents", r.Keys}, {"member lists", r.Members}, {"access lists", r.Perms}} {
		row(w, x.name, fmt.Sprint(x.Created), fmt.Sprint(x.Changed), fmt.Sprint(x.Unchanged))
	}
	fmt.Fprintln(w)
	if n := r.Namespaces; n > 0 {
		row(w, plural(n, "namespace was made", "namespaces were made"))
	}
	if n := fatal(r.Problems); n > 0 && r.Complete {
		row(w, plural(n, "thing was left out: see above", "things were left out: see above"))
	}
	if n := r.LeftAlone; n > 0 {
		row(w, plural(n, "key that only the host database has stays", "keys that only the host database has stay"))
	}
	if r.Complete {
		row(w, fmt.Sprintf("imported in %s, %s, held by %s", took, plural(r.Operations, "change", "changes"), plural(max(r.Acks, 1), "box", "boxes")))
	}
}

// progress is one line on a terminal that is written over; elsewhere it is nothing.
type progress struct {
	w     io.Writer // nil where nobody looks
	phase string
	began time.Time
	last  time.Time
	shown bool
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return &progress{}
	}
	return &progress{w: w}
}

func (p *progress) show(phase string, done, total int) {
	now := time.Now()
	if phase != p.phase {
		p.phase, p.began = phase, now
	}
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	rate := ""
	if d := now.Sub(p.began).Seconds(); d > 0.2 {
		rate = fmt.Sprintf(", %.0f/s", float64(done)/d)
	}
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %d", total)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s %d%s%s", phase, done, of, rate)
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
