package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

// gitSource says which commits to import.
type gitSource struct{ repo, branch, from string }

// fromStart is the --from that replays a whole history.
const fromStart = "start"

func (g *gitSource) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&g.repo, "git", "", "take the commits of the repository `REPO`: a work tree or a bare one")
	cmd.Flags().StringVar(&g.branch, "branch", "", "with --git: the `BRANCH` (default: that of the repository's HEAD)")
	cmd.Flags().StringVar(&g.from, "from", "", "with --git: only what comes after `COMMIT`; \"start\": all of it")
}

// args checks what is given together.
func (g *gitSource) args(opts *api.ImportOptions) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case g.repo == "" && (g.branch != "" || g.from != ""):
			return usagef("--branch and --from say which commits of a repository: name it with --git")
		case g.repo == "" && len(args) != 1:
			return usagef("name one directory, or a repository with --git")
		case g.repo != "" && len(args) > 0:
			return usagef("a directory and --git are given: import one of them")
		case g.repo != "" && opts.KeepGoing:
			return usagef("--keep-going is for directories: an import of commits always takes what can be read")
		}
		return nil
	}
}

// importGit brings what is new in a repository.
func (a *app) importGit(ctx context.Context, src gitSource, opts api.ImportOptions) error {
	repo, err := layout.OpenGit(ctx, src.repo)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	branch, err := repo.Branch(ctx, src.branch)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	state, err := c.GitState(ctx)
	if err != nil {
		return explain(err)
	}
	send, err := src.begin(ctx, repo, branch, state)
	if err != nil {
		return fmt.Errorf("import %s: %w", src.repo, err)
	}
	im := gitImporter{app: a, client: c, repo: repo, send: send, log: orDefault(opts.Log, "hostmesh db import --git "+src.repo)}
	return im.run(ctx, src.repo, opts.DryRun)
}

// begin decides where the import goes on. HostDB knows which commits it has; a history that does not contain them is
// not replayed over what they have become.
func (g gitSource) begin(ctx context.Context, repo *layout.GitRepo, b layout.GitBranch, state api.GitState) (layout.GitSend, error) {
	send := layout.GitSend{Branch: b}
	best := -1
	for _, h := range state.Histories {
		own := h.ID == b.ID()
		if own {
			send.Marker = h.Commit
		}
		if g.from != "" {
			continue
		}
		contained, err := repo.Contains(ctx, b.Head, h.Commit)
		switch {
		case err != nil:
			return send, err
		case !contained && own:
			return send, fmt.Errorf("HostDB has this history up to commit %s, which branch %s does not contain any more: its history was rewritten. "+
				"Find the commit whose files HostDB has, and import what comes after it with --from COMMIT", h.Commit, b.Name)
		case !contained:
			continue
		}
		left, err := repo.Count(ctx, h.Commit, b.Head)
		if err != nil {
			return send, err
		}
		if own || best < 0 || left < best { // another name of the branch, or one that it came from
			best, send.After, send.Wait = left, h.Commit, h.Waiting
		}
		if own {
			return send, nil
		}
	}
	switch {
	case g.from == fromStart, best >= 0:
		return send, nil
	case g.from != "":
		after, err := repo.Resolve(ctx, g.from)
		if err != nil {
			return send, fmt.Errorf("--from: %w", err)
		}
		if contained, err := repo.Contains(ctx, b.Head, after); err != nil || !contained {
			return send, errors.Join(err, fmt.Errorf("--from: branch %s does not contain commit %s", b.Name, after))
		}
		send.After = after
		return send, nil
	case len(state.Histories) > 0:
		return send, fmt.Errorf("HostDB has imported another history (%s, up to commit %s), which branch %s does not contain. "+
			"If its history was rewritten, import what comes after the commit whose files HostDB has, with --from COMMIT; --from start replays all of it over what is there",
			state.Histories[0].ID, state.Histories[0].Commit, b.Name)
	case state.Keys > 0:
		return send, fmt.Errorf("HostDB holds %s already, and none of this history. A history is imported into an empty one. "+
			"If HostDB has the files of a commit, import what comes after it, with --from COMMIT; --from start replays all of it over what is there",
			plural(state.Keys, "key", "keys"))
	}
	return send, nil
}

