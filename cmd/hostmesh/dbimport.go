package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

func (a *app) dbImportCommand() *cobra.Command {
	var opts api.ImportOptions
	var git gitSource
	cmd := &cobra.Command{
		Use:   "import {DIR | --git REPO}",
		Short: "Take a directory, or a Git history, into the host database",
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
what is missing, and importing again completes it.

With --git the commits of a repository are taken instead, oldest first: each
becomes one change, by its author, with its time and message. Importing again
takes only what is new, so that an old HostDB and this one run side by side.
What cannot be read in an old commit is told and left out; what cannot be read
in the newest one is an error. Only an administrator may.`,
		Example: `  hostmesh db import examples/inventory
  hostmesh db import /var/lib/hostdb/namespaces --dry-run
  hostmesh db import /var/lib/hostdb/namespaces --keep-going -m "from the old HostDB"
  hostmesh db import --git /var/lib/hostdb/namespaces`,
		Args: git.args(&opts),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if git.repo != "" {
				return a.importGit(ctx, git, opts)
			}
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
	git.flags(cmd)
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

	report, err := im.send(ctx, fsys, bar)
	bar.end()
	switch {
	case noNamespace(report):
		return fmt.Errorf("import %s: %s", dir, report.Problems[0].Text)
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

// send packs the directory and has the agent check and import it. What could not be packed is among the problems of the
// report.
func (im *importer) send(ctx context.Context, fsys fs.FS, bar *progress) (api.ImportReport, error) {
	report, unpacked, err := im.stream(ctx, fsys, im.opts, bar)
	if unpacked.Fatal > 0 && !im.opts.KeepGoing {
		// The archive was left without its end, so the agent has refused it without a look at the files. It looks now, and
		// writes nothing: one run tells all that is wrong.
		look := im.opts
		look.KeepGoing, look.DryRun = true, true
		if report, _, err = im.stream(ctx, fsys, look, bar); err == nil {
			err = &layout.BadInventoryError{Problems: unpacked}
			report.Complete, report.DryRun = false, im.opts.DryRun
		}
	}
	if len(unpacked.List) == 0 || report.Problems == nil {
		return report, err
	}
	if noNamespace(report) { // there is one, but it could not be packed
		report.Problems = nil
	}
	for _, x := range unpacked.List {
		report.Problems = append(report.Problems, api.ImportProblem{File: x.File, Line: x.Line, Text: x.Message, Fatal: x.Fatal})
	}
	slices.SortStableFunc(report.Problems, func(a, b api.ImportProblem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return report, err
}

// stream packs the directory while the agent reads it. It returns what could not be packed beside the agent's report.
func (im *importer) stream(ctx context.Context, fsys fs.FS, opts api.ImportOptions, bar *progress) (api.ImportReport, layout.Problems, error) {
	type packed struct {
		problems layout.Problems
		err      error
	}
	r, w := io.Pipe()
	done := make(chan packed, 1)
	go func() {
		problems, err := layout.WriteTar(w, fsys, opts.KeepGoing)
		w.CloseWithError(err) // nil is the end
		done <- packed{problems, err}
	}()
	report, err := im.client.Import(ctx, r, opts, func(p api.ImportProgress) { bar.show(p.Phase, p.Done, p.Total) })
	r.Close() // packing goes no further when the agent has answered early
	p := <-done
	if p.err != nil && !errors.Is(p.err, io.ErrClosedPipe) && !errors.Is(p.err, layout.ErrBadInventory) {
		return api.ImportReport{}, p.problems, fmt.Errorf("pack the directory: %w", p.err)
	}
	return report, p.problems, err
}

// noNamespace reports whether the agent found nothing to import: most likely it is another directory that was meant, and
// leaving out what is wrong leaves nothing.
func noNamespace(r api.ImportReport) bool {
	return len(r.Problems) == 1 && r.Problems[0].File == "." && r.Problems[0].Fatal
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
	rate := ""
	if d := now.Sub(p.began).Seconds(); d > 0.2 {
		rate = fmt.Sprintf(", %.0f/s", float64(done)/d)
	}
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %d", total)
	}
	p.line(now, fmt.Sprintf("%s %d%s%s", phase, done, of, rate))
}

// line puts a text in place of the one that is shown.
func (p *progress) line(now time.Time, text string) {
	if p.w == nil {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
}

// bytes is show for many bytes. total 0 is not known.
func (p *progress) bytes(phase string, done, total int64) {
	now := time.Now()
	if phase != p.phase {
		p.phase, p.began = phase, now
	}
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	text := phase + " " + byteSize(done)
	if total > 0 {
		text += fmt.Sprintf(" of %s, %d%%", byteSize(total), done*100/total)
	}
	if d := now.Sub(p.began).Seconds(); d > 0.2 {
		text += fmt.Sprintf(", %s/s", byteSize(int64(float64(done)/d)))
	}
	p.line(now, visible(text))
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
