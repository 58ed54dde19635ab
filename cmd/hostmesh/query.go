package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/hostdb/query"
	"hostmesh/node/api"
)

func (a *app) queryCommand() *cobra.Command {
	var q api.Query
	cmd := &cobra.Command{
		Use:   "query [EXPRESSION]",
		Short: "Find hosts and tags by an expression",
		Long: `Finds hosts, or with --in tags or keys of another namespace, for which an
expression holds; without one, all. It names what stands in a document
(Network.IP, VM.Memory), what follows from elsewhere (tags, zones, vms,
effective) and functions (bytes, size, cidr, has). What is not there is nil and
no error. A key with blanks is at("Physical Location/Rack Number").

--select names the columns, divided by commas: paths, names, or
NAME=EXPRESSION. The language is explained in docs/query.md.`,
		Example: `  # All machines with at least 24 GB in the search cluster
  hostmesh query 'bytes(VM.Memory ?? Hardware.Memory) >= size("24GB") and "shipping-search" in tags'

  # Boxes in rack r12 with no virtual machine; hosts in no zone
  hostmesh query 'Box != nil and at("Physical Location/Rack Number") == "r12" and len(vms) == 0'
  hostmesh query 'zones == []'

  # The largest first, for a spreadsheet
  hostmesh query 'has(VM)' --select 'name,Network.IP,mem=bytes(VM.Memory)' --sort=-mem --limit 10 -o csv

  # Tags without a host; how many hosts are retired
  hostmesh query 'hosts == 0' --in tags
  hostmesh query 'Status == "retired"' --count`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *api.Client, args []string) error {
			if len(args) > 0 {
				q.Where = args[0]
			}
			found, err := c.Query(ctx, q)
			if err != nil {
				return withCaret(err, q)
			}
			if _, err := a.stdout.Write(found.Body); err != nil {
				return err
			}
			for _, warning := range found.Warnings {
				fmt.Fprintf(a.stderr, "hostmesh: warning: %s\n", visible(warning))
			}
			if found.More {
				fmt.Fprintf(a.stderr, "hostmesh: %d are found, not all are shown: see --limit\n", found.Matched)
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Select, "select", "", "`COLUMNS` of the answer, such as name,Network.IP,mem=bytes(VM.Memory)")
	flags.StringVarP(&q.As, "output", "o", formTable, "`FORM` of the output: table, csv, json or yaml")
	flags.StringVar(&q.In, "in", "hosts", "`NAMESPACE` to look in: hosts, tags or another")
	flags.StringVar(&q.Sort, "sort", "", "`COLUMN` to sort by, with - before it for the highest first (default: the name)")
	flags.IntVar(&q.Limit, "limit", query.DefaultLimit, "at most so `MANY` rows")
	flags.BoolVar(&q.Count, "count", false, "print only how many there are")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		switch forms := query.Forms(); {
		case !slices.Contains(forms, q.As):
			return usagef("-o %s: the forms are %s", q.As, strings.Join(forms, ", "))
		case q.Limit < 1 || q.Limit > query.MaxLimit:
			return usagef("--limit %d: 1 to %d rows are given at once", q.Limit, query.MaxLimit)
		}
		return nil
	}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(query.Forms(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("in", cobra.FixedCompletions([]string{"hosts", "tags"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// withCaret draws where in the expression the agent's complaint is, if this program sees the same.
func withCaret(err error, q api.Query) error {
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		return err
	}
	_, here := query.Compile(q.Where, query.Options{In: q.In, Select: q.Select, Sort: q.Sort})
	var e *query.Error
	if !errors.As(here, &e) || !strings.Contains(refused.Message, e.Message) {
		return err
	}
	return usagef("%s\n\n  %s\n", e.Error(), strings.ReplaceAll(e.Caret(), "\n", "\n  "))
}
