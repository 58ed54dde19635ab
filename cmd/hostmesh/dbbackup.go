package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/backup"
	"hostmesh/node"
	"hostmesh/node/api"
)

func (a *app) dbBackupCommand() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all of a replica into a file",
		Long: `Writes all of a replica into a file: every operation ever made and all that is
made of them, as one snapshot. The agent goes on to take writes. "-" writes to
the standard output. With --data-dir an agent's data directory is read; if an
agent runs on it, that agent is asked. Only an administrator may.

The file has checksums and names what it is of; "hostmesh db verify FILE" reads
it to its end. It holds the users and other secrets, sealed with the mesh key,
and so is readable by its owner alone. The mesh key is not in it: keep that as
well.`,
		Example: `  hostmesh db backup /var/backups/hostmesh-monday.backup
  hostmesh db backup - | ssh safe.example.com 'cat > hostmesh.backup'
  hostmesh db backup /root/last.backup --data-dir /var/lib/hostmesh`,
		Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			off, err := a.offline(dir)
			if err != nil {
				return err
			}
			if off != nil {
				defer off.Close()
				return a.backupTo(args[0], force, func(w io.Writer) error { return off.WriteBackup(ctx, w, build()) })
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return a.backupTo(args[0], force, func(w io.Writer) error {
				stream, err := c.Backup(ctx)
				if err != nil {
					return explain(err)
				}
				defer stream.Close()
				return a.copyBackup(ctx, w, stream)
			})
		}),
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "read the data directory `DIR` of an agent that does not run")
	cmd.Flags().BoolVar(&force, "force", false, "write over a file that is there")
	return cmd
}

// copyBackup passes a backup on and reads it meanwhile, so that one that broke off is not taken for a whole one.
func (a *app) copyBackup(ctx context.Context, w io.Writer, stream io.Reader) error {
	in, err := backup.NewReader(io.TeeReader(stream, w))
	if err != nil {
		return err
	}
	bar := newProgress(a.stderr)
	defer bar.end()
	rows := 0
	_, err = in.Rows(ctx, func(_, _ []byte) error {
		if rows++; rows%1024 == 0 {
			bar.show("rows", rows, 0)
		}
		return nil
	})
	return err
}

// backupTo writes a file whole or not at all.
func (a *app) backupTo(name string, force bool, write func(w io.Writer) error) (err error) {
	if name == "-" {
		return write(a.stdout)
	}
	if _, err := os.Lstat(name); err == nil && !force {
		return fmt.Errorf("backup: %s exists: name another file, or write over it with --force", name)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, os.Remove(part))
		}
	}()
	if err := f.Chmod(0o600); err != nil { // a part that another run has left
		return fmt.Errorf("backup: %w", err)
	}
	if err := write(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(part, name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Fprintf(a.stdout, "%s in %s; it holds secrets sealed with the mesh key, and not that key\n", size(info.Size()), name)
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// offline opens the data directory that is named. It is nil when none is, and when an agent has it: then that is asked.
func (a *app) offline(dir string) (*node.Offline, error) {
	if dir == "" {
		return nil, nil
	}
	off, err := node.OpenOffline(dir, a.quietLog())
	if errors.Is(err, node.ErrInUse) {
		a.socket, a.server = filepath.Join(dir, socketName), ""
		return nil, nil
	}
	return off, err
}

// quietLog is for what works below a command: warnings alone.
func (a *app) quietLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// keepBar shows the progress of a long task.
func keepBar(bar *progress) func(api.KeepProgress) {
	return func(p api.KeepProgress) { bar.show(p.Phase, int(p.Done), 0) }
}

func (a *app) dbVerifyCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Look for damage in a replica, or in a backup",
		Long: `Reads every row of a replica and holds them against each other: whether each
operation can be read and continues the chain of its origin, whether the indexes
name all of them and no others, and whether the registers are what the
operations make. It changes nothing, and takes the memory of a second replica
meanwhile.

Without an argument the agent verifies its own replica and goes on to serve.
With --data-dir an agent's data directory is read; if an agent runs on it, that
agent is asked. With FILE a backup is read to its end and verified in the same
way, in a directory below TMPDIR. Exit code 1 says that something is damaged.`,
		Example: `  hostmesh db verify
  hostmesh db verify --data-dir /var/lib/hostmesh
  hostmesh db verify /var/backups/hostmesh-monday.backup`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && dir != "" {
				return usagef("a backup and --data-dir are given: verify one of them")
			}
			return a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
				bar := newProgress(a.stderr)
				defer bar.end()
				what, report, err := a.verify(ctx, dir, args, keepBar(bar))
				bar.end()
				if err != nil {
					return explain(err)
				}
				if err := a.print(report, func(w io.Writer) { verifyText(w, what, report) }); err != nil {
					return err
				}
				if !report.Sound {
					return errSilent
				}
				return nil
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "read the data directory `DIR` of an agent that does not run")
	a.outputFlag(cmd)
	return cmd
}