// gitImporter is one import of commits, seen from the box that has the repository.
type gitImporter struct {
	*app
	client *api.Client
	repo   *layout.GitRepo
	send   layout.GitSend
	log    string
}

func (im *gitImporter) run(ctx context.Context, name string, dryRun bool) error {
	if dryRun {
		n, err := im.repo.Count(ctx, im.send.After, im.send.Branch.Head)
		if err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
		fmt.Fprintf(im.stdout, "%s would be imported, up to %s; nothing was written\n", plural(n, "commit", "commits"), short(im.send.Branch.Head))
		return im.checkHead(ctx)
	}
	bar := newProgress(im.stderr)
	defer bar.end()
	report, err := im.stream(ctx, bar)
	bar.end()
	switch {
	case errors.Is(err, api.ErrBrokeOff):
		return fmt.Errorf("%w; what was written is not known. Import again: it goes on where HostDB is", err)
	case err != nil && report.Problems == nil: // it never began
		return explain(err)
	}
	for _, p := range report.Problems {
		fmt.Fprintf(im.stderr, "warning: %s\n", visible(layout.GitProblem{
			Commit: p.Commit, Problem: layout.Problem{File: p.File, Line: p.Line, Message: p.Text},
		}.String()))
	}
	if report.More > 0 {
		fmt.Fprintf(im.stderr, "and %s\n", plural(report.More, "more problem", "more problems"))
	}
	if perr := im.print(report, func(w io.Writer) { gitReportText(w, report) }); perr != nil {
		return perr
	}
	if err != nil {
		return explain(err)
	}
	return im.checkHead(ctx)
}

// stream reads the repository while the agent writes.
func (im *gitImporter) stream(ctx context.Context, bar *progress) (api.GitImportReport, error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := im.repo.Send(ctx, w, im.send)
		w.CloseWithError(err) // nil is the end
		done <- err
	}()
	report, err := im.client.ImportGit(ctx, r, im.log, func(p api.ImportProgress) { bar.show("commits", p.Done, p.Total) })
	r.Close() // reading goes no further when the agent has answered early
	if sent := <-done; sent != nil && !errors.Is(sent, io.ErrClosedPipe) {
		return report, fmt.Errorf("read the repository: %w", sent)
	}
	return report, err
}

