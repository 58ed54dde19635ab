package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// shownValue is how much of a value the table shows.
const shownValue = 60

func (a *app) explainCommand() *cobra.Command {
	var effective bool
	cmd := &cobra.Command{
		Use:   "explain HOST [PATH]",
		Short: "Show what a host gets from its tags, and where each value comes from",
		Long: `Shows what a host's own document and all its tags say together, with the source
of each value, and what it won over. PATH narrows it to what stands there or
below.

The host itself beats a tag that lists it, which beats a tag that reaches it
through another; then the higher Priority wins, and then the name that is first
in the alphabet. Where only the name decided, the line says so: one of the tags
should have a Priority.

--effective prints what comes out of it as one document, in YAML or with
-o json in JSON.`,
		Example: `  hostmesh explain web1.dc1.example.com
  hostmesh explain web1.dc1.example.com Monitoring/Prometheus
  hostmesh explain web1.dc1.example.com --effective
  hostmesh explain web1.dc1.example.com -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			if effective {
				if len(args) > 1 {
					return usagef("--effective prints the whole document: leave PATH out")
				}
				as := formYAML
				if a.output == formJSON {
					as = formJSON
				}
				doc, err := c.Effective(ctx, args[0], as)
				if err == nil {
					_, err = a.stdout.Write(doc)
				}
				return err
			}
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			e, err := c.Explain(ctx, args[0], path)
			if err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { explainText(w, e) })
		}),
	}
	cmd.Flags().BoolVar(&effective, "effective", false, "print the combined document instead")
	a.outputFlag(cmd)
	return cmd
}

func explainText(w io.Writer, e api.Explanation) {
	row(w, "SOURCE", "RANK", "PRIORITY")
	for _, s := range e.Sources {
		row(w, s.ID, s.Rank, priorityText(s))
	}
	fmt.Fprintln(w)
	row(w, "PATH", "VALUE", "FROM", "RANK", "PRIORITY")
	for _, s := range e.Settings {
		settingRow(w, s.Path, shortValue(s.YAML, string(s.Value)), s.From, "")
		for _, l := range s.Overridden {
			path := ""
			if l.Path != s.Path {
				path = l.Path
			}
			mark := ""
			if l.Equal {
				mark = "as strong"
			}
			settingRow(w, path, "not "+shortValue(l.YAML, string(l.Value)), l.From, mark)
		}
	}
	if len(e.Disagreements)+len(e.Problems) > 0 {
		fmt.Fprintln(w)
	}
	for _, d := range e.Disagreements {
		var other []string
		for _, o := range d.Other {
			other = append(other, o.ID)
		}
		fmt.Fprintf(w, "disagreement at %s: %s is as strong as %s, and only the name decided; give one of them a Priority\n",
			visible(d.Path), visible(strings.Join(other, ", ")), visible(d.Used.ID))
	}
	for _, p := range e.Problems {
		fmt.Fprintf(w, "%s at %s: %s\n", p.Severity, visible(p.Path), visible(p.Text))
	}
}

func settingRow(w io.Writer, path, value string, from api.ExplainedSource, mark string) {
	row(w, path, value, from.ID, from.Rank, priorityText(from), mark)
}

// priorityText is a dash for the host, which has none.
func priorityText(s api.ExplainedSource) string {
	if s.Rank == "host" {
		return "-"
	}
	return fmt.Sprint(s.Priority)
}

// shortValue is a value on one line: scalars in their writer's spelling, all else as JSON.
func shortValue(asYAML, asJSON string) string {
	text := asYAML
	if strings.Contains(text, "\n") || strings.HasPrefix(text, "- ") {
		text = asJSON
	}
	if r := []rune(text); len(r) > shownValue {
		text = string(r[:shownValue-3]) + "..."
	}
	return text
}