// verify chooses what is verified.
func (a *app) verify(ctx context.Context, dir string, args []string, progress func(api.KeepProgress)) (what string, r api.VerifyReport, err error) {
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return "", r, fmt.Errorf("verify: %w", err)
		}
		defer f.Close()
		h, r, err := node.VerifyBackup(ctx, f, a.quietLog(), progress)
		return fmt.Sprintf("backup of mesh %s, made %s by hostmesh %s", orDash(h.MeshID), h.Created.UTC().Format(time.DateTime), orDash(h.Build)), r, err
	}
	off, err := a.offline(dir)
	if err != nil {
		return "", r, err
	}
	if off != nil {
		defer off.Close()
		r, err := off.Verify(ctx, progress)
		return dir, r, err
	}
	c, err := a.client()
	if err != nil {
		return "", r, err
	}
	defer c.Close()
	r, err = c.Verify(ctx, progress)
	return "replica of " + c.Where(), r, err
}

func verifyText(w io.Writer, what string, r api.VerifyReport) {
	for _, f := range r.Findings {
		row(w, f.Where+": "+f.What)
	}
	if r.More > 0 {
		row(w, "and "+plural(r.More, "more finding", "more findings"))
	}
	remedies := map[string]bool{}
	for _, f := range r.Findings {
		if !remedies[f.Remedy] {
			remedies[f.Remedy] = true
			row(w, "remedy: "+f.Remedy)
		}
	}
	state := "sound"
	if !r.Sound {
		state = "DAMAGED"
	}
	row(w, fmt.Sprintf("%s: %s, %s, %s, %s in %s", what, state, plural(r.Operations, "operation", "operations"),
		plural(r.Keys, "key", "keys"), plural(r.Rows, "row", "rows"), (time.Duration(r.Millis)*time.Millisecond).Round(10*time.Millisecond)))
	note := func(n uint64, one, many string) {
		if n > 0 {
			row(w, plural(n, one, many))
		}
	}
	if !r.Whole {
		row(w, "not every operation is held here: the registers were read, and not compared with them")
	}
	note(r.Rubbish, "row that nothing refers to: the next start removes it", "rows that nothing refers to: the next start removes them")
	note(r.Redo, "operation that a crash left half done: the next start completes it", "operations that a crash left half done: the next start completes them")
	note(r.Late, "operation of a newer hostmesh, kept and not understood", "operations of a newer hostmesh, kept and not understood")
	note(r.Unknown, "row of a newer hostmesh, not judged", "rows of a newer hostmesh, not judged")
	note(r.Forks, "operation kept aside because two boxes wrote under one origin", "operations kept aside because two boxes wrote under one origin")
}