// checkHead reads the newest tree as db import reads a directory: what is wrong there is wrong now.
func (im *gitImporter) checkHead(ctx context.Context) error {
	dir, problems, err := im.repo.Checkout(ctx, im.send.Branch.Tree)
	if err != nil {
		return fmt.Errorf("read the newest commit: %w", err)
	}
	inv, err := layout.Read(ctx, dir, layout.Options{KeepGoing: true})
	if err != nil {
		return fmt.Errorf("read the newest commit: %w", err)
	}
	all := slices.Concat(problems.List, inv.Problems.List)
	n := problems.Fatal + inv.Problems.Fatal
	for _, p := range all {
		if p.Fatal {
			fmt.Fprintf(im.stderr, "%s\n", visible(p.String()))
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s in the newest commit, %s: HostDB keeps what it had there; correct the files, commit, and import again",
		plural(n, "problem", "problems"), short(im.send.Branch.Head))
}

func short(commit string) string { return commit[:min(12, len(commit))] }

func gitReportText(w io.Writer, r api.GitImportReport) {
	took := (time.Duration(r.Millis) * time.Millisecond).Round(10 * time.Millisecond)
	if r.Commits == 0 {
		row(w, "nothing is new")
		return
	}
	rate := ""
	if r.Millis > 0 {
		rate = fmt.Sprintf(" (%.0f/s)", float64(r.Commits)*1000/float64(r.Millis))
	}
	row(w, fmt.Sprintf("imported %s in %s%s: %s, up to %s", plural(r.Commits, "commit", "commits"), took, rate,
		plural(r.Operations, "revision", "revisions"), short(r.Last)))
	if r.Merges > 0 {
		row(w, fmt.Sprintf("%s: what they change is told against the first parent", plural(r.Merges, "merge", "merges")))
	}
	if n := len(r.Problems) + r.More; n > 0 {
		row(w, plural(n, "thing of old commits was left out: see above", "things of old commits were left out: see above"))
	}
}

func (a *app) dbExportCommand() *cobra.Command {
	var repo, branch, asOf, unreplicated string
	cmd := &cobra.Command{
		Use:   "export {DIR | --git REPO | --unreplicated FILE}",
		Short: "Write the host database as a directory, or its history as a Git repository",
		Long: `Writes the host database as a directory in the layout that "hostmesh db import"
reads. DIR must not exist yet, or be empty. --as-of writes it as it was.

With --git the history is written into a repository instead, which is made if
it does not exist: a commit for each revision, by its user, with its time and
message. Exporting again adds what is new. The branch is the export's own: if
somebody else has committed there, it is refused. The revision of each commit
stands in its note: git log --notes=hostmesh.

With --unreplicated the operations that no other member is known to hold are
written into a file of JSON lines instead: what is lost when this node is. An
agent that has met nobody since its start writes all it has. Only an
administrator may.`,
		Example: `  hostmesh db export /root/inventory
  hostmesh db export /root/inventory-of-march --as-of 2026-03-01
  hostmesh db export --git /var/lib/hostmesh/history.git
  hostmesh db export --unreplicated /root/box12.operations`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case unreplicated != "" && (repo != "" || branch != "" || asOf != "" || len(args) > 0):
				return usagef("--unreplicated stands alone: it takes its own FILE")
			case unreplicated != "":
				return nil
			case repo == "" && len(args) != 1:
				return usagef("name one directory, or a repository with --git")
			case repo != "" && len(args) > 0:
				return usagef("a directory and --git are given: export to one of them")
			case repo != "" && asOf != "":
				return usagef("--as-of is for directories: a repository has all of the history")
			case repo == "" && branch != "":
				return usagef("--branch is for repositories: name one with --git")
			}
			return nil
		},
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if unreplicated != "" {
				return a.exportUnreplicated(ctx, c, unreplicated)
			}
			if repo != "" {
				return a.exportGit(ctx, c, repo, orDefault(branch, layout.DefaultBranch))
			}
			return a.exportDirectory(ctx, c, args[0], asOf)
		}),
	}
	cmd.Flags().StringVar(&repo, "git", "", "write the history into the repository `REPO`")
	cmd.Flags().StringVar(&branch, "branch", "", "with --git: the `BRANCH` (default: main)")
	cmd.Flags().StringVar(&asOf, "as-of", "", "as it was at a revision or time: `WHEN`, such as 2026-03-01 or 90m")
	cmd.Flags().StringVar(&unreplicated, "unreplicated", "", "write the operations that nobody else holds into `FILE`")
	return cmd
}

func (a *app) exportGit(ctx context.Context, c *api.Client, path, branch string) error {
	repo, err := layout.CreateGit(ctx, path)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	x, err := repo.BeginExport(ctx, branch)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer x.Close()
	stream, err := c.ExportGit(ctx, x.After)
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	bar := newProgress(a.stderr)
	defer bar.end()
	n, err := x.Take(ctx, stream, func(done, total int) { bar.show("revisions", done, total) })
	bar.end()
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if n > 0 {
		if err := x.Tidy(ctx); err != nil {
			fmt.Fprintf(a.stderr, "warning: the export is whole, but packing the repository is not: %v\n", err)
		}
	}
	fmt.Fprintf(a.stdout, "%s to branch %s of %s\n", plural(n, "commit", "commits"), branch, path)
	return nil
}

func (a *app) exportDirectory(ctx context.Context, c *api.Client, dir, asOf string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("export: %s is not empty: name a directory that does not exist yet", dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("export: %w", err)
	}
	stream, err := c.ExportDirectory(ctx, asOf)
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	files, err := layout.ReadTar(stream, layout.DefaultLimits())
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.CopyFS(strings.TrimSuffix(dir, "/"), files); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
