package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// Forms of output.
const (
	formTable = "table"
	formYAML  = "yaml"
	formJSON  = "json"
)

// outputFlag gives a command -o.
func (a *app) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.output, "output", "o", formTable, "`FORM` of the output: table, yaml or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		switch a.output {
		case formTable, formYAML, formJSON:
			return nil
		}
		return usagef("-o %s: the forms are table, yaml and json", a.output)
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formTable, formYAML, formJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// print writes v in the form that -o asks for; table writes it for people.
func (a *app) print(v any, table func(w io.Writer)) error {
	switch a.output {
	case formJSON:
		text, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	case formYAML:
		text, err := toYAML(v)
		if err == nil {
			_, err = a.stdout.Write(text)
		}
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// toYAML writes what the JSON tags of v describe, in their order.
func toYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	blockStyle(&doc)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// blockStyle takes JSON's brackets and quotes off; the encoder quotes where YAML needs it.
func blockStyle(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 { // [] and {} have no other form
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// row writes a line of a table.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		cells[i] = visible(c)
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

// visible is text with what could move a terminal's cursor replaced: names and messages come from elsewhere.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// ago is the time between two moments for people: the two largest units.
func ago(from, to time.Time) string {
	if from.IsZero() {
		return "never"
	}
	d := max(to.Sub(from), 0).Round(time.Second)
	days := d / (24 * time.Hour)
	hours, minutes, seconds := d/time.Hour%24, d/time.Minute%60, d/time.Second%60
	switch {
	case days >= 1:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours >= 1:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes >= 1:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	case n < 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
}

// orDash is text, or a dash where there is none.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// plural is a count with its noun.
func plural[T int | int64 | uint64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
