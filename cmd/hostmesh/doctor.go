package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/doctor"
	"hostmesh/node/api"
)

// shownFindings bounds what the table shows of each check: the tenth thousand of one kind tells nothing new.
const shownFindings = 20

func (a *app) doctorCommand() *cobra.Command {
	var opts api.DoctorOptions
	var strict, all, list bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong in HostDB, and with this node",
		Long: `Looks at all of HostDB for what is wrong across its keys: members that do not
exist, addresses, names and hardware addresses that two hosts claim, aliases
that point to nothing, hosts in no zone, tags that disagree, sections that
cannot be read. Every node finds the same. What is wrong with the node that
answers stands apart, as "hostmesh status" shows it. Nothing is changed.

An error is something that cannot be done as it is written; a warning is
probably not as meant. The exit code is 1 when there is an error, of HostDB or
of the node, or when there was no time for all checks; warnings alone leave it
at 0, but for --strict.`,
		Example: `  hostmesh doctor
  hostmesh doctor --check names,addresses
  hostmesh doctor --skip dns-none --skip node
  hostmesh doctor --host web1.dc1.example.com
  hostmesh doctor --list
  hostmesh doctor -o json`,
		Args: cobra.NoArgs,
	}
	ask := a.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		if a.output == formTable && !all {
			opts.Limit = shownFindings
		}
		r, err := c.Doctor(ctx, opts)
		if err != nil {
			return err
		}
		if err := a.print(r, func(w io.Writer) { doctorText(w, r) }); err != nil {
			return err
		}
		if r.Failed(strict) {
			return errSilent
		}
		return nil
	})
	show := a.do(func(context.Context, *cobra.Command, []string) error { return a.printChecks() })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if list {
			return show(cmd, args)
		}
		return ask(cmd, args)
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.Only, "check", nil, "only these checks: `NAME`, again or divided by commas; node is the node itself")
	flags.StringSliceVar(&opts.Skip, "skip", nil, "all but these checks: `NAME`, as with --check")
	flags.StringVar(&opts.Host, "host", "", "only what concerns this host: its `KEY`")
	flags.BoolVar(&strict, "strict", false, "fail on warnings, too")
	flags.BoolVar(&all, "all", false, fmt.Sprintf("show all of each check in the table, not only %d", shownFindings))
	flags.BoolVar(&list, "list", false, "list the checks; no agent is asked")
	a.outputFlag(cmd)
	names := make([]string, 0, 32)
	for _, c := range doctorChecks() {
		names = append(names, c.Name)
	}
	for _, flag := range []string{"check", "skip"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// checkLine is one line of doctor --list.
type checkLine struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
}

func doctorChecks() []checkLine {
	var out []checkLine
	for _, c := range doctor.Checks() {
		out = append(out, checkLine{c.Name, c.Doc})
	}
	return append(out, checkLine{api.NodeCheck, "what is wrong with the node that answers: its disk, its clock, its daemons, members that do not answer"})
}

func (a *app) printChecks() error {
	checks := doctorChecks()
	return a.print(checks, func(w io.Writer) {
		for _, c := range checks {
			row(w, c.Name, c.Doc)
		}
	})
}

func doctorText(w io.Writer, r api.DoctorReport) {
	for _, c := range r.Checks {
		if c.Errors+c.Warnings == 0 {
			continue
		}
		fmt.Fprintf(w, "%s: %s (%s)\n", visible(c.Name), visible(c.Doc), tally(c.Errors, c.Warnings))
		shown := 0
		for _, f := range r.Findings {
			if f.Check == c.Name {
				findingText(w, f)
				shown++
			}
		}
		if more := c.Errors + c.Warnings - shown; more > 0 {
			fmt.Fprintf(w, "  and %d more (--all shows them)\n", more)
		}
		fmt.Fprintln(w)
	}
	wrong, notes := 0, 0
	if len(r.Node) > 0 {
		fmt.Fprintln(w, "node: the node that answered")
	}
	for _, p := range r.Node {
		mark := "note   "
		if notes++; p.Severity == api.SeverityError {
			mark, wrong, notes = "WRONG  ", wrong+1, notes-1
		}
		fmt.Fprintf(w, "  %s  %s: %s\n", mark, visible(p.Subject), visible(p.Text))
		if p.Remedy != "" {
			fmt.Fprintf(w, "           %s\n", visible(p.Remedy))
		}
	}
	if len(r.Node) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, visible(doctorSummary(r, wrong, notes)))
}

func findingText(w io.Writer, f api.DoctorFinding) {
	mark := "warning"
	if f.Severity == api.SeverityError {
		mark = "ERROR  "
	}
	place := f.ID
	if f.Path != "" {
		place += " " + f.Path
	}
	fmt.Fprintf(w, "  %s  %s: %s\n", mark, visible(place), visible(f.Message))
	fmt.Fprintf(w, "           %s\n", visible(f.Remedy))
	if len(f.Related) > 0 {
		const most = 5
		more := f.More + max(0, len(f.Related)-most)
		line := strings.Join(f.Related[:min(most, len(f.Related))], ", ")
		if more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintf(w, "           see also %s\n", visible(line))
	}
}

func tally(failures, warnings int) string {
	var parts []string
	if failures > 0 {
		parts = append(parts, plural(failures, "error", "errors"))
	}
	if warnings > 0 {
		parts = append(parts, plural(warnings, "warning", "warnings"))
	}
	return strings.Join(parts, ", ")
}

func doctorSummary(r api.DoctorReport, wrong, notes int) string {
	line := ""
	switch found := tally(r.Errors, r.Warnings); {
	case found != "":
		line = "HostDB: " + found
	case len(r.Checks) > 0:
		line = "HostDB: nothing is wrong"
	}
	if line != "" {
		line += fmt.Sprintf(" (%s, version %s)", plural(len(r.Checks), "check", "checks"), r.Version)
	}
	if !r.Complete {
		line += ", but there was no time for all of it"
	}
	var node string
	switch {
	case wrong > 0:
		node = "node: " + plural(wrong, "problem", "problems")
	case notes > 0:
		node = "node: " + plural(notes, "note", "notes")
	case len(r.Checks) == 0:
		node = "node: nothing is wrong"
	}
	if line != "" && node != "" {
		line += "; "
	}
	return line + node
}