func (a *app) dbRestoreCommand() *cobra.Command {
	var cfg node.RestoreConfig
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Make a data directory of a backup",
		Long: `Makes a data directory of a backup; "-" reads the standard input. The directory
must not exist, or be empty. No agent is asked, and none may run on it.

Without --new-mesh the directory is a new node of the mesh that the backup is
of. Start its agent with --join and the mesh key: it brings what the mesh may
have lost, and takes what has happened since. Nothing that was deleted since
returns.

With --new-mesh it founds a mesh of its own with the HostDB of the backup, and a
key if there is none. What was sealed with another mesh key cannot be opened
with this one: the users among it are listed, and must be set anew.

The backup is verified meanwhile. One that is damaged leaves nothing behind.`,
		Example: `  hostmesh db restore monday.backup --data-dir /var/lib/hostmesh --key-file /etc/hostmesh/mesh.key
  hostmesh db restore monday.backup --data-dir /tmp/trial --new-mesh`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cfg.DataDir == "":
				return usagef("--data-dir is missing: name the directory to make")
			case cfg.Name != "" && !cfg.NewMesh:
				return usagef("--name is for the founder of a mesh: give --new-mesh, too")
			}
			return a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
				return a.restoreBackup(ctx, args[0], cfg)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", "", "the data directory `DIR` to make (required)")
	cmd.Flags().StringVar(&cfg.KeyFile, "key-file", "", "`FILE` with the mesh key; with --new-mesh it is made if it is missing (default: mesh.key in the data directory)")
	cmd.Flags().BoolVar(&cfg.NewMesh, "new-mesh", false, "found a new mesh with the HostDB of the backup")
	cmd.Flags().StringVar(&cfg.Name, "name", "", "with --new-mesh: `NAME` of the founder (default: the host name)")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) restoreBackup(ctx context.Context, name string, cfg node.RestoreConfig) error {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		defer f.Close()
		in = f
	}
	bar := newProgress(a.stderr)
	defer bar.end()
	cfg.Logger, cfg.Progress = a.quietLog(), keepBar(bar)
	res, err := node.RestoreBackup(ctx, in, cfg)
	bar.end()
	if err != nil {
		return err
	}
	return a.print(res, func(w io.Writer) { restoreText(w, cfg, res) })
}

func restoreText(w io.Writer, cfg node.RestoreConfig, res node.RestoreResult) {
	row(w, fmt.Sprintf("%s holds HostDB as of %s UTC: %s, %s", cfg.DataDir, res.Created.UTC().Format(time.DateTime),
		plural(res.Verify.Operations, "operation", "operations"), plural(res.Verify.Keys, "key", "keys")))
	if res.NewMesh {
		made := "key"
		if res.KeyMade {
			made = "new key"
		}
		row(w, fmt.Sprintf("it founds mesh %s, with the %s in %s", res.MeshID, made, res.KeyFile))
	} else {
		row(w, fmt.Sprintf("it is a new node of mesh %s: start its agent with --join and the mesh key", res.MeshID))
	}
	if len(res.Sealed) == 0 {
		return
	}
	users := res.SealedUsers()
	if len(users) > 0 {
		row(w, "sealed with another mesh key, and nobody until set anew (hostmesh user set NAME): "+strings.Join(users, ", "))
	}
	if n := len(res.Sealed) - len(users); n > 0 {
		row(w, plural(n, "other secret is sealed with another mesh key", "other secrets are sealed with another mesh key"))
	}
}

func (a *app) dbCompactCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Make a replica's database small",
		Long: `Merges all tables of a replica's database, which drops what was replaced, and
says how large it was and is. No history is lost. The agent does this by and by
itself; after a large import or a deletion this does it at once. It needs about
as much free space as the database takes.

The agent goes on to serve. With --data-dir an agent's data directory is
compacted; if an agent runs on it, that agent is asked. Only an administrator
may.`,
		Example: `  hostmesh db compact
  hostmesh db compact --data-dir /var/lib/hostmesh`,
		Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			bar := newProgress(a.stderr)
			defer bar.end()
			r, err := a.compact(ctx, dir, keepBar(bar))
			bar.end()
			if err != nil {
				return explain(err)
			}
			return a.print(r, func(w io.Writer) {
				row(w, fmt.Sprintf("%s before, %s after, in %s", size(r.Before), size(r.After), (time.Duration(r.Millis)*time.Millisecond).Round(10*time.Millisecond)))
			})
		}),
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "compact the data directory `DIR` of an agent that does not run")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) compact(ctx context.Context, dir string, progress func(api.KeepProgress)) (api.CompactReport, error) {
	off, err := a.offline(dir)
	if err != nil {
		return api.CompactReport{}, err
	}
	if off != nil {
		defer off.Close()
		return off.Compact(ctx, progress)
	}
	c, err := a.client()
	if err != nil {
		return api.CompactReport{}, err
	}
	defer c.Close()
	return c.Compact(ctx, progress)
}
